#!/usr/bin/env bash
# Guess, written down first: reading frame.side_data of each decoded frame costs some bytes while that frame
# is in use. The frame is freed when the loop takes the next one, so the peak memory of reading a video is
# that of a few frames.
# Found: a hundred frames and more are in memory at once. The first look at the attribute makes an object that
# points to the frame, and the frame keeps that object: a cycle of references, even where a frame has no side
# data. Only Python's garbage collector frees it. That runs by the number of objects, not of bytes, and comes
# by late: a frame is a few objects and, at 720p, more than a megabyte. So this is no leak, but a high peak.
# With gc.collect() at every tenth frame it is that of ten frames. frame.rotation makes no cycle.
# Remedies: read the attribute from one frame of a video only, or collect now and then.
# Output seen: PyAV 18.1.0, Python 3.11.7, 400 frames of 1280x720, 1.3 MiB each. Peak memory of reading them,
# MiB above that of opening the file: 2 without side_data; 2 with frame.rotation; 291 with side_data; 14 with
# side_data and gc.collect() at every tenth frame. With side_data, of 100 frames: 135. Only the collector
# frees a frame: True
# Needs Linux (/proc) and Python 3.11 or later, as PyAV does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/write.py" <<'PY'
import sys

import av
import numpy as np

with av.open(sys.argv[1], "w") as out:
    stream = out.add_stream("h264", rate=25, options={"bf": "0", "preset": "ultrafast"})
    stream.width, stream.height, stream.pix_fmt, stream.thread_count = 1280, 720, "yuv420p", 1
    for i in range(400):
        pixels = np.full((720, 1280, 3), i % 200, np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    out.mux(stream.encode())
PY
cat > "$folder/peak.py" <<'PY'
import gc
import re
import sys

import av

path, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
peak = lambda: int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) / 1024
with av.open(path) as container:
    stream = container.streams.video[0]
    stream.thread_count = 1
    before = peak()
    for i, frame in zip(range(count), container.decode(stream)):
        if "rotation" in mode:
            frame.rotation
        if "side_data" in mode:
            frame.side_data
        if "collect" in mode and i % 10 == 0:
            gc.collect()
print(peak() - before)
PY
cat > "$folder/cycle.py" <<'PY'
import gc

import av

alive = lambda: sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
gc.disable()
frame = av.VideoFrame(64, 48, "yuv420p")
del frame
plain = alive()
frame = av.VideoFrame(64, 48, "yuv420p")
assert len(frame.side_data) == 0
del frame
kept = alive()
gc.collect()
print(plain == 0 and kept == 1 and alive() == 0)
PY
python=("env" "OMP_NUM_THREADS=1" "$folder/venv/bin/python")
"${python[@]}" "$folder/write.py" "$folder/clip.mp4"
peak() { "${python[@]}" "$folder/peak.py" "$folder/clip.mp4" "$1" "$2"; }
"${python[@]}" - "$(peak plain 400)" "$(peak rotation 400)" "$(peak side_data 400)" \
  "$(peak side_data+collect 400)" "$(peak side_data 100)" "$("${python[@]}" "$folder/cycle.py")" <<'PY'
import platform
import sys

import av

plain, rotation, kept, collected, hundred = map(float, sys.argv[1:6])
size = 1280 * 720 * 1.5 / 2**20
print(f"PyAV {av.__version__}, Python {platform.python_version()}, 400 frames of 1280x720, {size:.1f} MiB "
      f"each. Peak memory of reading them, MiB above that of opening the file: {plain:.0f} without "
      f"side_data; {rotation:.0f} with frame.rotation; {kept:.0f} with side_data; {collected:.0f} with "
      f"side_data and gc.collect() at every tenth frame. With side_data, of 100 frames: {hundred:.0f}. "
      f"Only the collector frees a frame: {sys.argv[6]}")
few = max(plain, rotation, collected)
sys.exit(not (few < 15 * size and kept > 50 * size and sys.argv[6] == "True"))
PY
