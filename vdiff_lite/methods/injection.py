"""Direct feature injection: features of the past are put into the network's pass over the new window."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from vdiff_lite.checks import number, one_of
from vdiff_lite.diffusion.denoiser import (
    Denoiser,
    DenoiserWrapper,
    per_frame,
    require_hooks,
    require_positions,
)
from vdiff_lite.diffusion.samplers import noise_level, noise_like

OUTPUTS = ("input", "encoder", "middle", "decoder")
SITES = (*OUTPUTS, "temporal", "joint", "attention")
LEVELS_KEPT = 32  # noise levels whose features are cached at most: for one clip of 32x32, about 2 MB each


class FeatureCache:
    """The features of a past, one pass a noise level, cached: moving a slider does not compute them again.

    cache.at(t) -> {site: feature} for the past noised to level t with one noise for all levels, drawn from
    `generator` (t = 0: clean); kept are the latest `LEVELS_KEPT` levels. cache.input(t) is that noised past.
    `nfe` counts the network evaluations that were really made. Raises ValueError for a denoiser that offers
    no hooks.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor, generator: Generator | None = None):
        require_hooks(denoiser, "injection")
        self.denoiser, self.past, self.nfe, self._cached = denoiser, past, 0, {}
        self.generator = generator
        self.noise = noise_like(past, generator)

    def input(self, t: int) -> Tensor:
        if t == 0:
            return self.past
        return self._noised(t, self.noise)

    def at(self, t: int) -> dict:
        if t not in self._cached:
            self._cached[t] = self._features(self.input(t), t)
            if len(self._cached) > LEVELS_KEPT:
                del self._cached[next(iter(self._cached))]
        return self._cached[t]

    def fresh(self, t: int) -> dict:
        """The features at level t with noise of their own, drawn now; not cached."""
        return self._features(self._noised(t, noise_like(self.past, self.generator)), t)

    def _noised(self, t: int, noise: Tensor) -> Tensor:
        return self.denoiser.schedule.add_noise(self.past, noise_level(self.past, t), noise)

    def _features(self, noised: Tensor, t: int) -> dict:
        features = {}
        with torch.no_grad():
            self.denoiser(noised, noise_level(self.past, t), hook=features.setdefault)
        self.nfe += 1
        return features


class injection(DenoiserWrapper):
    """Put the features of the past into the window, at chosen sites, for the first part of the trajectory.

        prepend:  keys <- [keys of the past, keys],  values likewise: the new frames attend to the old ones
        blend:    f_a <- (1 - lam) f_a + lam f_past,  a: the k frames of the overlap, lam = blend
        statistics:  f <- (1 - lam) f + lam (mean_past + std_past (f - mean_f) / std_f), all frames

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  sites: names that a hook sees, or
    groups of them:
      "input"                         the past itself, noised to the level, as in `replacement` (blend only)
      "encoder", "middle", "decoder"  the outputs of the stages (blend only)
      "temporal", "joint"             keys and values of temporal attention, of joint attention
      "attention"                     both
    prepend: keys and values of the past stand in front of the window's own, and only the new frames pass
    through the network: (F - k) / F of an evaluation.  source: "clean" - the past at t = 0, one evaluation a
    window - "same", the past at the sampler's level with one noise for all levels, or "fresh", with another
    noise at every step (both drawn from `generator`; one evaluation a step).  statistics: instead of values,
    outputs of stages get the mean and deviation of the past's in each channel, over all its frames and pixels
    (as in style transfer, Huang and Belongie 2017, "AdaIN"; blend only).  fraction: the
    part of the trajectory, from pure noise down, in which features are injected; then the window goes on with
    the noised past at its input. cache: a FeatureCache to reuse.  blend = 0 injects nothing, bit for bit.
    Raises ValueError for a denoiser without hooks, an unknown site or source, a blend or fraction outside 0
    .. 1, and what is not keys and values to prepend.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor, sites: str | tuple = ("attention",),
                 blend: float = 1.0, prepend: bool = True, source: str = "clean", fraction: float = 1.0,
                 statistics: bool = False, cache: FeatureCache | None = None,
                 generator: Generator | None = None):
        super().__init__(denoiser)
        require_hooks(denoiser, "injection")
        if prepend:
            require_positions(denoiser, "injection with prepend=True")
        sites = (sites,) if isinstance(sites, str) else tuple(sites)
        number(0, 1, blend=blend, fraction=fraction)
        one_of(("clean", "same", "fresh"), source=source)
        one_of((True, False), prepend=prepend)
        one_of((True, False), statistics=statistics)
        self.past, self.sites, self.blend, self.prepend, self.source = past, sites, blend, prepend, source
        self.statistics = statistics
        self.cache = cache or FeatureCache(denoiser, past, generator)
        self.stop = round((1 - fraction) * denoiser.schedule.num_timesteps)
        self.takes_hooks = False
        outputs = _outputs(sites, self.cache)
        if prepend and (blend != 1 or outputs):
            raise ValueError(f"prepend=True puts keys and values in front, whole: sites={sites} with "
                             f"blend={blend} wants prepend=False")
        if statistics and (prepend or set(outputs) != set(sites) or "input" in sites):
            raise ValueError(f"statistics=True is for outputs of stages: sites={sites} must be among "
                             f"{', '.join(OUTPUTS[1:])}, with prepend=False")

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        level, known, k = int(t.max()), self.past.to(xt), self.past.shape[2]
        if level <= self.stop:
            new = self.inner(self._with_input(xt, level, 1.0), t, **model_kwargs)[:, :, k:]
            return torch.cat([known, new], dim=2)
        if self.blend == 0:
            return self.inner(xt, t, **model_kwargs)
        cached = self._features(level) if self.sites != ("input",) else {}
        if self.prepend:
            hook, positions = _prepending(cached, self._matches), torch.arange(k, xt.shape[2])
            levels = per_frame(t, xt.shape[0], xt.shape[2])[:, k:]
            new = self.inner(xt[:, :, k:], levels, hook=hook, positions=positions, **model_kwargs)
            return torch.cat([known, new], dim=2)
        shown = self._with_input(xt, level, self.blend) if "input" in self.sites else xt
        return self.inner(shown, t, hook=self._blending(cached), **model_kwargs)

    def _features(self, level: int) -> dict:
        if self.source == "fresh":
            return self.cache.fresh(level)
        return self.cache.at(0 if self.source == "clean" else level)

    def _blending(self, cached: dict) -> Callable:
        def blended(own, old):
            if self.statistics:
                return torch.lerp(own, _with_statistics(own, old), self.blend)
            n = old.shape[2]
            return torch.cat([torch.lerp(own[:, :, :n], old, self.blend), own[:, :, n:]], dim=2)

        def hook(site, feature):
            if not self._matches(site, isinstance(feature, tuple)):
                return feature
            if isinstance(feature, tuple):
                return tuple(map(blended, feature, cached[site]))
            return blended(feature, cached[site])

        return hook

    def _with_input(self, xt: Tensor, level: int, lam: float) -> Tensor:
        k = self.past.shape[2]
        return torch.cat([torch.lerp(xt[:, :, :k], self.cache.input(level).to(xt), lam), xt[:, :, k:]], dim=2)

    def _matches(self, site: str, is_attention: bool) -> bool:
        if not is_attention:
            return site in self.sites or site.split(".")[0] in self.sites
        return bool({site, "attention", site.split(".")[-1]} & set(self.sites))


def _outputs(sites: tuple, cache: FeatureCache) -> list[str]:
    """Which sites are no keys and values. A network's own names are those that a clean pass shows."""
    own = set(sites) - set(SITES)
    features = cache.at(0) if own else {}
    unknown = sorted(own - set(features))
    if not sites or unknown:
        names = ", or one of the network's own names: " + ", ".join(features) if own else ""
        raise ValueError(f"sites={sites} names {', '.join(unknown) or 'nothing'}; "
                         f"choose from {', '.join(SITES)}{names}")
    return [site for site in sites if site in OUTPUTS or torch.is_tensor(features.get(site))]


def _prepending(cached: dict, matches: Callable) -> Callable:
    def hook(site, feature):
        if not isinstance(feature, tuple) or not matches(site, True):
            return feature
        return tuple(torch.cat([old, own], dim=2) for old, own in zip(cached[site], feature))

    return hook


def _with_statistics(own: Tensor, old: Tensor) -> Tensor:
    """A feature (b, c, f, h, w) with each channel's mean and deviation those of another; any frames."""
    (own_std, own_mean), (old_std, old_mean) = (
        torch.std_mean(x, dim=(2, 3, 4), keepdim=True, correction=0) for x in (own, old))
    return old_mean + old_std * (own - own_mean) / (own_std + 1e-6)
