"""What made clips score, as rows (clip, frame, metric, value) of a table of results."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features

PREDICTED = 33  # new frames of which PSNR and SSIM are kept: three windows


def score_clips(clip: Tensor, truth: Tensor, num_context: int, stride: int) -> Iterator[tuple]:
    """Every measure of every clip: yields (clip, frame, metric, value); frame None: of the whole clip.

    The first `num_context` frames were given; a new window begins with every `stride`-th frame after them.
    psnr, ssim: of the first PREDICTED new frames; later ones cannot be predicted.  valid: 1 where no check
    fails, at the last frame of every window and at the end.
    """
    made, future = clip[:, :, num_context:].clamp(-1, 1), truth[:, :, num_context:]
    near = [x[:, :, :PREDICTED] for x in (made, future)]
    yield from _per_frame(dict(psnr=video_metrics.psnr(*near), ssim=video_metrics.ssim(*near)))
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


def diagnostics(clip: Tensor, truth: Tensor, num_context: int, record: Iterable[dict]) -> Iterator[tuple]:
    """What `compare` writes with details: yields (clip, frame, metric, value).

    x, y: where the digit is on each new frame (`digit_position`);  position_error: how far from its true
    position, in pixels;  saturation: the fraction of new pixels beyond the range of pictures, before they are
    clamped;  "loss at t", "gradient_norm at t", "cosine at t": what reconstruction guidance recorded at noise
    level t, window after window.
    """
    yield from _per_clip(dict(saturation=video_metrics.saturation(clip[:, :, num_context:]).mean(1)))
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
