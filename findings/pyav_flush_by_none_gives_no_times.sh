#!/usr/bin/env bash
# Guess, written down first: after the last packet, PyAV's stream.decode(None), which is documented as the way
# to flush, gives the frames that were still in the decoder, with the same times as when they are flushed by
# the empty packet at the end of container.demux(stream).
# Found: the frames and their pts are the same, but frame.time_base is None and frame.time is nan: no error,
# and not the None that is documented for a frame without a time. PyAV takes the unit of a frame's time from
# the packet handed in, and None has none. nan is neither before nor after any time, and numpy's searchsorted
# places it behind all of them: whoever looks a frame up by its time takes these for later than the end of the
# video.
# Remedies: hand the empty packet in too, or multiply frame.pts by stream.time_base. PyAV's sources are mended
# after 18.1.0.
# Output seen: PyAV 18.1.0, libavcodec 62.28.102, 8 frames of h264 at 25 per second. Flushed by the empty
# packet: 0.00 0.04 0.08 0.12 0.16 0.20 0.24 0.28; by None: 0.00 0.04 0.08 0.12 0.16 0.20 nan nan, time_base
# of the last None, pts the same: True
# Needs Python 3.11 or later, as PyAV does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/flush.py" <<'PY'
import math
import sys

import av
import numpy as np

path = sys.argv[1]
with av.open(path, "w") as out:
    stream = out.add_stream("h264", rate=25, options={"bf": "2"})
    stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 48, "yuv420p", 1
    for i in range(8):
        pixels = np.full((48, 64, 3), 20 * i, np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    out.mux(stream.encode())


def frames(flush_by_none):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        found = []
        for packet in container.demux(stream):
            last = packet.size == 0
            found += stream.decode(None if last and flush_by_none else packet)
    return found


right, none = frames(False), frames(True)
show = lambda found: " ".join(f"{frame.time:.2f}" for frame in found)
same = [frame.pts for frame in right] == [frame.pts for frame in none]
codec = ".".join(map(str, av.library_versions["libavcodec"]))
print(f"PyAV {av.__version__}, libavcodec {codec}, 8 frames of h264 at 25 per second. Flushed by the empty "
      f"packet: {show(right)}; by None: {show(none)}, time_base of the last {none[-1].time_base}, "
      f"pts the same: {same}")
rising = all(abs(frame.time - i / 25) < 1e-6 for i, frame in enumerate(right))
sys.exit(not (rising and same and len(none) == 8 and math.isnan(none[-1].time)))
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/flush.py" "$folder/clip.mp4"
