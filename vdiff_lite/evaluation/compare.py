"""Method against method on the same clips and seeds: one tidy table, written as it goes and resumed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from vdiff_lite.checks import LARGEST_SEED, one_of, whole
from vdiff_lite.data.batch import Batch, ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits, DigitTruth
from vdiff_lite.device import peak_memory
from vdiff_lite.diffusion.denoiser import Denoiser, Method, NFECounter, condition_width
from vdiff_lite.diffusion.samplers import SAMPLERS, repaint, trailing_times
from vdiff_lite.evaluation.feature_net import load_features
from vdiff_lite.evaluation.held_out import check_data
from vdiff_lite.evaluation.method_text import SAMPLER_SETTINGS, bind, new_name, parse_method, with_encoder
from vdiff_lite.evaluation.results import append_rows, open_results, read_results
from vdiff_lite.evaluation.scores import diagnostics, is_one_digit, score, window_features
from vdiff_lite.files import check_writable, only_writer
from vdiff_lite.methods import METHODS
from vdiff_lite.rollout import rollout
from vdiff_lite.training.compute import Compute
from vdiff_lite.training.state import data_text


def extend(denoiser: Denoiser, text: str | Method, past: Tensor, frames: int, window: int = 16,
           overlap: int = 5, sampler: str = "ddim", steps: int = 25, seed: int | Sequence[int] = 0,
           bar: bool = False, record: list | None = None,
           condition: Tensor | None = None) -> tuple[Tensor, dict]:
    """Continue clips with a method, a text or a function. Returns (clips with the past in front, cost).

    past: (b, c, k, h, w);  seed: of all clips together, or one for each clip;  cost: nfe, network evaluations
    of a whole window, and seconds, per new frame and clip;  record: a list that gets what the method records
    of each step;  condition: as in `rollout`.
    Raises ValueError, before any work, for what does not fit.
    """
    past = past.to(denoiser.device)
    new_frames, counter = prepare(denoiser, text, past, frames, window, overlap, sampler, steps, seed, bar,
                                  record, condition)
    started = time.perf_counter()
    made, count = list(new_frames), frames * past.shape[0]
    cost = dict(nfe=counter.frames / window / count, seconds=(time.perf_counter() - started) / count)
    return torch.cat([past, torch.stack(made, dim=2)], dim=2).cpu(), cost


def prepare(denoiser: Denoiser, text: str | Method, past: Tensor, frames: int, window: int, overlap: int,
            sampler: str, steps: int, seed: int | Sequence[int] = 0, bar: bool = False,
            record: list | None = None,
            condition: Tensor | None = None) -> tuple[Iterator[Tensor], NFECounter]:
    """The rollout of `extend` before its first step, and the denoiser that counts its evaluations."""
    whole(frames=frames)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r} is unknown; {new_name(sampler)}choose from "
                         f"{', '.join(SAMPLERS)}")
    # A method's own noise comes from another generator: every method gets the same noise in every window.
    generator, method_generator = _generators(seed), _generators(seed, 2**32)
    start, repeats = map(parse_method(text)[1].get, SAMPLER_SETTINGS)
    if repeats and sampler not in ("ddim", "repaint"):
        raise ValueError(f"{text!r}: repeats is for repaint, and sampler={sampler!r} was chosen; drop one")
    if start:
        whole(1, denoiser.schedule.num_timesteps, start=start)
    levels = trailing_times(start or denoiser.schedule.num_timesteps, steps)
    denoiser, encoder = with_encoder(denoiser, text)
    counter = NFECounter(denoiser)
    sample = partial(repaint, repeats=repeats) if repeats else SAMPLERS[sampler]
    method = bind(text, method_generator, past, encoder, record)
    sample = partial(sample, steps=levels)
    return rollout(counter, past, frames, window, overlap, method, sample, generator, bar, start,
                   condition), counter


def _generators(seed, offset=0):
    if isinstance(seed, (list, tuple, range)):
        return [_generators(one, offset) for one in seed]
    whole(0, LARGEST_SEED, seed=seed)
    return torch.Generator().manual_seed(seed + offset)


def check_measures(overlap: int, window: int, frames: int) -> None:
    """Raise ValueError where clips are too short for the measures of `score_clips`."""
    if frames + overlap < 3 or (window - overlap == 1 and overlap == 1):
        raise ValueError(f"frames={frames} with overlap={overlap} and window={window}: the boundary "
                         "discontinuity compares a join with changes elsewhere, and there are none; choose "
                         "overlap=2 or more")


def true_clips(first: int = 0, clips: int = 16, frames: int = 16, split: str = "test") -> Tensor:
    """The clips from number `first` on, as `compare` continues them: (clips, 1, frames, 32, 32)."""
    return _true_batch(BouncingDigits(split=split, num_frames=frames), first, clips).video


def _true_batch(data: ClipSource, first: int, clips: int) -> Batch:
    return data.sample(clips, torch.Generator().manual_seed(1_000 + first))


def _rows_of(batch: Batch, a: int, b: int) -> Batch:
    """Clips a to b - 1 of a batch, with the truth about digits, if that is what it holds."""
    truth, condition = batch.truth, batch.condition
    if isinstance(truth, DigitTruth):
        truth = DigitTruth(**{name: value[a:b] for name, value in vars(truth).items()})
    return Batch(batch.video[a:b], truth, None if condition is None else condition[a:b])


def compare(denoiser: Denoiser, path: str | Path, methods: Sequence[str | Method], clips: int = 64,
            seeds: int = 1, frames: int = 11, window: int = 16, overlap: int = 5, sampler: str = "ddim",
            steps: int = 25, split: str = "test", batch: int = 16, first_clip: int = 0,
            about: dict | None = None, bar: bool = True, details: bool = False, features: bool = False,
            data: ClipSource | None = None, at_once: int = 16, compute: Compute | None = None) -> None:
    """Run methods on the same clips and seeds and add what they scored to the table at `path` (.csv.gz).

    methods: texts as `parse_method` reads them, or functions, each in the table by its __name__;  split:
    clips are drawn from held-out glyph samples ("test") or, to choose settings by, from training ones
    ("train"); clip n is the same for every method and seed.  data: clips of another kind, with a split of
    their own; scored is what applies to them (`score`), and what they tell, a network that listens is told.
    at_once: clips that are continued together; fewer take less memory, and score the same.  details: also
    write `diagnostics`.  features: also write `window_features`, from which `summary` takes the Frechet
    distance; the header names the network's sha256.  about: more lines of the header.  compute: its processes
    share the blocks of `batch` clips, and all return when the table is whole.
    Clips that the file holds already are skipped, whatever a method of that name does now. Clip i of a seed
    has noise of its own, the same whatever `clips` is. Raises ValueError when the file was written with other
    settings (before version 0.3 clips shared their noise) or by another run that still goes on, and, before
    any work, for settings that do not fit.
    """
    whole(clips=clips, batch=batch, at_once=at_once)
    whole(1, 1000, seeds=seeds)
    whole(0, first_clip=first_clip)
    one_of(("test", "train"), split=split)
    functions = {} if isinstance(methods, str) else {_name(method): method for method in methods}
    if not functions or len(functions) < len(methods):
        raise ValueError(f"methods={methods!r} must name one method or more, each once")
    check_measures(overlap, window, frames)
    if features and frames < window - overlap:
        raise ValueError(f"features are those of whole windows: frames={frames} must be {window - overlap} "
                         "or more")
    c, h, w = denoiser.sample_shape
    past = torch.zeros(1, c, max(overlap, 0), h, w)
    for method in methods:
        prepare(denoiser, method, past, frames, window, overlap, sampler, steps)
    data = (data or BouncingDigits(split=split)).with_frames(overlap + frames)
    one_digit = is_one_digit(data)
    if features and not one_digit:
        raise ValueError(f"features are those of one digit in 32x32, and this is {data}; leave them out")
    check_data(denoiser, data)
    header = dict(about or {}, frames=frames, window=window, overlap=overlap, sampler=sampler, steps=steps,
                  split=getattr(data, "split", split), noise="per clip")
    header |= {} if one_digit else dict(data=data_text(data))
    header |= dict(details=True) if details else {}
    header |= dict(features=load_features().card["sha256"]) if features else {}
    setting, end = (frames, window, overlap, sampler, steps), first_clip + clips
    sizes = {first: min(batch, end - first) for first in range(first_clip, end, batch)}
    blocks = [(name, seed, first) for name in functions for seed in range(seeds) for first in sizes]
    compute = compute or Compute()
    rank, processes = compute.process
    with only_writer(check_writable(path)) if compute.is_main else nullcontext():
        done = open_results(path, header) if compute.is_main else None  # makes the file, or mends it
        compute.wait()
        done = open_results(path, header) if done is None else done  # the others, before any adds to it
        compute.wait()
        blocks = [block for block in blocks[rank::processes] if done.get(block, 0) < sizes[block[-1]]]
        for name, seed, first in tqdm(blocks, disable=not (bar and compute.is_main), unit="block"):
            known, size, rows = done.get((name, seed, first), 0), sizes[first], []
            true, noise = _true_batch(data, first, batch), seed * 10_000 + first
            try:
                for a in range(known, size, at_once):
                    b = min(a + at_once, size)
                    some, seeds_here = _rows_of(true, a, b), range(noise + a, noise + b)
                    scores, cost = _continue_and_score(denoiser, functions[name], some, data, setting,
                                                       seeds_here, details, features)
                    rows += [(first + a + i, *score) for i, *score in scores]
                    rows += [(None, None, *item) for item in cost.items()]
            except FloatingPointError as error:
                print(f"{name}: {error}")
                rows = []
            rows += [(first, None, "done", size)]
            append_rows(path, ((*name.partition(":")[::2], seed, *row) for row in rows))
        compute.wait()


def _name(method):
    """What a method is called in a table."""
    if isinstance(method, str):
        return method
    name = getattr(method, "__name__", "")
    if not name or METHODS.get(name, method) is not method:
        raise ValueError(f"methods: {method!r} has no __name__ that is its own; give it one, for the table")
    return name


def _continue_and_score(denoiser, method, true, data, setting, seed, details, features):
    """The scores of clips continued by a method, as rows (clip, frame, metric, value), and what it cost."""
    _, window, overlap, *_ = setting
    record = [] if details else None
    told = true.condition if condition_width(denoiser.net) else None
    made, cost = extend(denoiser, method, true.video[:, :, :overlap], *setting, seed, record=record,
                        condition=told)
    scores = [*score(made, true, overlap, window - overlap, data)]
    scores += diagnostics(made, true.video, overlap, record, is_one_digit(data)) if details else []
    scores += window_features(made, overlap, window) if features else []
    return scores, cost


def measure_memory(path: str | Path, methods: Sequence[str], checkpoint: str | Path, clips: int = 4,
                   window: int = 16, overlap: int = 5, sampler: str = "ddim",
                   device: str | None = None) -> None:
    """Add to the table at `path` what each method needs: peak memory in MB above that of the loaded network.

    One window of `clips` clips by the checkpoint of that name or path; the rest as in `compare`. Each method
    runs in a process of its own (`peak_memory`), some seconds each; those that the table holds already are
    skipped.
    """
    measured = set(read_results(path).query("metric == 'memory'").name)
    for text in [text for text in methods if text not in measured]:
        ready = f"""
from vdiff_lite.evaluation.compare import extend
denoiser = vd.load({str(checkpoint)!r}, device)
c, h, w = denoiser.sample_shape
past = torch.zeros({clips}, c, {overlap}, h, w)
run = partial(extend, denoiser, frames={window - overlap}, past=past, window={window}, overlap={overlap},
              sampler={sampler!r}, steps=2)
run(text="copy_last")"""
        peak = peak_memory(f"run(text={text!r})", ready, device)
        append_rows(path, [(*text.partition(":")[::2], None, None, None, "memory", round(peak))])
