#!/usr/bin/env bash
# Guess, written down first: when three other programs keep both cores busy, a forward pass of a small network
# on two threads takes about three times as long: it gets its share of the cores.
# Found: it can take a hundred times as long (not always: when the scheduler happens to run both threads at
# the same time, all is well). torch's wheel for Linux brings GNU's OpenMP library, whose threads wait for one
# another by spinning: at each of the many short parallel regions of a pass one thread burns the time slice
# that the other waits for. With OMP_WAIT_POLICY=passive, set before torch is imported, they sleep instead, and
# the pass takes what was guessed.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6
cat > "$folder/forward.py" <<'PY'
import statistics
import time

import torch

torch.set_num_threads(2)
layers = [torch.nn.Conv2d(32, 32, 3, padding=1) if i % 2 else torch.nn.GroupNorm(8, 32) for i in range(40)]
net = torch.nn.Sequential(*layers).eval()
x = torch.randn(8, 32, 16, 16)
times = []
with torch.inference_mode():
    net(x)
    end = time.perf_counter() + 4
    while time.perf_counter() < end:
        started = time.perf_counter()
        net(x)
        times.append(time.perf_counter() - started)
print(1e3 * statistics.median(times))
PY
cores=$(python3 -c 'import os; print(",".join(map(str, sorted(os.sched_getaffinity(0))[:2])))')
forward() { taskset -c "$cores" env "$@" "$folder/venv/bin/python" "$folder/forward.py"; }
spinning= passive=
alone=$(forward -u OMP_WAIT_POLICY)
for _ in 1 2 3; do taskset -c "$cores" python3 -c 'while True: pass' & done
for _ in 1 2 3 4 5; do
  spinning+=" $(forward -u OMP_WAIT_POLICY)"
  passive+=" $(forward OMP_WAIT_POLICY=passive)"
done
python3 - "$alone" "$spinning" "$passive" <<'PY'
import sys

alone, spinning, passive = (list(map(float, text.split())) for text in sys.argv[1:])
show = lambda times: ", ".join(f"{t / alone[0]:.0f}" for t in sorted(times))
print(f"torch 2.13.0, two threads on two cores, median of a forward pass alone: {alone[0]:.1f} ms. Beside three busy "
      f"programs, times as long, five tries: {show(spinning)}; with OMP_WAIT_POLICY=passive: {show(passive)}")
sys.exit(not max(spinning) > 5 * max(passive))
PY
