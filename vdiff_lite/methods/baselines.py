"""The two trivial baselines: every window a clip of its own, and the last frame repeated."""

import torch
from torch import Tensor

from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper


def independent(denoiser: Denoiser, past: Tensor) -> Denoiser:
    """Ignore the past: the denoiser is returned as it came. past: (b, c, k, h, w) is not used."""
    return denoiser


class copy_last(DenoiserWrapper):
    """Predict that nothing moves: the last known frame, repeated. What every method must beat.

    past: (b, c, k, h, w), the first k frames of the window.  x0_hat: `past`, then its last frame for the rest
    of the window.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor):
        super().__init__(denoiser)
        self.past, self.takes_hooks = past, False

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        known = self.past.to(xt)
        still = known[:, :, -1:].expand(-1, -1, xt.shape[2] - known.shape[2], -1, -1)
        return torch.cat([known, still], dim=2)
