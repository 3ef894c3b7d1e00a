"""Checkpoints: safetensors for the weights, json for what a reader wants to know. Never a pickle."""

import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.schedule import NoiseSchedule
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
    path = Path(path).with_suffix(".safetensors")
    write_tensors(path, {name: x.detach().cpu().bfloat16().contiguous() for name, x in tensors.items()})
    write_json(path.with_suffix(".json"), dict(format=kind, sha256=sha256(path), **about))
    return path


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> Denoiser:
    """Build the network of a checkpoint and fill in its weights.

    name_or_path: a shipped name (`shipped()` lists them) or a path to a .safetensors file with its .json
    beside it. Returns a Denoiser in eval mode with `.card`, the json as a dict. Raises CheckpointError when a
    file is missing, is not a checkpoint of this library, or does not match the sha256 that its card gives.
    """
    path, card = verified(name_or_path)
    net = VideoUNet(VideoUNetConfig(**current_config(card["unet"])))
    try:
        tensors, _ = read_tensors(path)
        net.load_state_dict({current_name(name): value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not hold the network that its card describes: {error}") from error
    denoiser = Denoiser(net.to(device).eval().requires_grad_(False), NoiseSchedule(**card["schedule"]))
    denoiser.card = card
    return denoiser


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
    if actual != card["sha256"]:
        raise CheckpointError(f"{path} is damaged: its sha256 is {actual[:12]}..., its card says "
                              f"{card['sha256'][:12]}...; get the file again")
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
    if path.suffix not in (".safetensors", ".json"):
        path = folder() / path if path.parent == Path(".") else path
        path = path.with_name(path.name + ".safetensors")
    if not path.with_suffix(".safetensors").exists():
        names = ", ".join(shipped()) or f"none in {folder()}"
        raise CheckpointError(f"no checkpoint at {path}; shipped ones: {names}")
    return path.with_suffix(".safetensors")


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_tensors(path: str | Path, tensors: dict, **about) -> None:
    """Write a dict of tensors, and `about` as json in the file's header, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    save_file(tensors, beside, metadata={"about": json.dumps(about)})
    with open(beside, "rb+") as file:
        os.fsync(file.fileno())
    os.chmod(beside, 0o644)  # safetensors writes for the owner alone
    os.replace(beside, path)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `write_tensors` wrote: tensors and `about`. Raises CheckpointError for a damaged file."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    return tensors, about


def write_json(path: str | Path, value: dict) -> None:
    beside = Path(path).with_name(Path(path).name + ".part")
    beside.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(beside, path)
