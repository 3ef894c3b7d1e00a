"""What made clips score, as rows (clip, frame, metric, value) of a table of results."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vdiff_lite.data.batch import Batch, ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits, DigitTruth
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features
from vdiff_lite.evaluation.two_digits import score_two_digits

PREDICTED = 33  # new frames of which PSNR and SSIM are kept: three windows


def is_one_digit(data: ClipSource) -> bool:
    """Whether these are clips of one digit in 32x32, which all measures are made for."""
    same = dict(split="test", num_frames=16)
    return isinstance(data, BouncingDigits) and replace(data, **same) == BouncingDigits(**same)


def left_out(data: ClipSource) -> str:
    """Which measures of `compare` do not apply to these clips, as a sentence; "" where all do."""
    if is_one_digit(data):
        return ""
    digits = isinstance(data, BouncingDigits) and data.num_digits == 2
    names = "motion and failures" if digits else "identity, intensity, motion and failures"
    return f"left out, measured for one digit in 32x32{' or two' * (not digits)}: {names}; this is {data}"


def score(clip: Tensor, true: Batch, num_context: int, stride: int, data: ClipSource) -> Iterator[tuple]:
    """Every measure that applies to clips of `data`: yields (clip, frame, metric, value).

    One digit in 32x32: `score_clips`.  Two digits: psnr, ssim, boundary_discontinuity, intensity, and of
    `score_two_digits` identity, crossing, swapped and position_error, for the clips in which there is
    something to judge.  Others: psnr, ssim, boundary_discontinuity.  true: the true clips, with their truth.
    """
    if is_one_digit(data):
        yield from score_clips(clip, true.video, num_context, stride)
        return
    made, future = clip[:, :, num_context:].clamp(-1, 1), true.video[:, :, num_context:]
    whole = torch.cat([true.video[:, :, :num_context], made], dim=2)
    yield from _prediction(made, future)
    joins = range(num_context, clip.shape[2], stride)
    jump = video_metrics.boundary_discontinuity(whole, joins, true.video)
    yield from _per_clip(dict(boundary_discontinuity=jump))
    if not (isinstance(data, BouncingDigits) and isinstance(true.truth, DigitTruth) and data.num_digits == 2):
        return
    yield from _per_clip(dict(
        intensity=digit_metrics.intensity(made).mean(1) / digit_metrics.intensity(future).mean(1)))
    outcome = score_two_digits(whole, true.truth, num_context, data.digit_size)
    applies = dict(identity="clear", position_error="clear", crossing="crosses", swapped="crosses")
    for name, where in applies.items():
        yield from ((b, None, name, float(outcome[name][b])) for b in outcome[where].nonzero()[:, 0].tolist())


def score_clips(clip: Tensor, truth: Tensor, num_context: int, stride: int) -> Iterator[tuple]:
    """Every measure of every clip: yields (clip, frame, metric, value); frame None: of the whole clip.

    The first `num_context` frames were given; a new window begins with every `stride`-th frame after them.
    psnr, ssim: of the first PREDICTED new frames; later ones cannot be predicted.  valid: 1 where no check
    fails, at the last frame of every window and at the end.
    """
    made, future = clip[:, :, num_context:].clamp(-1, 1), truth[:, :, num_context:]
    yield from _prediction(made, future)
    whole = torch.cat([truth[:, :, :num_context], made], dim=2)
    same, joins = digit_metrics.identity(whole, truth), range(num_context, clip.shape[2], stride)
    yield from _per_clip(dict(
        motion=digit_metrics.motion(whole, truth),
        intensity=digit_metrics.intensity(made).mean(1) / digit_metrics.intensity(future).mean(1),
        boundary_discontinuity=video_metrics.boundary_discontinuity(whole, joins, truth),
        identity=same[:, num_context:].float().mean(1)))
    failed = digit_metrics.failures(whole, truth, num_context, same=same)
    valid = ~torch.stack(list(failed.values())).any(0)[:, num_context:]
    ends = sorted({*range(stride, valid.shape[1] + 1, stride), valid.shape[1]})
    yield from ((b, n, "valid", float(valid[b, n - 1])) for n in ends for b in range(len(valid)))
    frames, reasons = digit_metrics.time_to_first_failure(failed, num_context)
    yield from _per_clip(dict(time_to_first_failure=frames))
    yield from ((b, None, f"failed:{reason}", 1.0) for b, reason in enumerate(reasons))


def _prediction(made, future):
    """PSNR and SSIM of the frames that can be predicted."""
    near = [x[:, :, :PREDICTED] for x in (made, future)]
    yield from _per_frame(dict(psnr=video_metrics.finite_psnr(*near), ssim=video_metrics.ssim(*near)))


def diagnostics(clip: Tensor, truth: Tensor, num_context: int, record: Iterable[dict],
                one_digit: bool = True) -> Iterator[tuple]:
    """What `compare` writes with details: yields (clip, frame, metric, value).

    x, y: where the digit is on each new frame (`digit_position`);  position_error: how far from its true
    position, in pixels;  these only of one digit.  saturation: the fraction of new pixels beyond the range of
    pictures, before they are clamped;  "loss at t", "gradient_norm at t", "cosine at t": what reconstruction
    guidance recorded at noise level t, window after window.
    """
    yield from _per_clip(dict(saturation=video_metrics.saturation(clip[:, :, num_context:]).mean(1)))
    if one_digit:
        position, true_position = (digit_metrics.digit_position(x[:, :, num_context:]) for x in (clip, truth))
        y, x = position.unbind(-1)
        yield from _per_frame(dict(x=x, y=y, position_error=(position - true_position).norm(dim=-1)))
    for step in record:
        for name in ("loss", "gradient_norm", "cosine"):
            yield from _per_clip({f"{name} at {step['t']}": step[name]})


def window_features(clip: Tensor, num_context: int, window: int) -> Iterator[tuple]:
    """What `compare` writes with features: yields (clip, frame, "feature i", value), see `clip_features`.

    Of the `window` frames that end with a new frame, the last one of the first, the middle and the last whole
    window.
    """
    ends = range(window - num_context, clip.shape[2] - num_context + 1, window - num_context)
    for n in sorted({ends[i] for i in (0, len(ends) // 2, -1)}):
        for b, row in enumerate(clip_features(clip[:, :, num_context + n - window:num_context + n]).tolist()):
            yield from ((b, n, f"feature {i}", value) for i, value in enumerate(row))


def _per_clip(values):
    for name, column in values.items():
        yield from ((b, None, name, value) for b, value in enumerate(torch.as_tensor(column).tolist()))


def _per_frame(values):
    for name, by_frame in values.items():
        for b, row in enumerate(by_frame.tolist()):
            yield from ((b, n, name, value) for n, value in enumerate(row, 1))
