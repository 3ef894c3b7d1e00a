"""Clips from a reader's own videos: decoded on demand, kept on disk as small frames, never all in memory."""

import copy
import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from vdiff_lite.checks import number, one_of, whole
from vdiff_lite.data.batch import Batch, DataError, height_width
from vdiff_lite.data.decode import display_matrix, fit, frames_at, picture
from vdiff_lite.data.find import find_videos, split_spans
from vdiff_lite.data.frame_cache import FrameCache, default_folder
from vdiff_lite.data.video_index import open_video

PART = 256  # frames that are decoded and kept together


@dataclass(frozen=True)
class ClipOrigin:
    """Where each clip of a batch is from: its file, seconds at its first frame, its class (sub-folder)."""

    paths: list[str]
    seconds: list[float]
    labels: list[str]


@dataclass(eq=False, repr=False)
class VideoFolder:
    """A reader's own clips: one video, or a folder of video files and of folders of images, nested or not.

    Frames are cut to their middle, as much of it as has the shape of `size`, and shrunk to that. They are
    decoded when a clip needs them and kept on disk (`FrameCache`): h w channels bytes per frame. `sample`
    draws each clip of `num_frames` frames with the same probability; its class is the sub-folder it lies in.

    size: (h, w), or a number for a square;  channels: 1 (gray) or 3;  fps: frames per second to resample all
    videos to; None means each one's own (`Video.fps`);  every: keep each n-th frame of these;  split: "all",
    "train" or "test", see `split_spans`;  background: what transparent pixels are composited on (red, green,
    blue in 0..255);  cache: folder for the small frames, None means `default_folder()`;  cache_gb: what it
    may hold. Files that cannot be used, or are too short, are counted in one warning; the split is the same
    for any num_frames. Raises DataError when none is left.
    """

    path: str | Path
    num_frames: int = 16
    size: int | tuple = 32
    channels: int = 1
    fps: float | None = None
    every: int = 1
    split: str = "all"
    background: tuple[int, int, int] = (0, 0, 0)
    cache: str | Path | None = None
    cache_gb: float = 20.0

    def __post_init__(self) -> None:
        one_of((1, 3), channels=self.channels)
        one_of(("all", "train", "test"), split=self.split)
        whole(num_frames=self.num_frames, every=self.every)
        number(above=0, cache_gb=self.cache_gb)
        number(above=0, most=1000, fps=1 if self.fps is None else self.fps)
        self.path, self.size = Path(self.path), height_width(self.size)
        self._cache = FrameCache(Path(self.cache or default_folder()), self.cache_gb * 1e9)
        self.videos, self.labels, self._indices, self._identities, self._damaged = [], [], [], [], {}
        files, notes = find_videos(self.path)
        for file in files:
            try:
                self._add(file)
            except DataError as error:
                notes.append(str(error))
        notes += [f"{video.path} has {len(indices)} frames; num_frames={self.num_frames} needs that many"
                  for video, indices in zip(self.videos, self._indices) if len(indices) < self.num_frames]
        if all(len(indices) < self.num_frames for indices in self._indices):
            raise DataError(f"{self.path} holds no usable clip: {notes[0]}")
        notes += [video.note for video in self.videos if video.note]
        if notes:
            warnings.warn(f"{self.path}: {len(notes)} files left out, or part of them; the first: {notes[0]}",
                          stacklevel=3)
        self._spans = split_spans(self.labels, [len(indices) for indices in self._indices], self.split)
        self._num_clips()

    def _add(self, file: Path) -> None:
        video = open_video(file)
        indices = video.frames_shown(self.fps)[::self.every]
        label = "" if file == self.path else file.parent.relative_to(self.path).as_posix()
        self.videos.append(video)
        self._indices.append(indices)
        self._identities.append(video.identity())  # once: a folder of images has a file for each frame
        self.labels.append("" if label == "." else label)

    def _num_clips(self) -> np.ndarray:
        """How many clips of `num_frames` frames each video holds, in this part. Raises DataError for none."""
        numbers = np.maximum(0, np.diff(self._spans, axis=1)[:, 0] - self.num_frames + 1)
        if not numbers.any():
            longest = int(np.diff(self._spans, axis=1).max())
            raise DataError(f"{self.path}, split={self.split!r}: num_frames={self.num_frames} needs as many "
                            f"frames in a row, and there are {longest}; give more or longer videos")
        return numbers

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw clips: a Batch of (batch, channels, num_frames, h, w), with their `ClipOrigin` as truth."""
        whole(batch=batch)
        numbers = self._num_clips()
        ends = np.cumsum(numbers)
        draws = torch.randint(int(ends[-1]), (batch,), generator=generator).numpy()
        videos = np.searchsorted(ends, draws, side="right")
        starts = self._spans[videos, 0] + draws - (ends - numbers)[videos]
        self._decode({part for i, start in zip(videos, starts) for part in self._parts(i, start)})
        video = torch.stack([self.clip(i, start) for i, start in zip(videos, starts)])
        seconds = [float(self.videos[i].times[self._indices[i][start]]) for i, start in zip(videos, starts)]
        return Batch(video, ClipOrigin([str(self.videos[i].path) for i in videos], seconds,
                                       [self.labels[i] for i in videos]))

    def clip(self, video: int, start: int = 0, num_frames: int | None = None) -> Tensor:
        """Frames of one video, resampled, from index `start` on: (channels, f, h, w) in [-1, 1]."""
        last = start + (num_frames or self.num_frames)
        if not 0 <= start < last <= len(self._indices[video]):
            raise ValueError(f"start={start}, num_frames={last - start}: {self.videos[video].path} has "
                             f"{len(self._indices[video])} frames")
        parts = self._parts(video, start, last)
        frames = np.concatenate([self._part(*part) for part in parts])[start - parts[0][1]:last - parts[0][1]]
        return torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1

    def with_frames(self, num_frames: int) -> "VideoFolder":
        """The same files, with clips of another length. Raises DataError when no video is that long."""
        other = copy.copy(self)
        other.num_frames = num_frames
        other._num_clips()
        return other

    def decode_all(self, bar: bool = True) -> None:
        """Decode everything now, as far as the cache holds it, so that training never waits for it."""
        every = [part for i, indices in enumerate(self._indices) for part in self._parts(i, 0, len(indices))]
        size = self.size[0] * self.size[1] * self.channels
        room = np.cumsum([(last - first) * size for _, first, last in every]) <= self._cache.limit
        self._decode([part for part, fits in zip(every, room) if fits], bar)

    def _parts(self, video: int, start: int, last: int | None = None) -> list[tuple[int, int, int]]:
        """The parts (video, first, last) that hold these frames. What cannot be sought in is one part."""
        total = len(self._indices[video])
        seekable = self.videos[video].seekable or self.videos[video].images
        size, last = PART if seekable else total, last or start + self.num_frames
        return [(int(video), first, min(first + size, total))
                for first in range(start // size * size, last, size)]

    def _decode(self, parts, bar: bool = False) -> None:
        """Decode those of the parts that are not there, in threads, and warn of frames that are damaged."""
        missing = [part for part in parts if not self._cache.path(self._name(*part)).exists()]
        if missing:
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                for _ in tqdm(pool.map(lambda part: self._part(*part), missing), total=len(missing),
                              disable=not bar, desc="decoding", unit="part"):
                    pass
        damaged = {path: sorted(frames) for path, frames in self._damaged.items()}
        self._damaged.clear()
        for path, frames in damaged.items():
            warnings.warn(f"{path}: {len(frames)} frames damaged, number {frames[0]} first; each is replaced "
                          "by the frame before", stacklevel=3)

    def _part(self, video: int, first: int, last: int) -> np.ndarray:
        """Frames first..last - 1 of one video, small, from disk: (f, h, w, channels) uint8."""
        name = self._name(video, first, last)
        frames = self._cache.read(name)
        if frames is None:
            shape = (last - first, *self.size, self.channels)
            frames = self._cache.write(name, self._small_frames(video, first, last), shape)
        return frames

    def _small_frames(self, number: int, first: int, last: int) -> Iterator[np.ndarray]:
        video, indices, shown = self.videos[number], self._indices[number][first:last], None
        matrix = None
        for index, (i, frame) in zip(indices, frames_at(video, indices)):
            if i != index:
                self._damaged.setdefault(video.path, set()).add(int(index))
            if i != shown:
                matrix = display_matrix(frame) if matrix is None else matrix
                image, aspect = picture(video, frame, matrix, self.background)
                small, shown = fit(image, self.size, aspect, self.channels), i
            yield small

    def _name(self, video: int, first: int, last: int) -> str:
        """What a part is called on disk: another name when the file or a setting is another."""
        settings = (self._identities[video], self.size, self.channels, self.fps, self.every,
                    self.background, first, last)
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:32]

    def num_frames_of(self, video: int) -> int:
        """How many frames a video has, resampled."""
        return len(self._indices[video])

    def __len__(self) -> int:
        return len(self.videos)

    def __repr__(self) -> str:
        names = ("size", "channels", "fps", "every", "split", "background")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"VideoFolder({str(self.path)!r}, {settings}, clips={len(self)})"
