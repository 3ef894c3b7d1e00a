"""Moving MNIST: the published test set, which the reader has, and clips of its kind to train on."""

import gzip
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vdiff_lite.checks import one_of, whole
from vdiff_lite.data.batch import Batch, DataError, height_width
from vdiff_lite.data.bouncing_digits import draw, glyphs

DIGIT = 28  # pixels along a side of MNIST's digits


@dataclass(frozen=True)
class MovingMNIST:
    """The published Moving MNIST test set (Srivastava et al. 2015), mnist_test_seq.npy, which the reader has.

    10,000 clips of 20 frames of 64x64, two digits each: to evaluate on, never to train on (`MovingDigits` is
    for that). The file is memory-mapped, not read. size: 64, or 32 (each 2x2 pixels averaged).
    Raises DataError when the file is missing, damaged or of another shape.
    """

    path: str | Path
    num_frames: int = 16
    size: int | tuple = (64, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))
        object.__setattr__(self, "size", height_width(self.size))
        self._open()
        if not 1 <= self.num_frames <= 20:
            raise DataError(f"num_frames={self.num_frames}: clips of Moving MNIST have 20; choose 1 to 20")
        if self.size not in ((32, 32), (64, 64)):
            raise DataError(f"size={self.size}: Moving MNIST is 64x64; choose 64 or 32")

    def _open(self) -> np.ndarray:
        path = Path(self.path)
        if not path.is_file():
            raise DataError(f"{path} does not exist; expected the published mnist_test_seq.npy")
        try:
            videos = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path} is not a readable .npy file: {error}") from error
        if videos.ndim != 4 or (len(videos), *videos.shape[2:]) != (20, 64, 64) or videos.dtype != np.uint8:
            raise DataError(f"{path} holds {videos.dtype} of shape {videos.shape}; "
                            "expected uint8 of shape (20, n, 64, 64)")
        return videos

    def __len__(self) -> int:
        return self._open().shape[1]

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw clips and starting frames at random: a Batch of (batch, 1, num_frames, h, w)."""
        whole(batch=batch)
        videos = self._open()
        indices = torch.randint(videos.shape[1], (batch,), generator=generator).tolist()
        starts = torch.randint(20 - self.num_frames + 1, (batch,), generator=generator).tolist()
        return Batch(self._clips([videos[s:s + self.num_frames, i] for i, s in zip(indices, starts)]))

    def clips(self, first: int, last: int) -> Tensor:
        """Clips first..last - 1 of the file, each from its first frame on, as the protocol takes them."""
        return self._clips(list(self._open()[:self.num_frames, first:last].swapaxes(0, 1)))

    def _clips(self, videos: list[np.ndarray]) -> Tensor:
        video = torch.from_numpy(np.stack(videos))[:, None].float() / 127.5 - 1
        return F.avg_pool3d(video, (1, 2, 2)) if self.size == (32, 32) else video

    def with_frames(self, num_frames: int) -> "MovingMNIST":
        """The same file, with clips of another length."""
        return replace(self, num_frames=num_frames)


@dataclass(frozen=True)
class MovingDigits:
    """Clips drawn as those of Moving MNIST were (Srivastava et al. 2015), endless and seeded, to train on.

        p <- p + 0.1 (sin a, cos a), held at 0 and 1, where that part of the step turns back

    Two digits of 28x28, each at floor((size - 28) p) pixels; where they overlap the brighter pixel is seen.
    path: a folder with MNIST's idx files, somewhere in it; None means the digits that scikit-learn ships,
    enlarged.  split: "train" or "test", other digits. Raises DataError when there is no such file, or it is
    damaged.
    """

    path: str | Path | None = None
    num_frames: int = 20
    size: int | tuple = (64, 64)
    split: str = "train"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.path and str(self.path))
        object.__setattr__(self, "size", height_width(self.size))
        one_of(("train", "test"), split=self.split)
        whole(num_frames=self.num_frames)
        whole(DIGIT, height=self.size[0], width=self.size[1])
        self._digits()

    def _digits(self) -> Tensor:
        return mnist_digits(self.path, self.split) if self.path else glyphs(DIGIT - 4, self.split)[0]

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw `batch` new clips, where the generator lives: a Batch of (batch, 1, num_frames, h, w)."""
        whole(batch=batch)
        device = generator.device if generator is not None else torch.device("cpu")
        rand = partial(torch.rand, generator=generator, device=device)
        images = self._digits().to(device)
        indices = torch.randint(len(images), (batch, 2), generator=generator, device=device)
        place, angle = rand(batch, 2, 2), 2 * torch.pi * rand(batch, 2)
        step = 0.1 * torch.stack([angle.sin(), angle.cos()], -1)
        room, corners = torch.tensor(self.size, device=device) - DIGIT, []
        for _ in range(self.num_frames):
            place = place + step
            step = torch.where((place <= 0) | (place >= 1), -step, step)
            place = place.clamp(0, 1)
            corners.append((room * place).floor())
        return Batch(2 * draw(images[indices], torch.stack(corners, 2), self.size) - 1)

    def with_frames(self, num_frames: int) -> "MovingDigits":
        """The same digits, with clips of another length."""
        return replace(self, num_frames=num_frames)


@cache
def mnist_digits(folder: str, split: str = "train") -> Tensor:
    """MNIST's digits (LeCun et al. 1998) from the idx files that the reader has: (n, 28, 28) in [0, 1].

    folder: where train-images-idx3-ubyte and t10k-images-idx3-ubyte lie, packed (.gz) or not, or above that.
    """
    pattern = ("train" if split == "train" else "t10k") + "-images?idx3-ubyte*"
    files = sorted(Path(folder).rglob(pattern))
    if not files:
        raise DataError(f"{folder} holds no {pattern}; expected MNIST's idx files, packed (.gz) or not")
    try:
        content = (gzip.open if files[0].suffix == ".gz" else open)(files[0], "rb").read()
        magic, _, *shape = np.frombuffer(content[:16], ">u4")
        images = np.frombuffer(content[16:], np.uint8).reshape(-1, *map(int, shape))
        if magic != 2051 or images.shape[1:] != (DIGIT, DIGIT) or not len(images):
            raise ValueError(f"magic number {magic}, shape {images.shape}")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{files[0]} is not an idx file of {DIGIT}x{DIGIT} images: {error}") from error
    return torch.from_numpy(images.copy()).float() / 255
