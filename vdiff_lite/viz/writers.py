"""Clips as files: encoded from frames that lie on disk, and moved to their place when they are whole."""

import io
import math
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile

import av
import av.filter
import numpy as np
from torch import Tensor

from vdiff_lite.checks import number, whole
from vdiff_lite.files import check_writable, write_whole
from vdiff_lite.viz.strips import to_uint8

LONGEST_SIDE = {".gif": 65_535, ".mp4": 16_384}  # in pixels
PIXELS = 1920 * 1080  # of a picture of many clips, as of full HD: with larger ones an encoder takes gigabytes
EXACT = 2**22  # pixels of a gif in color up to which its palette is made for colors as they are
GRAY = 128  # of the lines between clips


def encode_gif(clip: Tensor, fps: float = 8, enlarge: int = 1) -> bytes:
    """A clip (c, f, h, w) in [-1, 1] as an endless gif; gray levels exact, colors from one palette of 256.

    A gif counts delays in hundredths of a second: frame k is shown from round(100 k / fps) on, so that the
    whole takes as long as it should. From 4 million pixels on, colors are rounded to 64 levels first, so that
    memory does not grow. Raises ValueError for fps above 50, which browsers play far too slowly, and for what
    a gif cannot hold.
    """
    return _encoded(clip, ".gif", fps, enlarge)


def encode_mp4(clip: Tensor, fps: float = 8, enlarge: int = 4) -> bytes:
    """A clip (c, f, h, w) in [-1, 1] as h264 (yuv420p, for browsers); an odd side gets one more pixel.

    From 720 lines on colors are coded by BT.709, and tagged so, as players expect. No frame is stored before
    one that it follows (no B frames), so that times begin at 0 when it is streamed, too. A page that wants
    frame k seeks to (k + 1/2) / fps: at k / fps rounding often shows the frame before. Raises ValueError for
    what an mp4 cannot hold.
    """
    return _encoded(clip, ".mp4", fps, enlarge)


def _encoded(clip, ending, fps, enlarge):
    frames, out = to_uint8(clip), io.BytesIO()
    _check_format(ending, frames.shape[:3], fps, enlarge)
    _ENCODERS[ending](frames, out, fps, enlarge)
    return out.getvalue()


def _check_format(ending, shape, fps, enlarge):
    whole(enlarge=enlarge, **dict(zip(("frames", "height", "width"), shape)))
    number(0.01, 1000, fps=fps)
    if ending == ".gif" and fps > 50:
        raise ValueError(f"fps={fps}: a gif plays at most 50 frames per second; choose 50 or less, or an mp4")
    if max(shape[1:]) * enlarge > LONGEST_SIDE[ending]:
        raise ValueError(f"enlarge={enlarge} makes {shape[1]}x{shape[2]} to {shape[1] * enlarge}x"
                         f"{shape[2] * enlarge}, and {ending} holds {LONGEST_SIDE[ending]:,} pixels to a "
                         "side; choose less, or a smaller clip")


def _to_gif(frames, out, fps, enlarge):
    begins = lambda k: round(100 * k / fps)
    options = dict(loop="0", final_delay=str(begins(len(frames)) - begins(len(frames) - 1)))
    pictures = lambda: _pictures(frames, enlarge, begins)
    first = next(pictures())
    in_color = first.format.name == "rgb24"
    with av.open(out, "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = first.height, first.width
        stream.pix_fmt = "pal8" if in_color else "gray"
        for picture in _with_palette(pictures) if in_color else pictures():
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _to_mp4(frames, out, fps, enlarge):
    pictures = _pictures(frames, enlarge, even=True)
    first = next(pictures)
    hd = first.height >= 720
    with av.open(out, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("h264", rate=rate, options={"crf": "18", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = first.height, first.width, "yuv420p"
        if hd:
            code = stream.codec_context
            code.colorspace = code.color_primaries = code.color_trc = code.color_range = 1  # BT.709, 16..235
        for picture in chain([first], pictures):
            picture = picture.reformat(format="rgb24").reformat(format="yuv420p",
                                                                dst_colorspace="ITU709" if hd else None)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


_ENCODERS = {".gif": _to_gif, ".mp4": _to_mp4}


def _pictures(frames, enlarge, begins=None, even=False):
    """Frames (h, w) or (h, w, 3) uint8, enlarged, for an encoder. begins: when each is shown, for a gif."""
    for k, frame in enumerate(frames):
        if begins and frame.ndim == 3 and len(frames) * frame.shape[0] * frame.shape[1] > EXACT:
            frame = frame & 0xFC | 2
        pixels = frame.repeat(enlarge, 0).repeat(enlarge, 1)
        if even:
            h, w = pixels.shape[:2]
            pixels = np.pad(pixels, [(0, h % 2), (0, w % 2), (0, 0)][:pixels.ndim], mode="edge")
        picture = av.VideoFrame.from_ndarray(pixels, format="gray" if pixels.ndim == 2 else "rgb24")
        if begins:
            picture.pts, picture.time_base = begins(k), Fraction(1, 100)
        yield picture


def _with_palette(pictures):
    """RGB pictures in the 256 colors that fit them best."""
    [palette] = _filtered("palettegen", "", pictures())
    yield from _filtered("paletteuse", "dither=none:diff_mode=rectangle", pictures(), palette)


def _filtered(name, options, pictures, *still):
    """What a filter of ffmpeg makes of pictures, and of a still one beside them."""
    graph, first = av.filter.Graph(), next(pictures)
    step, sink = graph.add(name, options), graph.add("buffersink")
    sources = [graph.add_buffer(width=x.width, height=x.height, format=x.format, time_base=Fraction(1, 100))
               for x in (first, *still)]
    for i, source in enumerate(sources):
        source.link_to(step, 0, i)
    step.link_to(sink)
    graph.configure()
    for picture in [*still, None] if still else []:
        sources[1].push(picture)
    for picture in chain([first], pictures, [None]):
        sources[0].push(picture)
        with suppress(av.BlockingIOError, av.EOFError):  # until it wants more
            while True:
                yield sink.pull()


def save_clip(clip: Tensor | Iterable[Tensor], path: str | Path, fps: float = 8, enlarge: int = 4) -> None:
    """Write a clip to a .gif or .mp4 file, enlarged. Warns when an mp4 is padded to even sides.

    clip: (c, f, h, w) in [-1, 1], or an iterable of its frames (c, h, w), none of which is kept in memory.
    Raises ValueError as `ClipWriter` does.
    """
    check_clip_path(path)
    frames = iter(clip.unbind(1) if isinstance(clip, Tensor) and clip.ndim == 4 else clip)
    first = next(frames, None)
    if not isinstance(first, Tensor) or first.ndim != 3:
        shape = "no frames" if first is None else f"a first frame of shape {tuple(np.shape(first))}"
        raise ValueError(f"clip has {shape}; one clip is (c, f, h, w), or its frames (c, h, w)")
    with ClipWriter(path, first.shape, fps=fps, enlarge=enlarge) as writer:
        for f, frame in enumerate(chain([first], frames)):
            writer.add(f, frame[None])


class ClipWriter:
    """Write clips side by side to a .gif or .mp4, frame by frame: memory grows with neither number.

        with ClipWriter("x.mp4", (1, 32, 32), clips=40, frames=200) as writer:
            writer.add(f, frames, first)

    More than 8 clips stand in a square. Until all frames are there they lie on disk as bytes, in a file
    beside `path` that has no name and ends with the process. After an error there is no result.

    shape: (c, h, w) of a frame;  frames: how many there will be, to see whether the disk has room;  enlarge:
    None means 4, or less where a picture would have more pixels than full HD. Raises ValueError, before
    anything is drawn, for another ending, for a place that cannot be written, and for what does not fit.
    """

    def __init__(self, path: str | Path, shape: tuple, clips: int = 1, frames: int = 1, fps: float = 8,
                 enlarge: int | None = None) -> None:
        check_clip_path(path)
        whole(clips=clips, frames=frames)
        self.path, self.ending, (c, h, w) = Path(path), str(path)[-4:], shape
        if c not in (1, 3):
            raise ValueError(f"frames of {c} channels cannot be shown; those of 1 (gray) or 3 (color) can")
        self.clips, self.fps, self.frames, self.shape = clips, fps, 0, (h, w, 3)[:2 + c // 3]
        self.columns, *self.size = _grid(clips, h, w)
        fits = lambda h, w, n=1: max(h, w) * n <= LONGEST_SIDE[self.ending] and h * w * n * n <= PIXELS
        if clips > 1 and not fits(*self.size):
            most = next(n for n in range(clips, 0, -1) if n == 1 or fits(*_grid(n, h, w)[1:]))
            raise ValueError(f"clips={clips} of {h}x{w} make pictures of {self.size[0]}x{self.size[1]}, more "
                             f"than players show; at most {most} fit")
        self.enlarge = next((n for n in (4, 3, 2) if fits(*self.size, n)), 1) if enlarge is None else enlarge
        _check_format(self.ending, (frames, *self.size), fps, self.enlarge)
        needed, free = clips * frames * c * h * w, shutil.disk_usage(self.path.absolute().parent).free
        if needed > free:
            raise ValueError(f"frames={frames} of {clips} clips take {needed / 1e9:,.1f} GB of disk beside "
                             f"{path} until they are encoded, and {free / 1e9:,.1f} GB are free; at most "
                             f"{int(frames * free / needed):,} fit")

    def __enter__(self) -> "ClipWriter":
        self._file = TemporaryFile(dir=self.path.absolute().parent)
        return self

    def add(self, f: int, frames: Tensor, first: int = 0) -> None:
        """Frame f of the clips from number `first` on: (b, c, h, w) in [-1, 1]."""
        if not frames.isfinite().all():
            raise FloatingPointError(f"frame {f} is not finite; choose milder settings of the method")
        content = to_uint8(frames.transpose(0, 1))
        if content.shape[1:] != self.shape or first + len(content) > self.clips:
            raise ValueError(f"{len(content)} frames of {content.shape[1:]} from clip {first} on do not fit")
        self._file.seek((f * self.clips + first) * math.prod(self.shape))
        self._file.write(content.tobytes())
        self.frames = max(self.frames, f + 1)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[np.ndarray]:
        """The pictures: (h, w) or (h, w, 3) uint8, all clips side by side."""
        (h, w, *_), size = self.shape, self.clips * math.prod(self.shape)
        for f in range(self.frames):
            self._file.seek(f * size)
            frames = np.frombuffer(self._file.read(size), np.uint8).reshape(-1, *self.shape)
            picture = np.full((*self.size, *self.shape[2:]), GRAY, np.uint8)
            for n, frame in enumerate(frames):
                y, x = n // self.columns * (h + 1), n % self.columns * (w + 1)
                picture[y:y + h, x:x + w] = frame
            yield picture

    def __exit__(self, kind: type | None, *_) -> None:
        with self._file:
            if kind is None:
                write_whole(self.path, lambda to: _ENCODERS[self.ending](self, to, self.fps, self.enlarge))
        h, w = (side * self.enlarge for side in self.size)
        if kind is None and self.ending == ".mp4" and (h % 2 or w % 2):
            warnings.warn(f"{self.path}: {h}x{w} was padded to {h + h % 2}x{w + w % 2}, since h264 wants "
                          "even sides", stacklevel=3)


def _grid(clips, h, w):
    """Clips in a row, or in a square where they are more than 8, a pixel apart: (columns, height, width)."""
    columns = clips if clips <= 8 else math.ceil(clips**0.5)
    return columns, math.ceil(clips / columns) * (h + 1) - 1, columns * (w + 1) - 1


def check_clip_path(path: str | Path) -> None:
    """Raise ValueError unless `save_clip` can write there: a .gif or .mp4 in a folder that exists."""
    if not str(path).endswith((".gif", ".mp4")):
        raise ValueError(f"{path} has an unknown ending; write a .gif or an .mp4")
    if not Path(path).parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {Path(path).parent}")
    check_writable(path, "path")
