"""Tidy tables of results: lines "# key: value", then one row for each method, setting, seed, clip, frame and metric."""

import csv
import json
import shlex
from pathlib import Path

import torch

COLUMNS = ("method", "setting", "seed", "clip", "frame", "metric", "value")


def open_table(path, header):
    """Make the file, or check that it is of the same settings. Returns the blocks that it holds: {(method, seed, first clip): clips}."""
    if not path.exists():
        start_table(path, header)
    found, rows = read_table(path)
    different = {key: (found.get(key), value) for key, value in header.items() if key != "command" and found.get(key) != value}
    if different:
        raise ValueError(f"{path} was written with other settings (there, here): {different}; choose another file")
    if found != found | header:  # the same settings, and more clips or seeds asked for
        below = path.read_text().split("\n", len(found))[-1]
        path.write_text(_lines(found | header) + below)
    return {(name_of(row), int(row["seed"]), int(row["clip"])): int(row["value"]) for row in rows if row["metric"] == "done"}


def start_table(path, header):
    """Write an empty table: lines "# key: value" and the names of COLUMNS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_lines(header) + ",".join(COLUMNS) + "\n")


def add_rows(path, rows):
    """Append rows of COLUMNS to a table."""
    with open(path, "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _lines(header):
    return "".join(f"# {key}: {json.dumps(value)}\n" for key, value in header.items())


def read_table(path):
    """A table as (header, rows): rows are dicts of COLUMNS, values float, seed, clip and frame as text."""
    lines = Path(path).read_text().splitlines()
    header = {key: json.loads(value) for key, value in (line[2:].split(": ", 1) for line in lines if line.startswith("# "))}
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    return header, [row | {"value": float(row["value"])} for row in rows]


def command_of(header, width=76):
    """The command that made a table, in lines of at most `width` characters that a shell takes as one."""
    words, lines = [], [""]
    for word in map(shlex.quote, shlex.split(header["command"])):
        if words and words[-1].startswith("--") and " " not in words[-1]:  # an option stays beside its value
            words[-1] += " " + word
        else:
            words.append(word)
    for word in words:
        if lines[-1] and len(lines[-1] + word) > width - 3:  # a space before the word, and " \\" at the end
            lines.append("   ")
        lines[-1] += " " * bool(lines[-1]) + word
    return " \\\n".join(lines)


def name_of(row):
    """The method and setting of a row as text: what `rows_of` takes."""
    return row["method"] + (":" + row["setting"] if row["setting"] else "")


def by_name(rows):
    """The rows of each method, by the text that `rows_of` takes, in the order of the table: {text: [row, ...]}."""
    methods = {}
    for row in rows:
        methods.setdefault(name_of(row), []).append(row)
    return methods


def rows_of(text):
    """The columns of a method's rows: `values(rows, "psnr", **rows_of("reconstruction:weight=10"))`."""
    return dict(zip(("method", "setting"), text.partition(":")[::2]))


def values(rows, metric, **where):
    """The values of one metric as a tensor, of the rows whose columns equal `where` (all compared as text)."""
    return torch.tensor([row["value"] for row in _found(rows, metric, where)])


def by_clip(rows, metric, **where):
    """The mean of one metric for each clip, over its seeds and frames: (clips,), of the rows whose columns equal `where`.

    What an interval is drawn over: another seed of a clip is not another clip.
    """
    clips = {}
    for row in _found(rows, metric, where):
        clips.setdefault(row["clip"], []).append(row["value"])
    return torch.tensor([sum(of) / len(of) for of in clips.values()])


def features_of(rows, frame, **where):
    """What `vdiff compare --features` wrote of the window that ends with new frame `frame`: (clips and seeds, features)."""
    found = {}
    for row in rows:
        if row["metric"].startswith("feature ") and _fits(row, where | dict(frame=frame)):
            found.setdefault((name_of(row), row["seed"], row["clip"]), []).append(row["value"])
    return torch.tensor(list(found.values()))


def _found(rows, metric, where):
    return (row for row in rows if row["metric"] == metric and _fits(row, where))


def _fits(row, where):
    return all(str(row[k]) == str(v) for k, v in where.items())
