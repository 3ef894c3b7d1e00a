"""What lies in a video file, for tests of reading and writing."""

from pathlib import Path

import numpy as np

from vdiff_lite.data.decode import display_matrix, fit, frames_at, picture
from vdiff_lite.data.video_index import open_video


def read_frames(path: str | Path, fps: float | None = None) -> np.ndarray:
    """All frames of one video, a file or a folder of images: (f, h, w, 3) uint8, upright, with square pixels.

    fps: frames per second to resample to; None means the video's own.
    """
    video, frames, matrix = open_video(path), [], None
    for _, frame in frames_at(video, video.frames_shown(fps)):
        matrix = display_matrix(frame) if matrix is None else matrix
        image, aspect = picture(video, frame, matrix)
        frames.append(fit(image, (image.height, round(image.width * aspect)), aspect))
    return np.stack(frames)
