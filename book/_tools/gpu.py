"""Everything that wants a GPU, in one run of at most ten minutes: speed, memory, the checkpoints.

    python book/_tools/gpu.py [--out FOLDER] [--seconds 500] [--small]

Prints, and writes to FOLDER/gpu.txt: the trainer beside the same steps in float32, not compiled and not
captured; whether its loss follows theirs; peak memory and clips per second of every recipe; then trains
digits32, digits32_fixed and digits64x2 in turn, by its recipe, each for its share of the seconds,
and evaluates it. Saved on the way: a run that is cut off goes on from FOLDER. --small: a few tiny steps of
each, to try it where there is no GPU.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.evaluation.evaluate import evaluate, report
from vdiff_lite.training.compute import Compute
from vdiff_lite.training.recipe import load_recipe
from vdiff_lite.training.run import run_recipe

SHARES = dict(digits32=0.3, digits32_fixed=0.2, digits64x2=0.5)  # of the seconds that are left for training
EAGER = Compute("float32", False)


def trainer(name, device, compute, small, **settings):
    recipe = load_recipe(name)
    config = replace(recipe.stages[0], **settings, **dict(batch=2, frames=4) if small else {})
    network = vd.VideoUNetConfig.preset(recipe.network)
    torch.manual_seed(0)
    data = vd.BouncingDigits(size=network.size, **recipe.data)
    schedule = vd.NoiseSchedule(**recipe.schedule)
    return vd.Trainer(vd.VideoUNet(network), schedule, data, config, device, compute)


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def speed(run, device, steps):
    """Seconds of a step, and peak memory in GiB, after the steps that compile and capture."""
    for _ in range(5):
        run.train_step()
    wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for _ in range(steps):
        run.train_step()
    wait(device)
    seconds = (time.perf_counter() - started) / steps
    return seconds, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")


def speeds(device, small):
    """Each recipe by the trainer as it is, and without bfloat16, compilation and capture."""
    rows = {}
    for name in SHARES:
        for label, compute in (("as it is", None), ("float32, eager", EAGER)):
            run = trainer(name, device, compute, small)
            if label != "as it is":
                run.run_update = run.update
            seconds, peak = speed(run, device, 2 if small else 20)
            rows[name, label] = {"ms a step": 1e3 * seconds, "clips/s": run.config.batch / seconds,
                                 "peak GiB": peak}
            del run
    return pd.DataFrame(rows).T.round(1)


def curves(device, small):
    """Mean losses of the same steps, as it is and in float32: the same curve up to noise."""
    steps = 6 if small else 300
    settings = dict(steps=steps, decay=steps // 2, warmup=min(50, steps))
    runs = {label: trainer("digits32", device, compute, small, **settings)
            for label, compute in (("as it is", None), ("float32, eager", EAGER))}
    for run in runs.values():
        list(run.run(bar=False))
    size = steps // 6
    return pd.DataFrame({label: [sum(run.losses[i:i + size]) / size for i in range(0, steps, size)]
                         for label, run in runs.items()}, index=range(size, steps + 1, size)).round(4)


def train(name, folder, device, seconds, small):
    """A checkpoint by its recipe, with as many steps as fit into the seconds."""
    recipe = load_recipe(name)
    stage = recipe.stages[0]
    per_step, _ = speed(trainer(name, device, None, small), device, 2 if small else 10)
    steps = 4 if small else max(200, int(seconds / per_step))
    scale = steps / stage.steps
    stage = replace(stage, steps=steps, decay=int(stage.decay * scale), warmup=min(stage.warmup, steps // 2),
                    **dict(batch=2, frames=4) if small else {})
    return run_recipe(replace(recipe, stages=(stage,)), folder / name, device=device)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("data/checkpoints/gpu"))
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--small", action="store_true")
    out, seconds, small = vars(parser.parse_args()).values()
    started, device = time.perf_counter(), vd.pick_device()
    out.mkdir(parents=True, exist_ok=True)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    parts = [f"{where}, torch {torch.__version__}"]

    def say(title, table):
        parts.append(f"{title}\n{table if isinstance(table, str) else table.to_string()}")
        print("\n" + parts[-1], flush=True)
        (out / "gpu.txt").write_text("\n\n".join(parts) + "\n")

    say("speed and memory of the recipes", speeds(device, small))
    say("mean loss up to a step", curves(device, small))
    left = seconds - (time.perf_counter() - started)
    for name, share in SHARES.items():
        path = train(name, out, device, share * left, small)
        result = evaluate(checkpoint.load(path, device), 2 if small else 64, 2 if small else 25)
        say(f"{name}, {time.perf_counter() - started:.0f} s after the start", report(result))


if __name__ == "__main__":
    main()
