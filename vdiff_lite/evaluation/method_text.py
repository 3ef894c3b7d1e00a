"""A method and its settings as text: what a command line, a table and a chapter write."""

import ast
import re
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Generator, Tensor

from vdiff_lite import checkpoint
from vdiff_lite.checks import whole
from vdiff_lite.diffusion.denoiser import Denoiser, Method
from vdiff_lite.files import named_in_file
from vdiff_lite.methods import METHODS, load_history
from vdiff_lite.models.history_encoder import HistoryEncoder

PROVIDED = {"anchor", "generator", "cache", "record"}  # arguments that are no settings
SAMPLER_SETTINGS = ("start", "repeats")  # of any method: the level a window begins at, RePaint's repeats
RENAMED = dict(history_cfg="history_guidance", fractional_history="fractional_history_guidance",
               temporal_history="temporal_history_guidance", append="prepend", share="fraction",
               resampled="repaint")


def parse_method(text: str | Method) -> tuple[str, dict]:
    """'reconstruction:weight=10,norm=mean' -> (name, settings). Raises ValueError for what does not exist.

    A method of your own is 'mine.py:my_method:weight=2', a function (denoiser, past, **settings) -> denoiser
    in a Python file, or that function itself, under its __name__. What its arguments `generator`, `anchor`
    and `record` get, `bind` says. Any method takes start=t, to begin with the past's last frame noised to
    level t, and repeats=n, to take each step n times (`repaint`).
    """
    if not isinstance(text, str):
        return getattr(text, "__name__", str(text)), {}
    name, colon, rest = re.fullmatch(r"(.+?\.py:[^:]*|[^:]*)(:?)(.*)", text, re.DOTALL).groups()
    defaults = {key: p.default for key, p in _parameters(name).items() if key not in PROVIDED}
    settings = {}
    for item in re.split(r",(?![^{]*\})", rest) if colon else []:
        key, value = parse_setting(item)
        if key in settings:
            raise ValueError(f"{text!r}: {key} is given twice; give it once")
        settings[key] = tuple(value.split("+")) if isinstance(value, str) and "+" in value else value
    known = [*defaults, *SAMPLER_SETTINGS]
    for key in settings:
        if key not in known:
            raise ValueError(f"{text!r}: {name} has no setting {key}; {new_name(key)}it has "
                             f"{', '.join(known)}")
    for key, default in defaults.items():
        _check_kind(text, key, settings.get(key, default), default)
    whole(**{key: settings[key] for key in SAMPLER_SETTINGS if key in settings})
    return name, settings


def _function(method):
    """What a method's name, or the function itself, stands for."""
    if not isinstance(method, str):
        return method
    if ".py:" in method:
        return named_in_file(method)
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; {new_name(method)}choose from {', '.join(METHODS)}, "
                         "or give mine.py:NAME")
    return METHODS[method]


def _parameters(method):
    """The parameters of a method after denoiser and past. Raises ValueError where it cannot be called so."""
    function = _function(method)
    parameters = [*signature(function).parameters.items()] if callable(function) else []
    if len(parameters) < 2:
        raise ValueError(f"{method} is no method: it must take (denoiser, past, **settings) and return a "
                         "denoiser")
    return dict(parameters[2:])


def new_name(name: str) -> str:
    """For an error about a name that has changed: what it is now, else nothing."""
    return f"its name is now {RENAMED[name]}; " if name in RENAMED else ""


def _check_kind(text, key, value, default):
    """Raise ValueError unless a setting is of its default's kind."""
    if key == "weights" and not isinstance(value, dict):
        raise ValueError(f"{text!r}: weights must be {{frames: weight, ...}}, as in "
                         "temporal_history_guidance:weights={5:1.5,2:0.5}")
    for kind, accepted, wording in ((bool, bool, "True or False"), ((int, float), (int, float), "a number"),
                                    (str, str, "text"),
                                    (tuple, (str, tuple), "a name, or several with + between them")):
        if isinstance(default, kind):
            if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
                raise ValueError(f"{text!r}: {key}={value!r} must be {wording}")
            return


def parse_setting(text: str) -> tuple[str, Any]:
    """'weight=10' -> ("weight", 10): a value in Python's notation, nan, inf, or any other text.

    Raises ValueError where there is no =.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is no setting; write NAME=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, float(value) if value.strip("+-") in ("nan", "inf") else value


def bind(text: str | Method, generator: Generator | None = None, context: Tensor | None = None,
         encoder: HistoryEncoder | None = None, record: list | None = None) -> Method:
    """A method with its settings, ready for `rollout`: (denoiser, past) -> denoiser.

    generator: for methods that draw noise of their own;  context: the frames given at the start, for methods
    with an argument `anchor`;  encoder: what history_encoder's setting `encoder` names, loaded
    (`with_encoder`);  record: a list for methods that record each step.
    """
    name, settings = parse_method(text)
    method = name if isinstance(text, str) else text
    provided = dict(record=record, anchor=context, generator=generator, encoder=encoder)
    settings = {key: value for key, value in settings.items() if key not in SAMPLER_SETTINGS}
    settings |= {k: v for k, v in provided.items() if v is not None and k in _parameters(method)}
    return partial(_function(method), **settings)


def with_encoder(denoiser: Denoiser, text: str | Method) -> tuple[Denoiser, HistoryEncoder | None]:
    """(denoiser, encoder) as a method wants them: the given denoiser and None, but for history_encoder.

    Its setting `encoder` names a pair trained together, in data/checkpoints/history/ ("digits32_5_8": of
    digits32, reads 5 frames, 8 numbers), or is the path of one. Raises ValueError when that was trained with
    other weights than the denoiser's.
    """
    name, settings = parse_method(text)
    if name != "history_encoder":
        return denoiser, None
    chosen = str(settings.get("encoder", "digits32_5_8"))
    own = Path(chosen) if Path(chosen).name != chosen else None  # a path of the reader's own
    path = own or checkpoint.folder() / "history" / chosen
    trained, encoder = load_history(path, denoiser.device)
    if trained.card["sha256"] != getattr(denoiser, "card", {}).get("sha256"):
        raise ValueError(f"{text!r}: {path.name} was trained with other weights than those of this denoiser")
    return trained, encoder
