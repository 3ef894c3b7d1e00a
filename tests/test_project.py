"""What the repository promises: notebooks in step, outputs present, generated files, no path of a machine."""

import ast
import functools
import importlib
import io
import json
import re
import subprocess
import sys
import tokenize
from importlib.metadata import distributions
from pathlib import Path

import jupytext
import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from vdiff_lite import checkpoint
from vdiff_lite.evaluation.feature_net import load_features
from vdiff_lite.evaluation.results import read_results

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
EXPECTED = [
    "00_tour", "01_videos_as_tensors", "02_noise_schedule", "03_video_unet", "04_training", "05_sampling",
    "06_the_context_limit", "07_history_guidance", "08_reconstruction_guidance", "09_feature_injection",
    "10_the_comparison", "11_rooms", "12_your_own_videos"]
CHAPTERS = [path for path in NOTEBOOKS if path.stem in EXPECTED]
BESIDE = ["use_your_own_network"]  # pages that are run as notebooks, but are no chapters


def tracked():
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).exists()]


def test_every_chapter_is_there():
    executed = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in NOTEBOOKS] == EXPECTED + BESIDE == [path.stem for path in executed]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_and_twin_are_in_step(path):
    cells = lambda name: [(cell.cell_type, cell.source) for cell in jupytext.read(name).cells]
    assert cells(path) == cells(path.with_suffix(".ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_its_outputs_and_is_small(path):
    path = path.with_suffix(".ipynb")
    code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert all(cell.execution_count for cell in code), "a cell was not executed"
    assert not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert len(outputs) >= 8 and path.stat().st_size < 3e6


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_notebook_has_the_anatomy_of_a_chapter(path):
    notebook = jupytext.read(path)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert 20 <= len(notebook.cells) <= 51  # the first code cell installs the package
    required = ["Time to run", "You will learn", "You need", "Predict", "## Recap", "## Exercises",
                "Solutions", "## Sources", "{cite:t}"]
    if path.stem != "00_tour":
        required += ["Build it", "Meet the twin", "## Play", "## What breaks"]
    assert [part for part in required if part not in text] == []
    assert any("_slider(" in source for source in code)
    assert max(len([line for line in source.split("\n") if line.strip()]) for source in code) <= 35
    assert not [source for source in code if re.search(r"device\s*=\s*[\"']cuda", source)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_any_folder_and_shows_no_marks_of_tests(path):
    code = "\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code")
    assert re.findall(r"""["']\.\.?/|["'](?:data|notebooks)/|NBVAL|chdir|getcwd""", code) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_landing_page_says_how_long_a_chapter_is_and_what_it_needs(path):
    """200 words and 20 lines of code a minute; the numbers of chapters are those of "You need"."""
    cells = jupytext.read(path).cells
    code = [cell.source for cell in cells
            if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", [])]
    lines = sum(bool(line.strip()) for line in "\n".join(code).split("\n"))
    text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    row = next(row for row in (ROOT / "book" / "intro.md").read_text().split("\n")
               if f"(notebooks/{path.stem})" in row and row.startswith("|"))
    needs, minutes = row.split("|")[4:6]
    assert abs(int(minutes) - len(text.split()) / 200 - lines / 20) <= 2
    chapters = re.search(r"\*\*You need\*\* chapters? ([\d, toand]+\d|\d)", text)
    number = lambda words: re.findall(r"\d+", words)
    assert number(needs) == (number(chapters[1]) if chapters else [])


def test_the_landing_page_says_how_long_a_part_is():
    intro = (ROOT / "book" / "intro.md").read_text()
    minutes = list(map(int, re.findall(r"^\|.*\(notebooks/\d\d_.*\| (\d+) \|$", intro, re.M)))
    assert len(minutes) == 13 and intro.count("Two hours to read.") == 2
    assert round(sum(minutes[1:7]) / 60) == round(sum(minutes[7:]) / 60) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_caption_and_an_alt_text(path):
    for cell in nbformat.read(path.with_suffix(".ipynb"), 4).cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            texts = cell.metadata.get("mystnb", {})
            alt = texts["image"]["alt"] if texts else ""
            assert alt.endswith(".") and len(alt) > 20, cell.source
            assert texts["figure"]["caption"].endswith((".", ".)")), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_citation_is_in_the_bibliography(path):
    references = (ROOT / "book" / "references.bib").read_text()
    keys = set(re.findall(r"^@\w+\{([^,]+),", references, re.M))
    assert set(re.findall(r"\{cite:t\}`([^`]+)`", path.read_text())) <= keys


def test_every_reference_has_an_address():
    references = (ROOT / "book" / "references.bib").read_text()
    entries = re.findall(r"^@\w+\{([^,]+),(.+)$", references, re.M)
    address = re.compile(r"eprint = \{\d{4}\.\d{4,5}\}|doi = \{10\.|url = \{https://")  # becomes a link
    assert [key for key, rest in entries if not address.search(rest)] == []


def test_environment_yml_is_the_generated_one():
    command = [str(Path(sys.executable).parent / "pyproject2conda"), "yaml", "-e", "book", "-e", "dev",
               "-e", "bench", "--name", "vdiff", "--python-include", "python~=3.11", "--req", "-e .",
               "--no-header"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0, made.stderr[-500:]
    assert made.stdout.strip() == (ROOT / "environment.yml").read_text().strip()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_lines_of_code_fit_the_page(path):
    code = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in code if len(line) > 110] == []


def test_constraints_pin_every_dependency():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = sum(project["optional-dependencies"].values(), project["dependencies"])
    lines = (ROOT / "constraints.txt").read_text().split("\n")
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert {re.split(r"[<>=!\[ ]", item)[0].lower() for item in required} <= pinned


def test_the_wheel_holds_every_folder_of_the_library():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")

    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in LIBRARY}
    assert set(setup["packages"]) == folders | set(setup["package-dir"])
    others = [path.relative_to(ROOT / "vdiff_lite") for path in (ROOT / "vdiff_lite").rglob("*.*")]
    others = [path for path in others if path.suffix not in (".py", ".pyc")]
    globs = setup["package-data"]["vdiff_lite"]
    assert [path for path in others if not any(path.match(glob) for glob in globs)] == []


def test_constraints_for_python_3_10_run_on_it():
    """A version that requires a newer Python, by its metadata here, must not be pinned for 3.10."""
    installed = {(canonicalize_name(d.metadata["Name"]), d.version): d.metadata["Requires-Python"]
                 for d in distributions()}
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().split("\n") if "==" in line]
    pinned = {(canonicalize_name(r.name), str(r.specifier)[2:]) for r in pins
              if not r.marker or r.marker.evaluate({"python_version": "3.10"})}
    assert len(pinned) > 150
    too_new = {pin for pin in pinned if not SpecifierSet(installed.get(pin) or "").contains("3.10.14")}
    assert too_new == set()


def test_code_is_clean():
    command = [sys.executable, "-m", "ruff", "check", ".", "--output-format", "concise"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


LIBRARY = sorted((ROOT / "vdiff_lite").rglob("*.py"))
# The order of the chapters.
ORDER = ["checks", "files", "exercises", "data", "diffusion", "device", "models", "checkpoint", "training",
         "rollout", "methods", "evaluation", "viz", "export", "commands", "cli", "__main__"]


def code_lines(text):
    """How many lines hold code: no docstring, comment, import or blank line."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
              tokenize.ENDMARKER}
    tokens = [x for x in tokenize.generate_tokens(io.StringIO(text).readline) if x.type not in layout]
    span = lambda first, last: set(range(first, last + 1))
    lines = set().union(*(span(x.start[0], x.end[0]) for x in tokens))
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, (ast.Import, ast.ImportFrom)):
            lines -= span(node.lineno, node.end_lineno)
    return len(lines)


def test_lines_of_code_are_counted():
    assert code_lines('"""A module."""\nimport ast\n\n\ndef f():\n    """Doc."""\n    return 1  # one\n') == 2


def test_modules_and_the_library_are_short():
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in LIBRARY}
    assert {name for name, text in texts.items() if text.count("\n") > 250} == set()
    assert sum(map(code_lines, texts.values())) <= 4760, "the library is too long: take something out"


@pytest.mark.parametrize("name", ["vdiff_lite", "vdiff_lite.data", "vdiff_lite.methods", "vdiff_lite.viz"])
def test_every_name_in_all_exists(name):
    package = importlib.import_module(name)
    assert [part for part in package.__all__ if not hasattr(package, part)] == []


def test_library_is_ascii():
    assert [path.name for path in LIBRARY if not path.read_text().isascii()] == []


def imports(path):
    """The modules of this library that a file imports, anywhere in it, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} line {node.lineno}: relative import"
            # `from vdiff_lite import checkpoint` names a module, or something that a package re-exports.
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in below if module_path(name)}
            names |= modules or {node.module}
    return {name for name in names if name.split(".")[0] == "vdiff_lite"}


def module_path(name):
    path = ROOT / name.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def top_folder(path):
    return path.relative_to(ROOT / "vdiff_lite").with_suffix("").parts[0]


def test_a_folder_imports_only_from_those_before_it():
    wrong = []
    for path in LIBRARY:
        folder = top_folder(path)
        if folder == "__init__":
            continue
        for name in imports(path):
            used = name.split(".")[1] if "." in name else name
            if used not in ORDER or ORDER.index(used) > ORDER.index(folder):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []
    assert {top_folder(path) for path in LIBRARY} - {"__init__"} == set(ORDER)


def test_no_import_is_circular():
    graph = {path: {module_path(name) for name in imports(path)} - {path} for path in LIBRARY
             if path != ROOT / "vdiff_lite" / "__init__.py"}
    state = {}

    def visit(path, trail):
        if state.get(path) == "open":
            raise AssertionError(" -> ".join(p.stem for p in [*trail[trail.index(path):], path]))
        if path in graph and path not in state:
            state[path] = "open"
            for used in graph[path]:
                visit(used, [*trail, path])
            state[path] = "closed"

    for path in graph:
        visit(path, [])


def test_networks_and_losses_import_nothing_from_data():
    files = [*(ROOT / "vdiff_lite" / "models").glob("*.py"), ROOT / "vdiff_lite" / "diffusion" / "losses.py"]
    uses_data = lambda path: any(name.startswith("vdiff_lite.data") for name in imports(path))
    assert [path.name for path in files if uses_data(path)] == []


def test_nothing_names_a_machine():
    # Split, so that this file does not hold what it forbids.
    parts = ["/ho" + "me/", "/wo" + "rk/", "bash" + "_jobs", "/ro" + "ot/", "/tm" + "p/py"]
    forbidden = re.compile("|".join(parts))
    suffixes = {".py", ".md", ".toml", ".yml", ".txt", ".ipynb", ".js", ".html", ".cff", ".json", ".css", ""}
    files = [path for path in tracked() if path.suffix in suffixes]
    assert [path.name for path in files if forbidden.search(path.read_text(errors="ignore"))] == []


def test_the_repository_is_light():
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked()}
    assert {name: size for name, size in sizes.items() if size > 17e6} == {}
    assert sum(sizes.values()) <= 48e6


RESULTS = sorted([*(ROOT / "data" / "results").glob("*.json"), *(ROOT / "data" / "results").glob("*.csv.gz")])


@functools.cache
def origins(path):
    """What a result says of its origin: dicts with a sha256, and where they name it with a checkpoint."""
    def walk(value):
        if isinstance(value, dict):
            if "sha256" in value:
                yield value
            value = list(value.values())
        for part in value if isinstance(value, list) else []:
            yield from walk(part)

    return list(walk(json.loads(path.read_text()) if path.suffix == ".json" else read_results(path).attrs))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_are_of_shipped_weights(path):
    shipped = {name: checkpoint.read_card(name)["sha256"] for name in checkpoint.shipped()}
    card = json.loads((ROOT / "data" / "results" / "film32.json").read_text())  # chapter 12's: the card ships
    shipped["film32"] = card["sha256"]
    for origin in origins(path):
        if re.search(r"at commit [0-9a-f]{7}", origin.get("source", "")):
            continue  # of the weights of an earlier version, and it says of which
        if "/retrained/" in origin.get("checkpoint", ""):
            continue  # of weights that book/_tools/study.py trains and nobody ships
        name = origin.get("checkpoint") or next((n for n in shipped if shipped[n] == origin["sha256"]), None)
        assert shipped.get(name) == origin["sha256"], "of other weights than those of data/checkpoints"


def test_there_are_results_and_how_they_were_made():
    headers = {path.name: header for path in RESULTS for header in origins(path)}
    assert headers["digits32.json"]["command"].startswith("vdiff evaluate --checkpoint digits32 ")
    compared = {name: header for name, header in headers.items() if name.startswith("compare_")}
    assert len(compared) >= 2
    assert all(header["command"].startswith("vdiff compare --methods") for header in compared.values())
    feature_networks = {header["features"] for header in compared.values() if "features" in header}
    assert feature_networks == {load_features().card["sha256"]}
    costs = read_results(ROOT / "data" / "results" / "compare_costs.csv.gz")
    assert "memory" in set(costs["metric"])


HISTORIES = sorted((ROOT / "data" / "checkpoints" / "history").glob("*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_history_encoders_go_with_the_shipped_weights(path):
    card = json.loads(path.read_text())
    assert card["base_sha256"] == checkpoint.read_card(card["base"])["sha256"], "trained with other weights"


def test_the_readme_names_commands_that_exist():
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.M)) <= targets
    assert {"book", "test", "lab", "train", "bench"} <= targets


def test_the_hours_of_training_are_those_measured():
    measured = (ROOT / "data" / "results" / "recipe_cpu.txt").read_text()
    hours = round(int(re.search(r"^digits32 +(\d+)", measured, re.M)[1]) / 60)
    for name in ("Makefile", "README.md", "vdiff_lite/training/recipes/digits32.toml"):
        assert re.findall(r"(\w+) hours on two", (ROOT / name).read_text()) == [str(hours)], name
