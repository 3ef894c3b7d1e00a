"""Clips from a reader's own files: a folder of videos."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange

from vdiff_lite.data.batch import Batch, DataError

VIDEO_ENDINGS, IMAGE_ENDINGS = (".mp4", ".webm", ".gif"), (".png", ".jpg", ".jpeg")


def read_frames(path):
    """All frames of one clip: an mp4, webm or gif file, or a folder of images in order of name.

    Returns (f, h, w, 3) uint8. Raises DataError that names the file when it is missing, empty, cannot be read, or
    wants ffmpeg where there is none.
    """
    from PIL import Image, ImageSequence, UnidentifiedImageError

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        if path.is_dir():
            images = [Image.open(file).convert("RGB") for file in _images(path)]
            sizes = sorted({image.size for image in images})
            if len(sizes) > 1:
                raise DataError(f"{path} holds frames of different sizes: {sizes[0]} and {sizes[-1]}; they must be one size")
            frames = [np.asarray(image) for image in images]
        elif path.suffix.lower() == ".gif":
            frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(path))]
        elif path.suffix.lower() in VIDEO_ENDINGS:
            frames = _read_with_ffmpeg(path)
        else:
            raise DataError(f"{path} has an unknown ending; expected one of {', '.join(VIDEO_ENDINGS)}, or a folder of images")
    except (UnidentifiedImageError, OSError, EOFError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(frames) == 0:
        raise DataError(f"{path} holds no frames; expected {', '.join(VIDEO_ENDINGS)} or images {', '.join(IMAGE_ENDINGS)}")
    return np.stack(frames)


def _read_with_ffmpeg(path):
    from vdiff_lite.viz.players import find_ffmpeg

    if not find_ffmpeg():
        raise DataError(f"{path} needs ffmpeg to be read and there is none: pip install imageio-ffmpeg, or use a .gif")
    import imageio_ffmpeg  # mediapy's reader passes an option that ffmpeg 8 no longer knows

    try:
        reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
        width, height = next(reader)["size"]
        return [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    except (RuntimeError, ValueError, StopIteration, KeyError) as error:
        reason = [line for line in str(error).strip().splitlines() if line.strip()]
        raise DataError(f"{path} cannot be read as a video: {reason[-1].strip() if reason else 'ffmpeg gave no reason'}") from error


def _images(folder):
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS)


class VideoFolder:
    """A reader's own clips: every mp4, webm and gif in a folder, and every sub-folder of images.

    Frames are cut to their middle square, shrunk to `size`, and kept in memory as uint8: about size^2 bytes a frame and
    channel. `sample` draws a clip and a starting frame at random. channels: 1 (grey) or 3;  every: keep each n-th frame.
    Files that cannot be used are counted in one warning. Raises DataError when none is left, or the folder is missing.
    """

    def __init__(self, path, num_frames=16, size=32, channels=1, every=1):
        path = Path(path)
        if not path.is_dir():
            raise DataError(f"{path} is not a folder; expected one with {', '.join(VIDEO_ENDINGS)} files")
        if channels not in (1, 3):
            raise DataError(f"channels={channels} is neither 1 (grey) nor 3 (colour)")
        self.path, self.num_frames, self.size, self.channels = path, num_frames, size, channels
        clips, troubles = [], []
        files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in VIDEO_ENDINGS or (f.is_dir() and _images(f))]
        for file in files:
            try:
                clips.append(self._prepare(file, read_frames(file)[::every]))
            except DataError as trouble:
                troubles.append(str(trouble))
        if not clips:
            raise DataError(f"{path} holds no usable clip: " + (troubles[0] if troubles else
                            f"found no {', '.join(VIDEO_ENDINGS)} file and no folder of images"))
        if troubles:
            warnings.warn(f"{path}: left out {len(troubles)} of {len(files)} clips; the first: {troubles[0]}", stacklevel=2)
        self.clips = clips

    def _prepare(self, file, frames):
        if len(frames) < self.num_frames:
            raise DataError(f"{file} has {len(frames)} frames; num_frames={self.num_frames} wants at least as many")
        h, w = frames.shape[1:3]
        side = min(h, w)
        y, x = (h - side) // 2, (w - side) // 2
        square = torch.from_numpy(frames[:, y:y + side, x:x + side].copy())
        video = rearrange(square, "f h w c -> f c h w").float()
        video = F.interpolate(video, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        if self.channels == 1:
            video = (video * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        return rearrange(video, "f c h w -> c f h w").round().clamp(0, 255).byte()

    def sample(self, batch, generator=None):
        """Draw clips and starting frames at random: VideoClips of (batch, channels, num_frames, size, size)."""
        video = []
        for i in torch.randint(len(self.clips), (batch,), generator=generator):
            clip = self.clips[i]
            start = torch.randint(clip.shape[1] - self.num_frames + 1, (1,), generator=generator).item()
            video.append(clip[:, start:start + self.num_frames])
        return Batch(torch.stack(video).float() / 127.5 - 1)

    def with_frames(self, num_frames):
        """The same files, with clips of another length (at most the length they were read for)."""
        if num_frames > self.num_frames:
            raise DataError(f"num_frames={num_frames}: {self.path} was read for clips of {self.num_frames}; read it again")
        other = object.__new__(VideoFolder)
        other.__dict__ |= self.__dict__ | dict(num_frames=num_frames)
        return other

    def __len__(self):
        return len(self.clips)
