"""How long do recipes take here? Writes data/results/recipe_cpu.txt, or recipe_cuda.txt.

    python book/_tools/recipe_time.py            (a few minutes on two cores)

A few steps of each part of a recipe are timed, and multiplied. On a CPU that is CPU time per thread: elapsed
time where nothing else runs. Other programs add less to it than to elapsed time.
"""

import argparse
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
ON_CPU = ("tiny", "digits32", "digits32_fixed")  # digits64x2 takes more memory than most computers have


def minutes(recipe, config, device, steps):
    """Minutes that a stage takes here."""
    network = vd.VideoUNetConfig.preset(recipe.network)
    data = vd.BouncingDigits(size=network.size, **recipe.data)
    seconds = 0
    for short, count in ((True, config.short_steps), (False, config.steps - config.short_steps)):
        if count:
            part = replace(config, short_steps=config.steps * short)
            schedule = vd.NoiseSchedule(**recipe.schedule)
            trainer = vd.Trainer(vd.VideoUNet(network), schedule, data, part, device)
            seconds += count * seconds_of(trainer.train_step, steps, device)
    return seconds / 60


def seconds_of(work, times, device):
    """Seconds that one call takes, over some calls, when it has been called some times before."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else lambda: time.process_time() / torch.get_num_threads()
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    for _ in range(10 if on_gpu else 1):  # a GPU compiles first
        work()
    wait()
    started = clock()
    for _ in range(times):
        work()
    wait()
    return (clock() - started) / times


def peak(device):
    """GB of memory that were needed so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # in kB, on Linux


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", help=f"on a CPU {', '.join(ON_CPU)}; on a GPU digits64x2 too")
    parser.add_argument("--steps", type=int, help="how many steps of each part are timed; 3, on a GPU 200")
    args, device = parser.parse_args(), vd.pick_device()
    vd.prepare_cpu()
    on_gpu = device.type == "cuda"
    steps = args.steps or (200 if on_gpu else 3)
    cpu = (f"CPU time per thread, threads: {torch.get_num_threads()}, other programs that ran as well: "
           f"{os.getloadavg()[0]:.0f}")
    machine = torch.cuda.get_device_name() if on_gpu else cpu
    lines = [f"{machine}, torch {torch.__version__}; {steps} steps of each part timed, and multiplied",
             f"{'recipe':16}{'minutes':>9}{'peak memory (GB)':>18}"]
    for name in args.recipes or (*ON_CPU, *["digits64x2"] * on_gpu):
        recipe = load_recipe(name)
        took = sum(minutes(recipe, config, device, steps) for config in recipe.stages)
        lines.append(f"{name:16}{took:9.0f}{peak(device):18.1f}")
        print("\n".join(lines), flush=True)
    (ROOT / "data" / "results" / f"recipe_{device.type}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
