#!/usr/bin/env bash
# Guess, written down first: an mp4 whose display matrix only mirrors left and right is not turned, so PyAV's
# frame.rotation is 0: it is documented as the rotation component of that matrix. Also,
# stream.set_display_rotation(degrees, hflip), which writes such a file, documents degrees as the value that
# is read back.
# Found: written with 0 degrees and hflip=True, -180 is read back, the number of a video that stands on its
# head. Turned by it, the picture is upside down and not mirrored. Each of the four numbers stands for two of
# the eight ways that a picture can lie, so no rule about the number mends this. It is FFmpeg's
# av_display_rotation_get, which looks at where the matrix takes one axis of the picture; the other axis says
# whether it mirrors.
# Remedy: take the whole matrix, from frame.side_data.
# Output seen: PyAV 18.1.0, libavutil 60.26.102. Degrees and hflip written, then frame.rotation, and whether
# the picture turned by it is the one that the matrix tells to show: 0 False -> 0 right; 90 False -> 90 right;
# 180 False -> -180 right; 270 False -> -90 right; 0 True -> -180 wrong; 90 True -> 90 wrong; 180 True -> 0
# wrong; 270 True -> -90 wrong
# Needs Python 3.11 or later, as PyAV does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/mirror.py" <<'PY'
import sys

import av
import numpy as np
from av.sidedata.sidedata import Type

path = sys.argv[1]
picture = np.zeros((64, 64, 3), np.uint8)  # one corner white, one gray, two black
picture[:32, :32], picture[:32, 32:] = 255, 128


def shown(pixels, matrix):
    """The picture as the mp4 format defines it: the pixel at (x, y) goes to (a x + c y, b x + d y)."""
    a, b, c, d = (int(np.sign(matrix[i])) for i in (0, 1, 3, 4))
    y, x = np.mgrid[:64, :64] * 2 - 63  # twice the distance from the center
    out = np.zeros_like(pixels)
    out[(b * x + d * y + 63) // 2, (a * x + c * y + 63) // 2] = pixels
    return out


def read_back(degrees, hflip):
    with av.open(path, "w") as out:
        stream = out.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 64, "yuv420p", 1
        stream.set_display_rotation(degrees, hflip=hflip)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)
        matrix = np.frombuffer(bytes(matrix), np.int32) if matrix else np.eye(3, dtype=np.int32).ravel()
        pixels, rotation = frame.to_ndarray(format="gray"), frame.rotation
    meant = np.rot90(pixels, degrees // 90)[:, ::-1 if hflip else 1]
    assert np.array_equal(shown(pixels, matrix), meant), "the file is as asked for"
    return rotation, np.array_equal(np.rot90(pixels, rotation // 90), shown(pixels, matrix))


cases = [(degrees, hflip) for hflip in (False, True) for degrees in (0, 90, 180, 270)]
found = [read_back(*case) for case in cases]
util = ".".join(map(str, av.library_versions["libavutil"]))
print(f"PyAV {av.__version__}, libavutil {util}. Degrees and hflip written, then frame.rotation, and whether "
      "the picture turned by it is the one that the matrix tells to show: " + "; ".join(
          f"{degrees} {hflip} -> {rotation} {'right' if right else 'wrong'}"
          for (degrees, hflip), (rotation, right) in zip(cases, found)))
sys.exit([right for _, right in found] != [True] * 4 + [False] * 4)
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/mirror.py" "$folder/clip.mp4"
