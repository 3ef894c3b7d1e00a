"""The page "Try it" in a real browser: the model runs there, and makes what Python makes."""

import base64
import io

import numpy as np
import pytest
import torch
from opened import LOCAL, SITE, needs_browser, visit
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import vdiff_lite as vd
from vdiff_lite.methods import history_guidance, injection

pytestmark = [pytest.mark.browser, needs_browser]
has_runtime = pytest.mark.skipif(not (SITE / "_static" / "runtime").exists(), reason="built without npm")
PATIENCE = 300  # seconds; a window takes a few
FRAMES = "return tryIt.state.frames.slice(0, arguments[0]).map(f => Array.from(f))"


@pytest.fixture(scope="module")
def page(browser, address):
    visit(browser, address + "try_it.html")
    ready = "return document.getElementById('tryit').dataset.ready"
    wait(browser, lambda: browser.execute_script(ready) == "yes")
    return browser


def wait(browser, condition):
    WebDriverWait(browser, PATIENCE, poll_frequency=0.1).until(lambda _: condition())


def part(page, name):
    return page.find_element(By.ID, f"try-{name}")


def set_slider(page, name, value):
    page.execute_script("""const slider = arguments[0]; slider.value = arguments[1];
        slider.dispatchEvent(new Event('input', { bubbles: true }));""", part(page, name), str(value))


def picture(page, name):
    return page.execute_script("return arguments[0].toDataURL()", part(page, name))


def idle(page):
    return page.execute_script("return tryIt.state.busy") == 0


@has_runtime
def test_before_the_first_click_stands_an_example(page):
    wait(page, lambda: "example" in part(page, "count").text)
    brightest = """const c = arguments[0];
        const all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return Math.max(...all.filter((_, i) => i % 4 == 0))"""
    for name in ("frame", "strip"):
        assert page.execute_script(brightest, part(page, name)) > 150, name


@has_runtime
def test_the_page_makes_what_python_makes(page):
    denoiser, steps = vd.load("digits32"), 5
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 16, 32, 32, generator=generator)
    past = vd.BouncingDigits(split="test").sample(1, generator).video[:, :, :5]
    asked = {"plain": (denoiser, dict(past=None)),
             "history": (history_guidance(denoiser, past, 1.75), dict(name="history", weight=1.75)),
             "injection": (injection(denoiser, past, prepend=False, blend=0.6),
                           dict(name="injection", blend=0.6))}
    page.set_script_timeout(PATIENCE)
    for name, (method, request) in asked.items():
        with torch.no_grad():
            expected = vd.run_sampler(vd.ddim(method, noise, denoiser.schedule, steps)).flatten()
        sent = dict(noise=noise.flatten().tolist(), past=past.flatten().tolist(), steps=steps) | request
        got = page.execute_async_script("""const [request, done] = arguments;
            for (const key of ['noise', 'past'])
                if (request[key]) request[key] = Float32Array.from(request[key]);
            tryIt.ask(request).then(made => done(Array.from(made.clip)), error => done(String(error)));
            """, sent)
        torch.testing.assert_close(torch.tensor(got), expected, rtol=1e-3, atol=1e-3,
                                   msg=lambda text, name=name: f"{name}: {text}")


@has_runtime
def test_a_clip_starts_and_goes_on_and_nothing_leaves_the_machine(page, address):
    for log in ("browser", "performance"):
        page.get_log(log)
    part(page, "steps").send_keys("4")
    part(page, "start").click()
    wait(page, lambda: page.execute_script("return tryIt.state.frames.length") == 16)
    wait(page, lambda: idle(page))
    strip = picture(page, "strip")
    part(page, "extend").click()
    wait(page, lambda: page.execute_script("return tryIt.state.frames.length") >= 38)
    part(page, "extend").click()
    wait(page, lambda: idle(page))
    assert page.execute_script("return [...tryIt.state.joins].slice(0, 2)") == [16, 27]
    assert picture(page, "strip") != strip
    assert "of 38" in part(page, "count").text or page.execute_script("return tryIt.state.frames.length") > 38
    assert page.execute_script("return tryIt.state.frames.flatMap(f => [...f]).every(Number.isFinite)")
    errors = [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    messages = [entry["message"] for entry in page.get_log("performance")]
    requests = [m for m in messages if "Network.requestWillBeSent" in m and "http" in m and address not in m]
    assert [m for m in requests if not any(f'"url":"{kind}' in m for kind in LOCAL)] == []


@has_runtime
def test_frames_are_chosen_by_keyboard_and_the_clip_plays(page):
    if part(page, "play").text == "Pause":
        part(page, "play").click()
    set_slider(page, "position", 0)
    first = picture(page, "frame")
    part(page, "position").send_keys(Keys.ARROW_RIGHT * 6)
    assert picture(page, "frame") != first and part(page, "count").text.startswith("frame 7 of")
    part(page, "play").send_keys(Keys.SPACE)
    shown = part(page, "count").text
    wait(page, lambda: part(page, "count").text != shown)
    part(page, "play").send_keys(Keys.SPACE)


@has_runtime
def test_settings_reach_the_next_window(page):
    made = {}
    for blend in (0, 1):
        page.find_element(By.CSS_SELECTOR, "input[value=injection]").click()
        set_slider(page, "blend", blend)
        assert part(page, "blend-value").text == str(blend)
        part(page, "start").click()
        wait(page, lambda: page.execute_script("return tryIt.state.frames.length") == 16)
        part(page, "extend").click()
        wait(page, lambda: page.execute_script("return tryIt.state.frames.length") >= 27)
        part(page, "extend").click()
        wait(page, lambda: idle(page))
        made[blend] = torch.tensor(page.execute_script(FRAMES, 27))
    torch.testing.assert_close(made[0][:16], made[1][:16])  # the same seed
    assert (made[0][16:] - made[1][16:]).abs().max() > 0.1


@has_runtime
def test_the_gif_holds_the_frames(page):
    page.set_script_timeout(PATIENCE)
    data = page.execute_async_script("""const done = arguments[0], reader = new FileReader();
        reader.onload = () => done(reader.result.split(',')[1]);
        reader.readAsDataURL(tryIt.gif(tryIt.state.frames.slice(0, 5), 32));""")
    frames = torch.tensor(page.execute_script(FRAMES, 5)).view(5, 32, 32).clamp(-1, 1)
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.n_frames == 5 and picture.size == (128, 128)
    for n, frame in enumerate(frames):
        picture.seek(n)
        shown = torch.tensor(np.asarray(picture.convert("L")))[::4, ::4] / 127.5 - 1
        assert (shown - frame).abs().max() < 2 / 31


@has_runtime
def test_every_control_has_a_name(page):
    silent = page.execute_script("""
        const controls = [...document.querySelectorAll('#tryit :is(input, select, button, canvas)')];
        const named = e => e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label');
        return controls.filter(e => !named(e)).map(e => e.id)""")
    assert silent == []


def test_from_the_disk_the_page_says_why_it_cannot_run(browser):
    visit(browser, (SITE / "try_it.html").as_uri())
    words = browser.find_element(By.ID, "try-words").text
    assert "server" in words and not browser.find_element(By.ID, "tryit").is_displayed()
