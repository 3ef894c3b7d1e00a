"""Small frames on disk, so that a video is decoded once and memory stays flat."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def default_folder() -> Path:
    """~/.cache/vdiff, or vdiff in the folder that XDG_CACHE_HOME names."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vdiff"


@dataclass(frozen=True)
class FrameCache:
    """Arrays of uint8 frames by name, as .npy files in a folder; the least recently used give way.

    limit: bytes that the folder may hold, besides the array that was written last. Several processes may use
    one folder: a file is there when it is whole.
    """

    folder: Path
    limit: float

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def read(self, name: str) -> np.ndarray | None:
        """The frames, memory-mapped, or None when they are not there."""
        try:
            os.utime(self.path(name))
            return np.load(self.path(name), mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None

    def write(self, name: str, frames: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Keep frames, one after the other, in an array of this shape. Returns it, memory-mapped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(int(np.prod(shape)))
        handle, partial = tempfile.mkstemp(".part", dir=self.folder)
        os.close(handle)
        try:
            array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
            for row, frame in zip(array, frames):
                row[:] = frame
            array.flush()
            os.replace(partial, self.path(name))
        except BaseException:
            os.unlink(partial)
            raise
        return array

    def _make_room(self, needed: int) -> None:
        files = []
        for path in self.folder.glob("*.npy"):
            with contextlib.suppress(OSError):  # another process was faster
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in files) + needed
        for _, size, path in sorted(files):
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
