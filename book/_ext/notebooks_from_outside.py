"""Brings what lies outside book/ into it before a build: the notebooks, and MathJax from a Python package."""

import importlib.util
import json
from pathlib import Path

from glossary_links import link_terms


def setup(app):
    book = Path(app.confdir)
    fresh = {path.name: json.loads(path.read_text()) for path in (book.parent / "notebooks").glob("*.ipynb")}
    link_terms(fresh, (book / "glossary.md").read_text())
    target = book / "notebooks"
    target.mkdir(exist_ok=True)
    for stale in set(path.name for path in target.iterdir()) - set(fresh):
        (target / stale).unlink()
    for name, notebook in fresh.items():
        write_if_changed(target / name, json.dumps(notebook).encode())
    mathjax = Path(importlib.util.find_spec("mathjax").submodule_search_locations[0])
    write_if_changed(book / "_mathjax/tex-svg.js", (mathjax / "static/mathjax/es5/tex-svg.js").read_bytes())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_if_changed(target, content):
    """Keep the old file, and with it its time stamp, where nothing changed: Sphinx then skips the page."""
    target.parent.mkdir(exist_ok=True)
    if not target.exists() or target.read_bytes() != content:
        target.write_bytes(content)
