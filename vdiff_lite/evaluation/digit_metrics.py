"""What a clip got right and wrong, measured against the ground truth that bouncing digits come with."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from vdiff_lite.data.bouncing_digits import centroid, draw, glyphs
from vdiff_lite.evaluation.video_metrics import ratio_to


def intensity(clip: Tensor) -> Tensor:
    """How much is drawn on each frame: the sum of (x + 1) / 2 over pixels. (b, 1, f, h, w) -> (b, f)."""
    return reduce((clip.clamp(-1, 1) + 1) / 2, "b 1 f h w -> b f", "sum")


def digit_position(clip: Tensor) -> Tensor:
    """The centroid of each frame's intensity, (y, x) in pixels: (b, 1, f, h, w) -> (b, f, 2).

    Faint gray, below a tenth of full intensity, is background and does not count.
    """
    return centroid(((clip[:, 0].clamp(-1, 1) + 1) / 2 - 0.1).clamp(min=0))


def speed(clip: Tensor) -> Tensor:
    """How far `digit_position` moves from frame to frame, in pixels: (b, 1, f, h, w) -> (b, f - 1)."""
    return digit_position(clip).diff(dim=1).norm(dim=-1)


@functools.cache
def _reader():
    from sklearn.svm import SVC

    images, labels = glyphs(12, "train")
    return SVC(C=10, gamma="scale").fit(_normalized(images), labels.numpy())


def _normalized(images):
    flat = rearrange(images, "n h w -> n (h w)").double().numpy()
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def read_digits(clip: Tensor) -> Tensor:
    """Which digit a classifier sees on each frame: (b, 1, f, h, w) -> (b, f) long.

    Each frame is moved so that its digit stands in the middle, then read by a support vector machine that was
    fitted to the training glyph samples (scikit-learn's SVC, radial kernel). For clips of one digit of 12
    pixels.
    """
    read = torch.from_numpy(_reader().predict(_normalized(centered_frames(clip))))
    return rearrange(read, "(b f) -> b f", b=clip.shape[0])


def centered_frames(clip: Tensor, size: int = 16) -> Tensor:
    """Each frame's digit, cut out with its centroid in the middle: (b, 1, f, h, w) -> (b f, size, size)."""
    frames = rearrange((clip.clamp(-1, 1) + 1) / 2, "b 1 f h w -> (b f) h w").cpu()
    offset = (size - 1) / 2 - centroid(frames)
    return draw(frames[:, None], offset[:, None, None], size)[:, 0, 0]


def nearest_glyph(clip: Tensor) -> tuple[Tensor, Tensor]:
    """How near each clip's digit comes to one that the model was trained on.

    The digit of every frame is compared with every glyph sample of the training split. Returns (distances,
    indices), (b,) each: the smallest root mean squared difference of intensity in [0, 1] on any frame, and to
    which sample.
    """
    digits = centered_frames(clip)
    distances = torch.cdist(digits.flatten(1), glyphs(12, "train")[0].flatten(1)) / digits[0].numel() ** 0.5
    distances = rearrange(distances, "(b f) g -> b g f", b=clip.shape[0]).min(dim=2).values
    return distances.min(dim=1)


def shape_consistency(clip: Tensor) -> Tensor:
    """Whether the last frame still shows the shape of the first: (b, 1, f, h, w) -> (b,) bool.

    A clip passes when, of the first digits of all b clips, the one nearest to its own last digit is its own
    first. No classifier is asked, so a shape counts that is no digit; chance is 1 / b. Raises ValueError for
    a single clip.
    """
    if len(clip) < 2:
        raise ValueError(f"clip has shape {tuple(clip.shape)}; one clip alone cannot be mistaken for "
                         "another, give two or more")
    first, last = (centered_frames(clip[:, :, [i]]).flatten(1) for i in (0, -1))
    return torch.cdist(last, first).argmin(dim=1) == torch.arange(len(clip))


def same_digit(clip: Tensor) -> Tensor:
    """Whether the digit read on the last frame is the one read on the first: (b, 1, f, h, w) -> (b,) bool."""
    first, last = read_digits(clip[:, :, [0, -1]]).unbind(1)
    return first == last


def motion(clip: Tensor, truth: Tensor) -> Tensor:
    """Mean speed relative to the truth's: (b, 1, f, h, w) twice -> (b,). 1 is right, 0 is frozen."""
    return ratio_to(speed(clip).mean(1), speed(truth).mean(1))


def identity(clip: Tensor, truth: Tensor, span: int = 7) -> Tensor:
    """Whether each frame still shows the digit it should: (b, 1, f, h, w) twice -> (b, f) bool.

    A frame passes when the digit that is read most often on the `span` frames nearest to it is the one read
    most often on the truth: the truth is read by the same classifier, so that a sample it misreads does not
    count against a method.
    """
    true_digit = read_digits(truth).mode(dim=1).values
    return _around(read_digits(clip).float(), span).mode(dim=2).values == true_digit[:, None]


def _around(x, span):
    """The `span` frames nearest to each frame: (b, f) -> (b, f, span)."""
    span = min(span, x.shape[1])
    first = (torch.arange(x.shape[1]) - span // 2).clamp(0, x.shape[1] - span)
    return x[:, first[:, None] + torch.arange(span)]


# What a clip may do without failing; real clips pass (tests/test_metrics.py).
LIMITS = dict(intensity=(0.7, 1.4), motion=(0.4, 1.8), jump=4.0)


def failures(clip: Tensor, truth: Tensor, num_context: int, span: int = 7,
             same: Tensor | None = None) -> dict[str, Tensor]:
    """Which checks fail at which frame: {name: (b, f) bool}.

        intensity  the intensity around the frame, relative to the context frames, leaves LIMITS["intensity"]
        motion     the speed around the frame, relative to the truth's mean speed, leaves LIMITS["motion"]
        jump       the digit moves more than LIMITS["jump"] pixels in one frame
        identity   `identity` fails
    clip, truth: (b, 1, f, h, w), equal in the first `num_context` frames;  span: intensity and speed are
    medians over so many frames;  same: `identity(clip, truth, span)`, where it is at hand already.
    """
    smooth = lambda x: _around(x, span).median(dim=2).values
    same = identity(clip, truth, span) if same is None else same
    moved = F.pad(speed(clip), (1, 0), mode="replicate")
    outside = lambda x, limits: (x < limits[0]) | (x > limits[1])
    context = intensity(truth[:, :, :num_context]).mean(1, keepdim=True)
    return {"intensity": outside(smooth(intensity(clip)) / context, LIMITS["intensity"]),
            "motion": outside(smooth(moved) / speed(truth).mean(1, keepdim=True), LIMITS["motion"]),
            "jump": moved > LIMITS["jump"], "identity": ~same}


def time_to_first_failure(failed: dict[str, Tensor], num_context: int) -> tuple[Tensor, list[str]]:
    """How many new frames pass before a check fails, and which check that is: survival of long clips.

    failed: what `failures` returns. Returns (b,) long, f - num_context where nothing fails, and a list of
    names, "" where nothing fails.
    """
    table = torch.stack(list(failed.values()))[:, :, num_context:]
    frames = (~table.any(0)).long().cumprod(dim=1).sum(1)
    reasons = [next((name for name, row in zip(failed, table[:, b]) if n < len(row) and row[n]), "")
               for b, n in enumerate(frames.tolist())]
    return frames, reasons
