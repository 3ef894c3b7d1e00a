"""A page can be followed from the page: terms are explained, figures spoken of, numbers printed.

A fault is named as page:line: what is wrong there, a line of notebooks/PAGE.py.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from glossary_links import FROM, forms_of, link_terms, terms  # noqa: E402

PAGES = sorted((ROOT / "notebooks").glob("*.py"))
CHAPTERS = [path for path in PAGES if path.stem[0].isdigit()]
GLOSSARY = (ROOT / "book" / "glossary.md").read_text()


@dataclass
class Cell:
    kind: str  # markdown or code
    line: int  # of its first line in the file
    text: str
    caption: str = ""


def cells_of(source):
    """The cells of a notebook in percent format, with their lines."""
    cells, start = [], re.compile("# %%")
    for number, line in enumerate(source.split("\n"), 1):
        if start.match(line):
            kind, caption = ("markdown" if "[markdown]" in line else "code"), ""
            if "mystnb=" in line:
                metadata, _ = json.JSONDecoder().raw_decode(line.split("mystnb=", 1)[1])
                caption = metadata.get("figure", {}).get("caption", "")
            cells.append(Cell(kind, number + 1, "", caption))
        elif cells:
            cells[-1].text += (re.sub(r"^# ?", "", line) if cells[-1].kind == "markdown" else line) + "\n"
    return cells


# Terms.

def home_of(glossary):
    """{term: the page that builds it}, as the glossary has it."""
    entries = re.split(r"\n(?=\S)", glossary.split(":::{glossary}")[1])
    homes = {entry.strip().split("\n")[0]: re.findall(r"\]\(notebooks/(\w+)\)", entry) for entry in entries}
    return {term: pages[-1] for term, pages in homes.items() if pages}


def explained(cells, term):
    """Whether a page sets a term in bold or italic, or names it in a heading: where it says what it is."""
    form = re.compile(rf"(?i)(?<![\w`-])(?:{forms_of(term)}|{re.escape(term)}s?)(?![\w-])")
    prose = "\n".join(re.sub("`[^`]*`", "", cell.text) for cell in cells if cell.kind == "markdown")
    marked = re.findall(r"\*+([^*\n]+(?:\n[^*\n]+)?)\*+|^#+ (.*)$", prose, re.M)
    return any(form.search(emphasis or heading) for emphasis, heading in marked)


def unexplained(pages, glossary):
    """Terms of {page: cells} that stand somewhere before they are linked to the glossary or explained.

    On its own page, the one that the glossary names, a term may stand in the title.
    """
    books = {name: {"cells": [{"cell_type": cell.kind, "source": [cell.text]} for cell in cells]}
             for name, cells in pages.items()}
    link_terms(books, glossary)
    faults, homes = [], home_of(glossary)
    hidden = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|https?://\S+", re.S)
    roles = re.compile(r"\{term\}`([^`<]*?) ?<[^>`]*>`|\{term\}`([^`]*)`|\{[\w:]+\}`[^`]*`")
    for term in terms(glossary):
        form = re.compile(rf"(?<![\w-])(?:{forms_of(term)})(?![\w-])")
        longer = [other for other in homes if term in other and term != other]
        for name in sorted(pages):
            if name[:2] < FROM.get(term, "00"):
                continue
            place = first_use(pages[name], books[name]["cells"], term, form, longer, hidden, roles)
            if place:
                line, told = place
                if not told and name < homes[term]:
                    faults.append(f"{name}:{line}: '{term}' stands before it is linked or explained")
                break
    return faults


def within(match, spans):
    return any(a <= match.start() and match.end() <= b for a, b in spans)


def first_use(cells, linked, term, form, longer, hidden, roles):
    """(line, whether it is linked or emphasized there) of the first use of a term on a page, or None."""
    for cell, with_links in zip(cells, linked):
        if cell.kind == "code":
            if form.search(cell.caption):
                return cell.line - 1, False
            continue
        text = "".join(with_links["source"])
        told = [match.span() for match in roles.finditer(text)]
        told += [match.span() for match in re.finditer(r"(\*+)[^*\n]+(?:\n[^*\n]+)?\1", text)]
        blank = [m.span() for m in hidden.finditer(roles.sub(lambda m: " " * len(m.group()), text))]
        blank += [m.span() for other in longer for m in re.finditer(forms_of(other), text)]
        link = text.find(f"<{term}>`")
        for match in form.finditer(text):
            if 0 <= link < match.start():
                return 0, True
            if within(match, told):
                return None if within(match, blank) else (0, True)
            if not within(match, blank):
                return cell.line + text[:match.start()].count("\n"), False
        if link >= 0:
            return 0, True
    return None


# Figures.

COMMON = set(re.findall("[a-z]+", """
    about above after again along also another away back because been before below both bottom each
    eight every five first four from half have here into just left less like lies line lines many
    mean more most much next once only other over right same seven side sixteen some still than that
    their them then there these they this those three time times under until upper very what when
    where which while with without clip clips frame frames figure strip strips film noise level
    levels
"""))


def content_words(text):
    """The words of a text that carry its meaning, cut to five letters."""
    return {word[:5] for word in re.findall(r"[a-z]{4,}", text.lower()) if word not in COMMON}


def prose_near(cells, i):
    """The two paragraphs before figure i and the two behind it, other figures' cells passed over."""
    before = [cell.text for cell in cells[:i] if cell.kind == "markdown"]
    behind = [cell.text for cell in cells[i + 1:] if cell.kind == "markdown"]
    before, behind = (text.strip().split("\n\n") for text in ("".join(before[-1:]), "".join(behind[:1])))
    return "\n".join(before[-2:] + behind[:2])


def silent_figures(cells):
    """Figures with which the text around them has fewer than two words in common."""
    for i, cell in enumerate(cells):
        if cell.caption:
            shared = content_words(cell.caption) & content_words(prose_near(cells, i))
            if len(shared) < 2:
                yield f"{cell.line - 1}: no text near speaks of: {cell.caption}"


# Numbers.

NUMBER = re.compile(r"(?<![\w.^/-])\d[\d,]*(?:\.\d+)?(?![\w^])|(?<![\w\d])\.\d+(?!\w)")
# No claims: equations, code, links, tables, the numbers of chapters and equations, items of a list, years.
NO_CLAIM = re.compile(r"""
    \$\$.*?\$\$ | \$[^$]*\$ | ```.*?``` | `[^`]*` | \{[\w:]+\}`[^`]*` | \]\([^)]*\) | https?://\S+ | ^\|.*?$
    | ^\s*\d+\. | \([\d., ]+\)
    | (?:[Cc]hapters?|[Ss]ections?|Eqs?\.|[Ee]quations?|Part|Algorithm)\s[\d., toand]+
    | \[[\d., -]+\] | \b(?:19|20)\d\d\b""", re.S | re.M | re.X)


def value(text):
    return float(text.replace(",", "").rstrip("."))


def printed_numbers(notebook):
    """Every number in the code of a notebook and in what it printed, tables among it."""
    texts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            texts.append("".join(cell["source"]))
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                texts += ["".join(output.get("text", "")), "".join(data.get("text/plain", ""))]
                if len(html := "".join(data.get("text/html", ""))) < 20_000:  # a table, not a player
                    texts.append(re.sub(r"<style.*?</style>|<[^>]*>", " ", html, flags=re.S))
    found = re.findall(r"\d[\d,_]*\.?\d*(?:e[+-]?\d+)?|\.\d+", "\n".join(texts).replace("_", ""))
    return {value(re.sub(r",+$", "", number)) for number in found}


def unprinted_numbers(cells, printed):
    """Numbers of two digits or more in the text and the captions that no cell of the notebook prints."""
    for cell in cells:
        text = cell.text if cell.kind == "markdown" else cell.caption
        for claim in NO_CLAIM.finditer(text):
            text = text.replace(claim.group(), re.sub(r"[^\n]", " ", claim.group()))
        for match in NUMBER.finditer(text):
            number = match.group().rstrip(",.")
            decimals = len(number.partition(".")[2])
            scales = (1, 0.01) if text[match.end():].lstrip().startswith("%") else (1,)
            if len(re.sub(r"\D", "", number)) < 2:
                continue
            rounded = 0.51 * 10.0**-decimals if decimals or len(scales) > 1 else 0
            if not any(abs(value(number) - n / scale) <= rounded for scale in scales for n in printed):
                line = cell.line + text[:match.start()].count("\n") - (cell.kind == "code")
                yield f"{line}: no cell prints {number}"


# Letters.

MATH = re.compile(r"\$\$(.*?)\$\$|\$([^$]+)\$", re.S)
GREEK = re.compile("""alpha|beta|gamma|[dD]elta|epsilon|z?eta|[tT]heta|kappa|[lL]ambda|mu|nu|xi|rho|[sS]igma
    |tau|(?:var)?phi|Phi|chi|[pP]si|[oO]mega|ell""", re.X)
NOTATION = (ROOT / "book" / "notation.md").read_text()
OF_ONE_CHAPTER = {"z": "05", "lambda": "05", "D": "05", "J": "06", "ell": "07"}


def letters_of(text):
    """The letters of the formulas in a text, Greek ones by name; no words, derivatives or Euler's number."""
    found = set()
    for formula in ("".join(match.groups("")) for match in MATH.finditer(re.sub("`[^`]*`", "", text))):
        formula = re.sub(r"\\(?:text|operatorname|math\w+|tag)\s*(?:\{[^}]*\}|\w)", "", formula)
        formula = re.sub(r"d(?=x|\\varphi)|e\^", "", formula)
        found |= {name for name in re.findall(r"\\([A-Za-z]+)", formula) if GREEK.fullmatch(name)}
        found |= set(re.findall("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", formula)))
    return found


def unknown_letters(text, number, notation):
    """Letters that the notation has neither for all chapters nor for this one, or only for another."""
    row = re.compile(r"^\| (\d+|use your own network) \|(.*)$", re.M)
    local = {chapter.zfill(2)[:3]: letters_of(letters) for chapter, letters in row.findall(notation)}
    known = letters_of(row.sub("", notation)) | local.get(number, set())
    known -= {letter for letter, chapter in OF_ONE_CHAPTER.items() if chapter != number}
    return sorted(letters_of(text) - known)


# The tests.

def page(path):
    return cells_of(path.read_text())


def named(path, faults):
    return [f"{path.stem}:{fault}" for fault in faults]


def test_every_term_has_a_page():
    assert set(home_of(GLOSSARY)) == set(terms(GLOSSARY))
    assert set(home_of(GLOSSARY).values()) <= {path.stem for path in PAGES}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_terms_are_explained_where_the_glossary_says(path):
    cells = [cell for earlier in PAGES if earlier <= path for cell in page(earlier)]
    mine = [term for term, home in home_of(GLOSSARY).items() if home == path.stem]
    assert named(path, [f"'{term}' is never in italics" for term in mine if not explained(cells, term)]) == []


def test_no_term_stands_before_it_is_linked_or_explained():
    assert unexplained({path.stem: page(path) for path in CHAPTERS}, GLOSSARY) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_heading_stands_twice(path):
    prose = "\n".join(cell.text for cell in page(path) if cell.kind == "markdown")
    headings = re.findall(r"^#+ .*$", prose, re.M)
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_figure_is_spoken_of(path):
    assert named(path, silent_figures(page(path))) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_number_is_printed(path):
    printed = printed_numbers(json.loads(path.with_suffix(".ipynb").read_text()))
    assert named(path, unprinted_numbers(page(path), printed)) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_letter_is_on_the_notation_page(path):
    prose = "\n".join(cell.text for cell in page(path) if cell.kind == "markdown")
    number = path.stem[:2] if path in CHAPTERS else path.stem[:3]
    assert unknown_letters(prose, number, NOTATION) == []


@pytest.mark.parametrize("path", CHAPTERS[1:], ids=lambda path: path.stem)
def test_code_exercises_have_a_start_a_check_and_a_solution(path):
    cells = nbformat.read(path.with_suffix(".ipynb"), 4).cells
    first = next(i for i, cell in enumerate(cells) if "## Exercises" in cell.source)
    tasks = [i for i in range(first, len(cells)) if "**Code.**" in cells[i].source]
    others = sum(len(re.findall(r"\*\*(?:Predict|Explore)\.\*\*", cell.source.partition("## Exercises")[2]
                                or cell.source)) for cell in cells[first:])
    assert len(tasks) >= max(1, others)  # every second one, or more
    for task in tasks:
        start, solution = cells[task + 1:task + 3]
        printed = ["".join(output.text for output in cell.outputs if "text" in output)
                   for cell in (start, solution)]
        assert "exercise" in start.metadata.get("tags", []) and printed[0].startswith("Not done yet")
        assert {"hide-cell", "nbval-check-output"} <= set(solution.metadata.get("tags", []))
        assert solution.source.startswith("# A solution\n") and "assert check(" in solution.source
        assert printed[1] and all(line.startswith("right ") for line in printed[1].strip().split("\n"))


# Each check notices its fault, and leaves alone what is right.

def markdown(*lines):
    return "\n".join(["# %% [markdown]", *(f"# {line}".rstrip() for line in lines), ""])


TERMS = """:::{glossary}
seam
  A jump. ([chapter 1](notebooks/01_b))
:::"""


@pytest.mark.parametrize("first, second, faults", [
    (["A seam."], ["What a *seam* is."], []),  # linked by the site at its first use
    (["# Seams", "", "A seam."], ["What a *seam* is."], ["00_a:2"]),
    (["| seam |", "", "A seam."], ["A *seam*."], ["00_a:2"]),
    (["`seam`, $seam$ and [a](seam)."], ["# Seams", "", "A *seam* is."], [])])
def test_a_term_before_its_link_is_noticed(first, second, faults):
    pages = {"00_a": cells_of(markdown(*first)), "01_b": cells_of(markdown(*second))}
    assert [fault.split(": ")[0] for fault in unexplained(pages, TERMS)] == faults


def test_a_term_that_is_not_explained_is_noticed():
    told = [["A *seam* is a jump."], ["**Seams** jump."], ["## What a seam is"], ["It is *the", "seam*."]]
    assert all(explained(cells_of(markdown(*lines)), "seam") for lines in told)
    assert not explained(cells_of(markdown("A seam, *and* a jump, 2 * 3.", "`*seam*`")), "seam")


@pytest.mark.parametrize("text, faults", [
    ("The digit fades where the sampler is coarse.", 0), ("The digit is black.", 1), ("No word.", 1)])
def test_a_silent_figure_is_noticed(text, faults):
    figure = '# %% mystnb={"figure": {"caption": "A faded digit: samplers of few, coarse steps."}}\nf()\n'
    assert len(list(silent_figures(cells_of(markdown("# Far") + figure + markdown(text))))) == faults


@pytest.mark.parametrize("text, number, faults", [
    ("$x_t$, $$e^{-x} \\text{ z } \\mathrm{SNR} \\tag{1}$$ and `$q$`", "01", []), ("$z$", "05", []),
    ("$z$", "08", ["z"]), ("$\\phi_s(x)$", "09", ["phi", "s"]), ("$s$", "01", []), ("$Q$", "01", ["Q"])])
def test_a_letter_that_the_notation_lacks_is_noticed(text, number, faults):
    notation = "| `x` | $x_t$, $z$ | a clip |\n| 1 | $s$: a distance |\n"
    assert unknown_letters(text, number, notation) == faults


@pytest.mark.parametrize("text, faults", [
    ("It is 0.25, or 25%, of 1,024.", []), ("It is .26.", ["2: no cell prints .26"]),
    ("First.\n# Then 33.", ["3: no cell prints 33"]), ("Up to 26%", ["2: no cell prints 26"]),
    ("$x = 77$, `77`, chapters 10 and 11, (3), 7 of them, in 2023, [a](77).", []), ("12.", [])])
def test_a_number_that_nothing_prints_is_noticed(text, faults):
    cell = {"cell_type": "code", "source": ["n = 1_024"], "outputs": [{"text": ["a  0.254\n", "b  .1\n"]}]}
    printed = printed_numbers({"cells": [cell]})
    assert list(unprinted_numbers(cells_of(markdown(text)), printed)) == faults
