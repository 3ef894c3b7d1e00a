"""Clips broken on purpose, for the tests of what should notice. (Other test files import from here.)"""

import torch

from vdiff_lite.data.bouncing_digits import centroid, draw
from vdiff_lite.evaluation import digit_metrics


def after(f, clip, other):
    """A clip that goes on as another one from frame f on."""
    return torch.cat([clip[:, :, :f], other[:, :, f:]], dim=2)


def other_digit(clip):
    """The digit of the neighboring clip, on the path of this one."""
    b, _, f = clip.shape[:3]
    digits = digit_metrics.centered_frames(clip).unflatten(0, (b, f)).roll(1, 0)
    corner = centroid((clip[:, 0] + 1) / 2) - 7.5
    frames = draw(digits.flatten(0, 1)[:, None], corner.flatten(0, 1)[:, None, None], 32)
    return 2 * frames[:, 0, 0].unflatten(0, (b, 1, f)) - 1


def fading(f, clip):
    """From frame f on, the intensity falls evenly to three tenths."""
    fade = torch.cat([torch.ones(f), torch.linspace(1, 0.3, clip.shape[2] - f)])[:, None, None]
    return (clip + 1) * fade - 1
