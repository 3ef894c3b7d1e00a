"""Run the study that chapters 7 to 10 read: every table in data/results that begins with compare_.

    python book/_tools/study.py

Resumes where it was cut off. The encoders of chapter 7 come first (book/_tools/histories.py).
"""

from vdiff_lite import cli

WINDOW, GUIDED = "history_guidance", "history_guidance:weight=1.5"
RECONSTRUCTION = "reconstruction:weight=10"
ENCODER = "history_encoder:encoder=digits32_5_8"
OUTPUTS = "injection:sites=encoder+middle+decoder,prepend=False,source=same"
MAIN = ["independent", "copy_last", "replacement", RECONSTRUCTION, WINDOW, GUIDED,
        "fractional_history_guidance:weight=1.5,level=500", "anchored_history", "injection",
        "injection:sites=temporal", OUTPUTS, ENCODER]
# On the network that never saw a past.
FIXED = ["independent", "copy_last", "replacement", RECONSTRUCTION, "reconstruction:weight=20", WINDOW,
         "injection", "injection:source=same", "injection:sites=input,prepend=False,source=same", OUTPUTS,
         "injection:prepend=False,source=same"]
BY_STEPS = ["replacement", RECONSTRUCTION, WINDOW, GUIDED, "anchored_history", "injection"]
LONG = ["copy_last", "independent", "replacement", RECONSTRUCTION, WINDOW, GUIDED, "anchored_history",
        "injection"]
WEIGHTS = [f"history_guidance:weight={w}" for w in (0, 0.5, 1, 1.5, 2, 3, 4, 8)]
ENCODERS = {5: (8, 64), 10: (64,)}  # context frames: sizes of the embedding
TUNING = {
    "history": [f"history_guidance:weight={w}" for w in (0.5, 1, 1.25, 1.5, 2, 3)],
    "reconstruction": [f"reconstruction:weight={w}" for w in (1, 3, 10, 20, 40, 80)],
    "injection": ["injection", "injection:fraction=0.8", "injection:fraction=0.6", "injection:sites=temporal",
                  "injection:sites=joint", "injection:source=same"],
}
SITES = ["independent", "replacement", "injection:sites=encoder,prepend=False,source=same",
         "injection:sites=decoder,prepend=False,source=same", OUTPUTS,
         "injection:sites=encoder+middle+decoder,prepend=False", "injection:prepend=False,source=same",
         "injection:source=same", "injection:sites=temporal", "injection:sites=joint", "injection"]
BLENDS = [f"injection:prepend=False,blend={blend}" for blend in (0.25, 0.5, 0.75, 1)]
FRACTIONS = [f"injection:fraction={fraction}" for fraction in (0, 0.2, 0.4, 0.6, 0.8)]


def run(name, methods, *options):
    print(f"== compare_{name}")
    out = f"data/results/compare_{name}.csv.gz"
    assert cli.main(["compare", "--methods", *methods, "--out", out, *map(str, options)]) == 0


def main():
    for name, methods in TUNING.items():
        run(f"tune_{name}", methods, "--split", "train", "--clips", 32 if name == "history" else 16)
    run("main", MAIN, "--clips", 32, "--features")
    run("fixed", FIXED, "--clips", 32, "--checkpoint", "digits32_fixed")
    run("weights", WEIGHTS, "--clips", 16, "--details")
    for k, sizes in ENCODERS.items():  # the past in the window, and as an embedding
        encoders = [f"history_encoder:encoder=digits32_{k}_{size}{weight}"
                    for size in sizes for weight in ("", ",weight=2")]
        run(f"past_{k}", [WINDOW, *encoders], "--overlap", k, "--window", k + 11, "--clips", 16)
    run("sites", SITES + BLENDS + FRACTIONS, "--clips", 16, "--details")
    run("costs", MAIN, "--clips", 4, "--seeds", 3, "--steps", 10, "--memory")
    for steps in (6, 12, 25, 50):
        run(f"steps_{steps}", BY_STEPS, "--clips", 16, "--steps", steps)
    run("long", LONG, "--clips", 16, "--frames", 200, "--steps", 12, "--features")


if __name__ == "__main__":
    main()
