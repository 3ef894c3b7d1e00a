"""What a clip got right and wrong, measured against the ground truth that bouncing digits come with."""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce

from .data import centroid, draw, glyphs


def psnr(clip, truth):
    """Peak signal-to-noise ratio of each frame in dB: 10 log10(4 / mse), since pixels span [-1, 1].

    clip, truth: (b, c, f, h, w). Returns (b, f); two equal frames give infinity.
    """
    if clip.shape != truth.shape:
        raise ValueError(f"clip {tuple(clip.shape)} and truth {tuple(truth.shape)} differ in shape")
    return 10 * torch.log10(4 / reduce((clip - truth) ** 2, "b c f h w -> b f", "mean"))


def ssim(clip, truth):
    """Structural similarity of each frame (Wang et al. 2004; torchmetrics): (b, c, f, h, w) twice -> (b, f); 1 for equal frames."""
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    frames = [rearrange(x, "b c f h w -> (b f) c h w") for x in (clip, truth)]
    return rearrange(similarity(*frames, data_range=2.0, reduction="none"), "(b f) -> b f", b=clip.shape[0])


def ink(clip):
    """How much is drawn on each frame: the sum of (x + 1) / 2 over pixels. (b, 1, f, h, w) -> (b, f)."""
    return reduce((clip.clamp(-1, 1) + 1) / 2, "b 1 f h w -> b f", "sum")


def saturation(clip, margin=0.1):
    """Share of pixels that lie beyond the range of pictures, |x| > 1 + margin: (b, c, f, h, w), not clamped -> (b, f) in 0 .. 1.

    What a large guidance weight extrapolates, and clamping then hides (Saharia et al. 2022, Sec. 2.3).
    """
    return reduce((clip.abs() > 1 + margin).float(), "b c f h w -> b f", "mean")


def place(clip):
    """Where the digit is: the centroid of the ink on each frame, (x, y) in pixels from the upper left: (b, 1, f, h, w) -> (b, f, 2).

    Faint grey below a tenth of full ink is background, and does not count.
    """
    return centroid(((clip[:, 0].clamp(-1, 1) + 1) / 2 - 0.1).clamp(min=0))


def speed(clip):
    """How far `place` moves from frame to frame, in pixels: (b, 1, f, h, w) -> (b, f - 1)."""
    return place(clip).diff(dim=1).norm(dim=-1)


@functools.cache
def _reader():
    from sklearn.svm import SVC

    images, labels = glyphs(12, "train")
    return SVC(C=10, gamma="scale").fit(_normalised(images), labels.numpy())


def _normalised(images):
    flat = rearrange(images, "n h w -> n (h w)").double().numpy()
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def read_digits(clip):
    """Which digit a classifier sees on each frame: (b, 1, f, h, w) -> (b, f) long.

    Each frame is moved so that its ink stands in the middle, then read by a support vector machine that was fitted
    to the training handwriting (scikit-learn's SVC, radial kernel). For clips of one digit of 12 pixels.
    """
    read = torch.from_numpy(_reader().predict(_normalised(centred_frames(clip))))
    return rearrange(read, "(b f) -> b f", b=clip.shape[0])


def centred_frames(clip, size=16):
    """The digit of each frame, cut out with its ink's centroid in the middle: (b, 1, f, h, w) -> (b f, size, size)."""
    frames = rearrange((clip.clamp(-1, 1) + 1) / 2, "b 1 f h w -> (b f) h w").cpu()
    offset = (size - 1) / 2 - centroid(frames)
    return draw(frames[:, None], offset[:, None, None], size)[:, 0, 0]


def nearest_handwriting(clip):
    """How near each clip's digit comes to one that the model was trained on.

    The digit of every frame is compared with every glyph of the training split. Returns (distances, indices), (b,) each:
    the smallest root mean squared difference of ink in [0, 1] on any frame, and which glyph it is to.
    """
    digits = centred_frames(clip)
    distances = torch.cdist(digits.flatten(1), glyphs(12, "train")[0].flatten(1)) / digits[0].numel() ** 0.5
    distances = rearrange(distances, "(b f) g -> b g f", b=clip.shape[0]).min(dim=2).values
    return distances.min(dim=1)


def recognised(clip):
    """Whether the last frame still shows the shape of the first: (b, 1, f, h, w) -> (b,) bool.

    A clip passes when, of the first digits of all b clips, the one nearest to its own last digit is its own first. No classifier is
    asked, so a shape counts that is no digit; chance is 1 / b. Raises ValueError for a single clip.
    """
    if len(clip) < 2:
        raise ValueError(f"clip has shape {tuple(clip.shape)}; one clip alone cannot be mistaken for another, give two or more")
    first, last = (centred_frames(clip[:, :, [i]]).flatten(1) for i in (0, -1))
    return torch.cdist(last, first).argmin(dim=1) == torch.arange(len(clip))


def same_digit(clip):
    """Whether the digit read on the last frame is the one read on the first: (b, 1, f, h, w) -> (b,) bool."""
    first, last = read_digits(clip[:, :, [0, -1]]).unbind(1)
    return first == last


def _measured_share(part, whole):
    return part / whole.clamp(min=1e-6)


def motion(clip, truth):
    """How fast a clip moves, as a share of how fast the truth does: (b, 1, f, h, w) twice -> (b,). 1 is right, 0 is frozen."""
    return _measured_share(speed(clip).mean(1), speed(truth).mean(1))


def seam(clip, joins, truth=None):
    """How much larger the change is across a join than elsewhere: root mean squared differences of neighbouring frames.

    joins: the frames with which new windows begin.  truth: a clip without joins, (b, c, f, h, w) too; the ratio is then divided by
    the truth's own at the same frames, so that a bounce at a join does not count. Returns (b,): 1 is right.
    """
    change = reduce(clip.diff(dim=2) ** 2, "b c f h w -> b f", "mean").sqrt()
    at_join = torch.zeros(change.shape[1], dtype=torch.bool)
    at_join[[join - 1 for join in joins]] = True
    if not at_join.any() or at_join.all():
        raise ValueError(f"joins={list(joins)} leaves nothing to compare in a clip of {clip.shape[2]} frames")
    ratio = _measured_share(change[:, at_join].mean(1), change[:, ~at_join].mean(1))
    return ratio if truth is None else _measured_share(ratio, seam(truth, joins))


def identity(clip, truth, span=7):
    """Whether each frame still shows the digit it should: (b, 1, f, h, w) twice -> (b, f) bool.

    A frame passes when the digit that is read most often on the `span` frames nearest to it is the one read most often on the
    truth: the classifier is asked the same question twice, so that handwriting it misreads does not count against a method.
    """
    right = read_digits(truth).mode(dim=1).values
    return _around(read_digits(clip).float(), span).mode(dim=2).values == right[:, None]


def _around(x, span):
    """The `span` frames nearest to each frame, near an end of the clip the first or last ones: (b, f) -> (b, f, span)."""
    span = min(span, x.shape[1])
    first = (torch.arange(x.shape[1]) - span // 2).clamp(0, x.shape[1] - span)
    return x[:, first[:, None] + torch.arange(span)]


# What a clip may do and still be alive; real clips pass (tests/test_metrics.py).
LIMITS = dict(ink=(0.7, 1.4), motion=(0.4, 1.8), jump=4.0)


def faults(clip, truth, given, span=7, same=None):
    """Which checks fail at which frame: {name: (b, f) bool}.

    ink       the ink around the frame, as a share of the given frames', leaves LIMITS["ink"]
    motion    the speed around the frame, as a share of the truth's mean speed, leaves LIMITS["motion"]
    jump      the digit moves more than LIMITS["jump"] pixels in one frame
    identity  `identity` fails
    clip, truth: (b, 1, f, h, w), the first `given` frames the same.  Ink and motion are medians over `span` frames.
    same: `identity(clip, truth, span)`, where it is at hand already.
    """
    smooth = lambda x: _around(x, span).median(dim=2).values
    same = identity(clip, truth, span) if same is None else same
    moved = F.pad(speed(clip), (1, 0), mode="replicate")
    outside = lambda x, limits: (x < limits[0]) | (x > limits[1])
    return {"ink": outside(smooth(ink(clip)) / ink(truth[:, :, :given]).mean(1, keepdim=True), LIMITS["ink"]),
            "motion": outside(smooth(moved) / speed(truth).mean(1, keepdim=True), LIMITS["motion"]),
            "jump": moved > LIMITS["jump"], "identity": ~same}


def horizon(failed, given):
    """The first new frame at which a check fails, and which check: survival of long clips.

    failed: what `faults` returns;  given: how many frames were given.
    Returns (b,) long, f - given where nothing fails, and a list of names, "" where nothing fails.
    """
    table = torch.stack(list(failed.values()))[:, :, given:]
    alive = (~table.any(0)).long().cumprod(dim=1).sum(1)
    names = [next((name for name, row in zip(failed, table[:, b]) if n < len(row) and row[n]), "") for b, n in enumerate(alive.tolist())]
    return alive, names


def bootstrap(values, draws=2000, level=0.95, seed=0):
    """Mean and confidence interval by resampling clips: (n,) -> (mean, low, high)   (Efron 1979; scipy.stats.bootstrap)."""
    from scipy.stats import bootstrap as resample

    values = np.asarray(values, dtype=float)
    if len(values) < 2 or values.std() == 0:
        return float(values.mean()), float(values.mean()), float(values.mean())
    interval = resample((values,), np.mean, n_resamples=draws, confidence_level=level, method="percentile",
                        rng=np.random.default_rng(seed)).confidence_interval
    return float(values.mean()), float(interval.low), float(interval.high)
