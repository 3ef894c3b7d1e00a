"""Run the study that chapters 7 to 10 read: every table in data/results that begins with compare_.

    python book/_tools/study.py

Resumes where it was cut off. Needs the encoders of chapter 7 (book/_tools/histories.py, with and without
--checkpoint digits32_fixed). Networks that are taught pasts are trained into data/checkpoints/retrained.
"""

from pathlib import Path

from vdiff_lite import cli

WINDOW, GUIDED = "history_guidance", "history_guidance:weight=1.5"
RECONSTRUCTION = "reconstruction:weight=10"
ENCODER = "history_encoder:encoder=digits32_5_8"
INPUT = "injection:sites=input,prepend=False,source=same"
OUTPUTS = "injection:sites=encoder+middle+decoder,prepend=False,source=same"
LATE = [f"{OUTPUTS},fraction=0.8", f"{OUTPUTS},fraction=0.8,repeats=10", f"{OUTPUTS},statistics=True"]
MAIN = ["independent", "copy_last", "replacement", RECONSTRUCTION, WINDOW, GUIDED,
        "fractional_history_guidance:weight=1.5,level=500", "anchored_history", "injection",
        "injection:sites=temporal", OUTPUTS, ENCODER]
MORE = ["reconstruction:weight=20", "replacement:repeats=10", "history_encoder:encoder=digits32_5_64",
        "injection:source=same", INPUT, *LATE]
# On the network that never saw a past.
FIXED = ["independent", "copy_last", "replacement", RECONSTRUCTION, "reconstruction:weight=20", WINDOW,
         "injection", "injection:source=same", INPUT, OUTPUTS, GUIDED, "replacement:repeats=10",
         "history_encoder:encoder=digits32_fixed_5_64", *LATE]
TAUGHT = {"taught_1": 145, "taught_5": 726}  # steps of 32 clips: 1% and 5% of what digits32_fixed had
BY_STEPS = ["replacement", RECONSTRUCTION, WINDOW, GUIDED, "anchored_history", "injection"]
LONG = ["copy_last", "independent", "replacement", RECONSTRUCTION, WINDOW, GUIDED, "anchored_history",
        "injection", *(f"history_guidance:level={n}" for n in (10, 20, 50))]
WEIGHTS = [f"history_guidance:weight={w}" for w in (0, 0.5, 1, 1.5, 2, 3, 4, 8)]
ENCODERS = {5: (8, 64), 10: (64,)}  # context frames: sizes of the embedding
TUNING = {
    "history": [f"history_guidance:weight={w}" for w in (0.5, 1, 1.25, 1.5, 2, 3)],
    "reconstruction": [f"reconstruction:weight={w}" for w in (1, 3, 10, 20, 40, 80)],
    "injection": ["injection", "injection:fraction=0.8", "injection:fraction=0.6", "injection:sites=temporal",
                  "injection:sites=joint", "injection:source=same"],
}
# The same number of settings for every method, on the network that never saw a past.
TUNING_FIXED = {
    "history": TUNING["history"],
    "reconstruction": [f"reconstruction:weight={w}" for w in (3, 10, 20, 40, 80, 160)],
    "outputs": [OUTPUTS, *(f"{OUTPUTS},fraction={part}" for part in (0.8, 0.6, 0.4, 0.2)),
                f"{OUTPUTS},blend=0.5"],
    "keys": ["injection", "injection:source=same", "injection:source=same,fraction=0.8",
             "injection:source=same,fraction=0.4", "injection:sites=temporal,source=same",
             "injection:sites=joint,source=same"],
    "stages": [*(f"injection:sites={stage},prepend=False,source=same"
                 for stage in ("encoder", "middle", "decoder")),
               OUTPUTS.replace("same", "fresh"), OUTPUTS.replace(",source=same", ""),
               f"{OUTPUTS},statistics=True"],
    "replacement": ["replacement", *(f"replacement:repeats={n}" for n in (2, 3, 5, 10, 20))],
}
# The setting of the claim: 15 frames of which 5 are given, DDPM of 1,000 steps, injection for 800 of them.
REFERENCE = [f"{OUTPUTS},fraction=0.8", "reconstruction:weight=20", "replacement", WINDOW]
TWO_DIGITS = ["copy_last", "independent", WINDOW, "injection", RECONSTRUCTION, "replacement",
              f"{OUTPUTS},fraction=0.8", GUIDED]
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
    for name, methods in TUNING_FIXED.items():
        run(f"tune_fixed_{name}", methods, "--split", "train", "--clips", 16,
            "--checkpoint", "digits32_fixed")
    run("main", MAIN + MORE, "--clips", 32, "--features")
    run("fixed", FIXED, "--clips", 64, "--checkpoint", "digits32_fixed")
    for name, steps in TAUGHT.items():
        taught = Path("data/checkpoints/retrained") / name
        if not taught.with_suffix(".json").exists():
            assert cli.main(["train", "--recipe", "digits32", "--start-from", "digits32_fixed", "--out",
                             str(taught), "--set", f"steps={steps}", f"decay={steps}", "batch=32",
                             "--samples-every", "0"]) == 0
        run(name, [WINDOW, "injection", "reconstruction:weight=20", "replacement"], "--clips", 32,
            "--checkpoint", taught)
    for network in ("digits32_fixed", "digits32"):
        run(f"reference_{network}", REFERENCE, "--clips", 8, "--features", "--checkpoint", network,
            "--window", 15, "--overlap", 5, "--frames", 10, "--sampler", "ddpm", "--steps", 1000)
    run("two_digits", TWO_DIGITS, "--clips", 16, "--checkpoint", "digits64x2", "--batch", 4)
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
