"""Chapters 1 and 11: where clips come from."""

from vdiff_lite.data.batch import Batch, ClipSource, DataError
from vdiff_lite.data.bouncing_digits import BouncingDigits, DigitTruth
from vdiff_lite.data.moving_mnist import MovingDigits, MovingMNIST
from vdiff_lite.data.rooms import Rooms, RoomTruth
from vdiff_lite.data.sources import clip_source, source_of_card
from vdiff_lite.data.video_files import ClipOrigin, VideoFolder

__all__ = ["Batch", "BouncingDigits", "ClipOrigin", "ClipSource", "DataError", "DigitTruth", "MovingDigits",
           "MovingMNIST", "RoomTruth", "Rooms", "VideoFolder", "clip_source", "source_of_card"]
