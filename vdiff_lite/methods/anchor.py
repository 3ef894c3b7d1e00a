"""Some frames from long ago never leave the window: the past says where and how fast, they say what."""

import torch
from torch import Tensor

from vdiff_lite.checks import whole
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, per_frame, require_positions
from vdiff_lite.methods.history_guidance import history_guidance

DISTANCE = 12  # frames between the anchor and the window


def anchored_history(denoiser: Denoiser, past: Tensor, anchor: Tensor, weight: float = 1.0,
                     distance: int = DISTANCE) -> Denoiser:
    """`history_guidance`, with a few frames from the beginning kept in sight as a fixed memory.

    A window that sees only the last frames copies a copy of a copy, and small errors add up. The anchor is
    the original: clean frames in front of the window, at positions `distance` frames before its first. They
    are really older; the network is told a shorter distance, and takes from them what does not depend on it.
    That has to be trained: to a network that has seen windows alone it does harm (chapter 7). (An anchor
    frame for long videos: Henschel et al. 2024.)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  anchor: (b, c, n, h, w), usually the
    frames that were given at the start;  weight: as in `history_guidance`, of the past alone, since both
    branches see the anchor; distance: frames between the anchor's last frame and the window's first.
    Raises ValueError when anchor and past are of different clips, when distance is negative, and for a
    network without positions.
    """
    require_positions(denoiser, "anchored_history")
    if anchor.shape[:2] != past.shape[:2] or anchor.shape[3:] != past.shape[3:] or anchor.shape[2] < 1:
        raise ValueError(f"anchor has shape {tuple(anchor.shape)}, past {tuple(past.shape)}; "
                         "they may differ in the number of frames alone")
    whole(0, distance=distance)
    return history_guidance(_Anchored(denoiser, anchor, distance), past, weight)


class _Anchored(DenoiserWrapper):
    """A denoiser that sees the anchor beside whatever it is shown."""

    def __init__(self, denoiser: Denoiser, anchor: Tensor, distance: int):
        super().__init__(denoiser)
        self.anchor, self.distance = anchor, distance

    def forward(self, xt: Tensor, t: Tensor, positions: Tensor | None = None, **model_kwargs) -> Tensor:
        n, (b, _, f) = self.anchor.shape[2], xt.shape[:3]
        anchor = self.anchor.to(xt).repeat(b // len(self.anchor), 1, 1, 1, 1)  # guidance stacks its branches
        positions = torch.arange(f) if positions is None else torch.as_tensor(positions)
        positions = torch.cat([positions[0] - self.distance - n + torch.arange(n), positions])
        levels = torch.cat([t.new_zeros(b, n), per_frame(t, b, f)], dim=1)
        shown = torch.cat([anchor, xt], dim=2)
        return self.inner(shown, levels, positions=positions, **model_kwargs)[:, :, n:]
