"""With the address of a repository the site has launch buttons that lead to its files; without, none."""

import builtins
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import jupytext
import nbformat
import pytest
import yaml
from opened import ROOT

spec = importlib.util.spec_from_file_location("repository", ROOT / "book" / "_ext" / "repository.py")
repository = importlib.util.module_from_spec(spec)
spec.loader.exec_module(repository)

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
URL = "https://github.com/someone/some-book"
PAGES = ["errata", "notebooks/00_tour"]


@pytest.mark.parametrize("named, known", [
    (URL, (URL, "main")),
    (f"{URL}.git", (URL, "main")),
    (f"{URL}/tree/a/branch", (URL, "a/branch")),
    ("git@github.com:someone/some-book.git", (URL, "main")),
    ("ssh://git@github.com/someone/some-book", (URL, "main")),
    ("", None),
    ("/some/folder/book.git", None),
    ("https://user:secret@github.com/someone/some-book", None),
    ("https://example.com/github.com/someone/some-book", None),
])
def test_the_address_is_that_of_origin(monkeypatch, named, known):
    monkeypatch.delenv("VDIFF_REPOSITORY", raising=False)
    monkeypatch.setattr(repository, "origin", lambda: named)
    assert repository.address() == known


def test_the_variable_comes_first_and_is_checked(monkeypatch):
    monkeypatch.setattr(repository, "origin", lambda: URL)
    monkeypatch.setenv("VDIFF_REPOSITORY", "https://github.com/other/one")
    assert repository.address() == ("https://github.com/other/one", "main")
    monkeypatch.setenv("VDIFF_REPOSITORY", "some-book")
    with pytest.raises(ValueError, match=r"VDIFF_REPOSITORY=some-book is no address.*OWNER/NAME"):
        repository.address()


def build(folder, named):
    """Two pages of the book, built with its configuration where no git repository is: {page: html}."""
    book = folder / "book"
    for name in ("_ext", "_assets"):
        shutil.copytree(ROOT / "book" / name, book / name)
    for name in ("errata.md", "glossary.md", "references.bib"):
        shutil.copy(ROOT / "book" / name, book)
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "00_tour.ipynb", folder / "notebooks")
    config = (ROOT / "book" / "_config.yml").read_text()
    for heavy in ("      - model_in_the_page\n", ", _web, _web_built"):
        assert heavy in config
        config = config.replace(heavy, "")
    (book / "_config.yml").write_text(config)
    (book / "_toc.yml").write_text(f"format: jb-book\nroot: {PAGES[0]}\nchapters:\n- file: {PAGES[1]}\n")
    program = Path(sys.executable).parent / "jupyter-book"
    built = subprocess.run([program, "build", book, "--quiet"], capture_output=True, text=True,
                           env=os.environ | dict(VDIFF_REPOSITORY=named, GIT_DIR=str(folder)))
    assert built.returncode == 0, built.stderr[-2000:]
    return {page: (book / "_build" / "html" / f"{page}.html").read_text() for page in PAGES}


def links(html):
    return {link for link in re.findall(r'href="(https?://[^"]+)"', html) if "someone" in link}


def test_with_an_address_links_lead_to_files_of_the_repository(tmp_path):
    html = build(tmp_path, f"{URL}/tree/draft")
    chapter = links(html["notebooks/00_tour"])
    assert {"https://colab.research.google.com/github/someone/some-book/blob/draft/notebooks/00_tour.ipynb",
            "https://mybinder.org/v2/gh/someone/some-book/draft?urlpath=lab/tree/notebooks/00_tour.ipynb",
            f"{URL}/blob/draft/notebooks/00_tour.py?plain=1", f"{URL}/issues", URL} <= chapter
    other = links(html["errata"])
    assert {f"{URL}/blob/draft/book/errata.md?plain=1", f"{URL}/issues", URL} <= other
    assert not [link for link in other if "colab" in link or "binder" in link]
    assert f'in <a href="{URL}/issues">the issue tracker</a>, with the chapter' in html["errata"]
    files = [re.split("/draft/|lab/tree/", link)[-1] for link in chapter | other if "/draft" in link]
    assert len(files) == 4
    assert [name for name in files if not (ROOT / urlsplit(name).path).is_file()] == []


def test_without_an_address_there_are_words_and_no_buttons(tmp_path):
    for page, html in build(tmp_path, "").items():
        assert "report them in the issue tracker of the repository that this book came with" in html, page
        assert not re.search(r"colab\.research|mybinder|github.com/None|issues/new", html), page
        assert "launch-buttons" not in html and "source-buttons" not in html


def test_binder_installs_the_package_and_the_python_of_the_environment():
    """repo2docker, which Binder runs, reads a Python version in the form python=3.11 alone (2026.4.0)."""
    needs = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert [need for need in needs if re.fullmatch(r"python=3\.\d+", str(need))]
    assert "-e ." in needs[-1]["pip"]
    assert not [name for name in ("binder", ".binder") if (ROOT / name).exists()]  # would be read instead


def first_code_cell(path):
    return next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_the_package_where_it_is_missing(monkeypatch, path):
    cell, ran = first_code_cell(path), []
    assert cell.source == first_code_cell(NOTEBOOKS[0]).source
    assert cell.metadata["tags"] == ["remove-cell"] and cell.metadata["jupyter"]["source_hidden"]
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    monkeypatch.setattr(builtins, "input", lambda question: URL)
    exec(cell.source, {})
    assert ran == []  # here it is installed
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(cell.source, {})
    assert [command[:2] for command in ran] == [["git", "clone"], [sys.executable, "-m"]]
    assert ran[0][-2:] == [URL, ran[1][-1].split("[")[0]] and ran[0][-1] in sys.path


def test_the_address_is_written_into_both_files_of_a_notebook(tmp_path):
    for ending in ("ipynb", "py"):
        shutil.copy(NOTEBOOKS[0].with_suffix(f".{ending}"), tmp_path)
    for url in ("https://github.com/other/one", URL):
        repository.write_into_notebooks(url, tmp_path)
        read = [[cell.source for cell in jupytext.read(path).cells] for path in sorted(tmp_path.iterdir())]
        assert read[0] == read[1] and sum(f'repository = "{url}"' in source for source in read[0]) == 1
