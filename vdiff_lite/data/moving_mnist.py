"""The published Moving MNIST test set, which the reader has."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator

from vdiff_lite.data.batch import Batch, DataError, height_width


@dataclass(frozen=True)
class MovingMNIST:
    """The published Moving MNIST test set (Srivastava et al. 2015), mnist_test_seq.npy, which the reader has.

    10,000 clips of 20 frames of 64x64, two digits each. The file is memory-mapped, not read. size: 64, or 32
    (each 2x2 pixels averaged).  Raises DataError when the file is missing, damaged or of another shape.
    """

    path: str | Path
    num_frames: int = 16
    size: int | tuple = (64, 64)

    def __post_init__(self) -> None:
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

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw clips and starting frames at random: a Batch of (batch, 1, num_frames, h, w)."""
        videos = self._open()
        indices = torch.randint(videos.shape[1], (batch,), generator=generator).tolist()
        starts = torch.randint(20 - self.num_frames + 1, (batch,), generator=generator).tolist()
        video = np.stack([videos[s:s + self.num_frames, i] for i, s in zip(indices, starts)])
        video = torch.from_numpy(video)[:, None].float() / 127.5 - 1
        return Batch(F.avg_pool3d(video, (1, 2, 2)) if self.size == (32, 32) else video)

    def with_frames(self, num_frames: int) -> "MovingMNIST":
        """The same file, with clips of another length."""
        return replace(self, num_frames=num_frames)
