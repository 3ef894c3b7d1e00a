"""The field's words, in code and in prose: what the project used to call things is not found any more."""

import ast
import functools
import io
import re
import tokenize
from pathlib import Path

import jupytext
import pytest

import vdiff_lite
from vdiff_lite import methods

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "vdiff_lite").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
PAGES = sorted((ROOT / "book").glob("*.md"))
RECIPES = sorted((ROOT / "vdiff_lite" / "training" / "recipes").glob("*.toml"))
TOOLS = sorted((ROOT / "book" / "_tools").glob("*.py"))
TRACKING_GONE = [*LIBRARY, *RECIPES, *NOTEBOOKS, *PAGES, *TOOLS, ROOT / "README.md", ROOT / "Makefile"]

# The network tracked what moves until version 0.2. Only `checkpoint`, which refuses its cards, and the
# changelog still say so.
TRACKING = re.compile(r"""
    \bfollow\s*= | (?-i:\bimport\ Follow|\bFollow\(|`Follow`|MotionBlock) | \bmodels[./]follow\b | foresee
    | foresight | cent(?:re|er)_loss | self_rollout | frame_stride | time_lapse | image_every
    | first[_-]frame[_ ]model | digits32_begin
""", re.X | re.I)

BRITISH = """colour behaviour neighbour favour grey catalogue learnt normalis optimis recognis initialis
organis visualis summaris parameteris factoris orthogonalis regularis minimis maximis"""
BRITISH = "|".join(BRITISH.split())

# Names in code: functions, classes, arguments, keywords, attributes, variables.
NAMES = re.compile(rf"""
    begin_\w+ | \w*beginner\w* | grow | finish | noised_start | resampled | clipped | taps? | \w*history_cfg
    | fractional_history | temporal_history | turned | turn_by | spread | take_step | averaged | KINDS
    | time_lapse | own_steps | own_pasts? | judge[ds]? | judging | look_closer | described? | describe_real
    | faults | seam | (?:\w+_)?ink(?:_\w+)? | \w*handwriting\w* | SourceFeatures | lessons? | courses? | born
    | time_channels | time_embedding | \w*crowds?\w* | questions? | \w*centre\w* | \w*(?:{BRITISH})\w*
""", re.X)
# Ordinary as attributes (`cache.at`, `list.append`); as a variable or an argument they say nothing.
VARIABLES = re.compile(r"at|of|found|said|wanted|asked|begin|given")
ARGUMENTS = re.compile(r"mix|high|share|append|horizon|passes|ema")

# Words in prose. Ordinary English that only looks like one of them is left alone: "the question", "keep".
WORDS = re.compile(rf"""
    \b(?:ink|handwriting|beginners?|begin_\w+|history_cfg|time_lapse|take_step|look_closer)\b
    | \btime[ -]lapses?\b | \bthe\ wall\b | \bas\ a\ crowd\b | \bown\ pasts?\b | \bfrom\ nothing\b
    | \bgrow\( | \bvd\.(?:grow|finish)\b | \bgrown\b | \bfaults\b | \ba\ crowd\b | \bcrowds\b | \blessons?\b
    | \bper\ cent\b | \b(?:ten|\d+|equal|network)\ passes\b | \bglyphs\ drawn\b | \bown\ (?:hand|making)\b
    | \bscales?\ and\ (?:a\ )?shifts?\ by\b | `(?:grow|finish|tap|resampled|noised_start|clipped)`
    | `(?:fractional|temporal)_history`
    | \b(?:horizons?|append(?:ed|ing)|spread|knobs?|born)\b | \bput\ in\ front\b | \bshares?\ of\b
    | \bnoised\ still\b | \bfrom\ a\ still\b | \b(?:times|x)\ a\ step\b
    | \b(?:equal|network|fewer|more|the)\ (?:passes|questions)\b
    | \b(?:a|the|of|by)\ taps?\b | \b(?:network|forward|equal|\d+|fewer|more)\ questions\b
    | \bsteps\ taken\ back\b | \bcourses?\b(?!\ (?:of|in))(?<!of\ course) | \bdrawn\ beginning\ first\b
    | \b(?:pixels|numbers|clips|steps|frames)\ a\ (?:frame|clip|second|step)\b
    | \b\w*(?:{BRITISH})\w*\b | \bcentr(?:e|es|ed|ing)\b | \brealis(?:e|es|ed|ing)\b
    | \b(?:modell|labell|cancell|travell)(?:ed|ing)\b | \b(?:licence|whilst)\b
""", re.X | re.I)


def names_of(source):
    """Every name that a module gives or uses: (line, name, which patterns it must not match)."""
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield line, node.name, (NAMES,)
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            yield line, node.arg, (NAMES, VARIABLES, ARGUMENTS)
        elif isinstance(node, ast.Attribute):
            yield line, node.attr, (NAMES,)
        elif isinstance(node, ast.Name):
            stored = isinstance(node.ctx, ast.Store)  # F is torch.nn.functional, or nothing
            yield line, node.id, (NAMES, VARIABLES, re.compile("F")) if stored else (NAMES, VARIABLES)


@functools.cache
def told(source):
    """The lines of a table RENAMED, which tells a reader the new name of an old one."""
    return {line for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign)
            and "RENAMED" in ast.unparse(node.targets[0]) for line in range(node.lineno, node.end_lineno + 1)}


def words_of(source):
    """Docstrings, other strings and comments, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT) and token.start[0] not in told(source):
            yield token.start[0], token.string


def private_names(source):
    return [f"{line}: {name}" for line, name, patterns in names_of(source)
            if any(pattern.fullmatch(name) for pattern in patterns) and line not in told(source)]


def private_words(text):
    return [match.group() for match in WORDS.finditer(text)]


def cells(path, kind):
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == kind]


def without_magic(source):
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n"))


def relative(path):
    return path.relative_to(ROOT / "vdiff_lite").as_posix()


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_the_library_uses_the_fields_words(path):
    source = path.read_text()
    options = {"at"} if relative(path) in ("cli.py", "commands.py") else set()  # --at of a command line
    assert [name for name in private_names(source) if name.split()[1] not in options] == []
    assert [f"{line}: {word}" for line, text in words_of(source) for word in private_words(text)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_chapters_use_the_fields_words(path):
    assert [word for source in cells(path, "markdown") for word in private_words(source)] == []
    code = [without_magic(source) for source in cells(path, "code")]
    assert [name for source in code for name in private_names(source)] == []
    texts = [text for source in code for _, text in words_of(source)]
    assert [word for text in texts for word in private_words(text)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_use_the_fields_words(path):
    assert private_words(path.read_text()) == []


def tracking_in(path):
    source = path.read_text()
    refusal = set()
    if path.name == "checkpoint.py":  # the constant of that name, and the function that uses it
        refusal = {line for node in ast.parse(source).body if "TRACKING" in ast.unparse(node)
                   for line in range(node.lineno, node.end_lineno + 1)}
    return [f"{number}: {match.group()}" for number, line in enumerate(source.split("\n"), 1)
            for match in TRACKING.finditer(line) if number not in refusal]


@pytest.mark.parametrize("path", TRACKING_GONE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_speaks_of_tracking(path):
    assert tracking_in(path) == []


def test_tracking_is_noticed_and_ordinary_english_left_alone():
    for text in ("VideoUNetConfig(follow=0)", "is foreseen", "Foresight", "centre_loss", "self_rollout_steps",
                 "a first-frame model", "digits32_begin", "time_lapse", "import Follow", "like `Follow`"):
        assert TRACKING.search(text), text
    plain = "Follow it. Frames that follow (chapters to follow): Follow the first frame alone, the center."
    assert not TRACKING.search(plain)


@pytest.mark.parametrize("source", [
    "def grow(begin=1): pass", "x.tap(1)", "said = 1", "f(time_lapse=2)", "class KINDS: pass", "colour = 1",
    "F = 16", "def f(share): pass"])
def test_a_private_name_is_noticed(source):
    assert private_names(source)


@pytest.mark.parametrize("text", [
    "as little ink", "`grow` draws", "the wall", "normalised", "a time-lapse", "16 questions", "grey"])
def test_a_private_word_is_noticed(text):
    assert private_words(text)


def test_ordinary_english_is_left_alone():
    plain = "The question grows. Keep it; think, link. A promise is precise. The walls. Realism."
    assert private_words(plain) == [] == private_names("think = keep.at(1) or xs.append(high)")


def glossary():
    text = (ROOT / "book" / "glossary.md").read_text().split(":::{glossary}")[1]
    return re.findall(r"^(?! |:::)(\S.*)$", text, re.M)


def test_each_term_stands_once_and_in_order():
    terms = [term.lower().replace("é", "e") for term in glossary()]
    assert len(terms) > 40 and terms == sorted(set(terms))


def test_every_linked_term_is_in_the_glossary():
    text = "".join(path.read_text() for path in (*NOTEBOOKS, *PAGES))
    linked = {inner or shown for shown, inner in re.findall(r"\{term\}`([^`<]*?)\s*(?:<([^>`]+)>)?`", text)}
    assert {term.lower() for term in linked} <= {term.lower() for term in glossary()}


def test_the_reference_names_every_public_function():
    page = (ROOT / "book" / "api.md").read_text()
    documented = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.M))
    public = {*vdiff_lite.__all__, *methods.__all__}
    assert {name for name in public if not name.isupper()} - documented == set()


def test_the_book_is_cited_the_same_everywhere():
    cff = (ROOT / "CITATION.cff").read_text()
    field = lambda name: re.search(rf'^{name}: "?([^"\n]+)"?$', cff, re.M)[1]
    bibtex = re.search(r"```bibtex\n(.+?)```", (ROOT / "book" / "bibliography.md").read_text(), re.S)[1]
    entry = dict(re.findall(r"(\w+) = \{+([^}]+)\}+,", bibtex))
    assert entry["title"] == field("title")
    assert entry["year"] == field("date-released")[:4]
    assert entry["version"] == field("version") == vdiff_lite.__version__


def test_terms_are_linked_once_where_they_first_stand(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from glossary_links import link_terms

    cell = lambda kind, text: dict(cell_type=kind, source=[text])
    first = [cell("markdown", "# A rollout\n`rollout` in [a rollout](x) and two rollouts."),
             cell("code", "# a rollout")]
    second = [cell("markdown", "A rollout again, and its guidance weight."), cell("markdown", "weight")]
    books = {"00_a": dict(cells=first), "01_b": dict(cells=second)}
    link_terms(books, ":::{glossary}\nrollout\n  text\n\nguidance weight\n  text\n\nweight\n  text\n:::")
    texts = ["".join(c["source"]) for book in books.values() for c in book["cells"]]
    assert texts[0] == "# A rollout\n`rollout` in [a rollout](x) and two {term}`rollouts <rollout>`."
    assert texts[1] == "# a rollout"
    assert texts[2] == "A rollout again, and its {term}`guidance weight <guidance weight>`."
    assert texts[3] == "{term}`weight <weight>`"
