"""Checkpoints: safetensors for the weights, json for what a reader wants to know. Never a pickle."""

import hashlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.files import write_whole
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig

FORMAT = "vdiff_lite-1"

# Names that have changed: files written before load as before.
RENAMED_TENSORS = [(r"(^|\.)time_embedding\.", r"\1noise_embedding."),
                   (r"((?:encoder|decoder)\.\d+\.temporal|middle\.\d+)\.(q|k|v|out)\.", r"\1.attention.\2.")]
RENAMED_CONFIG = {"time_channels": "noise_channels"}
TRACKING = ("follow", "foresee")


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or was made by something else."""


def folder() -> Path:
    """Where checkpoints lie: $VDIFF_CHECKPOINTS, else the repository's data/checkpoints or the package."""
    if "VDIFF_CHECKPOINTS" in os.environ:
        return Path(os.environ["VDIFF_CHECKPOINTS"])
    package = Path(__file__).resolve().parent
    repository = package.parent / "data" / "checkpoints"
    return repository if repository.is_dir() else package / "checkpoints"


def shipped() -> list[str]:
    """Names that `load` finds without a path."""
    return sorted(path.stem for path in folder().glob("*.json") if path.with_suffix(".safetensors").exists())


def weights_path(name: str | Path) -> Path:
    """NAME.safetensors, of a name with or without that ending: "lr0.01" and "lr0.02" are two names."""
    name = Path(name)
    return name if name.suffix == ".safetensors" else name.with_name(name.name + ".safetensors")


def save(path: str | Path, net: VideoUNet, schedule: NoiseSchedule, **about) -> Path:
    """Write NAME.safetensors (weights) and NAME.json (how to build the network, its sha256, and `about`).

    Each file is written beside its place and moved there, so a crash leaves the old file or the new one.
    Returns the path of the weights.
    """
    return write(path, net.state_dict(), FORMAT, unet=net.config.to_dict(), schedule=schedule.config(),
                 parameters=sum(p.numel() for p in net.parameters()), **about)


def write(path: str | Path, tensors: dict, kind: str, **about) -> Path:
    """Write tensors in bfloat16, and a card beside them: `kind` as its format, their sha256, and `about`.

    Networks compute in float32 all the same. Returns the path.
    """
    path = weights_path(path)
    write_tensors(path, {name: x.detach().cpu().bfloat16().contiguous() for name, x in tensors.items()})
    write_json(path.with_suffix(".json"), dict(format=kind, sha256=sha256(path), **about))
    return path


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> Denoiser:
    """Build the network of a checkpoint and fill in its weights.

    name_or_path: a shipped name (`shipped()` lists them) or a path to a .safetensors file with its .json
    beside it. Returns a Denoiser in eval mode with `.card`, the json as a dict. Raises CheckpointError when a
    file is missing, is not a checkpoint of this library, does not match the sha256 that its card gives, or
    holds other tensors than the card's network has, or some that are not finite.
    """
    path, card = verified(name_or_path)
    try:
        config, schedule = VideoUNetConfig(**current_config(card["unet"])), NoiseSchedule(**card["schedule"])
        with torch.device("meta"):  # shapes without memory, whatever the card asks for
            expected = VideoUNet(config).state_dict()
        tensors = fitting(read_tensors(path)[0], expected)
        net = VideoUNet(config)
        net.load_state_dict(tensors)
        denoiser = Denoiser(net.to(device).eval().requires_grad_(False), schedule)
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"the card has no {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path} does not hold the network that its card describes: {reason}; get both "
                              "files again") from error
    denoiser.card = card
    return denoiser


def fitting(tensors: dict, expected: dict) -> dict:
    """The tensors of a file in float32, under today's names;  expected: a state_dict of the same shapes.

    Raises ValueError for others, and for what is not finite.
    """
    tensors = {current_name(name): x for name, x in tensors.items()}
    for name in [*expected, *tensors]:
        there, here = (tuple(x[name].shape) if name in x else "none" for x in (tensors, expected))
        if there != here:
            raise ValueError(f"the shape of {name} is {there} in the file, {here} by the card")
        if not tensors[name].is_floating_point() or not tensors[name].isfinite().all():
            raise ValueError(f"{name} ({tensors[name].dtype}) must hold finite numbers, no whole ones")
    return {name: x.float() for name, x in tensors.items()}


def current_name(name: str) -> str:
    """The name that a tensor of an older file has today."""
    for old, new in RENAMED_TENSORS:
        name = re.sub(old, new, name)
    return name


def current_config(config: dict) -> dict:
    """The configuration of an older card in today's names.

    Raises CheckpointError for a network that tracked what moves, which version 0.3 no longer builds.
    """
    if any(config.get(name) for name in TRACKING):
        raise CheckpointError("this network tracked what moves (follow, foresee), and that is no longer "
                              "built; load it with vdiff_lite 0.2, or train again")
    return {RENAMED_CONFIG.get(name, name): value for name, value in config.items() if name not in TRACKING}


def verified(name_or_path: str | Path, kind: str = FORMAT) -> tuple[Path, dict]:
    """The path of the weights, and their card. Raises CheckpointError for what is missing or damaged."""
    path = _find(name_or_path)
    card, actual = read_card(path, kind), sha256(path)
    if actual != card.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its sha256 is {actual[:12]}..., its card says "
                              f"{str(card.get('sha256'))[:12]}...; get the file again")
    return path, card


def read_card(path: str | Path, kind: str = FORMAT) -> dict:
    """The json of a checkpoint as a dict. Raises CheckpointError when it is missing or not of this kind."""
    path = _find(path).with_suffix(".json")
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: a checkpoint's card lies beside its weights") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's card: {error}") from error
    if not isinstance(card, dict) or card.get("format") != kind:
        actual = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise CheckpointError(f"{path} has format {actual!r}; {kind!r} is wanted here")
    return card


def stages(card: dict) -> list[dict]:
    """How a checkpoint was trained, from its card: dicts of recipe, steps, data, loss_curve, sha256.

    A run that began with the weights of another checkpoint has that one's stages in its card, under "before".
    """
    last = {key: card[key] for key in ("recipe", "steps", "data", "loss_curve", "sha256")}
    return [*card.get("before", []), last]


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    path = weights_path(path.with_suffix("") if path.suffix == ".json" else path) if path.name else path
    if os.path.basename(name_or_path) == str(name_or_path) and (folder() / path).exists():
        path = folder() / path  # a shipped name; ./NAME is a file here
    if not path.is_file():
        names = ", ".join(shipped()) or f"none in {folder()}"
        raise CheckpointError(f"no checkpoint at {path}; shipped ones: {names}")
    return path


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_tensors(path: str | Path, tensors: dict, **about) -> None:
    """Write a dict of tensors, and `about` as json in the file's header, atomically.

    Raises ValueError, before the old file is touched, for tensors that are not finite, and OSError for a full
    disk.
    """
    for name, x in tensors.items():
        if x.is_floating_point() and not x.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite; {path} is left as it was")
    try:
        write_whole(path, lambda file: save_file(tensors, file, metadata={"about": json.dumps(about)}))
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `write_tensors` wrote: tensors and `about`. Raises CheckpointError for a damaged file."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors, about


def previous(path: str | Path) -> Path:
    """Where the state before the last one is kept."""
    return Path(path).with_suffix(".previous.safetensors")


def write_state(path: str | Path, tensors: dict, **about) -> None:
    """As `write_tensors`, with a sha256 in the header; the state before this one is kept at `previous`."""
    if Path(path).exists():
        write_whole(previous(path), lambda file: shutil.copyfile(path, file))
    write_tensors(path, tensors, **about, sha256=_digest(tensors, about))


def read_state(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `write_state` wrote; where it is damaged, the one before, with a warning.

    Raises CheckpointError when neither can be read.
    """
    try:
        tensors, about = read_tensors(path)
        expected = about.pop("sha256", None)  # there was none before version 0.3
        if expected not in (None, _digest(tensors, about)):
            raise CheckpointError(f"{path} is damaged: it does not hold what its sha256 says")
        return tensors, about
    except CheckpointError as error:
        if path == previous(path) or not previous(path).exists():
            raise
        warnings.warn(f"{error}; going on from the save before, {previous(path)}", stacklevel=2)
    return read_state(previous(path))


def _digest(tensors, about):
    digest = hashlib.sha256(json.dumps(about).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_json(path: str | Path, value: dict) -> None:
    write_whole(path, lambda file: file.write_text(json.dumps(value, indent=1) + "\n"))
