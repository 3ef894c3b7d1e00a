"""Some frames from long ago never leave the window: the past says where and how fast, they say what."""

import torch

from ..foresight import LONG_AGO
from .history_cfg import history_cfg


def anchored_history(denoiser, past, anchor, weight=1.0, distance=LONG_AGO):
    """`history_cfg`, with a few frames from the beginning kept in sight for ever, as a fixed memory of what is shown.

    A window that sees only the last frames copies a copy of a copy, and small errors add up. The anchor is the original: clean frames in
    front of the window, at positions `distance` frames before its first. They are really older; the network is told a distance that it
    knows from training, and takes from them what does not depend on it. (An anchor frame for long videos: Henschel et al. 2024.)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  anchor: (b, c, n, h, w), usually the frames that were
    given at the start;  weight: as in `history_cfg`, of the past alone, since both branches see the anchor;  distance: frames between the
    anchor's last frame and the window's first.
    Returns denoiser(xt, t) -> x0_hat. Raises ValueError when anchor and past are of different clips or distance is negative.
    """
    if anchor.shape[:2] != past.shape[:2] or anchor.shape[3:] != past.shape[3:] or anchor.shape[2] < 1:
        raise ValueError(f"anchor has shape {tuple(anchor.shape)}, past {tuple(past.shape)}; they may differ in the number of frames alone")
    if distance < 0:
        raise ValueError(f"distance={distance} would put the anchor into the window; 0 puts it right before it")
    return history_cfg(_Beside(denoiser, anchor, distance), past, weight)


class _Beside:
    """A denoiser that sees the anchor beside whatever it is shown."""

    def __init__(self, denoiser, anchor, distance):
        self.denoiser, self.anchor, self.distance, self.schedule = denoiser, anchor, distance, denoiser.schedule

    def __call__(self, xt, t, positions=None, **features):
        n, (b, _, f) = self.anchor.shape[2], xt.shape[:3]
        anchor = self.anchor.to(xt).repeat(b // self.anchor.shape[0], 1, 1, 1, 1)  # guidance stacks its branches
        positions = torch.arange(f) if positions is None else torch.as_tensor(positions)
        positions = torch.cat([positions[0] - self.distance - n + torch.arange(n), positions])
        levels = torch.cat([t.new_zeros(b, n), t[:, None].expand(b, f) if t.ndim == 1 else t], dim=1)
        return self.denoiser(torch.cat([anchor, xt], dim=2), levels, positions=positions, **features)[:, :, n:]
