"""The table that a checkpoint is judged by: how well it continues a clip, and what its clips from noise are like."""

import math
from functools import partial

import torch
from tqdm.auto import tqdm

from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.diffusion.samplers import ddim, run_sampler, sample
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features, frechet, real_clip_features
from vdiff_lite.methods import history_guidance
from vdiff_lite.rollout import generate, rollout


def prediction(denoiser, clips=64, num_context=5, frames=16, steps=25, seed=0, data=None, bar=False, method=history_guidance):
    """Continue held-out clips by a method, by default the past in the window, and compare with the true future.

    Returns (clips, frames - given): PSNR in dB of each new frame, and the same for the last given frame repeated.
    """
    made, truth = continuation(denoiser, clips, num_context, frames, steps, seed, data, bar, method)
    future = truth[:, :, num_context:]
    still = truth[:, :, num_context - 1:num_context].expand_as(future)
    return video_metrics.psnr(made[:, :, num_context:].clamp(-1, 1), future), video_metrics.psnr(still, future)


def continuation(denoiser, clips=64, num_context=5, frames=16, steps=25, seed=0, data=None, bar=False, method=history_guidance):
    """Held-out clips continued by a method from their first `given` frames, and the true ones: each (clips, c, frames, h, w)."""
    data = data or BouncingDigits(num_frames=frames, split="test")
    generator = torch.Generator().manual_seed(seed)
    truth = data.sample(clips, generator).video
    xt = torch.randn(truth.shape, generator=generator)
    made = []
    for x, noise in tqdm(list(zip(truth.split(16), xt.split(16))), disable=not bar, desc="continuing clips"):
        x, noise = x.to(denoiser.device), noise.to(denoiser.device)
        with torch.no_grad():
            made.append(run_sampler(ddim(method(denoiser, x[:, :, :num_context]), noise, denoiser.schedule, steps)).cpu())
    return torch.cat(made), truth


def drawn(denoiser, clips=64, frames=16, steps=25, seed=0, data=None, bar=False, draw=sample):
    """Clips from noise, and held-out ones to compare them with, 256 or more: (clips, c, frames, h, w) each. Arguments as in `from_noise`."""
    data = data or BouncingDigits(num_frames=frames, split="test")
    generator = torch.Generator().manual_seed(seed)
    real = data.sample(max(clips, 256), generator).video
    sizes = [min(16, clips - i) for i in range(0, clips, 16)]
    made = torch.cat([draw(denoiser, n, frames, steps=steps, generator=generator).cpu()
                      for n in tqdm(sizes, disable=not bar, desc="clips from noise")])
    return made, real


def from_noise(denoiser, clips=64, frames=16, steps=25, seed=0, data=None, bar=False, draw=sample):
    """Draw clips from noise and compare what they show with held-out clips.

    draw: `sample`, all frames at once, `grow`, the beginning first, or `from_truth`.
    Returns a dict: speed and ink as ratios to the data's (1 is right), and speed_standard_error; same_digit, the share of clips in which the
    digit read on the first frame is the one read on the last; same_shape, the share in which the last frame's shape is that of the first
    (`digit_metrics.recognised`);  frechet, the distance from 2,048 real clips (`features.frechet`);  real_same_digit, real_same_shape and
    real_frechet: these on held-out clips, the last on as many as were drawn.
    """
    made, real = drawn(denoiser, clips, frames, steps, seed, data, bar, draw)
    share = lambda kept: kept.float().mean().item()
    away = lambda clip: frechet(clip_features(clip), real_clip_features(frames)) if len(clip) > 1 else math.nan
    speed = digit_metrics.speed(made).mean(1) / digit_metrics.speed(real).mean()
    return dict(speed=speed.mean().item(), speed_standard_error=(speed.std() / clips**0.5).item(),
                intensity=(digit_metrics.intensity(made).mean() / digit_metrics.intensity(real).mean()).item(),
                same_digit=share(digit_metrics.same_digit(made)), real_same_digit=share(digit_metrics.same_digit(real)),
                same_shape=share(digit_metrics.shape_consistency(made)), real_same_shape=share(digit_metrics.shape_consistency(real[:clips])),
                frechet=away(made), real_frechet=away(real[:clips])), made


def from_truth(denoiser, clips=1, num_frames=16, steps=25, generator=None, first=2):
    """In the place of `grow`: the first frames are not drawn but those of held-out clips. What is wrong then is not the beginning's fault."""
    past = BouncingDigits(split="test").sample(clips, generator).video[:, :, :first].to(denoiser.device)
    made = rollout(denoiser, past, num_frames - first, num_frames, first, sampler=partial(ddim, eta=0.5, steps=steps), generator=generator)
    return torch.cat([past, torch.stack(list(made), dim=2)], dim=2)


# How a clip may come about: a name in the result of `evaluate`, two lines of a heading, eta (of the beginning, and of the rest).
WAYS = {"from_noise": ("all at", "once", "0"), "grown": ("beginning", "first", "0.5"), "begun": ("a second", "network", "1, 0.5"),
        "from_truth": ("two true", "frames", "0.5")}


def evaluate(denoiser, clips=64, steps=25, seed=0, bar=False, first_frame_model=None):
    """Both parts as one dict of plain numbers: what `vdiff evaluate` prints. begin: as in `grow`; None leaves its column out."""
    model, still = prediction(denoiser, clips, steps=steps, seed=seed, bar=bar)
    draws = dict(from_noise=sample, grown=generate) | (dict(begun=partial(generate, first_frame_model=first_frame_model)) if first_frame_model else {}) | dict(from_truth=from_truth)
    judged = {way: from_noise(denoiser, clips, steps=steps, seed=seed, bar=bar, draw=draw)[0] for way, draw in draws.items()}
    return dict(clips=clips, steps=steps, seed=seed, num_context=5, psnr=model.mean(0).tolist(),
                psnr_standard_error=(model.std(0) / clips**0.5).tolist(), psnr_copy_last=still.mean(0).tolist(), **judged)


def table(result):
    """The dict of `evaluate` as text."""
    lines = [f"{result['clips']} held-out clips, {result['given']} frames given, DDIM {result['steps']} steps, seed {result['seed']}",
             "PSNR in dB against the true future", "new frame   model          copy the last frame"]
    rows = zip(result["psnr"], result["psnr_standard_error"], result["psnr_copy_last"])
    lines += [f"{i:9}   {mean:4.1f} +- {error:3.1f}    {still:4.1f}" for i, (mean, error, still) in enumerate(rows, 1)]
    return "\n".join([*lines, table_from_noise(result)])


def table_from_noise(result):
    """The second half of `table`: what clips are like that begin with nothing, by the way in which they were drawn."""
    ways = [way for way in WAYS if way in result]
    row = lambda name, *values: (f"{name:18}" + "".join(f"{value:>12}" for value in values)).rstrip()
    real = [("speed", "1.000"), ("speed_standard_error", ""), ("intensity", "1.000")]
    real += [(name, f"{result['from_noise']['real_' + name]:.3f}") for name in ("same_digit", "same_shape", "frechet")]
    lines = [row("clips from noise", *(WAYS[way][0] for way in ways), "real"), row("", *(WAYS[way][1] for way in ways), "clips"),
             row("    eta", *(WAYS[way][2] for way in ways))]
    for name, value in real:
        shown = "  +-" if name == "speed_standard_error" else name.replace("_", " ")
        lines.append(row("    " + shown, *(f"{result[way][name]:.3f}" for way in ways), value))
        if name.startswith("same"):  # a share p of n clips
            shares = (result[way][name] for way in ways)
            lines.append(row("      +-", *(f"{(p * (1 - p) / result['clips'])**0.5:.3f}" for p in shares)))
    return "\n".join([
        *lines, "speed and ink: ratios to the data's;  +-: standard errors",
        "same digit (as read), same shape: shares of clips that end as they begin",
        "frechet: distance from real clips, in the features of a small network", "that reads digit, place and motion"])


def loss_curve(losses, points=200):
    """A loss curve thin enough to ship: [step, mean loss of the steps since the last point]."""
    size = max(1, len(losses) // points)
    return [[min(i + size, len(losses)), sum(losses[i:i + size]) / len(losses[i:i + size])] for i in range(0, len(losses), size)]


def neighbors(denoiser, clips=64, steps=25, seed=0, first_frame_model=None):
    """Does it copy? Distances of drawn digits to the nearest training handwriting, beside those of held-out people.

    A model that copies would score near `redrawn`: training glyphs, moved by a fraction of a pixel and cut out again. begin: as in `grow`.
    Returns three tensors (clips,) of root mean squared differences: made, held_out, redrawn.
    """
    held_out, training = (BouncingDigits(split=split).sample(clips, torch.Generator().manual_seed(seed)).video for split in ("test", "train"))
    made, _ = drawn(denoiser, clips, steps=steps, seed=seed, draw=partial(generate, first_frame_model=first_frame_model))
    return {name: digit_metrics.nearest_glyph(clip)[0] for name, clip in dict(made=made, held_out=held_out, redrawn=training).items()}


def neighbors_table(distances):
    """The dict of `neighbours` as text."""
    lines = ["distance to the nearest of 1,545 training glyphs (root mean squared ink, 0 is a copy)", f"{'':28}smallest  median"]
    names = dict(made="drawn by the model", held_out="written by held-out people", redrawn="training glyphs, redrawn")
    return "\n".join(lines + [f"{names[k]:28}{d.min():8.3f}{d.median():8.3f}" for k, d in distances.items()])
