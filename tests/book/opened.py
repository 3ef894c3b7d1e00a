"""How the tests open the built book."""

import contextlib
import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"
LOCAL = ("data:", "blob:", "chrome:", "chrome-untrusted:")  # nothing of these leaves the machine
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver")


def visit(browser, url):
    """Open a page, wait for equations and pictures; returns (console errors, addresses asked for).

    A tab that crashed (the browser's fault, now and then) is left behind, and the page opened in another,
    once.
    """
    from selenium.common.exceptions import WebDriverException

    try:
        return _visit(browser, url)
    except WebDriverException as error:
        if "tab crashed" not in str(error):
            raise
        browser.switch_to.window(browser.spare)
        browser.switch_to.new_window("tab")
        return _visit(browser, url)


def _visit(browser, url):
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(url)
    browser.execute_async_script("""
        const done = arguments[0];
        document.querySelectorAll('img').forEach(i => i.loading = 'eager');
        const pictures = [...document.images].map(
            i => i.complete || new Promise(r => { i.onload = i.onerror = r; }));
        const maths = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
        Promise.all([maths, ...pictures]).then(() => setTimeout(done, 100));""")
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return errors, asked


@contextlib.contextmanager
def serving():
    """A server of the built book; yields its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


@contextlib.contextmanager
def browsing(profile):
    """Headless Chromium with its profile in an empty folder; yields the driver."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
                 "disable-background-networking", "disable-component-update", "disable-sync",
                 "disable-dev-shm-usage", "window-size=1300,1000", f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_script_timeout(300)  # axe-core on the longest page, beside other programs
    driver.spare = driver.current_window_handle  # stays empty
    driver.switch_to.new_window("tab")
    try:
        yield driver
    finally:
        driver.quit()
