#!/usr/bin/env bash
# Guess, written down first: a decoder gives frames in the order they are shown, so frame.time rises from each
# to the next, whatever the file: for h264 with B frames in an avi as in an mkv, and as for mpeg4 in an avi.
# Found: for h264 in an avi the frames come in the right order, but their times go back and forth. An avi
# counts packets in the order they are decoded and stores no times of showing. FFmpeg's libraries make these
# up: for mpeg4 with B frames rightly, for h264 they count on in the order of decoding, and each frame has the
# time of its packet. Who sorts the frames by frame.time shuffles the video.
# Remedy for such a file: go by the order of the frames and by the frame rate, and let the times be.
# Output seen: PyAV 18.1.0, libavformat 62.12.102, ten frames at 25 per second, the number that each picture
# shows and, behind the colon, frame.time in frames. mpeg4 in avi: 0:1 1:2 2:3 3:4 4:5 5:6 6:7 7:8 8:9 9:10;
# h264 in mkv: 0:0 1:1 2:2 3:3 4:4 5:5 6:6 7:7 8:8 9:9; h264 in avi: 0:1 1:3 2:4 3:2 4:6 5:7 6:5 7:9 8:10 9:8
# Needs Python 3.11 or later, as PyAV does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/times.py" <<'PY'
import sys

import av
import numpy as np
from av.video.frame import PictureType


def numbers_and_times(codec, path):
    """What each decoded picture shows, and its time in frames."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 48, "yuv420p", 1
        for i in range(10):
            pixels = np.full((48, 64, 3), 20 * i + 20, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        frames = list(container.decode(stream))
    assert PictureType.B in [frame.pict_type for frame in frames]
    number = lambda frame: round((frame.to_ndarray(format="gray").mean() - 20) / 20)
    return [(number(frame), round(25 * frame.time)) for frame in frames]


cases = [("mpeg4", "avi"), ("h264", "mkv"), ("h264", "avi")]
found = {f"{codec} in {kind}": numbers_and_times(codec, f"{sys.argv[1]}/{codec}.{kind}")
         for codec, kind in cases}
show = lambda pairs: " ".join(f"{number}:{time}" for number, time in pairs)
text = "; ".join(f"{name}: {show(pairs)}" for name, pairs in found.items())
form = ".".join(map(str, av.library_versions["libavformat"]))
print(f"PyAV {av.__version__}, libavformat {form}, ten frames at 25 per second, the number that each picture "
      f"shows and, behind the colon, frame.time in frames. {text}")
in_order = all([number for number, _ in pairs] == list(range(10)) for pairs in found.values())
rises = {name: all(np.diff([time for _, time in pairs]) > 0) for name, pairs in found.items()}
sys.exit(not (in_order and rises == {"mpeg4 in avi": True, "h264 in mkv": True, "h264 in avi": False}))
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/times.py" "$folder"
