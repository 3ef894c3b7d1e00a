"""Clips of two digits that cross: which digit goes where, measured against the truth."""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vdiff_lite.data.bouncing_digits import DigitTruth, draw, glyphs

REACH = 8  # how far from a true position a digit is looked for, in pixels along each axis
CLEAR = 0.6  # fraction of a true digit's intensity that must be visible for it to be judged
DARK = 0.1  # less than this of full intensity is background
LIMIT = 0.2  # largest error of a digit that still is itself; other digits are above, tests/test_two_digits.py
SPAN = 3  # a clip is judged by so many frames at its end


def find_digits(clip: Tensor, truth: DigitTruth, digit_size: int = 24,
                where: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Where the two true digits stand on each frame of a clip, and how wrong they look there.

        p = argmin || x - max(g_1(p_1), g_2(p_2)) ||^2: the true glyphs, where they explain frame x best
        error_i = || x - g_i(p_i) ||^2 / || g_i(p_i) ||^2, over pixels around p_i that the other leaves free

    Looked for twice: each digit near its own true position, and each near the other's.
    clip: (b, 1, f, h, w);  digit_size: as in BouncingDigits;  where: (b, f) bool, the frames to look at, by
    default all. Returns positions (b, 2, f, 2), (y, x) in pixels, and errors (b, 2, f): 0 for a digit as it
    should be, 1 where there is none.
    """
    images, middle = _true_images(truth, digit_size)
    frames = ((clip.clamp(-1, 1) + 1) / 2).cpu()
    where = torch.ones(frames[:, 0, :, 0, 0].shape) if where is None else where
    corners = truth.positions - middle
    for b, f in where.nonzero().tolist():
        corners[b, :, f] = _explain(frames[b, 0, f], images[b], corners[b, :, f])
    digits, boxes = (_draw_each(x, corners, clip.shape[-2:]) for x in (images, torch.ones_like(images)))
    free = (boxes > 0) & (digits.flip(1) < DARK)
    wrong, whole = (((x * free) ** 2).sum((-1, -2)) for x in (frames - digits, digits))
    return corners + middle, wrong / whole.clamp(min=1e-6)


def tracks(positions: Tensor, truth: DigitTruth) -> Tensor:
    """On whose path each digit is: the assignment to the true positions with the least total distance.

    positions: (b, 2, f, 2), of `find_digits`. Returns (b, 2, f) long: 0 for the first digit and 1 for the
    second where both are on their own. (Kuhn 1955, the Hungarian method; scipy.)
    """
    distances = torch.cdist(positions.transpose(1, 2), truth.positions.transpose(1, 2))
    assigned = np.stack([linear_sum_assignment(matrix)[1] for matrix in distances.flatten(0, 1).numpy()])
    return rearrange(torch.from_numpy(assigned), "(b f) n -> b n f", b=len(positions))


def clear_frames(truth: DigitTruth, size: int | tuple, num_context: int,
                 digit_size: int = 24) -> tuple[Tensor, Tensor]:
    """New frames on which both digits can be judged: of each true one CLEAR or more is visible.

    Visible is the fraction of a digit's intensity that the other leaves free.  size: of a frame.
    Returns (b, f) bool twice: these frames, and those of them after the digits have met, when they were clear
    before and then, on a new frame, were not.
    """
    images, middle = _true_images(truth, digit_size)
    drawn = _draw_each(images, truth.positions - middle, size)
    visible = (drawn * (drawn.flip(1) < DARK)).sum((-1, -2)) / drawn.sum((-1, -2))
    clear = (visible >= CLEAR).all(1)
    new = torch.arange(clear.shape[1]) >= num_context
    met = ~clear & new & (clear.cumsum(1) > 0)
    return clear & new, clear & (met.cumsum(1) > 0)


def score_two_digits(clip: Tensor, truth: DigitTruth, num_context: int, digit_size: int = 24) -> dict:
    """What became of the two digits of each clip: {name: (b,) bool}, position_error (b,) in pixels.

        clear, crosses  the true clip has `clear_frames`; has some after the digits have met
        identity  on the last SPAN clear frames, mostly, both are themselves, on their own paths
        crossing  the same on the last SPAN clear frames after they have met
        swapped   on these, mostly, both are themselves, each on the other's path
        position_error  on the last SPAN clear frames, how far the digits are, on average, from the true
            positions that `tracks` assigns them; at most about REACH, and nan where no frame is clear
    A digit is itself where its error is below LIMIT.
    clip: (b, 1, f, h, w), in its first `num_context` frames the context;  truth: of the true clips.
    """
    clear, after = clear_frames(truth, clip.shape[-2:], num_context, digit_size)
    last, last_after = (frames & (frames.flip(1).cumsum(1).flip(1) <= SPAN) for frames in (clear, after))
    positions, errors = find_digits(clip, truth, digit_size, last | last_after)
    themselves = (errors < LIMIT).all(1)
    assigned = tracks(positions, truth)
    own = (assigned == torch.arange(2)[:, None]).all(1)
    goals = truth.positions.gather(1, assigned[..., None].expand_as(positions))
    apart = (positions - goals).norm(dim=-1).mean(1)
    mostly = lambda passed, frames: (passed & frames).sum(1) * 2 > frames.sum(1)
    return dict(clear=clear.any(1), identity=mostly(themselves & own, last), crosses=after.any(1),
                crossing=mostly(themselves & own, last_after), swapped=mostly(themselves & ~own, last_after),
                position_error=(apart * last).sum(1) / last.sum(1))


def _true_images(truth, digit_size):
    """The glyphs of the true digits, (b, 2, g, g), and how far their middle is from their corner."""
    images = torch.cat([glyphs(digit_size, split)[0] for split in ("train", "test")])[truth.samples]
    return images, (images.shape[-1] - 1) / 2


def _draw_each(images, corners, size):
    """Frames of one digit each: (b, 2, g, g), (b, 2, f, 2) -> (b, 2, f, h, w)."""
    drawn = draw(images.flatten(0, 1)[:, None], corners.flatten(0, 1)[:, None], size)
    return rearrange(drawn, "(b n) 1 f h w -> b n f h w", n=2)


def _explain(frame, images, corners, sweeps=2):
    """The corners (2, 2) at which two images explain a frame (h, w) best."""
    ways = [corners.clone(), corners.flip(0)]
    for start, moved in [(way.clone(), way) for way in ways]:
        for i in (0, 1) * sweeps:
            other = draw(images[None, [1 - i]], moved[None, [1 - i], None], frame.shape)[0, 0, 0]
            moved[i] = _move(frame, other, images[i], start[i])
    error = lambda way: (frame - draw(images[None], way[None, :, None], frame.shape)).square().sum().item()
    return min(ways, key=error)


def _move(frame, other, image, corner):
    """The corner, moved by whole pixels to where this image explains best what the other one does not."""
    side, whole = len(image) + 1, corner.floor().long()
    digit = draw(image[None, None], (corner - whole)[None, None, None], side)[0, 0, 0]
    around = F.pad(torch.stack([frame, other]), (REACH, REACH + 1) * 2)
    (y, x), extent = whole.tolist(), 2 * REACH + side
    seen, behind = around[:, y:y + extent, x:x + extent].unfold(1, side, 1).unfold(2, side, 1)
    gain = (seen - behind).square() - (seen - torch.maximum(digit, behind)).square()
    row, column = divmod(gain.sum((-1, -2)).argmax().item(), gain.shape[1])
    return corner + torch.tensor([row, column]) - REACH
