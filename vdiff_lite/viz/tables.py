"""Tables: numbers with headings and a caption, as HTML, and as text where there is no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from numbers import Integral, Number
from typing import TYPE_CHECKING

from vdiff_lite.viz.pages import Page

if TYPE_CHECKING:  # pandas takes its time
    from pandas import DataFrame, Series

MARK = "\u25b8 "  # before the best value of a column, which is bold too
BEST = {"PSNR": "max", "SSIM": "max", "position error": "min"}  # by what a column's name holds


def show_table(frame: DataFrame, caption: str, best: Mapping[str, str | float] | None = None,
               digits: int | Mapping[str, int] = 2, half: DataFrame | None = None) -> Page:
    """A frame as a table: its index as headings of rows, numbers on the right, nan as empty cells.

    best: {column: "max", "min" or the value that is right}; the best value of these columns is bold and
    marked (default: PSNR, SSIM and position error, by the columns' names; none: {});  digits: decimals,
    or {column: decimals};  half: half of each number's interval (same rows and columns), shown behind it in
    brackets.
    Raises ValueError for a column of `best` or `digits` that the frame does not have.
    """
    from pandas import DataFrame

    if best is None:
        best = {column: rule for column in frame for name, rule in BEST.items()
                if name in str(column) and all(isinstance(x, Number) for x in frame[column].dropna())
                and frame[column].notna().any()}
    digits = dict(digits) if isinstance(digits, Mapping) else dict.fromkeys(frame.columns, digits)
    for name, columns in (("best", best), ("digits", digits)):
        if set(columns) - set(frame.columns):
            unknown = ", ".join(map(str, set(columns) - set(frame.columns)))
            raise ValueError(f"{name} names {unknown}; the columns are {', '.join(map(str, frame.columns))}")
    cells = DataFrame({column: [_text(x, digits.get(column, 2)) for x in frame[column]] for column in frame},
                      index=frame.index)
    winners = {column: _best(frame[column], cells[column], rule) for column, rule in best.items()}
    if half is not None:
        for column in half:
            widths = [_text(x, digits.get(column, 2)) for x in half[column].reindex(frame.index)]
            cells[column] = [f"{x} ({w})" if x and w else x for x, w in zip(cells[column], widths)]
    note = f" {MARK}best of its column." if best else ""
    head = "".join(f'<th scope="col" style="text-align:right">{escape(str(column))}</th>' for column in cells)
    rows = []
    for number, (name, row) in enumerate(cells.iterrows()):
        parts = [_cell(text, frame[column].iloc[number], column in winners and winners[column].iloc[number])
                 for column, text in row.items()]
        heading = f'<th scope="row" style="text-align:left">{escape(str(name))}</th>'
        rows.append(f"<tr>{heading}{''.join(parts)}</tr>")
    corner = f'<th scope="col" style="text-align:left">{escape(str(frame.index.name))}</th>'
    corner = corner if frame.index.name else "<td></td>"
    stays = "position:sticky;left:0;max-width:min(46em,84vw)"  # where a wide table scrolls
    html = (f'<div style="overflow-x:auto" tabindex="0" role="region" aria-label="{escape(caption)}">'
            '<table class="dataframe" style="font-variant-numeric:tabular-nums">'
            '<caption style="caption-side:top;text-align:left">'
            f'<div style="{stays}">{escape(caption + note)}</div></caption>'
            f'<thead><tr>{corner}{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>')
    for column, won in winners.items():
        cells[column] = [MARK + x if best_one else x for x, best_one in zip(cells[column], won)]
    return Page(html, f"{caption}{note}\n{cells.to_string()}")


def _text(x, digits: int) -> str:
    if x is None or x != x:  # nan
        return ""
    if not isinstance(x, Number):
        return str(x)
    return f"{x:,}" if isinstance(x, Integral) else f"{x:,.{digits}f}"


def _best(values: Series, texts: Series, rule: str | float) -> Series:
    """Which cells show the best value: all of those that are equal as shown."""
    score = {"max": values, "min": -values}[rule] if isinstance(rule, str) else -(values - rule).abs()
    return texts == texts.iloc[score.astype(float).argmax()]


def _cell(text: str, value, best: bool) -> str:
    side = "right" if isinstance(value, Number) else "left"
    shown = f"<strong>{MARK}{escape(text)}</strong>" if best else escape(text)
    return f'<td style="text-align:{side}">{shown}</td>'
