"""Run notebooks and keep their outputs: NOTEBOOK.py (percent format) -> NOTEBOOK.ipynb, in place.

    python book/_tools/execute.py notebooks/02_noise_schedule.py [...]

Outputs are made small and repeatable: no execution times, no progress bars, figures as PNG alone. A figure's
alt text and caption stand in its cell's metadata, in the py file. An .ipynb that was edited by hand stops
everything before anything runs.
"""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def fingerprint(notebook):
    return hashlib.sha256(json.dumps(sources(notebook)).encode()).hexdigest()


def edited_by_hand(path):
    """Whether NOTEBOOK.ipynb has cells that neither NOTEBOOK.py, nor this program, nor a commit has."""
    made = path.with_suffix(".ipynb")
    if not made.exists():
        return False
    notebook = jupytext.read(made)
    if sources(notebook) == sources(jupytext.read(path)):
        return False
    if notebook.metadata.get("executed_sources") == fingerprint(notebook):
        return False
    try:
        unchanged = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", made.name], cwd=path.parent,
                                   capture_output=True)
    except OSError:  # no git
        return True
    return unchanged.returncode != 0


def execute(path):
    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:02d}"
        if cell.cell_type == "code":
            cell.outputs = merged([tidy(output) for output in cell.outputs if is_shown(output)])
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["executed_sources"] = fingerprint(notebook)
    nbformat.write(notebook, path.with_suffix(".ipynb"))


def is_shown(output):
    # Progress bars go to stderr and differ each time.
    return not (output.output_type == "stream" and output.name == "stderr")


def tidy(output):
    if output.output_type in ("display_data", "execute_result"):
        output.data.pop("application/vnd.jupyter.widget-view+json", None)
        if "image/png" in output.data:
            output.data.pop("text/plain", None)
    return output


def merged(outputs):
    """Printed text that follows printed text is one output: where it is cut differs from run to run."""
    result = []
    for output in outputs:
        if result and output.output_type == result[-1].output_type == "stream":
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def main(names):
    paths = [Path(name).with_suffix(".py") for name in names]
    for path in filter(edited_by_hand, paths):
        made = path.with_suffix(".ipynb")
        sys.exit(f"{made} was edited, and {path.name} does not have the edit; nothing was run. To keep it: "
                 f"jupytext --to py:percent {made}. To drop it: git checkout -- {made}")
    for path in paths:
        started = time.perf_counter()
        execute(path)
        size = path.with_suffix(".ipynb").stat().st_size
        print(f"{path}: {time.perf_counter() - started:.0f} s, {size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
