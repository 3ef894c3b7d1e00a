"""How long do recipes take here? Writes data/results/recipe_cpu.txt, or recipe_cuda.txt.

    python book/_tools/recipe_time.py            (a few minutes on two cores)

Steps of each part of a recipe are timed, and the shortest is multiplied.
"""

import argparse
import resource
import sys
from dataclasses import replace
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite.training.recipe import load_recipe

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from bench import shortest

ROOT = Path(__file__).resolve().parents[2]
ON_CPU = ("tiny", "digits32", "digits32_fixed")  # digits64x2 takes more memory than most computers have


def minutes(recipe, config, device, seconds):
    """Minutes that a stage takes here."""
    network = vd.VideoUNetConfig.preset(recipe.network)
    data = vd.BouncingDigits(size=network.size, **recipe.data)
    took = 0
    for short, count in ((True, config.short_steps), (False, config.steps - config.short_steps)):
        if count:
            part = replace(config, short_steps=config.steps * short)
            schedule = vd.NoiseSchedule(**recipe.schedule)
            trainer = vd.Trainer(vd.VideoUNet(network), schedule, data, part, device)
            took += count * each(trainer.train_step, seconds, device)
    return took / 60


def each(step, seconds, device):
    """Seconds that one step takes: the shortest of as many as take so long, three or more."""
    for _ in range(10 if device.type == "cuda" else 2):  # a GPU compiles first
        step()
    return shortest(step, seconds, device, at_least=3)


def peak(device):
    """GB of memory that were needed so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # in kB, on Linux


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", help=f"on a CPU {', '.join(ON_CPU)}; on a GPU digits64x2 too")
    parser.add_argument("--seconds", type=float, default=15, help="how long the steps of each part are timed")
    args, device = parser.parse_args(), vd.pick_device()
    vd.prepare_cpu()
    on_gpu = device.type == "cuda"
    machine = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads of a CPU"
    lines = [f"{machine}, torch {torch.__version__}; the shortest step of {args.seconds:.0f} s, multiplied",
             f"{'recipe':16}{'minutes':>9}{'peak memory (GB)':>18}"]
    for name in args.recipes or (*ON_CPU, *["digits64x2"] * on_gpu):
        recipe = load_recipe(name)
        took = sum(minutes(recipe, config, device, args.seconds) for config in recipe.stages)
        lines.append(f"{name:16}{took:9.0f}{peak(device):18.1f}")
        print("\n".join(lines), flush=True)
    (ROOT / "data" / "results" / f"recipe_{device.type}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
