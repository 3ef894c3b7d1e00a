"""Direct feature injection: what the network computed for the past is put into its pass over the new window."""

import torch

SITES = ("input", "encoder", "middle", "decoder", "temporal", "joint", "motion", "attention")


class SourceFeatures:
    """The features of a past, one pass a noise level, kept: moving a slider does not compute them again.

    features.at(t) -> {site: feature} for the past noised to level t with one noise for all levels, drawn from `generator`
    (t = 0: clean). features.input(t) is that noised past. `passes` counts the passes that were really made.
    """

    def __init__(self, denoiser, past, generator=None):
        self.denoiser, self.past, self.passes, self._kept = denoiser, past, 0, {}
        self.noise = torch.randn(past.shape, generator=generator).to(past)

    def input(self, t):
        level = torch.full((self.past.shape[0],), t, device=self.past.device)
        return self.past if t == 0 else self.denoiser.schedule.add_noise(self.past, level, self.noise)

    def at(self, t):
        if t not in self._kept:
            features, level = {}, torch.full((self.past.shape[0],), t, device=self.past.device)
            with torch.no_grad():
                self.denoiser(self.input(t), level, tap=features.setdefault)
            self.passes += 1
            self._kept[t] = features
        return self._kept[t]


def injection(denoiser, past, sites=("attention",), blend=1.0, append=True, source="clean", share=1.0, features=None, generator=None):
    """Put the features of the past into the window, at chosen sites of the network, for the first part of the trajectory.

        append:   keys <- [keys of the past, keys],  values likewise: the new frames look at the old ones
        blend:    f_a <- (1 - lam) f_a + lam f_past,  a: the k frames of the overlap, lam = blend

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  sites: names that a tap sees, or groups of them:
      "input"                         the past itself, noised to the level of the window, as in `replacement` (blend only)
      "encoder", "middle", "decoder"  the outputs of the stages (blend only)
      "temporal", "joint"             keys and values of attention along time, and of attention over everything
      "motion"                        keys and values of the foresight, which knows where the past was and nothing else
      "attention"                     all three
    append: keys and values of the past stand in front of the window's own, and only the new frames pass through the network:
    (F - k) / F of a pass.  source: "clean" - the past at t = 0, one pass a window - or "same", the past at the sampler's level
    noised from `generator`, one pass a step.  share: the part of the trajectory, from pure noise down, in which features are
    injected; then the window goes on with the noised past at its input.  features: a SourceFeatures to reuse.
    Returns denoiser(xt, t) -> x0_hat; blend = 0 injects nothing, bit for bit.
    Raises ValueError for an unknown site or source, a blend or share outside 0 .. 1, and what is not keys and values to append.
    """
    sites = (sites,) if isinstance(sites, str) else tuple(sites)
    for name, value in (("blend", blend), ("share", share)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must lie between 0 and 1")
    if source not in ("clean", "same"):
        raise ValueError(f"source={source!r} is unknown; choose 'clean' or 'same'")
    features, k = features or SourceFeatures(denoiser, past, generator), past.shape[2]
    outputs = _outputs(sites, features)
    if append and (blend != 1 or outputs):
        raise ValueError(f"append=True puts keys and values in front, whole: sites={sites} with blend={blend} wants append=False")
    stop = round((1 - share) * denoiser.schedule.num_timesteps)
    matches = _matcher(sites)

    def injected(xt, t, **more):
        level, known = int(t.max()), past.to(xt)
        with_input = lambda lam: torch.cat([torch.lerp(xt[:, :, :k], features.input(level).to(xt), lam), xt[:, :, k:]], dim=2)
        if level <= stop:
            return torch.cat([known, denoiser(with_input(1.0), t, **more)[:, :, k:]], dim=2)
        if blend == 0:
            return denoiser(xt, t, **more)
        held = features.at(0 if source == "clean" else level) if sites != ("input",) else {}
        if append:
            positions = torch.arange(k, xt.shape[2])
            new = denoiser(xt[:, :, k:], t if t.ndim == 1 else t[:, k:], tap=_appending(held, matches), positions=positions, **more)
            return torch.cat([known, new], dim=2)
        return denoiser(with_input(blend) if "input" in sites else xt, t, tap=_blending(held, matches, blend), **more)

    return injected


def _outputs(sites, features):
    """Which of the sites are no keys and values. A tap's own names are those that a pass over the clean past shows."""
    own = set(sites) - set(SITES)
    seen = features.at(0) if own else {}
    if not sites or own - set(seen):
        names = ", or one of a tap's own names: " + ", ".join(seen) if own else ""
        raise ValueError(f"sites={sites} names {', '.join(sorted(own - set(seen))) or 'nothing'}; choose from {', '.join(SITES)}{names}")
    return [site for site in sites if (not isinstance(seen[site], tuple) if site in own else site in ("input", "encoder", "middle", "decoder"))]


def _matcher(sites):
    def matches(site, is_attention):
        if not is_attention:
            return site in sites or site.split(".")[0] in sites
        return site in sites or "attention" in sites or site.split(".")[-1] in sites

    return matches


def _appending(held, matches):
    def tap(site, feature):
        if not isinstance(feature, tuple) or not matches(site, True):
            return feature
        return tuple(torch.cat([old, own], dim=2) for old, own in zip(held[site], feature))

    return tap


def _blending(held, matches, blend):
    def mix(own, old):
        n = old.shape[2]
        return torch.cat([torch.lerp(own[:, :, :n], old, blend), own[:, :, n:]], dim=2)

    def tap(site, feature):
        if not matches(site, isinstance(feature, tuple)):
            return feature
        return tuple(map(mix, feature, held[site])) if isinstance(feature, tuple) else mix(feature, held[site])

    return tap
