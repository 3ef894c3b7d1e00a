"""The built book in a real browser: nothing broken, nothing fetched from elsewhere, sliders that move."""

import re

import pytest
from opened import LOCAL, ROOT, SITE, needs_browser, visit
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

TOC = (ROOT / "book" / "_toc.yml").read_text()
PAGES = [f"{name}.html" for name in re.findall(r"(?:root|file): (\S+)", TOC)]
CHAPTERS = [page for page in PAGES if re.match(r"notebooks/\d\d_", page)]

pytestmark = pytest.mark.browser


def test_the_book_was_built():
    assert (SITE / "index.html").exists(), "run: make book"
    assert [page for page in PAGES if not (SITE / page).exists()] == []


def test_every_notebook_has_its_page():
    notebooks = {f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == {page for page in PAGES if page.startswith("notebooks/")} and len(CHAPTERS) == 13


def test_pages_hold_the_outputs_of_their_notebooks():
    for page in PAGES:
        if page.startswith("notebooks/"):
            html = (SITE / page).read_text()
            assert html.count('class="cell_output') >= (8 if page in CHAPTERS else 1), page
            assert "vdiff-slider" in html or page not in CHAPTERS, page


@needs_browser
@pytest.mark.parametrize("page", CHAPTERS)
def test_sliders_change_the_picture(browser, address, page):
    visit(browser, address + page)
    sliders = browser.find_elements(By.CLASS_NAME, "vdiff-slider")
    assert sliders
    pause(browser)

    def pictures():
        return browser.execute_async_script("""const done = arguments[0];
            const canvases = [...document.querySelectorAll('.vdiff-slider')]
                .map(root => [...root.querySelectorAll('canvas')]);
            setTimeout(() => done(canvases.map(group => group.map(one => one.toDataURL()).join())), 60);""")

    for i, slider in enumerate(sliders):
        for axis in slider.find_elements(By.CSS_SELECTOR, "[data-axis]"):
            before = pictures()
            down, up = axis.find_elements(By.TAG_NAME, "button")
            handle = axis.find_element(By.TAG_NAME, "input")
            there, back, key = up, down, Keys.ARROW_RIGHT
            if handle.get_attribute("value") == handle.get_attribute("max"):
                there, back, key = down, up, Keys.ARROW_LEFT
            there.click()
            if pictures() == before:  # clips may be the same: clean keys and values are the window itself
                there.click()  # one further; from here on, the step between the two that differ
            after = pictures()
            assert after[i] != before[i] and after[:i] + after[i + 1:] == before[:i] + before[i + 1:]
            back.click()
            assert pictures() == before
            handle.send_keys(key)
            assert pictures() == after
            value = axis.find_element(By.TAG_NAME, "output").text
            canvases = slider.find_elements(By.TAG_NAME, "canvas")
            assert value and any(value in canvas.get_attribute("aria-label") for canvas in canvases)


def pause(browser, frame="max"):
    """Stop every player at its last frame (the first ones are often the past) or its first."""
    browser.execute_script("""for (const time of document.querySelectorAll('[data-time]')) {
        time.value = time[arguments[0]]; time.dispatchEvent(new Event('input')); }""", frame)


@needs_browser
def test_clips_play_and_pause(browser, address):
    visit(browser, address + "notebooks/07_history_guidance.html")
    slider = browser.find_element(By.CSS_SELECTOR, ".vdiff-slider:has([data-play])")
    play, time = (slider.find_element(By.CSS_SELECTOR, f"[data-{part}]") for part in ("play", "time"))
    script = "return arguments[0].querySelector('canvas').toDataURL()"
    picture = lambda: browser.execute_script(script, slider)
    pause(browser, "min")
    assert play.text == "Play" and play.get_attribute("aria-pressed") == "false"
    first = picture()
    time.send_keys(Keys.ARROW_RIGHT * 3)
    assert picture() != first and slider.find_element(By.CSS_SELECTOR, "[data-count]").text.startswith("4 /")
    play.click()
    WebDriverWait(browser, 10).until(lambda _: time.get_attribute("value") != "3")
    assert play.text == "Pause"


@needs_browser
def test_with_reduced_motion_nothing_moves_by_itself(browser, address):
    reduced = dict(name="prefers-reduced-motion", value="reduce")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[reduced]))
    try:
        visit(browser, address + "notebooks/07_history_guidance.html")
        buttons = browser.find_elements(By.CSS_SELECTOR, "[data-play]")
        assert buttons and all(button.text == "Play" for button in buttons)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[]))


@needs_browser
def test_sliders_stay_small():
    # What a page may weigh: a reader on a phone waits for it.
    sizes = {page: (SITE / page).stat().st_size / 1e6 for page in PAGES}
    assert {page: size for page, size in sizes.items() if size > 3} == {}


@needs_browser
def test_the_page_works_from_the_disk(browser):
    errors, asked = visit(browser, (SITE / "notebooks" / "00_tour.html").as_uri())
    assert [e for e in errors if "file://" not in e] == []
    assert [url for url in asked if not url.startswith(("file:", *LOCAL))] == []
    assert browser.execute_script("return document.querySelectorAll('mjx-container').length") > 0


@needs_browser
def test_a_tab_that_crashed_is_left_behind(browser, address):
    with pytest.raises(WebDriverException, match="tab crashed"):
        browser.get("chrome://crash")
    _, asked = visit(browser, address + "intro.html")
    assert address + "intro.html" in asked
