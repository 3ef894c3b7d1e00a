"""How long do `make train` and `make first-frame` take here? Writes data/results/recipe_cpu.txt (_cuda.txt).

    python book/_tools/recipe_time.py            (some minutes on two cores)

The recipes are the files that these commands read. The speed of each part is measured, and multiplied.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite.training import foresight
from vdiff_lite.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("digits32", "digits32_begin")


def minutes(recipe, config, device, steps):
    """Parts of a stage, by name: minutes they take here."""
    net = vd.VideoUNet(vd.VideoUNetConfig.preset(recipe.network))
    schedule = vd.NoiseSchedule(**recipe.schedule)
    data = vd.BouncingDigits(size=net.config.size, **recipe.data)
    net.load_state_dict(vd.load("digits32").net.state_dict())
    parts = {}
    if config.foresight:  # as in `vdiff train`: on the CPU, before the network moves to the device
        parts["foresight before"] = foresight_seconds(net, schedule, data, config.foresight, steps)
    net.to(device)
    short = config.short_steps
    for name, count in (("short clips", short), ("steps", config.steps - short)):
        if count:
            part = replace(config, short_steps=config.steps * (name == "short clips"))
            trainer = vd.Trainer(net, schedule, data, part, device)
            parts[name] = count * each(trainer.train_step, steps)
    if config.foresight_after:
        clips = foresight.clips_to_watch(config.foresight_after)
        watch = each(lambda: foresight.watch(net, schedule, data, clips=16, bar=False), max(4, steps // 10))
        after = (foresight_seconds(net, schedule, data, stage, steps) for stage in config.foresight_after)
        parts["foresight after"] = clips / 16 * watch + sum(after)
    return {name: seconds / 60 for name, seconds in parts.items()}


def foresight_seconds(net, schedule, data, stage, steps):
    """Seconds that a stage of foresight takes: drawing 64 batches of trajectories, and its steps."""
    time_of = lambda n: each(lambda: foresight.teach(net, schedule, data, n, bar=False), 1, warm_up=0)
    few, more = time_of(64), time_of(64 + steps)
    return few + (stage - 64) * (more - few) / steps


def each(work, times, warm_up=8):
    """Seconds that one call takes, over some calls."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(warm_up):
        work()
    wait()
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - started) / times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="how many steps of each part are timed")
    steps, device = parser.parse_args().steps, vd.pick_device()
    vd.prepare_cpu()
    cpu = f"{torch.get_num_threads()} threads of a CPU"
    machine = torch.cuda.get_device_name() if device.type == "cuda" else cpu
    lines = [f"{machine}, torch {torch.__version__}; {steps} steps of each part timed, and multiplied"]
    lines += [f"{'':42}minutes"]
    for name in RECIPES:
        recipe = load_recipe(name)
        for number, config in enumerate(recipe.stages, 1):
            parts = minutes(recipe, config, device, steps)
            parts |= dict(together=sum(parts.values()))
            lines += [f"{f'{name} stage {number}':24}{part:17}{value:8.1f}" for part, value in parts.items()]
    text = "\n".join(lines)
    print(text)
    (ROOT / "data" / "results" / f"recipe_{device.type}.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
