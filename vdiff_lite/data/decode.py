"""Frames of a video, one after the other: upright, in RGB, and as small as they are needed."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type
from PIL import Image, ImageOps

from vdiff_lite.data.batch import DataError
from vdiff_lite.data.video_index import DAMAGED, Video, packets_of, video_stream

UNTAGGED = 2  # a color space that is not said


def frames_at(video: Video, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame | Image.Image]]:
    """The frames with these indices, which rise: for each, the one shown then, and its own index.

    Where a frame is damaged that is the one before it, or at the start the one after. Only a few frames are
    held in memory. Raises DataError when none can be decoded.
    """
    decoded = _decode(video, int(indices[0]))
    shown, ahead = None, next(decoded, None)
    for index in indices:
        while ahead and (shown is None or ahead[0] <= index):
            shown, ahead = ahead, next(decoded, None)
        if shown is None:
            raise DataError(f"{video.path} cannot be decoded: none of its frames from {index} on is whole")
        yield shown


def _decode(video: Video, first: int) -> Iterator[tuple[int, av.VideoFrame | Image.Image]]:
    """Whole frames with their indices, from `first` or from some earlier one on."""
    if video.images:
        for i, path in list(enumerate(video.images))[first:]:
            with contextlib.suppress(*DAMAGED):
                yield i, _still(path)
        return
    with av.open(video.path) as container:
        stream = video_stream(container, video.path)
        stream.codec_context.thread_count = 1  # several parts are decoded side by side
        if not video.seekable:  # times are not to be trusted: h264 with B frames in an avi, say
            yield from ((i, frame) for i, frame in enumerate(_whole_frames(container, stream)) if frame)
            return
        index_of = lambda frame: int(np.searchsorted(video.times, frame.time - video.start - 1e-6))
        for earlier in (0, 1, 10, video.times[first] + 1):  # seconds: some seeks end too late
            seconds = video.start + video.times[first] - earlier
            container.seek(int(seconds / stream.time_base), stream=stream)
            frames = filter(None, _whole_frames(container, stream))
            frame = next(frames, None)
            if frame and index_of(frame) <= first:
                break
        if frame:
            yield index_of(frame), frame
            yield from ((index_of(frame), frame) for frame in frames)


def _whole_frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator:
    """What a stream decodes to, in the order shown; None where a frame is damaged."""
    for packet in packets_of(container, stream):
        try:
            yield from (None if frame.is_corrupt else frame for frame in stream.decode(packet))
        except av.FFmpegError:
            yield None


def display_matrix(frame: av.VideoFrame | Image.Image) -> Sequence[int]:
    """How a frame is turned and mirrored: (a, b, c, d) with x' = a x + c y, y' = b x + d y.

    To be read from one frame of a video: one of which PyAV made the side data is freed late.
    """
    matrix = None if isinstance(frame, Image.Image) else frame.side_data.get(Type.DISPLAYMATRIX)
    return np.frombuffer(bytes(matrix), np.int32)[[0, 1, 3, 4]] if matrix else (1, 0, 0, 1)


def picture(video: Video, frame: av.VideoFrame | Image.Image, matrix: Sequence[int] = (1, 0, 0, 1),
            background: Sequence[int] = (0, 0, 0)) -> tuple[Image.Image, float]:
    """A frame as an upright RGB picture, and the width of a pixel over its height.

    matrix: as `display_matrix` gives it. Transparent pixels are composited on `background` (red, green, blue
    in 0..255).
    """
    if isinstance(frame, Image.Image):
        return _opaque(frame, background), 1.0
    has_alpha = any(component.is_alpha for component in frame.format.components)
    untagged_hd = frame.colorspace == UNTAGGED and frame.height >= 720
    pixels = frame.to_ndarray(format="rgba" if has_alpha else "rgb24", threads=1,
                              src_colorspace="ITU709" if untagged_hd else None)
    aspect, (a, b, c, d) = video.aspect, matrix
    if abs(b) > abs(a):
        pixels, aspect, a, d = pixels.swapaxes(0, 1), 1 / aspect, c, b
    image = Image.fromarray(np.ascontiguousarray(pixels[::-1 if d < 0 else 1, ::-1 if a < 0 else 1]))
    return _opaque(image, background) if has_alpha else image, aspect


def _still(path: Path) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 bits, which `convert` would clip
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    return image


def _opaque(image: Image.Image, background: Sequence[int]) -> Image.Image:
    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def fit(image: Image.Image, size: tuple[int, int], aspect: float = 1.0, channels: int = 3) -> np.ndarray:
    """The middle of a picture, as much of it as has the shape of `size`, resized to it with antialiasing.

    size: (h, w);  aspect: width of a pixel over its height;  channels: 3, or 1 for gray (ITU-R BT.601 luma).
    Returns (h, w, channels) uint8.
    """
    scale = min(image.height / size[0], image.width * aspect / size[1])
    height, width = scale * size[0], scale * size[1] / aspect
    x, y = (image.width - width) / 2, (image.height - height) / 2
    resized = image.resize(size[::-1], Image.Resampling.BILINEAR, (x, y, x + width, y + height), 3.0)
    return np.asarray(resized.convert("L" if channels == 1 else "RGB")).reshape(*size, channels)
