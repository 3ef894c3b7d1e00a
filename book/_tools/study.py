"""Run the study that chapters 7 to 10 read: every table in data/results that begins with compare_, and costs.csv.

    python book/_tools/study.py [--small]        goes on where it was cut off; --small: fewer and shorter clips, a quarter of an hour
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

from vdiff_lite import checkpoint, cli
from vdiff_lite.comparison import start_table

OUTPUTS = "injection:sites=encoder+middle+decoder,append=False,source=same"
MAIN = ["independent", "copy_last", "replacement", "reconstruction:weight=10", "history_cfg", "history_cfg:weight=1.5",
        "fractional_history:weight=1.5,level=500", "anchored_history", "injection", "injection:sites=temporal", OUTPUTS]
BY_STEPS = ["replacement", "reconstruction:weight=10", "history_cfg", "history_cfg:weight=1.5", "anchored_history", "injection"]
LONG = ["copy_last", "independent", "replacement", "reconstruction:weight=10", "history_cfg", "history_cfg:weight=1.5", "anchored_history",
        "injection"]
LONGEST = ["history_cfg", "history_cfg:weight=1.5", "anchored_history", "injection"]
ANCESTRAL = ["history_cfg", "history_cfg:weight=1.5", "injection:share=0.8"]  # injected at 800 of the 1000 steps
TUNING = {
    "history": [f"history_cfg:weight={w}" for w in (0.5, 1, 1.25, 1.5, 2, 3)],
    "reconstruction": [f"reconstruction:weight={w}" for w in (1, 3, 10, 20, 40, 80)],
    "injection": ["injection", "injection:share=0.8", "injection:share=0.6", "injection:sites=temporal", "injection:sites=joint",
                  "injection:source=same"],
}


def run(name, methods, *options):
    print(f"== compare_{name}")
    assert cli.main(["compare", "--methods", *methods, "--out", f"data/results/compare_{name}.csv", *map(str, options)]) == 0


COST = """
import json, sys, torch
import vdiff_lite as vd
from vdiff_lite.comparison import extend

def peak(name):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name))

text, denoiser = sys.argv[1], vd.load("digits32")
past = vd.BouncingDigits(split="test", num_frames=5).sample(4, torch.Generator().manual_seed(0)).video
extend(denoiser, "copy_last", past, 11, steps=1)
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = peak("VmRSS")
cost = min((extend(denoiser, text, past, 11, steps=10)[1] for _ in range(3)), key=lambda cost: cost["seconds"])
print(json.dumps(cost | dict(memory=peak("VmHWM") - before)))
"""


def costs(methods):
    """Passes and seconds per new frame, and peak memory in MB over that of the loaded network: four clips, a fresh process for each method."""
    print("== costs")
    path = Path("data/results/costs.csv")
    start_table(path, dict(command="python book/_tools/study.py", sha256=checkpoint.read_card("digits32")["sha256"]))
    with open(path, "a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for text in methods:
            cost = json.loads(subprocess.run([sys.executable, "-c", COST, text], capture_output=True, text=True, check=True).stdout)
            table.writerows((*text.partition(":")[::2], 0, "", "", metric, f"{value:.4g}") for metric, value in cost.items())
            print(text, cost)


def main(small):
    for name, methods in TUNING.items() if not small else ():
        run(f"tune_{name}", methods, "--split", "train")
    run("main", MAIN, "--clips", 16 if small else 64, "--seeds", 1 if small else 5)
    costs(MAIN)
    for steps in (6, 12, 50):
        run(f"steps_{steps}", BY_STEPS, "--clips", 16 if small else 64, "--steps", steps)
    run("long", LONG, "--clips", 8 if small else 64, "--frames", 66 if small else 200, "--steps", 10 if small else 12)
    if not small:
        run("longest", LONGEST, "--clips", 16, "--frames", 1000, "--steps", 12)
        run("ddpm", ANCESTRAL, "--clips", 16, "--sampler", "ddpm", "--steps", 1000)


if __name__ == "__main__":
    main("--small" in sys.argv)
