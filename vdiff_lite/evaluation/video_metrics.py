"""Measures of any clip against the true one, and their uncertainty."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor


def psnr(clip: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame in dB: 10 log10(4 / mse), since pixels span [-1, 1].

    clip, truth: (b, c, f, h, w). Returns (b, f); two equal frames give infinity. Raises ValueError for other
    shapes.
    """
    if clip.shape != truth.shape:
        raise ValueError(f"clip {tuple(clip.shape)} and truth {tuple(truth.shape)} differ in shape")
    return decibels(reduce((clip - truth) ** 2, "b c f h w -> b f", "mean"))


def finite_psnr(clip: Tensor, truth: Tensor) -> Tensor:
    """`psnr` of which a mean can be taken: two equal frames count as 100 dB."""
    return psnr(clip, truth).clamp(max=100)


def decibels(error: Tensor) -> Tensor:
    """Mean squared error of pixels that span [-1, 1], as PSNR in dB."""
    return 10 * torch.log10(4 / error)


def ssim(clip: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each frame (Wang et al. 2004; torchmetrics), 1 for equal frames.

    clip, truth: (b, c, f, h, w). Returns (b, f).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    frames = [rearrange(x, "b c f h w -> (b f) c h w") for x in (clip, truth)]
    return rearrange(similarity(*frames, data_range=2.0, reduction="none"), "(b f) -> b f", b=clip.shape[0])


def saturation(clip: Tensor, margin: float = 0.1) -> Tensor:
    """Fraction of pixels with |x| > 1 + margin: (b, c, f, h, w), not clamped -> (b, f).

    What a large guidance weight extrapolates, and clamping then hides (Saharia et al. 2022, Sec. 2.3).
    """
    return reduce((clip.abs() > 1 + margin).float(), "b c f h w -> b f", "mean")


def ratio_to(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, without a division by zero."""
    return part / whole.clamp(min=1e-6)


def boundary_discontinuity(clip: Tensor, joins: Iterable[int], truth: Tensor | None = None) -> Tensor:
    """How much larger the root mean squared change is across a join than from frame to frame elsewhere.

    joins: the frames with which new windows begin.  truth: a clip without joins, (b, c, f, h, w) too; the
    ratio is then divided by the truth's own at the same frames, so that a bounce at a join does not count.
    Returns (b,): 1 is right, nan where the truth stands still at the joins or elsewhere. Raises ValueError
    where there is no join, or nothing else.
    """
    at_join, elsewhere = _changes(clip, joins)
    ratio = ratio_to(at_join, elsewhere)
    if truth is None:
        return ratio
    at_join, elsewhere = _changes(truth, joins)
    moves = (at_join > 0) & (elsewhere > 0)
    return torch.where(moves, ratio_to(ratio, ratio_to(at_join, elsewhere)), torch.nan)


def _changes(clip, joins):
    """The root mean squared change across joins, and from frame to frame elsewhere: (b,) twice."""
    change = reduce(clip.diff(dim=2) ** 2, "b c f h w -> b f", "mean").sqrt()
    at_join = torch.zeros(change.shape[1], dtype=torch.bool)
    at_join[[join - 1 for join in joins]] = True
    if not at_join.any() or at_join.all():
        raise ValueError(f"joins={list(joins)} leaves nothing to compare in a clip of {clip.shape[2]} frames")
    return change[:, at_join].mean(1), change[:, ~at_join].mean(1)


def bootstrap(values: Sequence[float], draws: int = 2000, level: float = 0.95, seed: int = 0) -> tuple:
    """Mean and confidence interval by resampling clips: (n,) -> (mean, low, high)   (Efron 1979; scipy)."""
    from scipy.stats import bootstrap as resample

    values = np.asarray(values, dtype=float)
    if len(values) < 2 or values.std() == 0:
        return (float(values.mean()),) * 3
    interval = resample((values,), np.mean, n_resamples=draws, confidence_level=level, method="percentile",
                        rng=np.random.default_rng(seed)).confidence_interval
    return float(values.mean()), float(interval.low), float(interval.high)
