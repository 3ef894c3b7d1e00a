"""What made clips score, as rows (clip, frame, metric, value) of a table of results."""

import torch

from . import metrics
from .features import describe

PREDICTED = 33  # new frames, of which PSNR and SSIM are kept: three windows


def judge(clip, truth, given, stride):
    """Every measure of every clip: yields (clip, frame, metric, value); frame is None for measures of a whole clip.

    The first `given` frames were given; a new window begins with every `stride`-th frame after them.  PSNR and SSIM are of the first
    PREDICTED new frames: later ones cannot be foreseen.  right: whether no check fails, at the last frame of every window.
    """
    made, future = clip[:, :, given:].clamp(-1, 1), truth[:, :, given:]
    soon = [x[:, :, :PREDICTED] for x in (made, future)]
    for name, by_frame in (("psnr", metrics.psnr(*soon)), ("ssim", metrics.ssim(*soon))):
        yield from ((b, n, name, value) for b, row in enumerate(by_frame.tolist()) for n, value in enumerate(row, 1))
    whole = torch.cat([truth[:, :, :given], made], dim=2)
    same, joins = metrics.identity(whole, truth), range(given, clip.shape[2], stride)
    values = dict(motion=metrics.motion(whole, truth), ink=metrics.ink(made).mean(1) / metrics.ink(future).mean(1),
                  seam=metrics.seam(whole, joins, truth), identity=same[:, given:].float().mean(1))
    for name, column in values.items():
        yield from ((b, None, name, value) for b, value in enumerate(column.tolist()))
    failed = metrics.faults(whole, truth, given, same=same)
    right = ~torch.stack(list(failed.values())).any(0)[:, given:]
    for n in sorted({*range(stride, right.shape[1] + 1, stride), right.shape[1]}):
        yield from ((b, n, "right", float(value)) for b, value in enumerate(right[:, n - 1].tolist()))
    first, why = metrics.horizon(failed, given)
    for b, (frame, reason) in enumerate(zip(first.tolist(), why)):
        yield b, None, "horizon", frame
        yield b, None, f"failed:{reason}", 1.0


def look_closer(clip, truth, given, record):
    """What `compare` writes with details: yields (clip, frame, metric, value).

    x, y: where the digit is on each new frame (`metrics.place`);  off: how far from its true place, in pixels;  saturation: share of
    the new pixels beyond the range of pictures, before they are clamped;  "loss at t", "gradient_norm at t", "cosine at t": what
    reconstruction guidance recorded at noise level t, window after window.
    """
    yield from ((b, None, "saturation", value) for b, value in enumerate(metrics.saturation(clip[:, :, given:]).mean(1).tolist()))
    places, true = (metrics.place(x[:, :, given:]) for x in (clip, truth))
    for name, by_frame in zip(("x", "y", "off"), (*places.unbind(-1), (places - true).norm(dim=-1))):
        yield from ((b, n, name, value) for b, row in enumerate(by_frame.tolist()) for n, value in enumerate(row, 1))
    for step in record:
        for name in ("loss", "gradient_norm", "cosine"):
            yield from ((b, None, f"{name} at {step['t']}", value) for b, value in enumerate(step[name]))


def described(clip, given, window):
    """What `compare` writes with features: yields (clip, frame, "feature i", value), what the clip looks like to a small network.

    Of the `window` frames that end with a new frame, the last one of the first, the middle and the last whole window (`features.describe`).
    """
    ends = range(window - given, clip.shape[2] - given + 1, window - given)
    for n in sorted({ends[i] for i in (0, len(ends) // 2, -1)}):
        for b, row in enumerate(describe(clip[:, :, given + n - window:given + n]).tolist()):
            yield from ((b, n, f"feature {i}", value) for i, value in enumerate(row))
