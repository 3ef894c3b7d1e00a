"""Running a recipe: stage after stage, each from its own state where it was cut off."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Generator

from vdiff_lite import checkpoint
from vdiff_lite.checks import whole
from vdiff_lite.data.batch import ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.sources import clip_source, frame_size
from vdiff_lite.data.video_files import VideoFolder
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.files import check_writable, only_writer
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig
from vdiff_lite.training.compute import Compute
from vdiff_lite.training.log import TrainLog
from vdiff_lite.training.recipe import Recipe, TrainConfig
from vdiff_lite.training.state import data_text, identity
from vdiff_lite.training.trainer import Trainer


def run_recipe(recipe: Recipe, out: str | Path, data: ClipSource | None = None, start_from: str | Path = "",
               device: str | torch.device = "cpu", anyway: bool = False,
               on_step: Callable[[Trainer, Path], None] | None = None,
               compute: Compute | None = None, save_every: float = 5,
               network: VideoUNetConfig | None = None) -> Path:
    """Train by a recipe, or go on where that was cut off. Returns the path of the weights.

    Stage n of several is the checkpoint `out`_stage<n>, the last one `out`; its state lies beside it.
    data, network: as `recipe_data` gives; None means the recipe's.  start_from: a checkpoint
    instead of the recipe's; a state that is there wins over it.  anyway: as in `Trainer.resume`.
    on_step(trainer, path) ends each step.
    compute: precision, parts, processes.  save_every: minutes between two saves. What `TrainLog` writes lies
    in `out`.log.csv. Raises ValueError when start_from holds another network (`keep_what_fits`)
    or another run writes `out` now, CheckpointError when a state is of another run.
    """
    out = check_writable(out)
    if out.suffix in (".safetensors", ".json"):
        raise ValueError(f"out={str(out)!r}: give the name without an ending")
    if data is None:
        data, network = recipe_data(recipe)
    network, compute = network or VideoUNetConfig.preset(recipe.network), compute or Compute()
    start = start_from or recipe.start_from
    with only_writer(out) if compute.is_main else nullcontext():
        for number, config in enumerate(recipe.stages, 1):
            last = number == len(recipe.stages)
            path = out if last else out.with_name(f"{out.name}_stage{number}")
            if compute.is_main:
                print(f"stage {number} of {len(recipe.stages)}: {path}")
            start = _run_stage(recipe, config, network, data, path, start, device, anyway, on_step, compute,
                               save_every)
            compute.wait()
    return start


def recipe_data(recipe: Recipe, source: str | None = None, size: str | int | tuple | None = None,
                channels: int | None = None, fps: float | None = None) -> tuple[ClipSource, VideoUNetConfig]:
    """The clips that a recipe trains on, and the network that fits them.

    source: a text, as `clip_source` reads it, instead of the recipe's;  size, channels: of a frame, instead
    of the network's;  fps: to resample videos to. Videos are decoded now. Raises ValueError for what does
    not fit, DataError for files that cannot be used.
    """
    network, source = VideoUNetConfig.preset(recipe.network), source or recipe.source
    size = network.size if size is None else frame_size(size)
    whole(channels=1 if channels is None else channels)
    channels = channels or (3 if source == "rooms" else network.in_channels)
    network = replace(network, size=size, in_channels=channels)
    if not source:
        if channels != 1 or fps is not None:
            raise ValueError(f"channels={channels}, fps={fps}: the recipe's digits are gray and have no fps; "
                             "give --data, or leave these out")
        return BouncingDigits(size=size, **recipe.data), network
    settings = {} if fps is None else dict(fps=fps)
    if ".py:" not in source:
        settings["num_frames"] = max(stage.frames for stage in recipe.stages)
    data = clip_source(source, size, channels, "train", **settings)
    if isinstance(data, VideoFolder):
        data.decode_all()
    told = data.with_frames(1).sample(1, Generator().manual_seed(0)).condition
    return data, network if told is None else replace(network, condition=told.shape[-1])


def _run_stage(recipe: Recipe, config: TrainConfig, network: VideoUNetConfig, data: ClipSource, path: Path,
               start: str | Path, device, anyway: bool, on_step: Callable | None, compute: Compute,
               save_every: float) -> Path:
    state = path.with_name(path.name + ".state.safetensors")
    torch.manual_seed(config.seed)
    net, schedule, before = VideoUNet(network), NoiseSchedule(**recipe.schedule), []
    say = print if compute.is_main else lambda text: None
    if start and not state.exists():
        first = checkpoint.load(start)
        say(f"starting from {start}: {keep_what_fits(net, first.net, str(start))}")
        before = checkpoint.stages(first.card)
    trainer = Trainer(net, schedule, data, config, device, compute)
    trainer.before = before
    if state.exists():
        trainer.resume(state, anyway)
        say(f"going on from step {trainer.step} of {state}" + f", not from {start}" * bool(start))
        if _finished(path, trainer):
            return checkpoint.weights_path(path)
    say(f"{trainer.parameters / 1e6:.1f} M parameters on {compute.process[1]} x {trainer.device}, "
        f"{trainer.precision}; {config.steps - trainer.step} steps of {config.batch} clips")
    log = TrainLog(path.with_name(path.name + ".log.csv"), trainer)
    for progress in trainer.run(save_to=state, save_every=save_every):
        log.note(progress)
        if on_step and compute.is_main:
            on_step(trainer, path)
    if not compute.is_main:
        return checkpoint.weights_path(path)
    return checkpoint.save(path, trainer.ema_denoiser().net, schedule, recipe=asdict(config),
                           steps=trainer.step, data=data_text(data), loss_curve=loss_curve(trainer.losses),
                           before=trainer.before)


def keep_what_fits(net: VideoUNet, trained: VideoUNet, start_from: str = "") -> str:
    """Give `net` the weights of a trained network, but for those of another shape. Returns what is new.

    The two may differ in what the data decides: size and channels of a frame, patch, condition. Raises
    ValueError for networks that differ in more.
    """
    free = ("in_channels", "size", "patch", "condition")
    if replace(net.config, **{name: getattr(trained.config, name) for name in free}) != trained.config:
        raise ValueError(f"start_from={start_from!r}: its network is {trained.config}, not {net.config}; "
                         f"only {', '.join(free)} may differ")
    own, old = net.state_dict(), trained.state_dict()
    kept = {name: old[name] for name, x in own.items() if name in old and old[name].shape == x.shape}
    net.load_state_dict(own | kept)
    new, count = sorted(own.keys() - kept.keys()), lambda names: sum(own[name].numel() for name in names)
    return f"{count(kept):,} parameters kept, {count(new):,} new" + f" ({', '.join(new)})" * bool(new)


def _finished(path: Path, trainer: Trainer) -> bool:
    """Whether the stage's checkpoint is written: the state has all steps, and the card is of this run."""
    if trainer.step < trainer.config.steps or not checkpoint.weights_path(path).exists():
        return False
    try:
        card, run = checkpoint.verified(checkpoint.weights_path(path))[1], identity(trainer)
    except checkpoint.CheckpointError:  # damaged: written again
        return False
    return (card["recipe"], card["data"], card["steps"]) == (run["recipe"], run["data"], trainer.step)


def loss_curve(losses: list[float], points: int = 200) -> list[list]:
    """A loss curve thin enough to ship: [step, mean loss of the steps since the last point]."""
    size = max(1, len(losses) // points)
    parts = {min(i + size, len(losses)): losses[i:i + size] for i in range(0, len(losses), size)}
    return [[step, sum(part) / len(part)] for step, part in parts.items()]
