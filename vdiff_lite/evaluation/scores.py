"""What made clips score, as rows (clip, frame, metric, value) of a table of results."""

import torch

from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features

PREDICTED = 33  # new frames, of which PSNR and SSIM are kept: three windows


def score_clips(clip, truth, num_context, stride):
    """Every measure of every clip: yields (clip, frame, metric, value); frame is None for measures of a whole clip.

    The first `given` frames were given; a new window begins with every `stride`-th frame after them.  PSNR and SSIM are of the first
    PREDICTED new frames: later ones cannot be foreseen.  right: whether no check fails, at the last frame of every window.
    """
    made, future = clip[:, :, num_context:].clamp(-1, 1), truth[:, :, num_context:]
    soon = [x[:, :, :PREDICTED] for x in (made, future)]
    for name, by_frame in (("psnr", video_metrics.psnr(*soon)), ("ssim", video_metrics.ssim(*soon))):
        yield from ((b, n, name, value) for b, row in enumerate(by_frame.tolist()) for n, value in enumerate(row, 1))
    whole = torch.cat([truth[:, :, :num_context], made], dim=2)
    same, joins = digit_metrics.identity(whole, truth), range(num_context, clip.shape[2], stride)
    values = dict(motion=digit_metrics.motion(whole, truth), intensity=digit_metrics.intensity(made).mean(1) / digit_metrics.intensity(future).mean(1),
                  boundary_discontinuity=video_metrics.boundary_discontinuity(whole, joins, truth), identity=same[:, num_context:].float().mean(1))
    for name, column in values.items():
        yield from ((b, None, name, value) for b, value in enumerate(column.tolist()))
    failed = digit_metrics.failures(whole, truth, num_context, same=same)
    right = ~torch.stack(list(failed.values())).any(0)[:, num_context:]
    for n in sorted({*range(stride, right.shape[1] + 1, stride), right.shape[1]}):
        yield from ((b, n, "right", float(value)) for b, value in enumerate(right[:, n - 1].tolist()))
    first, why = digit_metrics.time_to_first_failure(failed, num_context)
    for b, (frame, reason) in enumerate(zip(first.tolist(), why)):
        yield b, None, "time_to_first_failure", frame
        yield b, None, f"failed:{reason}", 1.0


def diagnostics(clip, truth, num_context, record):
    """What `compare` writes with details: yields (clip, frame, metric, value).

    x, y: where the digit is on each new frame (`digit_metrics.digit_position`);  off: how far from its true place, in pixels;  saturation: share of
    the new pixels beyond the range of pictures, before they are clamped;  "loss at t", "gradient_norm at t", "cosine at t": what
    reconstruction guidance recorded at noise level t, window after window.
    """
    yield from ((b, None, "saturation", value) for b, value in enumerate(video_metrics.saturation(clip[:, :, num_context:]).mean(1).tolist()))
    places, true = (digit_metrics.digit_position(x[:, :, num_context:]) for x in (clip, truth))
    for name, by_frame in zip(("x", "y", "off"), (*places.unbind(-1), (places - true).norm(dim=-1))):
        yield from ((b, n, name, value) for b, row in enumerate(by_frame.tolist()) for n, value in enumerate(row, 1))
    for step in record:
        for name in ("loss", "gradient_norm", "cosine"):
            yield from ((b, None, f"{name} at {step['t']}", value) for b, value in enumerate(step[name]))


def window_features(clip, num_context, window):
    """What `compare` writes with features: yields (clip, frame, "feature i", value), what the clip looks like to a small network.

    Of the `window` frames that end with a new frame, the last one of the first, the middle and the last whole window (`features.describe`).
    """
    ends = range(window - num_context, clip.shape[2] - num_context + 1, window - num_context)
    for n in sorted({ends[i] for i in (0, len(ends) // 2, -1)}):
        for b, row in enumerate(clip_features(clip[:, :, num_context + n - window:num_context + n]).tolist()):
            yield from ((b, n, f"feature {i}", value) for i, value in enumerate(row))
