"""`make execute` runs a notebook from its .py, and never overwrites an .ipynb that was edited by hand."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import jupytext
import nbformat
import pytest

TOOL = Path(__file__).resolve().parents[1] / "book" / "_tools" / "execute.py"
spec = importlib.util.spec_from_file_location("execute", TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="no git")


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """NOTEBOOK.py and the .ipynb that was made of it; nothing is really run."""
    monkeypatch.setattr(tool.NotebookClient, "execute", lambda self: None)
    path = tmp_path / "one.py"
    path.write_text("# %%\n1 + 1\n\n# %%\n2 + 2\n")
    tool.main([path])
    return path, path.with_suffix(".ipynb")


def edit(notebook, source):
    content = nbformat.read(notebook, 4)
    content.cells[0].source = source
    nbformat.write(content, notebook)


def git(folder, *words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=folder, check=True,
                   capture_output=True)


def test_an_edit_of_the_py_file_reaches_the_notebook(pair):
    path, made = pair
    path.write_text("# %%\n1 + 3\n")
    tool.main([made])  # either name will do
    assert [cell.source for cell in nbformat.read(made, 4).cells] == ["1 + 3"]


def test_an_edit_of_the_notebook_is_not_overwritten(pair):
    path, made = pair
    other = path.with_name("two.py")
    other.write_text("# %%\n5\n")
    edit(made, "1 + 4")
    before = made.read_bytes()
    with pytest.raises(SystemExit, match=r"one\.ipynb was edited.*jupytext --to py:percent .*one\.ipynb"):
        tool.main([other, path])
    assert made.read_bytes() == before and not other.with_suffix(".ipynb").exists()
    path.write_text(jupytext.writes(jupytext.read(made), "py:percent"))  # what the message says
    tool.main([path])
    assert nbformat.read(made, 4).cells[0].source == "1 + 4"


@needs_git
def test_a_committed_edit_may_be_overwritten(pair):
    path, made = pair
    edit(made, "1 + 4")
    git(path.parent, "init", "-q")
    git(path.parent, "add", ".")
    git(path.parent, "commit", "-qm", "x")
    tool.main([path])
    assert nbformat.read(made, 4).cells[0].source == "1 + 1"
