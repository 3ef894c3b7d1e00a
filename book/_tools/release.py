"""Write what the book says of the checkpoints into data/: tables, samples, the clip of README and site.

    python book/_tools/release.py [NAME ...]            (some minutes for each, on two cores)
    python book/_tools/release.py --tiny data/checkpoints/retrained/tiny

The second writes data/results/tiny_run.json of a network that `vdiff train --recipe tiny` has trained.
"""

import argparse
import contextlib
import io
import json
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite import checkpoint, cli, viz
from vdiff_lite.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
AT_ONCE = partial(vd.sample, eta=0.5)
SAMPLES = {"digits32": (32, vd.generate), "digits32_fixed": (16, AT_ONCE), "digits64x2": (8, AT_ONCE)}
EVALUATED = {"digits32": 64, "digits32_fixed": 64, "digits64x2": 32}  # clips


def printed(*command):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(list(command)) == 0
    return out.getvalue()


def tables(name):
    out, clips = ("--out", str(RESULTS / f"{name}.json")), ("--clips", str(EVALUATED[name]))
    (RESULTS / f"{name}.txt").write_text(printed("evaluate", "--checkpoint", name, *clips, *out))
    if name == "digits32":
        near = printed("neighbors", "--checkpoint", name)
        (RESULTS / f"{name}_neighbors.txt").write_text(near)


def samples(name):
    """Clips from noise, one row per clip, not picked."""
    clips, draw = SAMPLES[name]
    generator = torch.Generator().manual_seed(0)
    denoiser = vd.load(name, vd.pick_device())
    made = torch.cat([draw(denoiser, n, steps=25, generator=generator).cpu() for n in [8] * (clips // 8)])
    figure = viz.film_strip(made, scale=0.45)
    figure.savefig(RESULTS / f"{name}_samples.png", dpi=100)


def hero(name="digits32", clips=4, frames=75):
    """A long continuation of held-out clips, side by side: a gif for the README, a video for the site."""
    denoiser = vd.load(name, vd.pick_device())
    past = vd.BouncingDigits(split="test").sample(clips, torch.Generator().manual_seed(21)).video[:, :, :5]
    past = past.to(denoiser.device)
    made = vd.rollout(denoiser, past, frames, generator=torch.Generator().manual_seed(0))
    long = torch.cat([past, torch.stack(list(made), dim=2)], dim=2).cpu()
    wide = torch.cat([viz.framed(clip, num_context=5) for clip in long], dim=-1)
    viz.save_clip(wide, ROOT / "data" / "clips" / "hero.gif", fps=10, enlarge=4)
    alt = ("Four handwritten digits go on bouncing in their boxes for 80 frames; a bright border marks the "
           "five context frames")
    html = viz.show_clips([wide], [""], alt=alt, fps=10, height=144).data
    html = html.replace("min-width:144px", "max-width:100%") + "\n"
    (ROOT / "book" / "_assets" / "hero.html").write_text(html)


def tiny_run(path):
    """The loss curve of a run of the recipe tiny, and how near its network's new frames are to true ones."""
    card = checkpoint.read_card(path)
    stage = json.loads(json.dumps(asdict(load_recipe("tiny").stages[-1])))
    assert (card["recipe"], card["steps"]) == (stage, stage["steps"]), f"{path} is not of the recipe tiny"
    out = Path(tempfile.mkdtemp()) / "scores.json"
    printed("evaluate", "--checkpoint", str(path), "--out", str(out))
    scores = json.loads(out.read_text())
    about = {key: card[key] for key in ("sha256", "parameters", "recipe", "steps", "data", "loss_curve")}
    about |= {key: scores[key] for key in ("clips", "num_context", "psnr", "psnr_standard_error")}
    about |= dict(origin="vdiff train --recipe tiny, on two CPU cores")
    checkpoint.write_json(RESULTS / "tiny_run.json", about)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"checkpoints, of {', '.join(SAMPLES)}; all of them if none")
    parser.add_argument("--tiny", help="write tiny_run.json of this checkpoint, and nothing else")
    args = parser.parse_args()
    vd.prepare_cpu()
    if args.tiny:
        return tiny_run(args.tiny)
    for name in args.names or SAMPLES:
        tables(name)
        samples(name)
    if not args.names or "digits32" in args.names:
        hero()


if __name__ == "__main__":
    main()
