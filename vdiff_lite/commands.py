"""What the commands of `vdiff` do: run_<name> takes the dataclass of that name in `cli`."""

import dataclasses
import shlex
import sys
import time
from functools import partial
from itertools import chain
from pathlib import Path

import av
import torch
from torch import Generator
from tqdm.auto import tqdm

from vdiff_lite import checkpoint
from vdiff_lite.checks import LARGEST_SEED, number, whole
from vdiff_lite.data import DataError, Rooms
from vdiff_lite.data.sources import part_of_video
from vdiff_lite.device import pick_device, prepare_cpu
from vdiff_lite.diffusion.samplers import SAMPLERS, ddim, sample, seeded
from vdiff_lite.evaluation.compare import check_measures, compare, measure_memory, prepare
from vdiff_lite.evaluation.evaluate import evaluate, neighbors, report
from vdiff_lite.evaluation.held_out import held_out
from vdiff_lite.evaluation.method_text import parse_setting
from vdiff_lite.evaluation.results import print_results
from vdiff_lite.evaluation.scores import is_one_digit, left_out, score_clips
from vdiff_lite.export import export
from vdiff_lite.files import check_writable
from vdiff_lite.rollout import generated_frames
from vdiff_lite.training.compute import Compute, launched
from vdiff_lite.training.recipe import DATA, load_recipe, recipe_names
from vdiff_lite.training.run import recipe_data, run_recipe
from vdiff_lite.viz.writers import ClipWriter, check_clip_path

BLOCK = 16  # clips that are drawn together
LONGEST = 1_000_000  # frames that are made
TRUE_FRAMES = 1000  # new frames that are scored, or shown beside the true ones


def run(args) -> None:
    """Run the command that a dataclass of `cli` describes."""
    prepare_cpu()
    globals()[f"run_{type(args).__name__.lower()}"](args)


def run_train(args) -> None:
    settings = dict(map(parse_setting, args.set))
    recipe = load_recipe(args.recipe, **settings)
    out = check_writable(args.out)
    if args.start_from == "":
        raise ValueError("start_from='' names no checkpoint; give one, or leave it out")
    whole(0, samples_every=args.samples_every)
    number(0, save_every=args.save_every)
    unused = sorted(DATA & set(settings)) if args.data or recipe.source else []
    if unused:
        raise ValueError(f"{', '.join(unused)} cannot act beside --data {args.data or recipe.source}; "
                         "leave out one")
    data, network = recipe_data(recipe, args.data, args.size, args.channels, args.fps)
    accelerator = launched(args.log, out)
    compute = Compute(args.precision, None, args.accumulate, args.recompute, accelerator)
    path = run_recipe(recipe, args.out, data, args.start_from or "", pick_device(args.device), args.anyway,
                      partial(draw_samples, every=args.samples_every), compute, args.save_every, network)
    if accelerator:
        accelerator.end_training()
    if not compute.is_main:
        return
    draw = shlex.join(["vdiff", "sample", "--checkpoint", str(path), "--out", "clip.gif"])
    print(f"wrote {path} and its card; draw from it with: {draw}")


def draw_samples(trainer, path: Path, every: int) -> None:
    """Every so many steps, four clips of the averaged network."""
    if every and trainer.step % every == 0:
        path = path.with_name(path.name + ".samples") / f"{trainer.step:06d}.gif"
        path.parent.mkdir(parents=True, exist_ok=True)
        clips = sample(trainer.ema_denoiser(), 4, generator=Generator().manual_seed(0))
        with ClipWriter(path, clips[0, :, 0].shape, len(clips)) as writer:
            for f, frame in enumerate(clips.unbind(2)):
                writer.add(f, frame)


def run_sample(args) -> None:
    check_clip_path(args.out)
    whole(1, 10_000, clips=args.clips)
    whole(1, LONGEST, frames=args.frames)
    whole(0, min(15, args.frames), first=args.first)
    whole(0, LARGEST_SEED + 1 - args.clips, seed=args.seed)
    if args.eta is not None and args.sampler != "ddim":
        raise ValueError(f"eta={args.eta} is for ddim, and {args.sampler} takes none; leave it out")
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    eta = 0.5 if args.eta is None else args.eta
    sampler = partial(ddim, eta=eta) if args.sampler == "ddim" else SAMPLERS[args.sampler]
    draw = partial(generated_frames, first=args.first) if args.first else lambda *x: sample(*x).unbind(2)
    with ClipWriter(args.out, denoiser.sample_shape, args.clips, args.frames) as writer:
        for first in tqdm(range(0, args.clips, BLOCK), disable=args.clips <= BLOCK, unit=f"{BLOCK} clips"):
            clips = min(BLOCK, args.clips - first)
            frames = draw(denoiser, clips, args.frames, sampler, args.steps, seeded(args.seed + first, clips))
            for f, frame in enumerate(frames):
                writer.add(f, frame, first)
    print(f"wrote {args.out}: {args.clips} clips of {args.frames} frames, {args.sampler} with {args.steps} "
          f"steps, seed {args.seed}")


def run_extend(args) -> None:
    check_clip_path(args.out)
    whole(1, LONGEST, frames=args.frames)
    whole(0, LARGEST_SEED, seed=args.seed)
    whole(window=args.window, overlap=args.overlap)
    if args.truth and args.frames > TRUE_FRAMES:
        raise ValueError(f"truth is shown beside {TRUE_FRAMES} new frames at most, and frames={args.frames}")
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    writer = ClipWriter(args.out, denoiser.sample_shape, 1 + args.truth, args.overlap + args.frames)
    past, truth, condition, is_digit = _clip_to_extend(args, denoiser)
    new_frames, _ = prepare(denoiser, args.method, past.to(denoiser.device), args.frames, args.window,
                            args.overlap, args.sampler, args.steps, args.seed, True, condition=condition)
    kept, started = [], time.perf_counter()
    with writer:
        for f, frame in enumerate(chain(past.unbind(2), new_frames)):
            if args.truth:
                writer.add(f, truth[:, :, f] if f < truth.shape[2] else torch.full_like(frame, -1.0))
            writer.add(f, frame, int(args.truth))
            kept += [frame.cpu()] if is_digit and f < truth.shape[2] else []
        seconds = (time.perf_counter() - started) / args.frames
    print(f"wrote {args.out}: {args.overlap} frames given, {args.frames} made by {args.method}, "
          f"{seconds:.2f} s each")
    if not is_digit:
        return print("scores are left out, they are for one digit in 32x32")
    if args.frames > TRUE_FRAMES:
        print(f"scores of the first {TRUE_FRAMES} new frames:")
    scores = score_clips(torch.stack(kept, dim=2), truth, args.overlap, args.window - args.overlap)
    scores = {metric: value for _, frame, metric, value in scores if frame is None}
    lasted = int(scores.pop("time_to_first_failure"))
    reason = next(metric for metric in scores if metric.startswith("failed:")).removeprefix("failed:")
    del scores[f"failed:{reason}"]
    print("  ".join(f"{metric} {value:.2f}" for metric, value in scores.items()))
    print(f"first failure: {reason}, at new frame {lasted + 1}" if reason
          else f"no failure in {lasted} new frames")


def _clip_to_extend(args, denoiser):
    """The past (1, c, k, h, w), the clip with what truly follows, the condition, whether it is one digit."""
    c, *size = denoiser.sample_shape
    length = args.overlap + min(args.frames, TRUE_FRAMES)
    if args.video is not None:
        if args.data is not None:
            raise ValueError(f"video={args.video!r} and data={args.data!r} both name clips; give one")
        number(0, at=0 if args.at is None else args.at)
        clip = part_of_video(args.video, tuple(size), c, args.overlap, length, args.at, args.fps)
        return clip[:, :, :args.overlap], clip, None, False
    for name in ("at", "fps"):
        if getattr(args, name) is not None:
            raise ValueError(f"{name}={getattr(args, name)} is for --video; give one, or leave it out")
    data = held_out(denoiser, args.data, num_frames=args.overlap)
    if is_digit := is_one_digit(data):
        check_measures(args.overlap, args.window, args.frames)
    draw = lambda data, length: data.with_frames(length).sample(1, Generator().manual_seed(args.seed))
    try:
        drawn = draw(data, length)
    except DataError:  # these clips are shorter: what truly follows is not known
        if args.truth:
            raise
        drawn = draw(data, args.overlap)
    condition = drawn.condition
    if condition is not None and args.frames > TRUE_FRAMES:  # told to the end, drawn as small as can be
        small = dataclasses.replace(data, size=1) if isinstance(data, Rooms) else data
        condition = draw(small, args.overlap + args.frames).condition
    return drawn.video[:, :, :args.overlap], drawn.video, condition, is_digit


def run_compare(args) -> None:
    check_writable(args.out)
    compute = Compute(accelerator=launched())
    denoiser = checkpoint.load(args.checkpoint, compute.device_or(pick_device(args.device)))
    whole(frames=args.frames, overlap=args.overlap, batch=args.batch)
    data = held_out(denoiser, args.data, args.split, args.overlap + args.frames)
    setting = args.window, args.overlap, args.sampler
    about = dict(command=_command(args, "batch"), checkpoint=args.checkpoint, sha256=denoiser.card["sha256"])
    if compute.is_main and (missing := left_out(data)):
        print(missing)
    compare(denoiser, args.out, args.methods, args.clips, args.seeds, args.frames, *setting, args.steps,
            args.split, details=args.details, features=args.features, about=about, data=data,
            at_once=args.batch, compute=compute)
    if compute.is_main and args.memory:
        measure_memory(args.out, args.methods, args.checkpoint, min(4, args.clips), *setting, args.device)
    if compute.is_main:
        print_results(args.out)


def run_evaluate(args) -> None:
    if args.out is not None:
        check_writable(args.out)
    _check_drawing(args.clips, args.steps, args.seed)
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    result = evaluate(denoiser, args.clips, args.steps, args.seed, True, args.data, args.frames)
    result |= dict(command=_command(args, "out"), checkpoint=args.checkpoint, sha256=denoiser.card["sha256"])
    print(report(result))
    if args.out is not None:
        checkpoint.write_json(args.out, result)


def run_neighbors(args) -> None:
    _check_drawing(args.clips, 25, args.seed)
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    table = neighbors(denoiser, args.clips, seed=args.seed, data=args.data)
    print(f"distance to {table.attrs['to']} (root mean squared difference of pixels in [0, 1], 0 is a copy)")
    print(table.round(3).to_string())


def run_results(args) -> None:
    print_results(args.name, args.csv)


def run_export(args) -> None:
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    about = dict(checkpoint=args.checkpoint, sha256=denoiser.card["sha256"])
    path = export(denoiser, args.out, args.window, args.overlap, **about)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB) and model.json: windows of {args.window} "
          f"frames, {args.overlap} of them past")


def run_doctor(args) -> None:
    lines = dict(python=sys.version.split()[0], torch=torch.__version__, device=pick_device(),
                 threads=torch.get_num_threads(), video=f"PyAV {av.__version__}",
                 recipes=", ".join(recipe_names()))
    for name in checkpoint.shipped():
        lines[f"checkpoint {name}"] = f"{checkpoint.load(name).card['parameters']:,} parameters, sha256 ok"
    if not checkpoint.shipped():
        lines["checkpoints"] = f"none in {checkpoint.folder()}"
    for name, value in lines.items():
        print(f"{name:26} {value}")


def _check_drawing(clips, steps, seed):
    whole(1, 100_000, clips=clips)
    whole(1, 1000, steps=steps)
    whole(0, LARGEST_SEED, seed=seed)


def _command(args, *left_out: str) -> str:
    """A command as a table records it: what must be given first, no device."""
    words = ["vdiff", type(args).__name__.lower()]
    for field in sorted(dataclasses.fields(args), key=lambda field: field.default is not dataclasses.MISSING):
        value = getattr(args, field.name)
        if value is not None and value is not False and field.name not in ("device", *left_out):
            values = [] if value is True else value if isinstance(value, tuple) else [value]
            words += ["--" + field.name.replace("_", "-"), *map(str, values)]
    return shlex.join(words)
