"""Clips from a reader's own files: a folder of videos."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor

from vdiff_lite.data.batch import Batch, DataError, height_width

VIDEO_ENDINGS, IMAGE_ENDINGS = (".mp4", ".webm", ".gif"), (".png", ".jpg", ".jpeg")
LUMA = torch.tensor([0.299, 0.587, 0.114])  # gray from RGB (ITU-R BT.601)


def read_frames(path: str | Path) -> np.ndarray:
    """All frames of one clip: an mp4, webm or gif file, or a folder of images in order of name.

    Returns (f, h, w, 3) uint8, upright. Raises DataError that names the file when it is missing, empty, of an
    unknown ending, cannot be read, or holds frames of different sizes.
    """
    import av

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_dir() and path.suffix.lower() not in VIDEO_ENDINGS:
        raise DataError(f"{path} has an unknown ending; expected one of {', '.join(VIDEO_ENDINGS)}, "
                        "or a folder of images")
    try:
        frames = [np.asarray(frame) for frame in _decode(path)]
    except (av.FFmpegError, OSError, EOFError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not frames:
        raise DataError(f"{path} holds no frames; expected {', '.join(VIDEO_ENDINGS)} or images "
                        f"{', '.join(IMAGE_ENDINGS)}")
    sizes = sorted({frame.shape[1::-1] for frame in frames})
    if len(sizes) > 1:
        raise DataError(f"{path} holds frames of different sizes: {sizes[0]} and {sizes[-1]}; "
                        "they must be one size")
    return np.stack(frames)


def _decode(path: Path) -> Iterator:
    """The frames of a file or folder in RGB, one after the other: Pillow images or arrays (h, w, 3)."""
    import av
    from PIL import Image, ImageSequence

    if path.is_dir():
        yield from (Image.open(file).convert("RGB") for file in _images(path))
    elif path.suffix.lower() == ".gif":
        yield from (frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(path)))
    else:
        with av.open(path) as container:
            for stream in container.streams.video[:1]:
                for frame in container.decode(stream):
                    yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS)


class VideoFolder:
    """A reader's own clips: every mp4, webm and gif in a folder, and every sub-folder of images.

    Frames are cut to their middle, as much of it as has the shape of `size`, shrunk to that, and kept in
    memory as uint8: h w bytes per frame and channel. `sample` draws a clip and a starting frame at random.
    size: (h, w), or a number for a square;  channels: 1 (gray) or 3;  every: keep each n-th frame. Files that
    cannot be used are counted in one warning. Raises DataError when none is left, or the folder is missing.
    """

    def __init__(self, path: str | Path, num_frames: int = 16, size: int | tuple = 32,
                 channels: int = 1, every: int = 1):
        path = Path(path)
        if not path.is_dir():
            raise DataError(f"{path} is not a folder; expected one with {', '.join(VIDEO_ENDINGS)} files")
        if channels not in (1, 3):
            raise DataError(f"channels={channels} is unknown; choose 1 (gray) or 3 (color)")
        self.path, self.num_frames, self.size, self.channels = path, num_frames, height_width(size), channels
        self.clips, errors = [], []
        files = [f for f in sorted(path.iterdir())
                 if f.suffix.lower() in VIDEO_ENDINGS or (f.is_dir() and _images(f))]
        for file in files:
            try:
                self.clips.append(self._prepare(file, read_frames(file)[::every]))
            except DataError as error:
                errors.append(str(error))
        if not self.clips:
            raise DataError(f"{path} holds no usable clip: " + (errors[0] if errors else
                            f"found no {', '.join(VIDEO_ENDINGS)} file and no folder of images"))
        if errors:
            warnings.warn(f"{path}: left out {len(errors)} of {len(files)} clips; the first: {errors[0]}",
                          stacklevel=2)

    def _prepare(self, file: Path, frames: np.ndarray) -> Tensor:
        if len(frames) < self.num_frames:
            raise DataError(f"{file} has {len(frames)} frames; num_frames={self.num_frames} needs that many")
        h, w = frames.shape[1:3]
        scale = min(h / self.size[0], w / self.size[1])
        height, width = (max(1, round(scale * n)) for n in self.size)
        y, x = (h - height) // 2, (w - width) // 2
        video = rearrange(torch.tensor(frames[:, y:y + height, x:x + width]), "f h w c -> f c h w").float()
        video = F.interpolate(video, self.size, mode="bilinear", antialias=True)
        if self.channels == 1:
            video = (video * LUMA[:, None, None]).sum(1, keepdim=True)
        return rearrange(video, "f c h w -> c f h w").round().clamp(0, 255).byte()

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw clips and starting frames at random: a Batch of (batch, channels, num_frames, h, w)."""
        video = []
        for i in torch.randint(len(self.clips), (batch,), generator=generator):
            clip = self.clips[i]
            start = torch.randint(clip.shape[1] - self.num_frames + 1, (1,), generator=generator).item()
            video.append(clip[:, start:start + self.num_frames])
        return Batch(torch.stack(video).float() / 127.5 - 1)

    def with_frames(self, num_frames: int) -> "VideoFolder":
        """The same files, with clips of another length (at most the length they were read for)."""
        if num_frames > self.num_frames:
            raise DataError(f"num_frames={num_frames}: {self.path} was read for clips of {self.num_frames}; "
                            "read it again")
        other = copy.copy(self)
        other.num_frames = num_frames
        return other

    def __len__(self) -> int:
        return len(self.clips)

    def __repr__(self) -> str:
        size, channels, clips = self.size, self.channels, len(self)
        return f"VideoFolder({str(self.path)!r}, {size=}, {channels=}, {clips=})"
