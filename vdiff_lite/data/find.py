"""Which files of a folder are videos, and which of them are held out."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vdiff_lite.data.batch import DataError

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".apng", ".mpg", ".mpeg", ".ts",
                 ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".y4m")
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
HELD_OUT = 0.1  # fraction of the files of a folder, or of the frames of a file
MIN_FILES, MIN_FRAMES = 4, 16  # files from which on whole ones are held out; fewest frames to hold out of one


def natural(path: Path) -> list:
    """A key that sorts frame2 before frame10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", path.name)]


def find_videos(path: str | Path) -> tuple[list[Path], list[str]]:
    """The videos in a folder and all below it, in natural order, and what was left out.

    A video is a file with one of `VIDEO_ENDINGS`, or a folder that holds images but no such file. Hidden
    files with such an ending, which some systems put beside videos, are left out.
    path: a folder, or one video. Raises DataError when there is none, and says which endings are there.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} is not a folder or a file; expected a video, or a folder of videos "
                        "or images")
    if path.is_file():
        return [path], []
    videos, hidden, endings = [], [], Counter()
    for folder in _folders(path):
        files = sorted((file for file in folder.iterdir() if file.is_file()), key=natural)
        here = [file for file in files if file.suffix.lower() in VIDEO_ENDINGS]
        hidden += [f"{file} is a hidden file" for file in here if file.name.startswith(".")]
        here = [file for file in here if not file.name.startswith(".")]
        images = [file for file in files if file.suffix.lower() in IMAGE_ENDINGS and file.name[0] != "."]
        videos += here or ([folder] if images else [])
        endings.update(file.suffix.lower() or "no ending" for file in files)
    if not videos:
        there = ", ".join(f"{count} {ending}" for ending, count in endings.most_common()) or "no file"
        raise DataError(f"{path} holds no video: there is {there}; expected {', '.join(VIDEO_ENDINGS)}, or "
                        f"folders of {', '.join(IMAGE_ENDINGS)}")
    return videos, hidden


def _folders(path: Path) -> Iterator[Path]:
    """A folder and all below it that are not hidden, in natural order."""
    yield path
    below = (folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    for folder in sorted(below, key=natural):
        yield from _folders(folder)


def split_spans(labels: Sequence[str], lengths: Sequence[int], split: str) -> np.ndarray:
    """Which frames of each video are in a part: (n, 2), the first and one after the last.

    labels: the folder that each lies in;  lengths: frames of each;  split: "all", "train" or "test". Of a
    folder with `MIN_FILES` videos or more the last tenth of them is held out, at least one, in order of name.
    Of fewer, the last tenth of each one's frames, where these are `MIN_FRAMES` or more. So no frame, and no
    moment of one video, is in both parts.
    """
    spans = np.stack([np.zeros(len(lengths), int), np.array(lengths)], 1)
    if split == "all":
        return spans
    for label in set(labels):
        here = [i for i, other in enumerate(labels) if other == label]
        first_held_out = len(here) - max(1, round(HELD_OUT * len(here)))
        for place, i in enumerate(here):
            cut = lengths[i] - int(HELD_OUT * lengths[i])
            if len(here) >= MIN_FILES:
                cut = 0 if place >= first_held_out else lengths[i]
            elif lengths[i] - cut < MIN_FRAMES:
                cut = lengths[i]
            spans[i, 1 if split == "train" else 0] = cut
    return spans
