"""How the tests open the built book."""

import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"
KNOWN_ERROR = "THEBE_JS_URL"  # the theme's own, once a page, harmless
LOCAL = ("data:", "blob:", "chrome:", "chrome-untrusted:")  # nothing of these leaves the machine
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver: the book was not opened in a browser")


def visit(browser, url):
    """Open a page and wait until equations are set and pictures are there; returns (console errors, addresses asked for)."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(url)
    browser.execute_async_script("""
        const done = arguments[0];
        document.querySelectorAll('img').forEach(i => i.loading = 'eager');
        const pictures = [...document.images].map(i => i.complete || new Promise(r => { i.onload = i.onerror = r; }));
        const maths = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
        Promise.all([maths, ...pictures]).then(() => setTimeout(done, 100));""")
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return errors, asked
