"""Method against method on the same clips and seeds: one tidy table, written as it goes, taken up where it was cut off."""

import math
import time
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.device import peak_memory
from vdiff_lite.diffusion.denoiser import NFECounter
from vdiff_lite.diffusion.samplers import SAMPLERS, repaint, trailing_times
from vdiff_lite.evaluation import video_metrics
from vdiff_lite.evaluation.feature_net import frechet, load_features, real_clip_features
from vdiff_lite.evaluation.method_text import SAMPLER_SETTINGS, bind, parse_method, with_encoder
from vdiff_lite.evaluation.results import (
    add_rows,
    by_clip,
    by_name,
    features_of,
    name_of,
    open_table,
    read_table,
    values,
)
from vdiff_lite.evaluation.scores import diagnostics, score_clips, window_features
from vdiff_lite.rollout import rollout


def extend(denoiser, text, past, frames, window=16, overlap=5, sampler="ddim", steps=25, seed=0, bar=False, record=None):
    """Continue clips with a method given as text. Returns (clips with the past in front, cost).

    past: (b, c, k, h, w);  cost: network passes (windows' worth of frames) and seconds, both per new frame and clip;
    record: a list that gets what the method records of each step. Raises ValueError, before any work, for what does not fit.
    """
    to_come, counting = _begun(denoiser, text, past, frames, window, overlap, sampler, steps, seed, bar, record)
    started = time.perf_counter()
    made, share = list(to_come), frames * past.shape[0]
    cost = dict(passes=counting.frames / window / share, seconds=(time.perf_counter() - started) / share)
    return torch.cat([past.to(denoiser.device), torch.stack(made, dim=2)], dim=2).cpu(), cost


def _begun(denoiser, text, past, frames, window, overlap, sampler, steps, seed=0, bar=False, record=None):
    """The rollout of `extend` before its first step, and the denoiser that counts what it asks."""
    if frames < 1:
        raise ValueError(f"frames={frames} new frames; ask for 1 or more")
    # A method's own noise comes from another generator, so that every method gets the same noise in every window.
    generator, own = (torch.Generator().manual_seed(s) for s in (seed, seed + 2**32))
    denoiser, encoder = with_encoder(denoiser, text)
    counting = NFECounter(denoiser)
    begin, repeats = map(parse_method(text)[1].get, SAMPLER_SETTINGS)
    levels = trailing_times(begin or denoiser.schedule.num_timesteps, steps)
    walk = partial(repaint, steps=levels, repeats=repeats) if repeats else partial(SAMPLERS[sampler], steps=levels)
    return rollout(counting, past, frames, window, overlap, bind(text, own, past, encoder, record), walk, generator, bar, begin), counting


def true_clips(first=0, clips=16, frames=16, split="test"):
    """The clips from number `first` on, in a block of `clips`, as `compare` continues them: (clips, 1, frames, 32, 32)."""
    return BouncingDigits(split=split, num_frames=frames).sample(clips, torch.Generator().manual_seed(1_000 + first)).video


def compare(denoiser, path, methods, clips=64, seeds=1, frames=11, window=16, overlap=5, sampler="ddim", steps=25, split="test",
            batch=16, first_clip=0, about=None, bar=True, details=False, features=False):
    """Run methods on the same clips and seeds and add what they scored to the table at `path`.

    methods: texts as `parse_method` reads them;  clips are drawn from held-out handwriting ("test") or, to choose settings by,
    from training handwriting ("train"); clip n is the same for every method and seed.  details: also write what `look_closer` finds.
    features: also write what `described` finds, from which `summary` takes the Frechet distance; the header names the network's sha256.
    The file begins with lines "# key: value" (settings, and `about`); rows have COLUMNS. Blocks that the file holds already are
    skipped. Raises ValueError when the file was written with other settings, and, before any work, for settings that do not fit.
    """
    if min(clips, seeds) < 1:
        raise ValueError(f"clips={clips} and seeds={seeds} must be 1 or more")
    if features and frames < window - overlap:
        raise ValueError(f"features are those of whole windows: frames={frames} must be {window - overlap} or more")
    size, channels = denoiser.net.config.size, denoiser.net.config.in_channels
    for text in methods:
        _begun(denoiser, text, torch.zeros(1, channels, max(overlap, 0), size, size), frames, window, overlap, sampler, steps)
    header = dict(about or {}, frames=frames, window=window, overlap=overlap, sampler=sampler, steps=steps, split=split)
    header |= dict(details=True) if details else {}
    header |= dict(features=load_features().card["sha256"]) if features else {}
    done = open_table(Path(path), header)
    jobs = [(text, seed, first) for text in methods for seed in range(seeds) for first in range(first_clip, first_clip + clips, batch)]
    size = lambda first: min(batch, first_clip + clips - first)
    for text, seed, first in jobs:
        if done.get((text, seed, first), size(first)) != size(first):
            raise ValueError(f"{path} holds {done[text, seed, first]} clips from clip {first} on, not {size(first)}: a block of clips that was "
                             f"begun cannot grow; ask for a multiple of {batch} clips, or choose another file")
    for text, seed, first in tqdm([job for job in jobs if job not in done], disable=not bar, unit="block"):
        n = size(first)
        truth = true_clips(first, batch, overlap + frames, split)[:n]
        past = truth[:, :, :overlap].to(denoiser.device)
        name, setting = text.partition(":")[::2]
        rows, record = [], [] if details else None
        try:
            made, cost = extend(denoiser, text, past, frames, window, overlap, sampler, steps, seed * 10_000 + first, record=record)
            found = [*score_clips(made, truth, overlap, window - overlap)]
            found += diagnostics(made, truth, overlap, record) if details else []
            found += window_features(made, overlap, window) if features else []
            rows += [(first + b, "" if f is None else f, metric, f"{value:.6g}") for b, f, metric, value in found]
            rows += [("", "", metric, f"{value:.6g}") for metric, value in cost.items()]
        except FloatingPointError as error:
            print(f"{text}: {error}")
        rows += [(first, "", "done", n)]
        add_rows(path, ((name, setting, seed, *row) for row in rows))


def measure_memory(path, methods, checkpoint, clips=4, window=16, overlap=5, sampler="ddim", device=None):
    """Add to the table at `path` what each method needs: one window of `clips` clips, peak memory in MB above that of the loaded network.

    checkpoint: the name or path of one;  the rest as in `compare`. Each method runs in a process of its own (`peak_memory`), some seconds
    each; those that the table holds already are skipped.
    """
    done = {name_of(row) for row in read_table(path)[1] if row["metric"] == "memory"}
    for text in [text for text in methods if text not in done]:
        ready = f"""
from vdiff_lite.evaluation.compare import extend
denoiser = vd.load({str(checkpoint)!r}, device)
size = denoiser.net.config.size
past = torch.zeros({clips}, denoiser.net.config.in_channels, {overlap}, size, size)
ask = partial(extend, denoiser, frames={window - overlap}, past=past, window={window}, overlap={overlap}, sampler={sampler!r}, steps=2)
ask(text="copy_last")"""
        row = (*text.partition(":")[::2], "", "", "", "memory", f"{peak_memory(f'ask(text={text!r})', ready, device):.4g}")
        add_rows(path, [row])


def summary(path, at=(1, 5, 11)):
    """A table as text: one line a method, each number the mean over clips and seeds with half of its 95% interval over clips.

    Passes and seconds are medians: other work on the machine adds to the time of a few blocks.  Where the table holds features, a column
    tells the Frechet distance of the last whole window from real clips.
    """
    header, rows = read_table(path)
    shown = [("psnr", dict(frame=n)) for n in at if n <= header["frames"]]
    shown += [(name, {}) for name in ("boundary_discontinuity", "motion", "intensity", "identity", "time_to_first_failure")] + [("right", dict(frame=header["frames"]))]
    titles = [f"{name} {where.get('frame', '')}".strip() for name, where in shown]
    price = dict(passes="  passes", seconds=" s/frame") | (dict(memory="      MB") if len(values(rows, "memory")) else {})
    stride = header["window"] - header["overlap"]
    at_end = dict(frame=header["frames"] // stride * stride) if header.get("features") else None
    if at_end:
        titles.append(f"frechet {at_end['frame']}")
        real = real_clip_features(header["window"], split=header["split"])
    lines = ["".ljust(44) + "".join(title.rjust(14) for title in titles) + "".join(title.rjust(9) for title in price.values())]
    for text, of in by_name(rows).items():
        cells = []
        for name, where in shown:
            scores = by_clip(of, name, **where)
            mean, low, high = video_metrics.bootstrap(scores) if len(scores) else (math.nan,) * 3
            cells.append(f"{mean:8.2f} ({(high - low) / 2:.2f})".rjust(14))
        if at_end:
            seen = features_of(of, **at_end)
            cells.append(f"{frechet(seen, real) if len(seen) > 1 else math.nan:8.2f}".rjust(14))
        cost = [values(of, name) for name in price]
        lines.append(f"{text:44}" + "".join(cells) + "".join(f"{c.median():9.3f}" for c in cost))
    return "\n".join(lines)
