"""A directive for what a command printed: its tables become tables of the page, its other lines paragraphs.

    ```{printed-tables} ../data/results/digits32.txt
    :caption: Printed by `vdiff evaluate --checkpoint digits32`
    ```

And every table of the book's pages has headings of its rows, and says of each heading what it belongs to.
"""

import re
from itertools import groupby
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

IN_A_TABLE = re.compile(r" {3,}| {2,}\d")  # what is aligned has wide gaps
HEADING = {"head": "col", "stub": "row"}  # docutils' classes of <th>


def setup(app):
    app.add_directive("printed-tables", PrintedTables)
    app.connect("doctree-read", give_row_headings)
    app.connect("html-page-context", say_what_headings_belong_to)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class PrintedTables(SphinxDirective):
    required_arguments = 1
    option_spec = {"caption": directives.unchanged_required}

    def run(self):
        path = Path(self.env.relfn2path(self.arguments[0])[1])
        self.env.note_dependency(str(path))
        caption, _ = self.state.inline_text(self.options["caption"], self.lineno)
        result = [nodes.paragraph("", "", *caption, nodes.Text(":"))]
        printed = [line for line in path.read_text().splitlines() if line]
        for is_table, lines in groupby(printed, lambda line: bool(IN_A_TABLE.search(line))):
            lines = list(lines)
            result += [table(split(lines))] if is_table else [nodes.paragraph("", line) for line in lines]
        return [nodes.container("", *result, classes=["printed"])]


def split(lines):
    """The cells of aligned lines: columns are where no line has two blanks. The first row is the heading."""
    width = max(map(len, lines))
    taken = "".join("x" if any(line[i:i + 1].strip() for line in lines) else " " for i in range(width))
    columns = [found.span() for found in re.finditer(r"x+(?: x+)*", taken)]
    rows = [[line[start:end].strip() for start, end in columns] for line in lines]
    if not any(map(all, zip(*rows[:2]))):  # pandas prints the names of the index below the other headings
        rows[0] = list(map(max, rows[0], rows.pop(1)))
    for above, row in zip(rows[1:], rows[2:]):  # and what is the same in the next row only once
        row[0] = row[0] or above[0]
    return rows


def table(rows):
    group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in rows[0]], cols=len(rows[0]))
    made = [nodes.row("", *[nodes.entry("", nodes.paragraph("", cell)) for cell in row]) for row in rows]
    group += [nodes.thead("", made[0]), nodes.tbody("", *made[1:])]
    return nodes.table("", group, classes=["dataframe"])


def give_row_headings(app, doctree):
    for group in doctree.findall(nodes.tgroup):
        next(group.findall(nodes.colspec))["stub"] = 1


def say_what_headings_belong_to(app, pagename, templatename, context, doctree):
    scoped = lambda match: f'<th scope="{HEADING[match[1]]}" class="{match[1]}'
    if "body" in context:
        context["body"] = re.sub(r'<th class="(head|stub)\b', scoped, context["body"])
