"""The library's docstrings as reStructuredText, for the page "The library".

They are plain text with indented equations. An indented block stays as it is written,
`name: meaning;  name: meaning` becomes a list, and the rest is text.
"""

import inspect
import re

NAME = r"(`?\w+`?(?:, `?\w+`?)*): "
ITEM = re.compile(rf";\s+(?={NAME})|(?:^|(?<=[.;]))\s*(?={NAME})")  # after ";", or where a sentence begins
LAST = re.compile(r"\.\s+(?=[A-Z`])")  # a list ends with the sentence of its last item


def setup(app):
    app.connect("autodoc-process-docstring", readable)
    app.connect("autodoc-process-signature", readable_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def readable(app, what, name, obj, options, lines):
    kept, names = [], parameters(obj)
    for indented, block in blocks_of(lines):
        if indented:
            kept += [".. code-block:: text", "", *("   " + line for line in block), ""]
        else:
            kept += prose(" ".join(block), names)
    lines[:] = kept


def parameters(obj):
    try:
        return set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return set()


def blocks_of(lines):
    """Runs of lines that are indented, or not: [(indented, lines)]. An empty line ends a run."""
    blocks = []
    for line in lines:
        indented = line.startswith("  ")
        if not line.strip():
            blocks.append((None, []))
        elif blocks and blocks[-1][0] == indented:
            blocks[-1][1].append(line)
        else:
            blocks.append((indented, [line]))
    blocks = [block for block in blocks if block[0] is not None]
    return [(indented, dedented(block) if indented else block) for indented, block in blocks]


def dedented(block):
    margin = min(len(line) - len(line.lstrip()) for line in block)
    return [line[margin:].rstrip() for line in block]


def prose(text, names):
    """A paragraph; or what stands before a list of names, the list, and what is raised and returned."""
    cuts = [m for m in ITEM.finditer(text)
            if m.group(0).startswith(";") or set(re.findall(r"\w+", m.group(1) or m.group(2))) <= names]
    if not cuts or set(re.findall(r"\w+", cuts[0].group(1) or cuts[0].group(2))).isdisjoint(names):
        return [marked(text), ""]
    ends = [cut.start() for cut in cuts[1:]] + [len(text)]
    items = [text[cut.end():end].strip() for cut, end in zip(cuts, ends)]
    items[-1], _, after = LAST.sub(".\0", items[-1], count=1).partition("\0")
    listed = []
    for item in items:
        name, meaning = item.split(": ", 1)
        listed += [f"* **{name.replace('`', '')}**: {marked(meaning)}", ""]
    return [marked(text[:cuts[0].start()].strip()), "", *listed, marked(after), ""]


def marked(text):
    """Names in `backquotes` as code, all else as plain text that means nothing to reStructuredText."""
    pieces = re.split(r"`([^`]+)`", re.sub(r"\s+", " ", text))
    pieces[::2] = [re.sub(r"([\\*_|])", r"\\\1", piece) for piece in pieces[::2]]
    pieces[1::2] = [f"\\ ``{piece}``\\ " for piece in pieces[1::2]]
    return "".join(pieces)


def readable_signature(app, what, name, obj, options, signature, result):
    """A protocol has no arguments of its own; defaults that are made by a call are no Python, or long."""
    if what == "class" and getattr(obj, "_is_protocol", False):
        return "", None
    shorter = (signature or "").replace("<factory>", "{}")
    return re.sub(r"\(TrainConfig\(.*?\),\)", "(TrainConfig(),)", shorter) or signature, result
