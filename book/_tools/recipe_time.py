"""How long do `make train` and `make beginner` take on this machine? Writes data/results/recipe_cpu.txt (or recipe_cuda.txt).

    python book/_tools/recipe_time.py            (some minutes on two cores)

The commands are those of the Makefile. The speed of each of their parts is measured, over some steps, and multiplied.
"""

import argparse
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite import cli
from vdiff_lite.models.video_unet import VideoUNet
from vdiff_lite.training import foresight
from vdiff_lite.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]


def recipes():
    """What `make train beginner` would run: a dict from the name of a checkpoint to its TrainConfig."""
    said = subprocess.run(["make", "-n", "train", "beginner"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = [shlex.split(line)[1:] for line in said.replace("\\\n", " ").splitlines() if " train --out" in line]
    parsed = [cli._parser().parse_args(command) for command in commands]
    return {Path(args.out).name: cli._recipe(args) for args in parsed}


def minutes(config, device, steps):
    """Parts of a recipe, by name: minutes they take here."""
    net, schedule, data = VideoUNet(), vd.NoiseSchedule(), vd.BouncingDigits()
    net.load_state_dict(vd.load("digits32").net.state_dict())
    parts = {}
    if config.foresight:  # as in `vdiff train`: on the CPU, before the network moves to the device
        parts["foresight before"] = lessons(net, schedule, data, config.foresight, steps)
    net.to(device)
    for name, first, last in (("short clips", 0, config.short_steps), ("steps", config.short_steps, config.steps)):
        if last > first:
            trainer = Trainer(net, schedule, data, replace(config, short_steps=config.steps * (name == "short clips")), device)
            parts[name] = (last - first) * each(trainer.train_step, steps)
    if config.foresight_after:
        clips = foresight.clips_to_watch(config.foresight_after)
        watch = each(lambda: foresight.watch(net, schedule, data, clips=16, bar=False), max(4, steps // 10))
        parts["foresight after"] = clips / 16 * watch + sum(lessons(net, schedule, data, course, steps) for course in config.foresight_after)
    return {name: seconds / 60 for name, seconds in parts.items()}


def lessons(net, schedule, data, course, steps):
    """Seconds that a course of foresight takes: drawing its trajectories, 64 batches of them, and its steps."""
    course_of = lambda n: each(lambda: foresight.teach(net, schedule, data, n, bar=False), 1, warm_up=0)
    few, more = course_of(64), course_of(64 + steps)
    return few + (course - 64) * (more - few) / steps


def each(work, times, warm_up=8):
    """Seconds that one call takes, over some calls."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(warm_up):
        work()
    wait()
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - began) / times


def main():
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--steps", type=int, default=60, help="how many steps of each part are timed")
    steps, device = told.parse_args().steps, vd.pick_device()
    vd.prepare_cpu()
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads of a CPU"
    lines = [f"{where}, torch {torch.__version__}; {steps} steps of each part timed, and multiplied", f"{'':36}minutes"]
    for name, config in recipes().items():
        parts = minutes(config, device, steps)
        lines += [f"{name:16}{part:18}{value:8.1f}" for part, value in parts.items()] + [f"{name:16}{'together':18}{sum(parts.values()):8.1f}"]
    text = "\n".join(lines)
    print(text)
    (ROOT / "data" / "results" / f"recipe_{device.type}.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
