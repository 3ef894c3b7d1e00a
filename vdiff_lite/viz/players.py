"""Clips to play in a notebook, and clips as files."""

import base64
import html
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import mediapy
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from IPython.display import HTML
from torch import Tensor

from vdiff_lite.checks import free_memory
from vdiff_lite.viz.strips import to_uint8

# A button of its own: a browser's controls would cover a clip of this size.
_PRESS = "const v = this.parentNode.querySelector('video'); v.paused ? v.play() : v.pause()"
_PLAYER = (
    '<figure style="margin:0;text-align:center">'
    '<video loop muted playsinline preload="metadata" poster="{poster}" aria-label="{alt}" onclick="{press}" '
    'style="width:{width}px;max-width:100%;height:auto;image-rendering:pixelated;border:1px solid #8888;'
    'display:block" src="{video}"></video>'
    '<button type="button" aria-label="Play or pause: {alt}" onclick="{press}" '
    'style="min-height:2.2em;margin-top:2px">&#9654; / &#10074;&#10074;</button>'
    "<figcaption>{label}</figcaption></figure>")


def show_clips(clips: Sequence[Tensor] | Tensor, labels: Sequence[str] | None = None, alt: str | None = None,
               fps: float = 8, height: int = 128) -> HTML:
    """Clips to play in a notebook, side by side, each with a button; still until played.

    clips: list of (c, f, h, w) in [-1, 1];  labels: a caption for each;  alt: one sentence that says what is
    seen;  height: in pixels on the page, about: each pixel of a clip is a square of whole pixels.
    """
    players = []
    for clip, label in zip(clips, labels or [""] * len(clips)):
        text = alt or label or "a short clip"
        text = f"{text} ({label})" if label not in text else text
        enlarge = max(1, round(height / clip.shape[-2]))
        players.append(_PLAYER.format(alt=html.escape(text), label=html.escape(label),
                                      width=enlarge * clip.shape[-1],
                                      press=_PRESS, poster=png_data_url(clip, 0),
                                      video=data_url("video/mp4", encode_mp4(clip, fps, enlarge))))
    style = "display:flex;flex-wrap:wrap;gap:10px;margin:0.5em 0"
    return HTML(f'<div style="{style}">{"".join(players)}</div>')


def data_url(kind: str, content: bytes) -> str:
    """A file's content as a data: address. kind: its MIME type, "image/gif" say."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png_data_url(clip: Tensor, frame: int | None = None) -> str:
    """One frame of a clip (c, f, h, w), or all of them side by side, as a data: address of a png."""
    frames = to_uint8(clip)
    image = np.concatenate(frames, axis=1) if frame is None else frames[frame]
    return data_url("image/png", mediapy.compress_image(image, optimize=True))


def encode_gif(clip: Tensor, fps: float = 8, enlarge: int = 1) -> bytes:
    """A clip (c, f, h, w) in [-1, 1] as an endless gif; gray levels exact, colors from one palette of 256.

    A gif counts delays in hundredths of a second: frame k is shown from round(100 k / fps) on, so that the
    whole takes as long as it should. Raises ValueError for fps above 50, which browsers play far too slowly.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"fps={fps}: a gif plays at most 50 frames per second; choose 50 or less, or an mp4")
    frames = _video_frames(_enlarged(clip, enlarge))
    times = [round(100 * k / fps) for k in range(len(frames) + 1)]
    for frame, time in zip(frames, times):
        frame.pts, frame.time_base = time, Fraction(1, 100)
    out, in_color = io.BytesIO(), frames[0].format.name == "rgb24"
    options = dict(loop="0", final_delay=str(times[-1] - times[-2]))
    with av.open(out, "w", format="gif", options=options) as container:
        stream = container.add_stream("gif", rate=100)
        stream.height, stream.width = frames[0].height, frames[0].width
        stream.pix_fmt = "pal8" if in_color else "gray"
        for frame in _with_palette(frames) if in_color else frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def _with_palette(frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """RGB frames in the 256 colors that fit all of them best."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frames[0].width, height=frames[0].height, format=frames[0].format,
                              time_base=frames[0].time_base)
    split, make, use, sink = (graph.add(*name) for name in (
        ["split"], ["palettegen"], ["paletteuse", "dither=none:diff_mode=rectangle"], ["buffersink"]))
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(make, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in [*frames, None]:
        source.push(frame)
    for _ in frames:
        yield sink.pull()


def encode_mp4(clip: Tensor, fps: float = 8, enlarge: int = 4) -> bytes:
    """A clip (c, f, h, w) in [-1, 1] as h264 (yuv420p, for browsers); an odd side gets one more pixel.

    From 720 lines on colors are coded by BT.709, and tagged so, as players expect. No frame is stored before
    one that it follows (no B frames), so that times begin at 0 when it is streamed, too. A page that wants
    frame k seeks to (k + 1/2) / fps: at k / fps rounding often shows the frame before.
    """
    frames = _enlarged(clip, enlarge)
    h, w = frames.shape[1:3]
    frames = np.pad(frames, [(0, 0), (0, h % 2), (0, w % 2)] + [(0, 0)] * (frames.ndim - 3), mode="edge")
    out, hd = io.BytesIO(), len(frames[0]) >= 720
    with av.open(out, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("h264", rate=rate, options={"crf": "18", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if hd:
            code = stream.codec_context
            code.colorspace = code.color_primaries = code.color_trc = code.color_range = 1  # BT.709, 16..235
        for frame in _video_frames(frames):
            frame = frame.reformat(format="rgb24").reformat(format="yuv420p",
                                                            dst_colorspace="ITU709" if hd else None)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def _enlarged(clip: Tensor, enlarge: int) -> np.ndarray:
    return to_uint8(clip).repeat(enlarge, 1).repeat(enlarge, 2)


def _video_frames(frames: np.ndarray) -> list[av.VideoFrame]:
    """uint8 frames (f, h, w) or (f, h, w, 3) for an encoder."""
    kind = "gray" if frames.ndim == 3 else "rgb24"
    return [av.VideoFrame.from_ndarray(frame, format=kind) for frame in frames]


def save_clip(clip: Tensor, path: str | Path, fps: float = 8, enlarge: int = 4) -> None:
    """Write a clip (c, f, h, w) to a .gif or .mp4 file, enlarged. Warns when an mp4 is padded to even sides.

    Raises ValueError as `check_clip_path` and `encode_gif` do.
    """
    check_clip_path(path)
    encode = encode_gif if str(path).endswith(".gif") else encode_mp4
    Path(path).write_bytes(encode(clip, fps, enlarge))
    size = [side * enlarge for side in clip.shape[2:]]
    if encode is encode_mp4 and any(side % 2 for side in size):
        warnings.warn(f"{path}: {size[0]}x{size[1]} was padded to {size[0] + size[0] % 2}x"
                      f"{size[1] + size[1] % 2}, since h264 wants even sides", stacklevel=2)


def check_clip_path(path: str | Path) -> None:
    """Raise ValueError unless `save_clip` can write there: a .gif or .mp4 in a folder that exists."""
    if not str(path).endswith((".gif", ".mp4")):
        raise ValueError(f"{path} has an unknown ending; write a .gif or an .mp4")
    if not Path(path).parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {Path(path).parent}")


def side_by_side(clips: Tensor) -> Tensor:
    """Clips (b, c, f, h, w) as one (c, f, h', w'): in a row, or in a square where they are more than 8."""
    rows, columns = _layout(len(clips))
    clips = torch.cat([clips, clips.new_zeros(rows * columns - len(clips), *clips.shape[1:])])
    return rearrange(F.pad(clips, (0, 1, 0, 1)), "(r k) c f h w -> c f (r h) (k w)", r=rows)[..., :-1, :-1]


def _layout(clips):
    columns = clips if clips <= 8 else math.ceil(clips**0.5)
    return math.ceil(clips / columns), columns


def check_clip_size(path: str | Path, shape: tuple, clips: int, frames: int) -> None:
    """Raise ValueError, before anything is drawn, for what the file's format or the memory cannot hold.

    shape: (c, h, w) of a frame.
    """
    (c, h, w), (rows, columns) = shape, _layout(clips)
    height, width = 4 * rows * (h + 1), 4 * columns * (w + 1)
    largest = 65_535 if str(path).endswith(".gif") else 16_384
    if max(height, width) > largest:
        raise ValueError(f"{clips} clips of {h}x{w} make pictures of {height}x{width}, and "
                         f"{Path(path).suffix} holds {largest} pixels to a side; ask for fewer clips")
    needed, free = 4 * frames * height * width * c, free_memory(torch.device("cpu"))
    if needed > free:
        raise ValueError(f"{frames} frames of {height}x{width} take about {needed / 1e9:,.1f} GB to write, "
                         f"and {free / 1e9:,.1f} GB are free; at most {int(frames * free / needed):,} fit")
