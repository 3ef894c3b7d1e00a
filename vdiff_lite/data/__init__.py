"""Chapters 1 and 11: where clips come from."""

from vdiff_lite.data.batch import Batch, ClipSource, DataError
from vdiff_lite.data.bouncing_digits import BouncingDigits, DigitTruth
from vdiff_lite.data.moving_mnist import MovingMNIST
from vdiff_lite.data.video_files import ClipOrigin, VideoFolder

__all__ = ["Batch", "BouncingDigits", "ClipOrigin", "ClipSource", "DataError", "DigitTruth", "MovingMNIST",
           "VideoFolder"]
