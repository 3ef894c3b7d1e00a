"""What a checkpoint is judged by: how well it continues a clip, and what its clips from noise are like."""

import math
from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from pandas import DataFrame
from scipy.stats import binomtest
from torch import Generator, Tensor
from tqdm.auto import tqdm

from vdiff_lite.data.batch import Batch, ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.moving_mnist import MovingDigits, MovingMNIST
from vdiff_lite.data.rooms import Rooms
from vdiff_lite.diffusion.denoiser import Denoiser, condition_width
from vdiff_lite.diffusion.samplers import ddim, noise_like, run_sampler, sample
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features, frechet, real_clip_features
from vdiff_lite.evaluation.held_out import held_out, trained_on
from vdiff_lite.evaluation.published import GIVEN, GROUP, standard_report, standard_scores
from vdiff_lite.evaluation.rooms import continue_walks
from vdiff_lite.evaluation.scores import is_one_digit
from vdiff_lite.evaluation.two_digits import score_two_digits
from vdiff_lite.methods import history_guidance
from vdiff_lite.rollout import generate

TRAINING_CLIPS = 256  # of which `neighbors` looks at every fifth frame


def continue_clips(denoiser: Denoiser, data: ClipSource, clips: int = 64, num_context: int = 5,
                   steps: int = 25, seed: int = 0, bar: bool = False) -> tuple[Tensor, Batch]:
    """Continue clips of `data`, the past in the window: the clips made, past included, and the true ones."""
    generator = Generator().manual_seed(seed)
    true = data.sample(clips, generator)
    xt = noise_like(true.video, generator)
    made = []
    batches = list(zip(true.video.split(16), xt.split(16)))
    for x, noise in tqdm(batches, disable=not bar, desc="continuing clips"):
        method = history_guidance(denoiser, x[:, :, :num_context].to(denoiser.device))
        with torch.no_grad():
            made.append(run_sampler(ddim(method, noise.to(denoiser.device), denoiser.schedule, steps)).cpu())
    return torch.cat(made).clamp(-1, 1), true


def draw_clips(denoiser: Denoiser, clips: int = 64, steps: int = 25, seed: int = 0, bar: bool = False,
               draw: Callable = sample) -> tuple[Tensor, Tensor]:
    """Clips of 16 frames from noise, and 256 or more held-out ones to compare them with."""
    generator = Generator().manual_seed(seed)
    real = BouncingDigits(split="test").sample(max(clips, 256), generator).video
    sizes = [min(16, clips - i) for i in range(0, clips, 16)]
    made = [draw(denoiser, n, 16, steps=steps, generator=generator).cpu()
            for n in tqdm(sizes, disable=not bar, desc="clips from noise")]
    return torch.cat(made), real


def from_noise(denoiser: Denoiser, clips: int = 64, steps: int = 25, seed: int = 0, bar: bool = False,
               draw: Callable = sample) -> dict:
    """Draw clips from noise and compare what they show with held-out clips.

    draw: `sample`, all frames at once, or `generate`, the first frame first.
    Returns a dict: speed and intensity relative to the data's (1 is right), and speed_standard_error;
    same_digit, the fraction of clips in which the digit read on the first frame is the one read on the last;
    same_shape, that of `digit_metrics.shape_consistency`;  frechet, the distance from 2,048 real clips;
    real_same_digit, real_same_shape and real_frechet: these of held-out clips, the last two of as many as
    were drawn.
    """
    made, real = draw_clips(denoiser, clips, steps, seed, bar, draw)
    fraction = lambda passed: passed.float().mean().item()
    distance = lambda clip: frechet(clip_features(clip), real_clip_features()) if len(clip) > 1 else math.nan
    speed = digit_metrics.speed(made).mean(1) / digit_metrics.speed(real).mean()
    intensity = digit_metrics.intensity(made).mean() / digit_metrics.intensity(real).mean()
    return dict(speed=speed.mean().item(), speed_standard_error=(speed.std() / clips**0.5).item(),
                intensity=intensity.item(), same_digit=fraction(digit_metrics.same_digit(made)),
                real_same_digit=fraction(digit_metrics.same_digit(real)),
                same_shape=fraction(digit_metrics.shape_consistency(made)),
                real_same_shape=fraction(digit_metrics.shape_consistency(real[:clips])),
                frechet=distance(made), real_frechet=distance(real[:clips]))


# How clips may be drawn: key in the result of `evaluate`, heading.
WAYS = dict(from_noise="all at once, eta 0", noisy="all at once, eta 0.5",
            generated="first frame first, eta 0.5")


def evaluate(denoiser: Denoiser, clips: int = 64, steps: int = 25, seed: int = 0, bar: bool = False,
             text: str | None = None, frames: int | None = None) -> dict:
    """All parts as one dict of plain numbers: what `vdiff evaluate` prints.

    For Moving MNIST, or with a number of frames, `standard_scores`. Else, for rooms and a network that is
    told actions, `continue_walks`; for other data the PSNR of continued clips, and what became of the digits
    where there are two. Clips from noise are left out but for one digit in 32x32: the measures of them are
    made for that.
    text: the data, as in `held_out`;  frames: as in `standard_scores`. Raises what these do.
    """
    data, num_context = held_out(denoiser, text), 5
    about = dict(clips=clips, steps=steps, seed=seed) | ({} if text is None else dict(data=str(data)))
    if frames is not None or isinstance(data, (MovingDigits, MovingMNIST)):
        frames = GROUP if frames is None else frames
        rows = standard_scores(denoiser, data, clips, frames, steps=steps, seed=seed, bar=bar)
        return about | dict(num_context=GIVEN, frames=frames, trained_on=trained_on(denoiser),
                            data=str(data.with_frames(GIVEN + frames)), standard=rows)
    about["num_context"] = num_context
    if isinstance(data, Rooms) and condition_width(denoiser.net):
        return about | dict(walks=continue_walks(denoiser, clips, num_context, steps=steps, seed=seed))
    made, true = continue_clips(denoiser, data, clips, num_context, steps, seed, bar)
    still = true.video[:, :, num_context - 1:num_context].expand_as(true.video)
    model, copied = (video_metrics.finite_psnr(x, true.video)[:, num_context:] for x in (made, still))
    result = about | dict(psnr=model.mean(0).tolist(), psnr_copy_last=copied.mean(0).tolist(),
                          psnr_standard_error=(model.std(0) / clips**0.5).tolist())
    if not isinstance(data, BouncingDigits):
        return result
    if data.num_digits == 2:
        shown = {"model": made, "copy the last frame": still, "true clips": true.video}
        return result | dict(two_digits={name: _two_digits(clip, true, num_context, data.digit_size)
                                         for name, clip in shown.items()})
    if not is_one_digit(data):
        return result
    ways = dict(from_noise=sample, noisy=partial(sample, eta=0.5), generated=generate)
    return result | {way: from_noise(denoiser, clips, steps, seed, bar, draw) for way, draw in ways.items()}


def _two_digits(clip: Tensor, true: Batch, num_context: int, digit_size: int) -> dict:
    """Counts of clips by `score_two_digits`, and the intensity of new frames relative to the truth's."""
    counts = score_two_digits(clip, true.truth, num_context, digit_size)
    del counts["position_error"]
    made, real = (digit_metrics.intensity(x)[:, num_context:].mean() for x in (clip, true.video))
    return {name: count.sum().item() for name, count in counts.items()} | dict(intensity=(made / real).item())


def noise_table(result: dict) -> tuple[DataFrame, DataFrame]:
    """Clips from noise of the dict of `evaluate`, one row per way to draw them, and the standard errors.

    speed and intensity are relative to the data's; same digit and same shape are fractions of clips that end
    as they begin.
    """
    rows = {heading: result[way] for way, heading in WAYS.items() if way in result}
    real = {name: result["from_noise"]["real_" + name] for name in ("same_digit", "same_shape", "frechet")}
    measures = ["speed", "intensity", "same_digit", "same_shape", "frechet"]
    table = DataFrame(rows | {"real clips": dict(speed=1.0, intensity=1.0) | real}).T[measures]
    fractions = table[["same_digit", "same_shape"]]
    errors = (fractions * (1 - fractions) / result["clips"]) ** 0.5
    errors["speed"] = [row["speed_standard_error"] for row in rows.values()] + [0.0]
    titles = lambda frame: frame.rename(columns=lambda name: name.replace("_", " "))
    return titles(table), titles(errors.drop("real clips"))


def two_digits_table(result: dict) -> DataFrame:
    """What became of the two digits, of the dict of `evaluate`, one row per measure of `score_two_digits`.

    clips: how many the fraction is of;  low, high: the 95% interval of the model's (Wilson 1927; scipy).
    intensity: of new frames, relative to the truth's.
    """
    scores = DataFrame(result["two_digits"])
    counts = scores.loc[["identity", "crossing", "swapped"]]
    clips = scores.loc[["clear", "crosses", "crosses"], "model"].to_numpy(int)
    intervals = [binomtest(int(count), n).proportion_ci(method="wilson") if n else (math.nan, math.nan)
                 for count, n in zip(counts["model"], clips)]
    table = counts.div(clips, axis=0).assign(clips=clips)
    table[["low", "high"]] = intervals
    table = table[["clips", "model", "low", "high", *counts.columns[1:]]]
    table.loc["intensity"] = scores.loc["intensity"]
    return table.fillna({"clips": result["clips"]}).astype({"clips": int})


def report(result: dict) -> str:
    """The dict of `evaluate` as text."""
    if "standard" in result:
        return standard_report(result)
    setting = f"{result['num_context']} context frames, DDIM {result['steps']} steps, seed {result['seed']}"
    if "walks" in result:
        walks = DataFrame(result["walks"]).set_index(["way", "frame"])
        return "\n".join([f"{result['clips']} walks through maps never seen, {setting}",
                          "PSNR in dB: of all pixels, of those the given frames have seen, of the others; "
                          "heading error in degrees", walks.round(2).to_string()])
    psnr = DataFrame({"model": result["psnr"], "+-": result["psnr_standard_error"],
                      "copy the last frame": result["psnr_copy_last"]})
    psnr = psnr.set_axis(range(1, len(psnr) + 1)).rename_axis("new frame")
    source = " of " + result["data"] if "data" in result else ""
    lines = [f"{result['clips']} held-out clips{source}, {setting}",
             "PSNR in dB against the true future (+-: standard errors)", psnr.round(1).to_string(), ""]
    if "two_digits" in result:
        lines += ["the two digits at the end of the clip (low, high: 95% interval of the model)",
                  two_digits_table(result).round(2).to_string(na_rep=""),
                  "identity: fraction of clips in which both are themselves, on their own paths",
                  "crossing: the same where they met and parted;  swapped: on each other's paths there",
                  "intensity: of new frames, relative to the truth's"]
    elif "from_noise" not in result:
        lines += ["identity, crossing, swapped, intensity: left out, measured for two BouncingDigits"]
    return "\n".join([*lines, *_noise_lines(result)])


def _noise_lines(result):
    if "from_noise" not in result:
        return ["clips from noise: left out, their measures are for one digit in 32x32"]
    table, errors = noise_table(result)
    for name in errors:
        table.insert(table.columns.get_loc(name) + 1, "+-", errors[name], allow_duplicates=True)
    return ["clips from noise (+-: standard errors)",
            table.round(3).to_string(na_rep=""), "speed, intensity: relative to the data's",
            "same digit (as read), same shape: fractions of clips that end as they begin",
            "frechet: distance from real clips, in the features of a small network"]


def neighbors(denoiser: Denoiser, clips: int = 64, steps: int = 25, seed: int = 0,
              data: str | None = None) -> DataFrame:
    """Does it copy? Distances of drawn clips to the nearest training ones, beside held-out clips'.

    One digit in 32x32: of its shape, to the nearest training glyph. A model that copies would score near the
    last row: training glyphs, moved by a fraction of a pixel and cut out again.  Others: of every fifth
    frame, to those of `TRAINING_CLIPS` training clips.  data: as in `held_out`. Returns the smallest and the
    median distance over clips: root mean squared difference of pixels in [0, 1], 0 is a copy;
    `.attrs["to"]`: to what.
    """
    source = partial(held_out, denoiser, data)
    draw = lambda split, n: source(split).sample(n, Generator().manual_seed(seed)).video
    rows = {}
    if is_one_digit(source()):
        distance, to = lambda clip: digit_metrics.nearest_glyph(clip)[0], "the nearest training glyph"
        rows = {"training samples, redrawn": draw("train", clips)}
    else:
        frames = lambda clip: rearrange(clip[:, :, ::5], "b c f h w -> b f (c h w)").clamp(-1, 1) / 2
        training = frames(draw("train", TRAINING_CLIPS)).flatten(0, 1)
        distance = lambda clip: torch.cdist(frames(clip), training).amin((1, 2)) / training.shape[1] ** 0.5
        to = f"the nearest of {len(training):,} frames of training clips"
    rows = {"drawn by the model": draw_clips(denoiser, clips, steps, seed, draw=generate)[0],
            "held-out samples": draw("test", clips)} | rows
    distances = {name: distance(clip) for name, clip in rows.items()}
    table = DataFrame(dict(smallest={name: d.min().item() for name, d in distances.items()},
                           median={name: d.median().item() for name, d in distances.items()}))
    table.attrs["to"] = to
    return table
