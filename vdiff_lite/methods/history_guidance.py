"""The past stands in the window, clean; classifier-free guidance makes the network listen to it more."""

import torch
from torch import Tensor

from vdiff_lite.checks import number, whole
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, per_frame
from vdiff_lite.diffusion.guidance import check_new_frames, condition_on_past


def history_guidance(denoiser: Denoiser, past: Tensor, weight: float = 1.0, level: int = 0) -> Denoiser:
    """Vanilla history guidance: condition a window on the frames already made, and guide towards them.

        x0_hat = u + w (c - u)                              (Ho and Salimans 2022, Eq. 6, on x0_hat)
        c: past frames in the window at t = level;  u: past frames at t = num_timesteps, pure noise

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  weight: w, 1 is the conditional model
    (one branch, `condition_on_past`), 0 the unconditional one, more listens harder. Both branches run in one
    batched pass.  level: 0, clean; a little noise in the past (10 to 50 of 1000, and the network told so)
    hides the small errors of generated frames (Chen et al. 2024, "stabilization").  Returns a denoiser whose
    first k frames are `past` exactly. Raises ValueError for a weight that is not finite, a level outside 0 ..
    num_timesteps - 1, and when the window has no new frame.
    """
    number(weight=weight)
    top = denoiser.schedule.num_timesteps
    whole(0, top - 1, level=level)
    if weight == 1:
        return _Combined(denoiser, past, {level: 1.0}) if level else condition_on_past(denoiser, past)
    return _Combined(denoiser, past, {level: weight, top: 1 - weight})


def fractional_history_guidance(denoiser: Denoiser, past: Tensor, weight: float = 1.5,
                                level: int = 500) -> Denoiser:
    """Guide towards a past that is blurred by noise: its coarse content is stressed, its pixels are not.

        x0_hat = c + (w - 1) (c_level - u)     (Song et al. 2025, "fractional history guidance", their code)
        c_level: past frames noised to `level`, and the network told so

    weight: w, 1 is the conditional model;  level: 1 .. num_timesteps - 1, how much of the past is blurred.
    Three branches, one batched pass. The rest as in `history_guidance`.
    """
    number(weight=weight)
    top = denoiser.schedule.num_timesteps
    whole(1, top - 1, level=level)
    return _Combined(denoiser, past, {0: 1.0, level: weight - 1, top: 1 - weight})


def temporal_history_guidance(denoiser: Denoiser, past: Tensor, weights: dict[int, float]) -> Denoiser:
    """Guide with several subsets of the past at once: long and short memories, each with its own weight.

        x0_hat = u + sum_i w_i (c_i - u)                     (Song et al. 2025, "temporal history guidance")
        c_i: the last n_i past frames at t = 0, older ones at t = num_timesteps

    weights: {n_i: w_i}; {k: w} with all k frames is `history_guidance`.  One batched pass of 1 + len(weights)
    branches. Raises ValueError for a subset longer than the past.
    """
    k, top = past.shape[2], denoiser.schedule.num_timesteps
    if not isinstance(weights, dict) or not weights:
        raise ValueError(f"weights={weights!r} must be {{frames: weight, ...}}, as in {{5: 1.5, 2: 0.5}}")
    for n, weight in weights.items():
        whole(1, k, **{"frames of the past in weights": n})
        number(**{f"weights[{n}]": weight})
    branches = {tuple(top if i < k - n else 0 for i in range(k)): weight for n, weight in weights.items()}
    branches[(top,) * k] = branches.get((top,) * k, 0) + 1 - sum(weights.values())
    return _Combined(denoiser, past, branches)


class _Combined(DenoiserWrapper):
    """A weighted sum of branches {noise level(s) of the past: weight}, all in one pass."""

    def __init__(self, denoiser: Denoiser, past: Tensor, branches: dict):
        super().__init__(denoiser)
        self.past, self.branches = past, branches
        self.takes_hooks = False  # a hook would meet every branch at once

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        (b, _, f), k, known = xt.shape[:3], self.past.shape[2], self.past.to(xt)
        check_new_frames(k, f)
        levels = per_frame(t, b, f)
        # The sampler's noise at the past frames, without the past: what pure noise would have been there.
        noise = self.schedule.eps_from_x0(xt[:, :, :k], levels[:, :k], known)
        clips, times = [], []
        for past_levels in self.branches:
            past_t = torch.as_tensor(past_levels, device=xt.device).expand(b, k)
            shown = known if not past_t.any() else self.schedule.add_noise(known, past_t, noise)
            clips.append(torch.cat([shown, xt[:, :, k:]], dim=2))
            times.append(torch.cat([past_t, levels[:, k:]], dim=1))
        parts = self.inner(torch.cat(clips), torch.cat(times), **model_kwargs).chunk(len(self.branches))
        x0_hat = sum(weight * part for weight, part in zip(self.branches.values(), parts))
        return torch.cat([known, x0_hat[:, :, k:]], dim=2)
