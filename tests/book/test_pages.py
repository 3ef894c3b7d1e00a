"""Every page at three widths, light and dark: nothing is cut off or too pale, no error, nothing fetched."""

import re
import time
from pathlib import Path

import pytest
from axe_core_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup
from opened import LOCAL, ROOT, SITE, needs_browser, visit

TOC = (ROOT / "book" / "_toc.yml").read_text()
PAGES = [f"{name}.html" for name in re.findall(r"(?:root|file): (\S+)", TOC)] + ["search.html"]
WIDTHS, MODES = (1280, 768, 360), ("light", "dark")
MEASURE = (Path(__file__).parent / "measure.js").read_text()
pytestmark = [pytest.mark.browser, needs_browser]


@pytest.fixture(scope="module")
def table():
    """Written to book/_build/pages.txt: what each page was found to have, added up over widths and modes."""
    rows = {}
    yield rows
    names = ("cut", "overflow", "code", "violations", "errors", "requests", "pictures", "equations")
    lines = [f"{len(rows)} pages x widths {WIDTHS} x modes {MODES}"]
    lines += [" " * 40 + "".join(f"{name:>12}" for name in names)]
    for page, found in rows.items():
        lines += [f"{page:40}" + "".join(f"{len(found[name]):12}" for name in names)]
    (SITE.parent / "pages.txt").write_text("\n".join(lines) + "\n")


def set_width(browser, width):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 500))
    time.sleep(0.1)


def set_mode(browser, mode):
    browser.execute_script("""document.documentElement.dataset.theme = arguments[0];
        document.documentElement.dataset.mode = arguments[0];
        if (!document.getElementById('still')) document.head.insertAdjacentHTML('beforeend',
            '<style id="still">* { transition: none !important; animation: none !important; }</style>');
        """, mode)


def violations(browser, rules=None):
    """What axe-core calls serious or critical."""
    if not browser.execute_script("return 'axe' in window"):
        browser.execute_script(AXE_SCRIPT)
    return browser.execute_async_script("""const [rules, done] = arguments;
        const options = { resultTypes: ['violations'] };
        if (rules) options.runOnly = { type: 'rule', values: rules };
        axe.run(document, options).then(found => done(found.violations
            .filter(v => ['serious', 'critical'].includes(v.impact))
            .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', '))))""", rules)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole(browser, address, table, page):
    set_width(browser, WIDTHS[0])
    errors, asked = visit(browser, address + page)
    found = dict(errors=errors, cut=[], overflow=[], violations=[],
                 requests=[url for url in asked if not url.startswith((address, *LOCAL))])
    found["pictures"], found["equations"], found["code"] = browser.execute_script("""
        const bare = i => !i.naturalWidth || !i.alt || /\\.(png|gif|svg)$|^\\S*$/.test(i.alt);
        const ratio = v => v.clientWidth * v.videoHeight / (v.clientHeight * v.videoWidth);
        const all = selector => [...document.querySelectorAll(selector)];
        const squeezed = v => v.videoWidth && Math.abs(ratio(v) - 1) > 0.03;
        const wide = p => p.scrollWidth > p.clientWidth;  // on a desktop no line of code or text scrolls
        const raw = m => !m.querySelector('mjx-container') || m.querySelector('[data-mjx-error]');
        return [[...all('article img').filter(bare).map(i => i.alt + i.src.slice(-30)),
                 ...all('article video').filter(squeezed).map(v => v.ariaLabel)],
                all('.math').filter(raw).map(m => m.innerText),
                all('article pre').filter(wide).map(p => p.innerText.slice(0, 60))]""")
    for mode in MODES:
        set_mode(browser, mode)
        for width in WIDTHS:
            set_width(browser, width)
            cut, over = browser.execute_script(MEASURE)
            found["cut"] += [f"{width}: {what}" for what in cut]
            found["overflow"] += [f"{width}: {over} pixels"] if over > 0 else []
        time.sleep(0.4)  # until what scrolls can be reached by the keyboard
        found["violations"] += violations(browser, ["color-contrast"] if mode == "dark" else None)
    table[page] = found
    assert {name: what for name, what in found.items() if what} == {}


def test_film_strips_are_as_large_as_drawn_and_scroll(browser, address):
    set_width(browser, 360)
    visit(browser, address + "notebooks/00_tour.html")
    strips = browser.execute_script("""return [...document.querySelectorAll('article img.film-strip')].map(
        i => [i.naturalWidth, i.naturalHeight, i.clientWidth, i.clientHeight,
              i.parentElement.clientWidth])""")
    assert len(strips) > 3 and all((w, h) == (2 * a, 2 * b) for w, h, a, b, _ in strips), strips
    assert max(room for *_, room in strips) <= 360


def test_equations_stand_in_every_chapter(browser, address):
    for page in PAGES:
        if re.match(r"notebooks/\d\d_", page):
            assert (SITE / page).read_text().count('class="math ') > 0, page


PLANTED = {
    "cut": """<div style="display:flex;flex-direction:row-reverse;overflow:hidden">
              <b style="flex:none;width:3000px">left</b></div>""",
    "overflow": '<p style="width:3000px">wide</p>',
    "violations": '<p style="color:#aaa;background:#bbb">pale</p>',
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_seen(browser, address, kind):
    set_width(browser, 360)
    visit(browser, address + "errata.html")
    browser.execute_script("document.querySelector('article').innerHTML += arguments[0]", PLANTED[kind])
    cut, over = browser.execute_script(MEASURE)
    pale = violations(browser, ["color-contrast"])
    assert {"cut": cut, "overflow": over > 0, "violations": pale}[kind]


@pytest.mark.parametrize("page", PAGES)
def test_no_script_on_a_page_names_another_host(page):
    html = (SITE / page).read_text()
    scripts = "\n".join(re.findall(r"<script\b.*?</script>", html, re.S))
    named = set(re.findall(r"\bhttps?://[\w.-]+", scripts))
    assert named <= {"http://www.w3.org"}  # names of XML's vocabularies: nothing is fetched


@pytest.mark.parametrize("page", PAGES)
def test_results_stand_in_tables_with_headings(page):
    article = BeautifulSoup((SITE / page).read_text(), "html.parser").find("article") or BeautifulSoup()
    for table in article.find_all("table"):
        assert [th for th in table.find_all("th") if th.text.strip() and not th.get("scope")] == []
        assert table.select("thead th[scope=col]")
        assert all(row.find("th", scope="row") for row in table.select("tbody tr"))
    for printed in article.select(".cell_output pre, .highlight-text pre"):
        aligned = re.findall(r"^.*\S {2,}-?\d[\d.]*(?: {2,}-?\d[\d.]*)+.*$", printed.text, re.M)
        assert len(aligned) <= 3, printed.text


def test_every_reference_leads_to_its_paper():
    html = (SITE / "bibliography.html").read_text()
    entries = re.findall(r'<div class="citation".*?</div>', html, re.S)
    assert len(entries) > 40 and [entry for entry in entries if 'href="https://' not in entry] == []


def test_the_footer_names_the_licenses():
    assert [page for page in PAGES if "Text and figures: CC BY 4.0" not in (SITE / page).read_text()] == []
