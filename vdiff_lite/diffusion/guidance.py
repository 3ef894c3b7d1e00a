"""Denoisers made of denoisers: clipped, given a clean past, guided away from a worse network."""

import math

import torch
from torch import Tensor

from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, per_frame


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
        check_weight("weight", weight, "the denoiser alone")
        self.weak, self.weight, self.takes_hooks = weak, weight, False  # a hook would meet two networks

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        x0_weak = self.weak(xt, t, **model_kwargs)
        return x0_weak + self.weight * (self.inner(xt, t, **model_kwargs) - x0_weak)


def check_weight(name: str, weight: float, one: str = "the conditional model") -> None:
    """Raise ValueError unless a guidance weight is a finite number;  one: what a weight of 1 means."""
    if isinstance(weight, str) or not math.isfinite(weight):
        raise ValueError(f"{name}={weight} must be finite; 1 is {one}, 1.5 a usual guidance weight")


def check_new_frames(k: int, window: int) -> None:
    """Raise ValueError unless a past of k frames leaves new ones in the window."""
    if k >= window:
        raise ValueError(f"past has {k} frames and leaves no new frames in a window of {window}; "
                         f"give at most {window - 1}")
