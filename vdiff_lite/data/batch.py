"""What every source of clips gives: a batch of clips, with the truth about them where it is known."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Generator, Tensor

from vdiff_lite.checks import whole


class DataError(ValueError):
    """A file or folder does not hold the clips it should."""


@dataclass(frozen=True)
class Batch:
    """A batch of clips.

    video: (b, c, f, h, w) in [-1, 1];  truth: what is known about them, or None;  condition: what the network
    may be told beside them, or None.
    """

    video: Tensor
    truth: Any = None
    condition: Tensor | None = None


def height_width(size: int | tuple) -> tuple[int, int]:
    """The size of a frame as (height, width); a number means a square. Raises ValueError for others."""
    size = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(size) != 2:
        raise ValueError(f"size={size} must be (height, width) in pixels, or a number for a square")
    whole(1, 2**14, height=size[0], width=size[1])
    return size


class ClipSource(Protocol):
    """What clips are drawn from: endless, and seeded by the generator."""

    def sample(self, batch: int, generator: Generator | None = None) -> Batch: ...

    def with_frames(self, num_frames: int) -> "ClipSource": ...
