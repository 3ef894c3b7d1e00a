"""Notebooks where no script runs (GitHub, an untrusted notebook), and where no HTML shows (a diff).

GitHub keeps pictures, tables and text, takes scripts, styles and videos out, and shows what stood inside of a
video. So does `without_scripts`.
"""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from opened import ROOT, needs_browser, visit

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# JavaScript, CSS, HTML, pictures.
CODE = re.compile(r"=>|const |addEventListener|function ?\(|</?[a-z]+[ >]|data:\w+/|[{};]\s*$", re.M)
REPR = re.compile(r"<[\w. ]+(?: object| at 0x)|^(?:VBox|HBox|HTML|Output)\(")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(path):
    """What each output shows: {MIME type: text}."""
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []):
            yield output["data"] if "data" in output else {"text/plain": output["text"]}


def without_scripts(html):
    page = BeautifulSoup(html, "html.parser")
    for element in page.find_all(["script", "style"]):
        element.decompose()
    for element in page.find_all(["video", "button", "input", "label", "output"]):
        element.unwrap()
    for element in page.find_all(style=True):
        del element["style"]
    return page


@each
def test_every_output_has_a_text_to_read(path):
    for data in outputs(path):
        if not any(kind.startswith("image/") for kind in data):
            text = data["text/plain"]
            assert len(text) > 2 and not REPR.search(text), text[:100]
            assert "<script" not in text and "data:image" not in text, text[:100]
            assert "<" not in text or "text/html" not in data, text[:100]


@each
def test_no_markdown_has_a_script(path):
    text = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    assert [source for source in text if re.search("<(script|style)", source)] == []


@each
def test_without_scripts_a_picture_is_left_and_no_code(path):
    for data in outputs(path):
        if "text/html" in data:
            page = without_scripts(data["text/html"])
            text = page.get_text("\n")
            assert not CODE.search(text), CODE.search(text)
            pictures = page.find_all("img", src=re.compile("^data:image/"), alt=re.compile(r"\w+ \w+"))
            moving = re.findall("<figure|<video", data["text/html"])
            assert bool(pictures) == bool(moving) and (pictures or page.find("table"))


@needs_browser
@pytest.mark.browser
@each
def test_without_scripts_every_picture_shows(browser, tmp_path, path):
    html, _ = HTMLExporter(template_name="basic").from_filename(str(path))
    shown = tmp_path / f"{path.stem}.html"
    shown.write_text(f"<!DOCTYPE html><meta charset=utf-8><title>x</title>{without_scripts(html)}")
    visit(browser, shown.as_uri())
    broken = "return [...document.images].filter(i => !i.naturalWidth || i.clientWidth < 96).map(i => i.alt)"
    assert browser.execute_script(broken) == []
    text = browser.execute_script("return document.body.innerText")
    assert not re.search("data:image|vdiff-slider|=>", text)
