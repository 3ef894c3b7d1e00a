"""What a video holds, before any of its frames is decoded: how many frames, and when each is shown."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from vdiff_lite.data.batch import DataError
from vdiff_lite.data.find import IMAGE_ENDINGS, natural

DELAYS = ("gif", "apng")  # formats that say how long the last frame is shown
SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # where the times of frames can be trusted
DAMAGED = (av.FFmpegError, OSError, EOFError, SyntaxError)


@dataclass(frozen=True)
class Video:
    """One video before any of its frames is decoded: a file, or a folder of images.

    times: (n,) seconds from the first frame to each, rising;  seconds: how long all are shown;  images: the
    files of a folder;  note: what is wrong with it, or "".
    """

    path: Path
    times: np.ndarray
    seconds: float
    start: float = 0.0  # of the first frame, as the file counts
    seekable: bool = False
    aspect: float = 1.0  # width of a stored pixel over its height
    images: tuple[Path, ...] = ()
    note: str = ""

    def identity(self) -> tuple:
        """Another one when a file was moved or changed."""
        stats = [(path.resolve(), path.stat()) for path in self.images or [self.path]]
        return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)

    @property
    def fps(self) -> float:
        """Frames per second: of the median interval, made exact by the mean of those close to it."""
        intervals = np.diff(self.times)
        close = np.abs(intervals - np.median(intervals)) <= np.median(intervals) / 2 if len(intervals) else []
        return float(1 / (intervals[close].mean() if np.any(close) else self.seconds))

    def frames_shown(self, fps: float | None = None) -> np.ndarray:
        """Which frame is shown at k / fps for each k: (m,) indices, rising, some repeated or left out.

        fps: None means the video's own. Half an interval late still counts, since times in files are rounded.
        Images have no times: each of them is one frame.
        """
        if self.images:
            return np.arange(len(self.times))
        own = self.fps
        fps, late = fps or own, 0.5 / max(own, fps or own)
        grid = np.arange(max(1, np.ceil((self.seconds - late) * fps))) / fps
        return np.searchsorted(self.times, grid + late, side="right") - 1


def open_video(path: str | Path) -> Video:
    """How a video is timed, without decoding it. Raises DataError that names a file that cannot be used."""
    path = Path(path)
    try:
        return _open_images(path) if path.is_dir() else _open_file(path)
    except DAMAGED as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _open_images(folder: Path) -> Video:
    """A folder of images: those that can be opened, in natural order."""
    files = sorted((f for f in folder.iterdir() if f.suffix.lower() in IMAGE_ENDINGS), key=natural)
    sizes, bad = {}, []
    for file in files:
        try:
            if file.name.startswith("."):
                raise OSError("it is a hidden file")
            with Image.open(file) as image:
                sizes[file] = image.size
        except DAMAGED:
            bad.append(file.name)
    if not sizes:
        raise DataError(f"{folder} holds no image that can be read, of {len(files)}")
    if len(set(sizes.values())) > 1:
        small, *_, large = sorted(set(sizes.values()))
        raise DataError(f"{folder} holds frames of different sizes: {small} and {large}; "
                        "they must be one size")
    note = f"{folder}: {len(bad)} of {len(files)} images cannot be read, {bad[0]} first" if bad else ""
    times = np.arange(len(sizes), dtype=float)
    return Video(folder, times, float(len(times)), images=tuple(sizes), note=note)


def _open_file(path: Path) -> Video:
    with av.open(path) as container:
        stream = video_stream(container, path)
        packets = [(packet.pts, packet.duration, packet.is_corrupt, packet.is_discard)
                   for packet in packets_of(container, stream) if packet.size]
        format_name, expected, tick = container.format.name, stream.frames, float(stream.time_base)
        rate, declared = stream.average_rate or 25, stream.metadata.get("DURATION", "")
        aspect = float(stream.sample_aspect_ratio or 1)
    pts = [pts for pts, _, corrupt, hidden in packets if not (corrupt or hidden)]
    if not pts:
        raise DataError(f"{path} holds no frames")
    times = np.arange(len(pts)) / float(rate) if None in pts else np.sort(pts) * tick
    last = np.median(np.diff(times)) if len(times) > 1 else 1 / rate
    last = packets[-1][1] * tick if format_name in DELAYS else float(last)
    start, times = float(times[0]), times - times[0]
    if not expected and (parts := re.fullmatch(r"(\d+):(\d+):([\d.]+)", declared)):
        hours, minutes, seconds = map(float, parts.groups())
        expected = round((3600 * hours + 60 * minutes + seconds) / (times[-1] + last) * len(pts))
    cut = expected > len(packets) + 1 or any(corrupt for _, _, corrupt, _ in packets)
    note = f"{path} is cut off: {len(pts)} of {max(expected, len(packets))} frames are there" if cut else ""
    return Video(path, times, float(times[-1] + last), start, format_name in SEEKABLE, aspect, note=note)


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video stream that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise DataError(f"{path} holds no frames: it has no video stream")


def packets_of(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """The packets of a stream, as far as the file can be read, and an empty one that ends it."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        return
