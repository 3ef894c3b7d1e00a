"""Write what the book says of a checkpoint into data/: tables, samples, the clip of README and site.

    python book/_tools/release.py            (some minutes on two cores)
"""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite import cli, viz
from vdiff_lite.evaluation import digit_metrics
from vdiff_lite.evaluation.evaluate import draw_clips

ROOT = Path(__file__).resolve().parents[2]
NAME = "digits32"


def printed(*command):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(list(command)) == 0
    return out.getvalue()


def main():
    results = ROOT / "data" / "results"
    out = ("--out", str(results / f"{NAME}.json"))
    (results / f"{NAME}.txt").write_text(printed("evaluate", "--checkpoint", NAME, "--clips", "64", *out))
    near = printed("neighbors", "--checkpoint", NAME, "--clips", "64")
    (results / f"{NAME}_neighbors.txt").write_text(near)
    denoiser, first_frame_model = vd.checkpoint.load_with_first_frame_model(NAME, device=vd.pick_device())
    made, _ = draw_clips(denoiser, 32, draw=partial(vd.generate, first_frame_model=first_frame_model))
    figure = viz.film_strip(made, num_context=0, scale=0.45)
    figure.savefig(results / f"{NAME}_samples.png", dpi=100)
    if first_frame_model:
        measured = first_frames(denoiser, first_frame_model)
        (results / f"{NAME}_begin.json").write_text(json.dumps(measured, indent=1) + "\n")
    hero(denoiser)


ETA_AND_STEPS = ((0, 25), (0.5, 25), (1, 25), (1, 50), (1, 100))
WEIGHTS = (1, 1.5, 3, (3, 1), (3, 1.5))  # of autoguidance: everywhere, or above and below its level `EARLY`


def first_frames(denoiser, first_frame_model, clips=512, batch=64):
    """What two frames from noise are like, by network and sampler, relative to the data."""
    real = vd.BouncingDigits(split="test", num_frames=2).sample(2048, torch.Generator().manual_seed(0)).video
    intensity, speed = (measure(real).mean() for measure in (digit_metrics.intensity, digit_metrics.speed))
    spread = lambda clip: torch.pdist(digit_metrics.centered_frames(clip[:clips, :, [0]]).flatten(1)).mean()
    error = lambda value: value.std().item() / clips**0.5

    def measures(clip):
        intensities = digit_metrics.intensity(clip).mean(1) / intensity
        speeds = digit_metrics.speed(clip)[:, 0] / speed
        return dict(intensity=intensities.mean().item(), intensity_standard_error=error(intensities),
                    speed=speeds.mean().item(), speed_standard_error=error(speeds),
                    distance=digit_metrics.nearest_glyph(clip)[0].median().item(),
                    diversity=(spread(clip) / spread(real)).item())

    networks = {NAME: denoiser, f"{NAME}_begin": first_frame_model}

    def alone(name, eta, steps):
        generator, sampler = torch.Generator().manual_seed(0), partial(vd.ddim, eta=eta)
        made = [vd.sample(networks[name], batch, 2, sampler, steps, generator) for _ in range(clips // batch)]
        return dict(network=name, eta=eta, steps=steps) | measures(torch.cat(made).cpu())

    def guided(weight):
        """What `generate` draws: its first two frames, and whether the clip of sixteen ends as it begins."""
        draw = partial(vd.generate, denoiser, batch, generator=torch.Generator().manual_seed(0),
                       first_frame_model=first_frame_model, first_frame_weight=weight)
        made = torch.cat([draw().cpu() for _ in range(clips // batch)])
        same = digit_metrics.same_digit(made).float()
        return dict(weight=weight, same_digit=same.mean().item(),
                    same_digit_standard_error=error(same)) | measures(made[:, :, :2])

    sha256 = {name: network.card["sha256"] for name, network in networks.items()}
    drawn = [alone(name, *how) for name in networks for how in ETA_AND_STEPS]
    return dict(sha256=sha256, clips=clips, drawn=drawn,
                guided=[guided(weight) for weight in WEIGHTS], real=measures(real[:clips]))


def hero(denoiser, clips=4, frames=75):
    """A long continuation of held-out clips, side by side: a gif for the README, a video for the site."""
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


if __name__ == "__main__":
    main()
