"""What a clip got right and wrong, measured against the ground truth that bouncing digits come with."""

import functools

import numpy as np
import torch
from einops import rearrange, reduce

from .data import centroid, draw, glyphs


def psnr(clip, truth):
    """Peak signal-to-noise ratio of each frame in dB: 10 log10(4 / mse), since pixels span [-1, 1].

    clip, truth: (b, c, f, h, w). Returns (b, f); two equal frames give infinity.
    """
    if clip.shape != truth.shape:
        raise ValueError(f"clip {tuple(clip.shape)} and truth {tuple(truth.shape)} differ in shape")
    return 10 * torch.log10(4 / reduce((clip - truth) ** 2, "b c f h w -> b f", "mean"))


def ink(clip):
    """How much is drawn on each frame: the sum of (x + 1) / 2 over pixels. (b, 1, f, h, w) -> (b, f)."""
    return reduce((clip.clamp(-1, 1) + 1) / 2, "b 1 f h w -> b f", "sum")


def speed(clip):
    """How far the centroid of the ink moves from frame to frame, in pixels: (b, 1, f, h, w) -> (b, f - 1).

    Faint grey below a tenth of full ink is background, and does not count.
    """
    drawn = ((clip[:, 0].clamp(-1, 1) + 1) / 2 - 0.1).clamp(min=0)
    return centroid(drawn).diff(dim=1).norm(dim=-1)


@functools.cache
def _reader():
    from sklearn.svm import SVC

    images, labels = glyphs(12, "train")
    return SVC(C=10, gamma="scale").fit(_normalised(images), labels.numpy())


def _normalised(images):
    flat = rearrange(images, "n h w -> n (h w)").double().numpy()
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def read_digits(clip):
    """Which digit a classifier sees on each frame: (b, 1, f, h, w) -> (b, f) long.

    Each frame is moved so that its ink stands in the middle, then read by a support vector machine that was fitted
    to the training handwriting (scikit-learn's SVC, radial kernel). For clips of one digit of 12 pixels.
    """
    read = torch.from_numpy(_reader().predict(_normalised(centred_frames(clip))))
    return rearrange(read, "(b f) -> b f", b=clip.shape[0])


def centred_frames(clip, size=16):
    """The digit of each frame, cut out with its ink's centroid in the middle: (b, 1, f, h, w) -> (b f, size, size)."""
    frames = rearrange((clip.clamp(-1, 1) + 1) / 2, "b 1 f h w -> (b f) h w").cpu()
    offset = (size - 1) / 2 - centroid(frames)
    return draw(frames[:, None], offset[:, None, None], size)[:, 0, 0]


def nearest_handwriting(clip):
    """How near each clip's digit comes to one that the model was trained on.

    The digit of every frame is compared with every glyph of the training split. Returns (distances, indices), (b,) each:
    the smallest root mean squared difference of ink in [0, 1] on any frame, and which glyph it is to.
    """
    digits = centred_frames(clip)
    distances = torch.cdist(digits.flatten(1), glyphs(12, "train")[0].flatten(1)) / digits[0].numel() ** 0.5
    distances = rearrange(distances, "(b f) g -> b g f", b=clip.shape[0]).min(dim=2).values
    return distances.min(dim=1)
