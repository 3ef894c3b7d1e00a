"""Write what the book says of the checkpoints into data/: tables, samples, the clip of README and site.

    python book/_tools/release.py [NAME ...]            (some minutes for each, on two cores)
"""

import argparse
import contextlib
import io
from functools import partial
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite import cli, viz

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
AT_ONCE = partial(vd.sample, eta=0.5)
SAMPLES = {"digits32": (32, vd.generate), "digits32_fixed": (16, AT_ONCE), "digits64x2": (8, AT_ONCE)}
EVALUATED = {"digits32": 64, "digits32_fixed": 32, "digits64x2": 32}  # clips


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
    figure = viz.film_strip(made, columns=16)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"checkpoints, of {', '.join(SAMPLES)}; all of them if none")
    args = parser.parse_args()
    vd.prepare_cpu()
    for name in args.names or SAMPLES:
        tables(name)
        samples(name)
    if not args.names or "digits32" in args.names:
        hero()


if __name__ == "__main__":
    main()
