"""Data by a text: what `--data` takes, and what a checkpoint's card says."""

import ast
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Generator, Tensor

from vdiff_lite.data.batch import Batch, ClipSource, DataError, height_width
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.moving_mnist import MovingDigits, MovingMNIST
from vdiff_lite.data.rooms import Rooms
from vdiff_lite.data.video_files import VideoFolder
from vdiff_lite.files import named_in_file

CLASSES = {kind.__name__: kind for kind in (BouncingDigits, MovingDigits, MovingMNIST, Rooms, VideoFolder)}
TEXTS = "digits, digits2, rooms, moving-mnist, moving-mnist:PATH, videos:PATH or mine.py:NAME"
TEST_SET = "mnist_test_seq.npy"


@dataclass(frozen=True)
class NamedSource:
    """A reader's own clips under the text that names them, as a card records it."""

    text: str
    source: ClipSource

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        return self.source.sample(batch, generator)

    def with_frames(self, num_frames: int) -> "NamedSource":
        return NamedSource(self.text, self.source.with_frames(num_frames))

    def __str__(self) -> str:
        return self.text


def clip_source(text: str, size: int | str | tuple = 32, channels: int = 1, split: str = "train",
                **settings: Any) -> ClipSource:
    """The clips that a text names, to train on or held out.

    text: "digits" or "digits2", one or two `BouncingDigits`, as large for their box as in 32x32;  "rooms";
    "moving-mnist", `MovingDigits`, and with ":PATH" a folder with MNIST's idx files or, held out, the
    published test set;  "videos:PATH", a `VideoFolder`;  "mine.py:NAME", a ClipSource in a file, or a
    function of (size, channels, split) that returns one.  size: (h, w), "HxW" or a number;  split: "train"
    or "test";  settings: further arguments of the class, num_frames or fps, say.
    Raises ValueError, and DataError when a file does not hold the clips, or is not to be trained on.
    """
    size = frame_size(size)
    name, _, path = text.partition(":")
    if name in ("digits", "digits2") and not path:
        scale = min(size) / 32
        kind, arguments = BouncingDigits, dict(
            num_digits=1 if name == "digits" else 2, size=size, split=split, digit_size=int(12 * scale),
            speed=(0.5 * scale, 1.5 * scale))
    elif text == "rooms":
        kind, arguments = Rooms, dict(size=size, split=split)
    elif text == "moving-mnist" or (name == "moving-mnist" and path):
        kind, arguments = _moving_mnist(path, size, split)
    elif name == "videos" and path:
        kind, arguments = VideoFolder, dict(path=path, size=size, channels=channels, split=split)
    elif ".py:" in text and not settings:
        return _own(text, size, channels, split)
    else:
        fault = "takes no settings" if ".py:" in text else "is unknown"
        raise ValueError(f"data={text!r} {fault}; give {TEXTS}")
    right = {VideoFolder: channels, Rooms: 3}.get(kind, 1)
    if channels != right:
        raise ValueError(f"channels={channels} does not fit {text}; choose {right}")
    unknown = set(settings) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{min(unknown)}={settings[min(unknown)]!r} is no setting of {text}; choose from "
                         f"{', '.join(field.name for field in fields(kind))}")
    return kind(**arguments | settings)


def frame_size(size: int | str | tuple) -> tuple[int, int]:
    """A size as (h, w): a number, "64", "48x64" or a tuple. Raises ValueError for others."""
    if isinstance(size, str):
        sides = size.lower().split("x")
        if not all(side.isdecimal() for side in sides):
            raise ValueError(f"size={size!r} must be HxW in pixels, 48x64 say, or a number for a square")
        size = int(sides[0]) if len(sides) == 1 else tuple(map(int, sides))
    return height_width(size)


def _moving_mnist(path: str, size: tuple, split: str) -> tuple[type, dict]:
    if not path:
        return MovingDigits, dict(size=size, split=split)
    if split == "train" and (Path(path).suffix == ".npy" or Path(path).is_file()):
        raise DataError(f"{path} is the published test set, and training on it would spoil every comparison; "
                        "train on moving-mnist:FOLDER, a folder with MNIST's train-images-idx3-ubyte, or on "
                        "moving-mnist, which draws the digits of scikit-learn")
    test_set = Path(path) / TEST_SET if Path(path).is_dir() else Path(path)
    if split == "test" and (test_set.exists() or not Path(path).is_dir()):
        return MovingMNIST, dict(path=str(test_set), size=size)
    return MovingDigits, dict(path=path, size=size, split=split)


def _own(text: str, size: tuple, channels: int, split: str) -> ClipSource:
    """What NAME is in a Python file, checked by one frame."""
    source = named_in_file(text)
    if isinstance(source, type) or not hasattr(source, "sample"):
        if not callable(source):
            raise DataError(f"{text} is {source!r}; give a ClipSource, or a function that returns one")
        try:
            source = source(size, channels, split)
        except Exception as error:
            raise DataError(f"{text}{(size, channels, split)}: {type(error).__name__}: {error}") from error
    shape = tuple(source.with_frames(1).sample(1, Generator().manual_seed(0)).video.shape)
    if shape != (1, channels, 1, *size):
        raise DataError(f"{text} gives one frame as {shape}; size={size}, channels={channels} want "
                        f"{(1, channels, 1, *size)}")
    return NamedSource(text, source)


def part_of_video(video: str, size: tuple, channels: int, before: int, frames: int,
                  seconds: float | None = None, fps: float | None = None) -> Tensor:
    """The part of a video of the reader's own around a time, as it is stored: (1, c, f, h, w).

    before: so many frames before that;  frames: how many at most, these included;  seconds: that time, by
    default the end;  fps: as in `VideoFolder`. Raises ValueError, and DataError for a damaged file.
    """
    if not video:
        raise ValueError("video='' names no file; give one, or leave the option out")
    data = VideoFolder(video, before, size, channels, fps)
    if len(data) > 1:
        raise ValueError(f"video={video!r} holds {len(data)} videos; give one file")
    fps, total = fps or data.videos[0].fps, data.num_frames_of(0)
    first = total - before if seconds is None else round(seconds * fps) - before
    if not 0 <= first <= total - before:
        raise ValueError(f"at={seconds}: {video} lasts {total / fps:.2f} s, and {before} frames before that "
                         f"are wanted; choose from {before / fps:.2f} on")
    return data.clip(0, first, min(frames, total - first))[None]


def source_of_card(data: str, size: int | str | tuple = 32, channels: int = 1, **changes: Any) -> ClipSource:
    """The data that a checkpoint's card names, with some settings changed: split="test", say.

    data: card["data"], how a source prints;  size, channels: for data of the reader's own. Raises ValueError.
    """
    if ".py:" in data and "(" not in data:
        return clip_source(data, size, channels, **changes)
    try:
        call = ast.parse(data, mode="eval").body
        kind = CLASSES[call.func.id]
        names = [field.name for field in fields(kind)]
        arguments = dict(zip(names, map(ast.literal_eval, call.args)))
        arguments |= {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if set(arguments) - {*names, "clips"}:  # a VideoFolder prints how many clips it has
            raise KeyError
    except (SyntaxError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"the card's data={data!r} is none of {', '.join(CLASSES)}; give {TEXTS}") from error
    return kind(**{name: value for name, value in (arguments | changes).items() if name in names})
