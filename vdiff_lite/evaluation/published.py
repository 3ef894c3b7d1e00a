"""The standard table: a clip continued from ten frames, measured as published tables of Moving MNIST are."""

import math
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from pandas import DataFrame
from torch import Generator, Tensor
from tqdm.auto import tqdm

from vdiff_lite.checks import whole
from vdiff_lite.data.batch import Batch, ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.moving_mnist import MovingMNIST
from vdiff_lite.data.sources import TEST_SET
from vdiff_lite.diffusion.denoiser import Denoiser, condition_width
from vdiff_lite.diffusion.samplers import ddim, seeded
from vdiff_lite.evaluation.two_digits import score_two_digits
from vdiff_lite.evaluation.video_metrics import finite_psnr
from vdiff_lite.rollout import rollout

GIVEN = 10  # frames
WINDOW, OVERLAP = 16, 6  # a window with the last six of them makes all ten new frames at once
GROUP = 10  # new frames that one row is about
BLOCK = 16  # clips that are continued together
DIGITS = dict(mse=2, mae=2, ssim=4, psnr=2, identity=2)  # decimals of each measure
ERROR = "_standard_error"
SOURCE = "OpenSTL (Tan et al. 2023), docs/en/model_zoos/video_benchmarks.md at commit 8cac741, 200 epochs"
PUBLISHED = {"PhyDNet": ("3.1 M", 28.19, 78.64, 0.9374, 22.62),
             "SimVP with ConvMixer": ("3.9 M", 32.09, 88.93, 0.9259, 21.93),
             "TAU": ("44.7 M", 24.60, 71.93, 0.9454, 23.19)}


def published_scores(clip: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """The measures of published Moving MNIST tables, of each clip, as they are computed there.

    mse, mae: of pixels that go from 0 to 1, summed over a frame and averaged over frames;  ssim, psnr: of
    each frame, clamped to that range, averaged over frames. psnr = 10 log10(1 / mean squared error), here of
    two equal frames 100;  ssim as scikit-image up to 0.19 has it by default, the version that is asked for
    there: flat windows of 7x7, sample variances, and a data range of 2, which it takes for any floats.
    (Tan et al. 2023, OpenSTL, openstl/core/metrics.py at commit 0d74406.)
    clip, truth: (b, c, f, h, w) in [-1, 1], new frames only. Returns {name: (b,)}; a table shows means over
    clips. Raises ValueError for other shapes, and for frames of less than 7x7.
    """
    if clip.shape != truth.shape:
        raise ValueError(f"clip {tuple(clip.shape)} and truth {tuple(truth.shape)} differ in shape")
    whole(7, height=clip.shape[3], width=clip.shape[4])
    x, y = (clip.double() + 1) / 2, (truth.double() + 1) / 2
    mse, mae = (reduce(z, "b c f h w -> b f", "sum").mean(1) for z in ((x - y) ** 2, (x - y).abs()))
    x, y = x.clamp(0, 1), y.clamp(0, 1)
    return dict(mse=mse, mae=mae, ssim=_published_ssim(x, y), psnr=finite_psnr(2 * x, 2 * y).mean(1))


def _published_ssim(x: Tensor, y: Tensor, data_range: float = 2.0, side: int = 7) -> Tensor:
    """Structural similarity as `published_scores` says: (b,).

    Pixels go from 0 to 1, so that a data range of 2 is milder than the usual measure (`ssim`).
    """
    b = len(x)
    x, y = (rearrange(z, "b c f h w -> (b f) c h w") for z in (x, y))
    mean = lambda z: F.avg_pool2d(z, side, 1)
    n, (c1, c2) = side**2, ((k * data_range) ** 2 for k in (0.01, 0.03))
    mx, my = mean(x), mean(y)
    vx, vy, vxy = ((mean(a * b) - ma * mb) * n / (n - 1) for a, b, ma, mb in
                   ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my)))
    local = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return reduce(local, "(b f) c h w -> b", "mean", b=b)


def standard_scores(denoiser: Denoiser, data: ClipSource, clips: int = 64, frames: int = 10, samples: int = 3,
                    steps: int = 25, seed: int = 0, bar: bool = False) -> list[dict]:
    """Continue clips from ten frames and score them as published: a row for each way and ten new frames.

    Ways: one sample, the mean of several, since squared error rewards a blur, and the last given frame. A row
    has the mean and the standard error over clips of `published_scores` and, for two `BouncingDigits` and one
    sample, of identity at the end of these frames, where `score_two_digits` finds a clear one.
    Windows of 16 frames share 6. Of `MovingMNIST` the first clips are taken, each from its first frame on.
    Clip i has noise of its own, whatever `clips` is. Raises ValueError for what does not fit.
    """
    whole(1, 1000, frames=frames)
    whole(2, 100, samples=samples)
    data = data.with_frames(GIVEN + frames)
    if published := isinstance(data, MovingMNIST):
        whole(1, len(data), clips=clips)
    generator, tables = Generator().manual_seed(seed), []
    for first in tqdm(range(0, clips, BLOCK), disable=not bar, desc=f"{BLOCK} clips at a time"):
        last = min(first + BLOCK, clips)
        true = Batch(data.clips(first, last)) if published else data.sample(last - first, generator)
        noise = seeded(seed + first, last - first)
        made = torch.stack([_continue(denoiser, true, frames, steps, noise) for _ in range(samples)])
        tables += [_score_group(made, true, data, slice(a, min(a + GROUP, frames)))
                   for a in range(0, frames, GROUP)]
    groups = pd.concat(tables).groupby(["way", "frames"], sort=False)
    rows = groups.mean().join(groups.sem().add_suffix(ERROR)).reset_index().to_dict("records")
    return [{name: value for name, value in row.items() if value == value} for row in rows]


def _continue(denoiser, true, frames, steps, noise):
    """New frames, (b, c, frames, h, w), from the first ones of a batch."""
    told = true.condition if condition_width(denoiser.net) else None
    told = told if told is None else told[:, GIVEN - OVERLAP:]
    new = rollout(denoiser, true.video[:, :, :GIVEN], frames, WINDOW, OVERLAP, generator=noise,
                  sampler=partial(ddim, steps=steps), condition=told)
    return torch.stack(list(new), dim=2).cpu().clamp(-1, 1)


def _score_group(samples, true, data, part):
    """The scores of some new frames of a batch: one row for each way and clip."""
    (past, future), made = true.video.split([GIVEN, samples.shape[3]], dim=2), samples[:, :, :, part]
    future = future[:, :, part]
    ways = {"one sample": made[0], f"mean of {len(made)}": made.mean(0),
            "copy the last frame": past[:, :, -1:].expand_as(future)}
    scores = {way: published_scores(clip, future) for way, clip in ways.items()}
    if isinstance(data, BouncingDigits) and data.num_digits == 2:
        until = torch.cat([past, samples[0, :, :, :part.stop]], dim=2)
        truth = replace(true.truth, positions=true.truth.positions[:, :, :until.shape[2]])
        outcome = score_two_digits(until, truth, GIVEN, data.digit_size)
        scores["one sample"]["identity"] = outcome["identity"].double().where(outcome["clear"], math.nan)
    frames = f"{part.start + 1}-{part.stop}"
    return pd.concat([DataFrame(values).assign(way=way, frames=frames) for way, values in scores.items()])


def standard_report(result: dict) -> str:
    """The dict of `evaluate` as text, where it holds `standard_scores`; published figures stand apart."""
    rows = DataFrame(result["standard"]).sort_values("way", ascending=False, kind="stable")
    rows = rows.set_index(rows["way"] + (", " + rows["frames"] if result["frames"] > GROUP else ""))
    column = lambda name: rows.reindex(columns=[name, name + ERROR]).set_axis([name, "+-"], axis=1)
    shown = pd.concat([column(name).round(DIGITS[name]) for name in DIGITS if name in rows], axis=1)
    trained, moving = result["trained_on"], result["data"].startswith("Moving")
    lines = [f"{result['clips']} clips of {result['data']}",
             f"{GIVEN} frames given, {result['frames']} made, in windows of {WINDOW} that share {OVERLAP}; "
             f"DDIM {result['steps']} steps, seed {result['seed']}",
             f"trained on {trained or 'what the card does not say'}"]
    if moving and trained and not trained.startswith("Moving"):
        lines += ["not trained on these clips, whose digits have 28 pixels and move by 3.6 pixels per frame"]
    lines += ["", shown.to_string(na_rep=""),
              "mse, mae: errors of pixels from 0 to 1, summed over a frame;  psnr in dB;  +-: standard error",
              "mean of 3: the mean of several samples, since squared error rewards a blur",
              "identity: fraction of clips in which both digits are at last themselves, on their own paths"
              if "identity" in rows else "left out, measured for two BouncingDigits: identity"]
    if moving and "size=(64, 64)" in result["data"]:
        table = DataFrame.from_dict(PUBLISHED, orient="index", columns=["parameters", *list(DIGITS)[:4]])
        lines += ["", f"published figures, 10 frames from 10, on the 10,000 clips of {TEST_SET}:",
                  table.to_string(col_space=12), f"source: {SOURCE}",
                  f"They compare with 10 frames of {TEST_SET} only."]
    return "\n".join(lines)
