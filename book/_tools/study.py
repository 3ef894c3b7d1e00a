"""Run the study that chapters 7 to 10 read: every table in data/results that begins with compare_.

    python book/_tools/study.py [--small]

Resumes where it was cut off. --small: fewer seeds and clips, an hour of one core.
"""

import sys

from vdiff_lite import cli

WINDOW, GUIDED = "history_guidance", "history_guidance:weight=1.5"
RECONSTRUCTION = "reconstruction:weight=10"
REPEATED = f"{RECONSTRUCTION},repeats=3"  # what helps reconstruction guidance, at three times the NFE
ENCODER = "history_encoder:encoder=digits32_5_8"
OUTPUTS = "injection:sites=encoder+middle+decoder,prepend=False,source=same"
MAIN = ["independent", "copy_last", "replacement", RECONSTRUCTION, WINDOW, GUIDED,
        "fractional_history_guidance:weight=1.5,level=500", "anchored_history", "injection",
        "injection:sites=temporal", "injection:sites=temporal+motion", OUTPUTS, ENCODER]
TUNED = ["history_guidance:weight=2", "reconstruction:weight=40"]  # best by their mean on the tuning split
BY_STEPS = ["replacement", RECONSTRUCTION, REPEATED, WINDOW, GUIDED, "anchored_history", "injection"]
LONG = ["copy_last", "independent", "replacement", RECONSTRUCTION, WINDOW, GUIDED, "anchored_history",
        "injection", REPEATED]
DISTRIBUTION = ["copy_last", "independent", WINDOW, "injection", GUIDED, "anchored_history", "replacement",
                RECONSTRUCTION, OUTPUTS, ENCODER, REPEATED]  # of which the Frechet distance is taken
DISTRIBUTION_LONG = ["copy_last", WINDOW, "anchored_history", GUIDED, "replacement"]
ANCESTRAL = [WINDOW, GUIDED, "injection:fraction=0.8"]  # injected at 800 of the 1000 steps
TEN_FRAMES = ("--window", 15, "--frames", 10)
WEIGHTS = [f"history_guidance:weight={w}" for w in (0, 0.5, 1, 1.5, 2, 3, 4, 8)]
WEIGHTS_OF_ONE = [f"history_guidance:weight={w}" for w in (1, 2, 4, 8)]  # with one context frame
FORMS = [WINDOW, *(f"history_encoder:encoder=digits32_{{num_context}}_{size}{weight}"
                   for size in (8, 64) for weight in ("", ",weight=2"))]
TUNING = {
    "history": [f"history_guidance:weight={w}" for w in (0.5, 1, 1.25, 1.5, 2, 3)],
    "reconstruction": [f"reconstruction:weight={w}" for w in (1, 3, 10, 20, 40, 80)],
    "injection": ["injection", "injection:fraction=0.8", "injection:fraction=0.6", "injection:sites=temporal",
                  "injection:sites=joint", "injection:source=same"],
}
NORMS = [RECONSTRUCTION, *(f"reconstruction:norm=root,weight={w}" for w in (10, 40, 160)),
         *(f"reconstruction:norm=pigdm,weight={w}" for w in (0.1, 0.3, 1))]
VARIANTS = [f"{RECONSTRUCTION},{setting}" for setting in (
    "replace=False", "start=900", "start=600", "start=300", "repeats=1", "repeats=3", "repeats=10")]
SEEDS = ["replacement", RECONSTRUCTION, "reconstruction:weight=40", f"{RECONSTRUCTION},start=600", REPEATED,
         WINDOW]
SITES = ["independent", "replacement", "injection:sites=encoder,prepend=False,source=same",
         "injection:sites=decoder,prepend=False,source=same", OUTPUTS,
         "injection:sites=encoder+middle+decoder,prepend=False", "injection:prepend=False,source=same",
         "injection:source=same", "injection:sites=temporal", "injection:sites=joint",
         "injection:sites=motion", "injection:sites=temporal+motion", "injection"]
BLENDS = [f"injection:prepend=False,blend={blend}" for blend in (0.25, 0.5, 0.75, 1)]
FRACTIONS = [f"injection:fraction={fraction}" for fraction in (0, 0.2, 0.4, 0.6, 0.8)]


def run(name, methods, *options):
    print(f"== compare_{name}")
    out = f"data/results/compare_{name}.csv.gz"
    assert cli.main(["compare", "--methods", *methods, "--out", out, *map(str, options)]) == 0


def main(small):
    if not small:
        for name, methods in TUNING.items():
            run(f"tune_{name}", methods, "--split", "train")
        methods = [*NORMS, *VARIANTS, "replacement", "replacement:repeats=3"]
        run("norms", methods, "--clips", 32, "--split", "train")
        run("repeats", [f"{RECONSTRUCTION},repeats=10"], "--clips", 64, "--seeds", 5)  # as the main table
        run("seeds", SEEDS, "--clips", 16, "--seeds", 8, "--details")
        run("weights", WEIGHTS, "--clips", 64, "--details")
        run("weights_1", WEIGHTS_OF_ONE, "--clips", 64, "--overlap", 1, "--frames", 15, "--details")
        for k in (1, 5, 10):  # context frames: in the window, and as an embedding
            methods = [text.format(num_context=k) for text in FORMS]
            run(f"past_{k}", methods, "--overlap", k, "--window", k + 11, "--clips", 64)
        run("sites", SITES + BLENDS + FRACTIONS, "--clips", 32, "--details")
    run("main", [*MAIN, *TUNED, REPEATED], "--clips", 64, "--seeds", 1 if small else 5)
    run("costs", MAIN, "--clips", 4, "--seeds", 3, "--steps", 10, "--memory")
    for steps in (6, 12, 25, 50):
        run(f"steps_{steps}", BY_STEPS, "--clips", 16 if small else 64, "--steps", steps)
    run("long", LONG, "--clips", 16 if small else 64, "--frames", 200, "--steps", 12)
    if not small:
        # The first 16 of those clips; and with as many steps as the main table.
        run("long_ten", [f"{RECONSTRUCTION},repeats=10"], "--clips", 16, "--frames", 200, "--steps", 12)
        run("long_25", ["anchored_history"], "--clips", 64, "--seeds", 2, "--frames", 200, "--steps", 25)
        run("distribution", DISTRIBUTION, "--clips", 128, "--features")
        run("distribution_long", DISTRIBUTION_LONG, "--clips", 64, "--frames", 200, "--steps", 12,
            "--features")
        run("longest", [WINDOW, "anchored_history"], "--clips", 16, "--frames", 1000, "--steps", 12)
        # The reference setting: ten new frames, five of overlap; and the same with few steps.
        run("reference", ANCESTRAL, *TEN_FRAMES, "--clips", 16, "--sampler", "ddpm", "--steps", 1000)
        run("reference_25", [*ANCESTRAL, "injection"], *TEN_FRAMES, "--clips", 16)


if __name__ == "__main__":
    main("--small" in sys.argv)
