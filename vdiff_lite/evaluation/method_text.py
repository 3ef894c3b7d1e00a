"""A method and its settings as text: what a command line, a table and a chapter write."""

from __future__ import annotations

import ast
import re
from functools import partial
from inspect import signature

from vdiff_lite import checkpoint
from vdiff_lite.methods import METHODS, load_history

SEEDED = {"replacement", "injection"}  # methods that draw noise of their own
PROVIDED = {"denoiser", "past", "anchor", "generator", "cache", "record"}  # arguments that are no settings
SAMPLER_SETTINGS = ("start", "repeats")  # settings that any method takes: the level a window begins at (`rollout`), and how often each step is taken
ANCHORED = {"anchored_history"}  # methods that keep the frames given at the start


def parse_method(text):
    """'reconstruction:weight=10,norm=mean' -> (name, options). Raises ValueError for a method or a setting that does not exist.

    Any method takes start=t, to begin with the past's last frame noised to level t, and repeats=n, to take each step n times (`resampled`).
    """
    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; choose from {', '.join(METHODS)}")
    options, settings = {}, {key: p.default for key, p in signature(METHODS[name]).parameters.items() if key not in PROVIDED}
    for item in filter(None, re.split(r",(?![^{]*\})", rest)):
        key, value = parse_setting(item)
        options[key] = tuple(value.split("+")) if isinstance(value, str) and "+" in value else value
    known = [*settings, *SAMPLER_SETTINGS]
    if set(options) - set(known):
        raise ValueError(f"{text!r}: {name} has no setting {', '.join(sorted(set(options) - set(known)))}; it has {', '.join(known)}")
    for key, default in settings.items():
        _check_kind(text, key, options.get(key, default), default)
    for key in SAMPLER_SETTINGS:
        if type(options.get(key, 1)) is not int or options.get(key, 1) < 1:
            raise ValueError(f"{text!r}: {key}={options[key]} must be a whole number of 1 or more")
    return name, options


def _check_kind(text, key, value, default):
    """Raise ValueError unless a setting is of the kind of its default: a number, True or False, text, or several texts."""
    if key == "weights" and not isinstance(value, dict):
        raise ValueError(f"{text!r}: weights must be {{frames: weight, ...}}, as in temporal_history_guidance:weights={{5:1.5,2:0.5}}")
    for kind, of, said in ((bool, bool, "True or False"), ((int, float), (int, float), "a number"), (str, str, "text"),
                           (tuple, (str, tuple), "a name, or several with + between them")):
        if isinstance(default, kind):
            if not isinstance(value, of) or (kind is not bool and isinstance(value, bool)):
                raise ValueError(f"{text!r}: {key}={value!r} must be {said}")
            return


def parse_setting(text):
    """'weight=10' -> ("weight", 10), with a value in Python's notation, nan, inf, or any other text. Raises ValueError where there is no =."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is no setting; write NAME=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, float(value) if value.strip("+-") in ("nan", "inf") else value


def bind(text, generator=None, num_context=None, encoder=None, record=None):
    """A method with its settings, ready for `rollout`: (denoiser, past) -> denoiser.

    given: the frames given at the start;  encoder: what history_encoder's setting `encoder` names, loaded (`with_encoder`);
    record: a list for methods that say what they did at each step.
    """
    name, options = parse_method(text)
    options = {key: value for key, value in options.items() if key not in SAMPLER_SETTINGS}
    if record is not None and "record" in signature(METHODS[name]).parameters:
        options["record"] = record
    if name in ANCHORED:
        options["anchor"] = num_context
    if generator is not None and name in SEEDED:
        options["generator"] = generator
    if encoder is not None:
        options["encoder"] = encoder
    return partial(METHODS[name], **options)


def with_encoder(denoiser, text):
    """(denoiser, encoder) as a method wants them: for history_encoder those trained together, where its setting `encoder` names a file of
    data/checkpoints/history/ ("digits32_5_8": of digits32, reads 5 frames, 8 numbers); else the given denoiser and None.

    Raises ValueError when the encoder was trained with other weights than the denoiser's.
    """
    name, options = parse_method(text)
    if name != "history_encoder":
        return denoiser, None
    path = checkpoint.folder() / "history" / options.get("encoder", "digits32_5_8")
    heard, encoder = load_history(path, denoiser.device)
    if heard.card["sha256"] != getattr(denoiser, "card", {}).get("sha256"):
        raise ValueError(f"{text!r}: {path.name} was trained with other weights than those of this denoiser")
    return heard, encoder
