"""Files that are whole or not there, one writer at a time, and what a reader's own Python file defines."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def check_writable(path: str | Path, name: str = "out") -> Path:
    """The path, when a file can be made there. Raises ValueError, with the argument's name, when not."""
    folder = next((parent for parent in Path(path).absolute().parents if parent.exists()), Path("/"))
    fault = ("it names no file" if Path(path).name in ("", "..") else
             "there is a folder of that name" if Path(path).is_dir() else
             f"{folder} is no folder" if not folder.is_dir() else
             f"{folder} is read-only" if not os.access(folder, os.W_OK) else "")
    if fault:
        raise ValueError(f"{name}={str(path)!r} cannot be written: {fault}; choose another place")
    return Path(path)


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside its place, then move it there.

    A crash or a full disk leaves the file that was there before, and nothing beside it but after a kill.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)  # safetensors writes for the owner alone
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Hold `path`.lock, in which the process's number stands; the system lets go of it when a process ends.

    Raises ValueError where another run holds it.
    """
    place = Path(f"{path}.lock")
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        number = place.read_text() if os.name == "posix" else ""
        raise ValueError(f"{path} is being written by another run (process {number or 'unknown'}); wait for "
                         "it, or choose another place") from None
    try:
        if os.name == "posix":
            place.write_text(str(os.getpid()))
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            place.unlink()
        lock.release()


def named_in_file(text: str) -> Any:
    """What NAME is in a Python file, of the text "mine.py:NAME". Raises ValueError where there is no such."""
    path, _, name = text.rpartition(":")
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file; give the Python file that defines {name}")
    try:
        module = _module(Path(path).resolve(), Path(path).stat().st_mtime_ns)
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{path} defines no {name}")
    return getattr(module, name)


@lru_cache
def _module(path: Path, changed: int):
    """A Python file, run once for each time that it was changed."""
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
