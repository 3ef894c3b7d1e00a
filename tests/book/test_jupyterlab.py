"""Notebooks in JupyterLab, in a real browser: a live slider samples anew; a chapter looks as in the book."""

import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial

import nbformat
import pytest
from opened import ROOT, needs_browser
from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = [pytest.mark.browser, needs_browser]
CHAPTER = "00_tour"
HIDDEN = re.search(r"--ContentsManager\.hide_globs=\S+", (ROOT / "Makefile").read_text()).group()
PATIENCE = 180  # seconds; a laptop starts a kernel and loads torch in a tenth of it

CELLS = ["""
import torch
import vdiff_lite as vd
from vdiff_lite.viz import sliders
from vdiff_lite.methods import history_guidance

denoiser = vd.load("digits32")
past = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(0)).video[:, :, :5]
xt = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(1))
""", """
@torch.no_grad()
def make_clip(weight):
    for step in vd.ddim(history_guidance(denoiser, past, weight), xt, denoiser.schedule, 4):
        yield step.x0_hat[0]

sliders.guidance_slider(make_clip, [0.0, 4.0], alt="A clip.", fine=[0.0, 1.0, 2.0, 4.0])
"""]


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab, as `make lab` opens it, on a folder with a notebook and a chapter."""
    kernel = dict(name="python3", display_name="Python 3", language="python")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS],
                                        metadata=dict(kernelspec=kernel))
    nbformat.write(notebook, tmp_path / "slider.ipynb")
    for ending in (".py", ".ipynb"):
        shutil.copy(ROOT / "notebooks" / f"{CHAPTER}{ending}", tmp_path)
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
               "JUPYTERLAB_WORKSPACES_DIR")
    settings = {name: str(tmp_path / name.lower()) for name in folders} | dict(PYTHONPATH=str(ROOT))
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    subprocess.run([sys.executable, "-m", "jupyter", "trust", f"{CHAPTER}.ipynb"], cwd=tmp_path, check=True,
                   env=os.environ | settings, capture_output=True)
    log = tmp_path / "server.log"  # a pipe that nobody empties would stop the server when it is full
    with log.open("w") as stderr:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0",
                                   "--ServerApp.ip=127.0.0.1", HIDDEN, *root],
                                  cwd=tmp_path, env=os.environ | settings, stderr=stderr)
    try:
        until = time.monotonic() + PATIENCE
        while not (match := re.search(r"(http://127\.0\.0\.1:\d+/)lab\?token=(\w+)", log.read_text())):
            if server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"JupyterLab did not say where it is:\n{log.read_text()}")
            time.sleep(0.2)
        yield lambda name: f"{match[1]}lab/tree/{name}?token={match[2]}&reset"
    finally:
        server.terminate()
        server.wait(30)


def test_moving_the_slider_samples_a_new_clip(browser, lab):
    browser.get(lab("slider.ipynb"))
    # JupyterLab draws cells anew, and things over them, as it pleases.
    passing = [StaleElementReferenceException, ElementClickInterceptedException, IndexError]
    waiting = WebDriverWait(browser, PATIENCE, 0.2, passing)
    wait = lambda what, condition: waiting.until(lambda _: condition(), f"waited for {what}")
    find = lambda selector: browser.find_elements(By.CSS_SELECTOR, selector)
    cells = lambda part="": find(f".jp-Notebook .jp-CodeCell {part}")
    handle = lambda: find(".jupyter-widgets .noUi-handle")[0]
    picture = lambda: find(".jp-OutputArea-output .jupyter-widgets img")[0]

    def run(cell):
        for button in find(".jp-Dialog .jp-mod-accept"):  # on a busy machine it asks for the kernel it has
            button.click()
        cells(".cm-content")[cell].click()
        ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

    def ran(cell):
        """Run a cell; keys that met one that was being drawn anew are lost, and are pressed again."""
        if cells(".jp-InputPrompt")[cell].text.strip() not in ("", "[ ]:"):
            return True
        run(cell)

    def slider_is_there():
        """Whether it is; where JupyterLab still says that it loads the widget, the last cell is run again."""
        if find(".jupyter-widgets .noUi-handle"):
            return True
        if time.monotonic() > runs[-1] + 30:
            runs.append(time.monotonic())
            run(len(CELLS) - 1)

    def moved():
        """Move the slider by one step, unless it has moved."""
        if handle().get_attribute("aria-valuenow") != start:
            return True
        handle().send_keys(Keys.ARROW_RIGHT)

    wait("the cells", lambda: len(cells()) == len(CELLS))
    wait("the kernel", lambda: find(".jp-Notebook-ExecutionIndicator[data-status=idle]"))
    for cell in range(len(CELLS)):
        wait(f"cell {cell} to run", partial(ran, cell))
    runs = [time.monotonic()]
    wait("the slider", slider_is_there)
    start = wait("its value", lambda: handle().get_attribute("aria-valuenow"))
    before = wait("the first clip", lambda: picture().get_attribute("src"))
    wait("the slider to move", moved)
    wait("the second clip", lambda: "guidance weight w: 1.0" in picture().get_attribute("alt"))
    wait("the end of sampling", lambda: not find(".jupyter-widgets em"))
    assert picture().get_attribute("src") != before


def test_a_chapter_is_trusted_and_rendered(browser, lab):
    browser.get(lab(f"{CHAPTER}.ipynb"))
    waiting = WebDriverWait(browser, PATIENCE, 0.5)
    wait = lambda script: waiting.until(lambda _: browser.execute_script(script))
    wait("return document.querySelectorAll('.jp-Notebook .jp-Cell').length > 3")
    files = wait("return [...document.querySelectorAll('.jp-DirListing-itemName')].map(e => e.innerText)")
    assert f"{CHAPTER}.ipynb" in files and f"{CHAPTER}.py" not in files
    # Cells are drawn as they come into view.
    scroll = "document.querySelector('.jp-WindowedPanel-outer').scrollTop += 500; return "
    wait(scroll + "document.querySelector('.jp-Notebook .vdiff-slider canvas')")  # its script has run
    folded = wait(scroll + """[...document.querySelectorAll('.jp-Notebook details')]
        .filter(e => e.innerText.includes('Solutions')).map(e => e.open)""")
    assert not any(folded)
