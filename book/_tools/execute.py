"""Run notebooks and keep their outputs: NOTEBOOK.py (percent format) -> NOTEBOOK.ipynb, in place.

    python book/_tools/execute.py notebooks/02_noise_schedule.py [...]

Outputs are made small and repeatable: no execution times, no progress bars, figures as PNG alone. A figure's
alt text and caption stand in its cell's metadata, in the py file.
"""

import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient


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


if __name__ == "__main__":
    for name in sys.argv[1:]:
        started = time.perf_counter()
        execute(Path(name).with_suffix(".py"))
        size = Path(name).with_suffix(".ipynb").stat().st_size
        print(f"{name}: {time.perf_counter() - started:.0f} s, {size / 1e3:.0f} kB", flush=True)
