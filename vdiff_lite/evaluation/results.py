"""Results: tidy gzipped csv. Lines "# key: json", then one row per value."""

import gzip
import io
import json
import re
import shlex
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import torch
from pandas import DataFrame
from torch import Tensor

from vdiff_lite.evaluation.feature_net import frechet, real_clip_features
from vdiff_lite.evaluation.video_metrics import bootstrap
from vdiff_lite.files import write_whole

COLUMNS = ("method", "setting", "seed", "clip", "frame", "metric", "value")
INTEGERS = dict(seed="Int64", clip="Int64", frame="Int64")
TYPES = dict(method="str", setting="str", metric="str", value="float") | INTEGERS
FRAMES = 1, 5, 11  # new frames whose PSNR the summary shows
FOLDER = Path(__file__).resolve().parents[2] / "data" / "results"


def read_results(name: str | Path) -> DataFrame:
    """A table by its path, or by its name in data/results ("compare_main"): one row per value.

    Columns: COLUMNS (seed, clip and frame are nullable integers) and `name`, the method and its setting as
    one text, as `parse_method` reads it. `.attrs["header"]`: what the file says of itself. What a kill left
    of a last block is left out. Raises FileNotFoundError, and ValueError for a damaged file.
    """
    header, rows, _ = _read(_find(name))
    try:
        table = pd.read_csv(io.StringIO(rows), dtype=TYPES, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    table = table.fillna({"setting": ""})
    table["name"] = table.method + (":" + table.setting).where(table.setting != "", "")
    table.attrs["header"] = header
    return table


def per_clip(table: DataFrame, metric: str, frame: int | None = None) -> DataFrame:
    """A metric's mean over seeds, and over frames unless one is named: a row per clip, a column per `name`.

    What an interval is drawn over: another seed of a clip is not another clip. A clip without a value is nan.
    """
    rows = table[(table.metric == metric) & (frame is None or table.frame == frame)]
    return rows.pivot_table(index="clip", columns="name", values="value", sort=False)


def intervals(table: DataFrame, columns: Mapping[str, tuple]) -> tuple[DataFrame, DataFrame]:
    """The mean over clips, and half of its 95% interval over clips: two frames, one row per method.

    columns: {title: (metric, frame)}; frame None: the mean over all frames.
    """
    names = table.name.drop_duplicates()
    mean, half = (DataFrame(index=names, columns=list(columns), dtype=float) for _ in range(2))
    for title, (metric, frame) in columns.items():
        for name, scores in per_clip(table, metric, frame).items():
            mean.loc[name, title], low, high = bootstrap(scores.dropna())
            half.loc[name, title] = (high - low) / 2
    return mean, half


def features_at(table: DataFrame, frame: int) -> dict[str, Tensor]:
    """`window_features` of the window that ends with new frame `frame`: {name: (clips times seeds, 64)}."""
    rows = table[table.metric.str.startswith("feature ") & (table.frame == frame)]
    wide = rows.pivot_table(index=["name", "seed", "clip"], columns="metric", values="value", sort=False)
    return {name: torch.tensor(x.to_numpy()).float() for name, x in wide.groupby("name", sort=False)}


def summary(name: str | Path, frames: Iterable[int] = FRAMES) -> DataFrame:
    """One row per method: means over clips and seeds, each with half of its 95% interval over clips ("+-").

    NFE and seconds are medians: other work on the machine adds to the time of a few blocks.  Where the table
    holds features, a column has the Frechet distance of the last whole window from real clips.
    """
    table = read_results(name)
    header = table.attrs["header"]
    missing = {"frames", "window", "overlap", "split"} - set(header)
    if missing or table.empty:
        raise ValueError(f"{name} has {len(table)} rows, and its header lacks {sorted(missing) or 'none'}: "
                         "it is no finished table of vdiff compare; see --csv")
    columns = {f"psnr {n}": ("psnr", n) for n in frames if n <= header["frames"]}
    whole = ("boundary_discontinuity", "motion", "intensity", "identity", "time_to_first_failure", "crossing",
             "swapped", "position_error")
    columns |= {metric: (metric, None) for metric in whole}
    columns[f"valid {header['frames']}"] = ("valid", header["frames"])
    columns = {title: column for title, column in columns.items() if column[0] in set(table.metric)}
    result = pd.concat(dict(zip(("mean", "+-"), intervals(table, columns))), axis=1).swaplevel(axis=1)
    result = result[[(title, part) for title in columns for part in ("mean", "+-")]].round(2)
    if header.get("features"):
        stride = header["window"] - header["overlap"]
        real = real_clip_features(header["window"], split=header["split"])
        end = header["frames"] // stride * stride
        distance = {name: frechet(x, real) for name, x in features_at(table, end).items() if len(x) > 1}
        result[f"frechet {end}", ""] = pd.Series(distance, dtype=float).round(2)
    for metric, unit in dict(nfe="per frame", seconds="per frame", memory="MB").items():
        if metric in set(table.metric):
            result[metric, unit] = table[table.metric == metric].groupby("name").value.median().round(3)
    result.attrs["frames"] = header["frames"]
    return result


def print_results(name: str | Path, csv: bool = False) -> None:
    """What `vdiff results` prints: the summary, or the tidy csv itself."""
    if csv:
        sys.stdout.write(_read(_find(name))[1])
    else:
        table = summary(name)
        made = table.attrs["frames"]
        print(table.to_string(na_rep=""))
        empty = [title for title, part in table if part == "mean" and table[title, part].isna().all()]
        empty = [f"psnr {n}" for n in FRAMES if n > made] + empty
        if empty:
            print(f"left out or empty: {', '.join(empty)}; frames={made} are too few, or no clip has a value")


def command_of(table: DataFrame, width: int = 76) -> str:
    """The command that made a table, in lines of at most `width` characters that a shell takes as one."""
    words, lines = [], [""]
    for word in map(shlex.quote, shlex.split(table.attrs["header"]["command"])):
        if words and words[-1].startswith("--") and " " not in words[-1]:  # an option stays beside its value
            words[-1] += " " + word
        else:
            words.append(word)
    for word in words:
        if lines[-1] and len(lines[-1] + word) > width - 3:  # a space before the word, and " \\" at the end
            lines.append("   ")
        lines[-1] += " " * bool(lines[-1]) + word
    return " \\\n".join(lines)


def open_results(path: str | Path, header: dict) -> dict[tuple, int]:
    """Make the file, or check its settings. Returns its blocks: {(name, seed, first clip): clips}.

    What a kill left of a last block is cut off. Raises ValueError for other settings, and for another ending.
    """
    path = Path(path)
    if not path.name.endswith(".csv.gz"):
        raise ValueError(f"{path}: results are gzipped tables; choose a name that ends with .csv.gz")
    if not path.exists():
        start_results(path, header)
    there, rows, whole = _read(path)
    different = {k: (there.get(k), v) for k, v in header.items() if k != "command" and there.get(k) != v}
    if different:
        raise ValueError(f"{path} was written with other settings (there, here): {different}; choose another "
                         "file")
    if not whole or there != there | header:  # a last block cut off, or more clips or seeds asked for
        _write(path, there | header, rows)
    blocks = read_results(path).query("metric == 'done'").set_index(["name", "seed", "clip"])
    return blocks.value.astype(int).to_dict()


def start_results(path: str | Path, header: dict) -> None:
    """Write an empty table: lines "# key: json" and the names of COLUMNS."""
    _write(path, header, ",".join(COLUMNS) + "\n")


def append_rows(path: str | Path, rows: Iterable[tuple]) -> None:
    """Append a block of rows of COLUMNS (None: empty), one gzip member: a kill can only tear its end."""
    table = DataFrame(list(rows), columns=COLUMNS).astype(INTEGERS | dict(value="float"))
    text = table.to_csv(index=False, header=False, float_format="%.6g", lineterminator="\n")
    with open(path, "ab") as file:
        file.write(gzip.compress(text.encode(), mtime=0))


def _find(name):
    path = Path(name)
    if not path.exists() and (FOLDER / f"{name}.csv.gz").exists():
        return FOLDER / f"{name}.csv.gz"
    if not path.is_file():
        known = ", ".join(sorted(file.name.removesuffix(".csv.gz") for file in FOLDER.glob("*.csv.gz")))
        raise FileNotFoundError(f"no table {str(name)!r}; give the path of a .csv.gz file, or one of: "
                                f"{known or 'none'}")
    return path


def _read(path):
    """A file's header, its rows as csv, and whether it is whole: a torn last gzip member is left out."""
    data, parts, end, whole = path.read_bytes(), [], 0, True
    while end < len(data) and whole:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(data[end:])
        except zlib.error as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        whole = member.eof
        if whole:
            parts.append(part)
            end = len(data) - len(member.unused_data)
    try:
        text = b"".join(parts).decode()
        head = re.match(r"(?:# .*\n)*", text).group()
        header = dict(line[2:].split(": ", 1) for line in head.splitlines())
        header = {key: json.loads(value) for key, value in header.items()}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    rows = text[len(head):]
    if not rows.startswith(",".join(COLUMNS) + "\n") or not rows.endswith("\n"):
        raise ValueError(f"{path} begins or ends otherwise than a table of results: it was cut, or changed "
                         f"by another program; wanted is a line {','.join(COLUMNS)}, then whole lines")
    return header, rows, whole


def _write(path, header, rows):
    head = "".join(f"# {key}: {json.dumps(value)}\n" for key, value in header.items())
    data = gzip.compress((head + rows).encode(), mtime=0)
    write_whole(path, lambda file: file.write_bytes(data))
