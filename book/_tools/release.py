"""Write what the book says about a checkpoint into data/: tables, samples, the clips of the README and the landing page.

    python book/_tools/release.py            (some minutes on two cores)
"""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite import cli
from vdiff_lite.evaluation import digit_metrics

ROOT = Path(__file__).resolve().parents[2]
NAME = "digits32"


def printed(*command):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(list(command)) == 0
    return out.getvalue()


def main():
    results = ROOT / "data" / "results"
    table = printed("evaluate", "--checkpoint", NAME, "--clips", "64", "--out", str(results / f"{NAME}.json"))
    (results / f"{NAME}.txt").write_text(table)
    print(table)
    near = printed("neighbours", "--checkpoint", NAME, "--clips", "64")
    (results / f"{NAME}_neighbours.txt").write_text(near)
    print(near)
    denoiser, first_frame_model = vd.checkpoint.load_with_first_frame_model(NAME, device=vd.pick_device())
    made, _ = evaluation.drawn(denoiser, clips=32, draw=partial(vd.generate, first_frame_model=first_frame_model))
    figure = viz.film_strip(made, num_context=0, scale=0.45)
    figure.savefig(results / f"{NAME}_samples.png", dpi=100)
    if first_frame_model:
        (results / f"{NAME}_begin.json").write_text(json.dumps(beginnings(denoiser, first_frame_model), indent=1) + "\n")
    hero(denoiser)


WALKS = ((0, 25), (0.5, 25), (1, 25), (1, 50), (1, 100))  # eta and steps
WEIGHTS = (1, 1.5, 3, (3, 1), (3, 1.5))  # of autoguidance: everywhere, or above and below its level `EARLY`


def beginnings(denoiser, first_frame_model, clips=512, batch=64):
    """What two frames from noise are like, by who draws them and how: ratios to the data's, and the distance to handwriting."""
    real = vd.BouncingDigits(split="test", num_frames=2).sample(2048, torch.Generator().manual_seed(0)).video
    intensity, speed = (measure(real).mean() for measure in (digit_metrics.intensity, digit_metrics.speed))
    spread = lambda clip: torch.pdist(digit_metrics.centered_frames(clip[:clips, :, [0]]).flatten(1)).mean()
    error = lambda value: value.std().item() / clips**0.5

    def judged(clip):
        inks, speeds = digit_metrics.intensity(clip).mean(1) / intensity, digit_metrics.speed(clip)[:, 0] / speed
        return dict(intensity=inks.mean().item(), ink_standard_error=error(inks), speed=speeds.mean().item(), speed_standard_error=error(speeds),
                    distance=digit_metrics.nearest_glyph(clip)[0].median().item(), spread=(spread(clip) / spread(real)).item())

    networks = {NAME: denoiser, f"{NAME}_begin": first_frame_model}

    def drawn(name, eta, steps):
        generator, walk = torch.Generator().manual_seed(0), partial(vd.ddim, eta=eta)
        made = torch.cat([vd.sample(networks[name], batch, 2, walk, steps, generator).cpu() for _ in range(clips // batch)])
        return dict(network=name, eta=eta, steps=steps) | judged(made)

    def guided(weight):
        """What `grow` draws: its first two frames, and whether the clip of sixteen ends as it begins."""
        generator = torch.Generator().manual_seed(0)
        made = torch.cat([vd.generate(denoiser, batch, generator=generator, first_frame_model=first_frame_model, first_frame_weight=weight).cpu() for _ in range(clips // batch)])
        same = digit_metrics.same_digit(made).float()
        return dict(weight=weight, same_digit=same.mean().item(), same_digit_standard_error=error(same)) | judged(made[:, :, :2])

    rows = [drawn(name, *walk) for name in networks for walk in WALKS]
    return dict(sha256={name: network.card["sha256"] for name, network in networks.items()}, clips=clips, drawn=rows,
                guided=[guided(weight) for weight in WEIGHTS], real=judged(real[:clips]))


def hero(denoiser, clips=4, frames=75):
    """A long continuation of several held-out clips, side by side: a gif for the README, a video for the landing page."""
    past = vd.BouncingDigits(split="test").sample(clips, torch.Generator().manual_seed(21)).video[:, :, :5].to(denoiser.device)
    made = vd.rollout(denoiser, past, frames, sampler=partial(vd.ddim, steps=25), generator=torch.Generator().manual_seed(0))
    long = torch.cat([past, torch.stack(list(made), dim=2)], dim=2).cpu()
    wide = torch.cat([viz.framed(clip, num_context=5) for clip in long], dim=-1)
    viz.save_clip(wide, ROOT / "data" / "clips" / "hero.gif", fps=10, enlarge=4)
    alt = "Four handwritten digits go on bouncing in their boxes for 80 frames; a bright border marks the five frames that were given"
    html = viz.show_clips([wide], [""], alt=alt, fps=10, height=144).data
    (ROOT / "book" / "_assets" / "hero.html").write_text(html.replace("min-width:144px", "max-width:100%") + "\n")


if __name__ == "__main__":
    main()
