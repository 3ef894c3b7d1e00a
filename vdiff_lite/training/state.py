"""The state of a training run as a file: written, and taken up again under the same recipe and data."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from vdiff_lite import checkpoint
from vdiff_lite.data.batch import ClipSource
from vdiff_lite.training.loop import DivergedError
from vdiff_lite.training.recipe import differing


def write(path: str | Path, trainer, losses: list[float]) -> None:
    """Write all that a Trainer needs to go on. Raises DivergedError for what is not finite."""
    tensors = {f"ema.{name}": value for name, value in trainer.ema.module.state_dict().items()}
    tensors |= {f"net.{name}": value for name, value in trainer.net.state_dict().items()}
    for i, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    try:
        checkpoint.write_state(path, tensors, run=identity(trainer), step=trainer.step, losses=losses,
                               before=trainer.before)
    except ValueError as error:
        raise DivergedError(f"step {trainer.step}: {error}") from error


def take_up(path: str | Path, trainer, anyway: bool = False) -> None:
    """Fill a Trainer from a file that `write` made. Raises CheckpointError as `Trainer.resume` says."""
    tensors, about = checkpoint.read_state(path)
    differences = differing(dict(schedule=str(trainer.schedule)) | about.get("run", {}), identity(trainer))
    if differences and (not anyway or any(name.startswith("network") for name in differences)):
        listed = "; ".join(f"{k}: {old!r} there, {new!r} here" for k, (old, new) in differences.items())
        raise checkpoint.CheckpointError(f"{path} was written by another run ({listed}); choose another "
                                         "place, or insist with anyway=True (--anyway), network apart")
    if about["step"] > trainer.config.steps:
        raise checkpoint.CheckpointError(f"{path} has {about['step']} steps behind it, and steps="
                                         f"{trainer.config.steps} asks for fewer; choose another place")
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    for module, prefix in ((trainer.net, "net."), (trainer.ema.module, "ema.")):
        module.load_state_dict(checkpoint.fitting(part(prefix), module.state_dict()))
    state = trainer.optimizer.state_dict()
    state["state"] = {}
    for name, value in part("optimizer.").items():
        i, key = name.split(".")
        state["state"].setdefault(int(i), {})[key] = value
    trainer.optimizer.load_state_dict(state)
    trainer.step, trainer._losses, trainer.before = about["step"], about["losses"], about.get("before", [])
    trainer.ema.n_averaged.fill_(trainer.step + 1)


def identity(trainer) -> dict:
    """Which run this is: network, schedule, recipe with its seed, data."""
    config = getattr(trainer.net, "config", None)
    return dict(network=config.to_dict() if hasattr(config, "to_dict") else type(trainer.net).__name__,
                schedule=str(trainer.schedule), recipe=json.loads(json.dumps(asdict(trainer.config))),
                data=data_text(trainer.data))


def data_text(data: ClipSource) -> str:
    """What a card says of the data: its repr, or its type where that would be an address in memory."""
    return type(data).__qualname__ if type(data).__repr__ is object.__repr__ else str(data)
