"""Checks of values, called beside the signature that they belong to: argument, value and what would do."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path

import torch
from torch import Tensor, nn

LARGEST_SEED = 2**32 - 1
LARGEST = torch.finfo(torch.float32).max
LARGEST_PIXEL = 10  # pictures span [-1, 1], and guided ones a little more


def whole(least: int = 1, most: int = 2**31 - 1, **values) -> None:
    """Raise ValueError unless every value is a whole number from `least` to `most`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or not least <= value <= most:
            bounds = f"of {least} or more" if most >= 2**31 - 1 and _is_below(value, most) else \
                     f"from {least} to {most}"
            raise ValueError(f"{name}={_short(value)} must be a whole number {bounds}")


def number(least: float = -math.inf, most: float = math.inf, above: float | None = None, **values) -> None:
    """Raise ValueError unless every value is finite in float32, `least` <= value <= `most`, and > `above`."""
    for name, value in values.items():
        try:
            fits = not isinstance(value, bool) and isinstance(value, Real) and abs(float(value)) <= LARGEST
        except OverflowError:
            fits = False
        if not fits or not least <= value <= most or not (above is None or value > above):
            bounds = [f"above {above}"] * (above is not None) + [f"of {least} or more"] * (least > -math.inf)
            bounds += [f"up to {most}"] * (most < math.inf)
            bounds = [f"from {least} to {most}"] if -math.inf < least <= most < math.inf else bounds
            raise ValueError(" ".join([f"{name}={_short(value)} must be a finite number", *bounds]))


def one_of(choices: Iterable, **values) -> None:
    """Raise ValueError unless every value is one of `choices`."""
    choices = list(choices)
    for name, value in values.items():
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"{name}={_short(value)} is unknown; choose from {', '.join(map(str, choices))}")


def clips(shape: tuple, **values: Tensor) -> None:
    """Raise ValueError unless every value is a batch of clips (b, c, f, h, w) with pixels in [-1, 1].

    shape: (c, h, w) of a frame. What guidance drew may lie somewhat outside.
    """
    c, h, w = shape
    for name, x in values.items():
        expected = f"wanted is float32 of shape (b, {c}, f, {h}, {w}), pixels in [-1, 1]"
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.element_size() > 4:
            raise ValueError(f"{name} is {getattr(x, 'dtype', type(x).__name__)}; {expected}")
        if x.ndim != 5 or (x.shape[1], *x.shape[3:]) != (c, h, w) or not x.numel():
            raise ValueError(f"{name} has shape {tuple(x.shape)}; {expected}")
        least, most = x.detach().aminmax()
        if not -LARGEST_PIXEL <= least <= most <= LARGEST_PIXEL:  # false for nan
            raise ValueError(f"{name} runs from {least.item():g} to {most.item():g}; {expected}: "
                             "x / 127.5 - 1")


def memory(net: nn.Module, frames: int, device: torch.device, training: bool = False) -> None:
    """Raise ValueError when so many frames at once would not fit into the memory that is free.

    An estimate, for a VideoUNet: about 15 times its widest activation per frame, 100 times in training.
    """
    config = getattr(net, "config", None)
    if not hasattr(config, "channels") or not hasattr(config, "patch"):
        return
    (h, w), width = config.size, config.channels[0]
    per_frame, free = (400 if training else 60) * width * h * w / config.patch**2, free_memory(device)
    if frames * per_frame > free:
        remedy = "a smaller batch, or accumulate=N" if training else "a shorter window, or fewer clips"
        raise ValueError(f"{frames} frames at once take about {frames * per_frame / 1e9:,.1f} GB, and "
                         f"{free / 1e9:,.1f} GB are free; at most {int(free / per_frame):,}: take {remedy}")


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a device, where the system says so; else infinite."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


def _is_below(value, most):
    return not isinstance(value, Real) or not value > most


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}..."
