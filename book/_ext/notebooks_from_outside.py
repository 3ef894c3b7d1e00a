"""Brings what lies outside book/ into it before a build: the notebooks, and MathJax from a Python package."""

import importlib.util
import shutil
from pathlib import Path


def setup(app):
    book = Path(app.confdir)
    fresh = {path.name: path for path in sorted((book.parent / "notebooks").glob("*.ipynb"))}
    target = book / "notebooks"
    target.mkdir(exist_ok=True)
    for stale in set(path.name for path in target.iterdir()) - set(fresh):
        (target / stale).unlink()
    for name, path in fresh.items():
        copy_if_changed(path, target / name)
    mathjax = Path(importlib.util.find_spec("mathjax").submodule_search_locations[0])
    copy_if_changed(mathjax / "static/mathjax/es5/tex-svg.js", book / "_mathjax/tex-svg.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def copy_if_changed(source, target):
    """Keep the old file, and with it its time stamp, where nothing changed: Sphinx then skips the page."""
    target.parent.mkdir(exist_ok=True)
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)
