"""Measure the network of chapter 11 on maps it has never seen: data/results/rooms32.json, look_away.json.

    python book/_tools/rooms.py            (half an hour of one core; goes on where it was cut off)
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite.checkpoint import sha256
from vdiff_lite.evaluation.rooms import continue_walks, look_away
from vdiff_lite.methods import history_guidance, injection, reconstruction, replacement

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"
METHODS = {  # name in the table: (method, frames of overlap)
    "past in the window": (history_guidance, 5),
    "past in the window, 10 frames": (history_guidance, 10),
    "history guidance, w = 1.5": (partial(history_guidance, weight=1.5), 5),
    "injection": (injection, 5),
    "reconstruction guidance, w = 10": (partial(reconstruction, weight=10), 5),
    "replacement": (replacement, 5),
}


def about(maps, steps):
    weights = RESULTS.parent / "checkpoints" / "rooms32.safetensors"
    return dict(sha256=sha256(weights), maps=maps, steps=steps, torch=torch.__version__)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=32)
    parser.add_argument("--circles", type=int, default=16, help="maps of the look-away test")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    vd.prepare_cpu()
    denoiser = vd.load("rooms32", vd.pick_device())
    path = RESULTS / "rooms32.json"
    if not path.exists():
        rows = continue_walks(denoiser, args.maps, steps=args.steps)
        path.write_text(json.dumps(about(args.maps, args.steps) | dict(rows=rows), indent=1) + "\n")
    path = RESULTS / "look_away.json"
    result = about(args.circles, args.steps) | dict(methods={})
    if path.exists():
        result = json.loads(path.read_text())
    for name, (method, overlap) in METHODS.items():
        if name not in result["methods"]:
            errors = look_away(denoiser, method, args.circles, overlap, steps=args.steps)
            listed = lambda errors: [round(error, 5) for error in errors.tolist()]
            result["methods"][name] = {key: listed(errors[key]) for key in ("first", "opposite")} | {
                key: listed(errors[key].mean(0)) for key in ("true", "copy")}
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(name, {key: errors[key].mean().item() for key in ("first", "opposite", "true")}, flush=True)


if __name__ == "__main__":
    main()
