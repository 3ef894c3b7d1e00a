"""Denoisers made of denoisers: clipped, given a clean past, guided away from a worse network."""

import torch
from torch import Tensor

from vdiff_lite.checks import number
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, condition_width, per_frame


class clip_denoised(DenoiserWrapper):
    """The same denoiser with x0_hat held in [-1, 1]."""

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        return self.inner(xt, t, **model_kwargs).clamp(-1, 1)


class condition_on_past(DenoiserWrapper):
    """The past stands in the window, clean: in-window conditioning.

        x0_hat = [past, x0_hat_new([past, x_t], [0, t])]          past frames at t = 0, new ones at t

    denoiser: trained with clean frames at t = 0;  past: (b, c, k, h, w) in [-1, 1], the first k frames of the
    window. The first k frames of x0_hat are `past` exactly. Raises ValueError when the window has no new
    frame.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor):
        super().__init__(denoiser)
        self.past, self.takes_hooks = past, False  # a hook would meet the past's features twice

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        (b, _, f), k, known = xt.shape[:3], self.past.shape[2], self.past.to(xt)
        check_new_frames(k, f)
        levels = per_frame(t, b, f)
        shown = torch.cat([known, xt[:, :, k:]], dim=2)
        levels = torch.cat([torch.zeros_like(levels[:, :k]), levels[:, k:]], dim=1)
        return torch.cat([known, self.inner(shown, levels, **model_kwargs)[:, :, k:]], dim=2)


class autoguided(DenoiserWrapper):
    """A denoiser guided away from a worse version of itself.

        x0_hat = x0_weak + w (x0_good - x0_weak)                  (Karras et al. 2024, "autoguidance")

    weak: should err in the same way, only more: the same network trained for less long, or on less of the
    task. weight: w, 1 is `denoiser` alone, more exaggerates what it does better. Raises ValueError for a
    weight that is not finite.
    """

    def __init__(self, denoiser: Denoiser, weak: Denoiser, weight: float = 1.5):
        super().__init__(denoiser)
        number(weight=weight)
        self.weak, self.weight, self.takes_hooks = weak, weight, False  # a hook would meet two networks

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        x0_weak = self.weak(xt, t, **model_kwargs)
        return x0_weak + self.weight * (self.inner(xt, t, **model_kwargs) - x0_weak)


class conditioned(DenoiserWrapper):
    """A denoiser that is told something beside each frame, such as the actions of a walk.

        x0_hat = u + w (c - u)          c: told;  u: told nothing, all zeros    (Ho and Salimans 2022, Eq. 6)

    condition: (b, f, n), of the frames at positions 0 .. f-1; those at other positions are told nothing;
    weight: w, 1 asks the network once, other weights twice (in one pass); above 1 it obeys more. Raises
    ValueError for a network that is told nothing or something of another width.
    """

    def __init__(self, denoiser: Denoiser, condition: Tensor, weight: float = 1.0):
        super().__init__(denoiser)
        number(weight=weight)
        width = condition_width(denoiser.net)
        if condition.ndim != 3 or condition.shape[2] != width:
            told = f"this network is told (b, f, {width})" if width else "this network is told nothing; " \
                   "train one with VideoUNetConfig(condition=n), on clips that come with a condition"
            raise ValueError(f"condition has shape {tuple(condition.shape)}; {told}")
        self.condition, self.weight = condition.to(denoiser.device), weight
        self.takes_hooks = self.takes_hooks and weight == 1  # a hook would meet both branches at once

    def forward(self, xt: Tensor, t: Tensor, positions: Tensor | None = None, **model_kwargs) -> Tensor:
        b, f = xt.shape[0], xt.shape[2]
        index = torch.arange(f) if positions is None else torch.as_tensor(positions).cpu()
        inside = (index >= 0) & (index < self.condition.shape[1])
        told = self.condition.to(xt)[:, index.clamp(0, self.condition.shape[1] - 1)] * inside.to(xt)[:, None]
        told = told.repeat(b // len(told), 1, 1)  # guidance by the past stacks its branches
        kwargs = model_kwargs if positions is None else model_kwargs | dict(positions=positions)
        if self.weight == 1:
            return self.inner(xt, t, condition=told, **kwargs)
        both = torch.cat([told, torch.zeros_like(told)])
        xt, t = torch.cat([xt, xt]), per_frame(t, b, f).repeat(2, 1)
        c, u = self.inner(xt, t, condition=both, **kwargs).chunk(2)
        return u + self.weight * (c - u)


def check_new_frames(k: int, window: int) -> None:
    """Raise ValueError unless a past of k frames leaves new ones in the window."""
    if k >= window:
        raise ValueError(f"past has {k} frames and leaves no new frames in a window of {window}; "
                         f"give at most {window - 1}")
