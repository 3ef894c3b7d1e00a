"""Run the study that chapters 7 to 10 read: every table in data/results that begins with compare_.

    python book/_tools/study.py [--small]        goes on where it was cut off; --small: fewer clips and no tuning, fifteen minutes
"""

import sys

from vdiff_lite import cli

OUTPUTS = "injection:sites=encoder+middle+decoder,append=False,source=same"
MAIN = ["independent", "copy_last", "replacement", "reconstruction:weight=10", "history_cfg", "history_cfg:weight=1.5",
        "fractional_history:weight=1.5,level=500", "injection", "injection:sites=temporal", OUTPUTS]
LONG = ["copy_last", "independent", "replacement", "reconstruction:weight=10", "history_cfg:weight=1.5", "injection"]
TUNING = {
    "history": [f"history_cfg:weight={w}" for w in (0.5, 1, 1.25, 1.5, 2, 3)],
    "reconstruction": [f"reconstruction:weight={w}" for w in (1, 3, 10, 20, 40, 80)],
    "injection": ["injection", "injection:share=0.8", "injection:share=0.6", "injection:sites=temporal", "injection:sites=joint",
                  "injection:source=same"],
}


def run(name, methods, *options):
    print(f"== compare_{name}")
    assert cli.main(["compare", "--methods", *methods, "--out", f"data/results/compare_{name}.csv", *map(str, options)]) == 0


def main(small):
    for name, methods in TUNING.items() if not small else ():
        run(f"tune_{name}", methods, "--split", "train")
    run("main", MAIN, "--clips", 32 if small else 64, "--seeds", 1 if small else 5)
    run("long", LONG, "--clips", 16 if small else 64, "--frames", 99 if small else 200, "--steps", 15 if small else 25)


if __name__ == "__main__":
    main("--small" in sys.argv)
