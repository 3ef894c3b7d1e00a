"""Run the study that chapters 7 to 10 read: every table in data/results that begins with compare_.

    python book/_tools/study.py [--small]        goes on where it was cut off; --small: fewer seeds and clips, an hour of one core
"""

import sys

from vdiff_lite import cli

GUIDED = "reconstruction:weight=10"
OUTPUTS = "injection:sites=encoder+middle+decoder,prepend=False,source=same"
MAIN = ["independent", "copy_last", "replacement", GUIDED, "history_guidance", "history_guidance:weight=1.5",
        "fractional_history_guidance:weight=1.5,level=500", "anchored_history", "injection", "injection:sites=temporal",
        "injection:sites=temporal+motion", OUTPUTS, "history_encoder:encoder=digits32_5_8"]
TUNED = ["history_guidance:weight=2", "reconstruction:weight=40"]  # best by their mean on the tuning split
REPEATED = f"{GUIDED},repeats=3"  # what helps reconstruction guidance, at three times the passes
BY_STEPS = ["replacement", GUIDED, REPEATED, "history_guidance", "history_guidance:weight=1.5", "anchored_history", "injection"]
LONG = ["copy_last", "independent", "replacement", GUIDED, "history_guidance", "history_guidance:weight=1.5", "anchored_history",
        "injection", REPEATED]
FINE = ["anchored_history"]  # with as many steps as the main table
CROWD = ["copy_last", "independent", "history_guidance", "injection", "history_guidance:weight=1.5", "anchored_history", "replacement", GUIDED, OUTPUTS,
         "history_encoder:encoder=digits32_5_8", REPEATED]  # of which the Frechet distance is taken
CROWD_LONG = ["copy_last", "history_guidance", "anchored_history", "history_guidance:weight=1.5", "replacement"]
LONGEST = ["history_guidance", "anchored_history"]
ANCESTRAL = ["history_guidance", "history_guidance:weight=1.5", "injection:fraction=0.8"]  # injected at 800 of the 1000 steps
TEN = ("--window", 15, "--frames", 10)
WEIGHTS = [f"history_guidance:weight={w}" for w in (0, 0.5, 1, 1.5, 2, 3, 4, 8)]  # what the weight does
WEIGHTS_OF_ONE = [f"history_guidance:weight={w}" for w in (1, 2, 4, 8)]  # with one frame given
FORMS = ["history_guidance", *(f"history_encoder:encoder=digits32_{{num_context}}_{size}{guided}" for size in (8, 64) for guided in ("", ",weight=2"))]
TUNING = {
    "history": [f"history_guidance:weight={w}" for w in (0.5, 1, 1.25, 1.5, 2, 3)],
    "reconstruction": [f"reconstruction:weight={w}" for w in (1, 3, 10, 20, 40, 80)],
    "injection": ["injection", "injection:fraction=0.8", "injection:fraction=0.6", "injection:sites=temporal", "injection:sites=joint",
                  "injection:source=same"],
}
NORMS = [GUIDED, *(f"reconstruction:norm=root,weight={w}" for w in (10, 40, 160)),
         *(f"reconstruction:norm=pigdm,weight={w}" for w in (0.1, 0.3, 1))]
HELP = [f"{GUIDED},{more}" for more in ("replace=False", "start=900", "start=600", "start=300", "repeats=1", "repeats=3", "repeats=10")]
SEEDS = ["replacement", GUIDED, "reconstruction:weight=40", f"{GUIDED},start=600", REPEATED, "history_guidance"]
SITES = ["independent", "replacement", "injection:sites=encoder,prepend=False,source=same", "injection:sites=decoder,prepend=False,source=same",
         OUTPUTS, "injection:sites=encoder+middle+decoder,prepend=False", "injection:prepend=False,source=same", "injection:source=same",
         "injection:sites=temporal", "injection:sites=joint", "injection:sites=motion", "injection:sites=temporal+motion", "injection"]
BLENDS = [f"injection:prepend=False,blend={lam}" for lam in (0.25, 0.5, 0.75, 1)]
SHARES = [f"injection:fraction={share}" for share in (0, 0.2, 0.4, 0.6, 0.8)]


def run(name, methods, *options):
    print(f"== compare_{name}")
    assert cli.main(["compare", "--methods", *methods, "--out", f"data/results/compare_{name}.csv", *map(str, options)]) == 0


def main(small):
    if not small:
        for name, methods in TUNING.items():
            run(f"tune_{name}", methods, "--split", "train")
        run("norms", [*NORMS, *HELP, "replacement", "replacement:repeats=3"], "--clips", 32, "--split", "train")
        run("repeats", [f"{GUIDED},repeats=10"], "--clips", 64, "--seeds", 5)  # as the main table
        run("seeds", SEEDS, "--clips", 16, "--seeds", 8, "--details")
        run("weights", WEIGHTS, "--clips", 64, "--details")
        run("weights_1", WEIGHTS_OF_ONE, "--clips", 64, "--overlap", 1, "--frames", 15, "--details")
        for num_context in (1, 5, 10):  # the past in the window, and squeezed to numbers
            run(f"past_{num_context}", [text.format(num_context=num_context) for text in FORMS], "--overlap", num_context, "--window", num_context + 11, "--clips", 64)
        run("sites", SITES + BLENDS + SHARES, "--clips", 32, "--details")
    run("main", [*MAIN, *TUNED, REPEATED], "--clips", 64, "--seeds", 1 if small else 5)
    run("costs", MAIN, "--clips", 4, "--seeds", 3, "--steps", 10, "--memory")
    for steps in (6, 12, 25, 50):
        run(f"steps_{steps}", BY_STEPS, "--clips", 16 if small else 64, "--steps", steps)
    run("long", LONG, "--clips", 16 if small else 64, "--frames", 200, "--steps", 12)
    if not small:
        run("long_ten", [f"{GUIDED},repeats=10"], "--clips", 16, "--frames", 200, "--steps", 12)  # the first 16 of those clips
        run("long_25", FINE, "--clips", 64, "--seeds", 2, "--frames", 200, "--steps", 25)
        run("crowd", CROWD, "--clips", 128, "--features")
        run("crowd_long", CROWD_LONG, "--clips", 64, "--frames", 200, "--steps", 12, "--features")
        run("longest", LONGEST, "--clips", 16, "--frames", 1000, "--steps", 12)
        # The reference setting: ten new frames, five of overlap; and the same with few steps.
        run("reference", ANCESTRAL, *TEN, "--clips", 16, "--sampler", "ddpm", "--steps", 1000)
        run("reference_25", [*ANCESTRAL, "injection"], *TEN, "--clips", 16)


if __name__ == "__main__":
    main("--small" in sys.argv)
