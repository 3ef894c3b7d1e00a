"""Bouncing digits: clips with their ground truth, endless and seeded."""

from dataclasses import dataclass, replace
from functools import cache, partial

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Generator, Tensor

from vdiff_lite.checks import number, one_of, whole
from vdiff_lite.data.batch import Batch, height_width

# The 1,797 digits that scikit-learn ships were written on 14 forms, each with the same sequence of digits
# (tests/test_data.py). The last two forms, from this index on, are held out.
FIRST_HELD_OUT = 1545
MARGIN = 2  # pixels around an enlarged digit, so that its centroid can be moved to the middle


@dataclass(frozen=True)
class DigitTruth:
    """The truth about a batch of clips with n digits each.

    positions: (b, n, f, 2), the centroid (y, x) of each digit in pixels;  velocities: (b, n, f, 2) in pixels
    per frame;  labels: (b, n), which digit;  samples: (b, n), which glyph sample (an index into
    `sklearn.datasets.load_digits`).
    """

    positions: Tensor
    velocities: Tensor
    labels: Tensor
    samples: Tensor


@dataclass(frozen=True)
class BouncingDigits:
    """Handwritten digits that move in straight lines and bounce off the walls of a box.

        p(f) = tri(p_0 + v f): a straight line, folded back at the walls

    Endless and seeded: `sample(batch, generator)` makes new clips, the same for the same generator state.
    A digit is drawn by linear interpolation, which keeps its centroid exactly at p: `positions` are what
    `centroid` measures when one digit is in the box. Where digits overlap the brighter pixel is seen.

    size: (height, width) of a frame in pixels, or a number for a square;  speed: slowest and fastest, in
    pixels per frame;  digit_size: side of a digit;  split: "train" or "test", glyph samples from different
    forms.  Raises ValueError for values that do not fit.
    """

    num_digits: int = 1
    num_frames: int = 16
    size: int | tuple = (32, 32)
    speed: tuple[float, float] = (0.5, 1.5)
    digit_size: int = 12
    split: str = "train"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", height_width(self.size))
        if not isinstance(self.speed, (tuple, list)) or len(self.speed) != 2:
            raise ValueError(f"speed={self.speed!r} must be (slowest, fastest), in pixels per frame")
        object.__setattr__(self, "speed", tuple(self.speed))
        one_of(("train", "test"), split=self.split)
        whole(1, 100, num_digits=self.num_digits)
        whole(num_frames=self.num_frames, digit_size=self.digit_size)
        number(0, slowest=self.speed[0], fastest=self.speed[1])
        side = min(self.size)
        if not 4 <= self.digit_size <= side - 4:
            raise ValueError(f"digit_size={self.digit_size} does not move in a box of {self.size}; "
                             f"choose between 4 and {side - 4}")
        low, high = self.speed
        if not 0 <= low <= high <= side - self._glyph_size:
            raise ValueError(f"speed={self.speed} must be (slowest, fastest) with 0 <= slowest <= fastest <= "
                             f"{side - self._glyph_size}")

    @property
    def _glyph_size(self) -> int:
        return self.digit_size + 2 * MARGIN

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw `batch` new clips, where the generator lives. Raises ValueError for a batch below 1."""
        whole(batch=batch)
        device = generator.device if generator is not None else torch.device("cpu")
        rand = partial(torch.rand, generator=generator, device=device)
        images, labels = (x.to(device) for x in glyphs(self.digit_size, self.split))
        b, n = batch, self.num_digits
        indices = torch.randint(len(images), (b, n), generator=generator, device=device)
        low, high = self.speed
        speed, angle = low + (high - low) * rand(b, n, 1), 2 * torch.pi * rand(b, n, 1)
        velocity = speed * torch.cat([angle.sin(), angle.cos()], -1)
        room = torch.tensor(self.size, device=device) - self._glyph_size
        start = room * rand(b, n, 2)

        frame = torch.arange(self.num_frames, device=device)
        phase = torch.remainder(start[:, :, None] + velocity[:, :, None] * frame[:, None], 2 * room)
        reflected = phase > room
        corner = torch.where(reflected, 2 * room - phase, phase)
        truth = DigitTruth(positions=corner + (self._glyph_size - 1) / 2,
                           velocities=torch.where(reflected, -1.0, 1.0) * velocity[:, :, None],
                           labels=labels[indices],
                           samples=indices + (0 if self.split == "train" else FIRST_HELD_OUT))
        return Batch(2 * draw(images[indices], corner, self.size) - 1, truth)

    def with_frames(self, num_frames: int) -> "BouncingDigits":
        """The same world, with clips of another length."""
        return replace(self, num_frames=num_frames)


@cache
def glyphs(digit_size: int = 12, split: str = "train") -> tuple[Tensor, Tensor]:
    """The glyph samples of one split, enlarged, with their centroids moved to the middle.

    Returns (n, g, g) in [0, 1] with g = digit_size + 4, and labels (n,). Source: UCI optical digits (Alpaydin
    and Kaynak 1998), 8x8, as scikit-learn ships them.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(0, FIRST_HELD_OUT) if split == "train" else slice(FIRST_HELD_OUT, None)
    small = torch.from_numpy(digits.images[part]).float()[:, None] / 16
    large = F.interpolate(small, (digit_size, digit_size), mode="bicubic").clamp(0, 1)
    offset = (digit_size - 1) / 2 - centroid(large)
    images = draw(large, MARGIN + offset[:, :, None], digit_size + 2 * MARGIN)[:, 0, 0]
    return images, torch.from_numpy(digits.target[part]).long()


def centroid(intensity: Tensor) -> Tensor:
    """Center of mass (y, x) in pixels of intensity (..., h, w) >= 0: (..., 2); the middle where all is 0."""
    h, w = intensity.shape[-2:]
    total = reduce(intensity, "... h w -> ...", "sum")
    y = (reduce(intensity, "... h w -> ... h", "sum") * torch.arange(h, device=intensity.device)).sum(-1)
    x = (reduce(intensity, "... h w -> ... w", "sum") * torch.arange(w, device=intensity.device)).sum(-1)
    mean = torch.stack([y, x], -1) / total[..., None].clamp(min=1e-9)
    middle = torch.tensor([(h - 1) / 2, (w - 1) / 2], device=intensity.device)
    return torch.where(total[..., None] > 0, mean, middle)


def tent(size: int, width: int, offset: Tensor) -> Tensor:
    """Matrices that move `width` pixels into a line of `size` at a fractional offset, interpolating linearly.

        A[i, j] = max(0, 1 - |i - j - offset|)

    offset: (...). Returns (..., size, width).
    """
    shift = torch.arange(size, device=offset.device)[:, None] - torch.arange(width, device=offset.device)
    return (1 - (shift - offset[..., None, None]).abs()).clamp(min=0)


def draw(images: Tensor, corner: Tensor, size: int | tuple) -> Tensor:
    """Draw images at fractional positions, by linear interpolation along each axis.

        frame = A_y image A_x^T, A the `tent` of the corner

    images: (b, n, g, g) in [0, 1];  corner: (b, n, f, 2), the (y, x) of the upper left pixel.
    size: (h, w), or a number for a square. Returns (b, 1, f, h, w) in [0, 1]: the brightest of the n images
    at each pixel.
    """
    ay, ax = (tent(n, images.shape[-1], corner[..., axis]) for axis, n in enumerate(height_width(size)))
    frames = ay @ images[:, :, None] @ rearrange(ax, "b n f i j -> b n f j i")
    return reduce(frames, "b n f h w -> b 1 f h w", "max")
