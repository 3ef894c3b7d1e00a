"""Links each glossary term where it first stands in the chapters: in the site, not in the notebooks."""

import re

# How a term may stand in a text, where that is another way than its own name and its plural.
FORMS = {
    "EMA": r"exponential moving averages?|EMA",
    "NFE": r"network evaluations?(?: \(NFE\))?|NFE",
    "v-prediction": r"v-prediction|predicts? \$v\$",
    "zero terminal SNR": r"[Zz]ero[ -]terminal[ -]SNR",
    "signal-to-noise ratio": r"[Ss]ignal-to-noise ratios?",
    "time to first failure": r"[Tt]ime to (?:the )?first failure",
    "SDEdit initialization": r"SDEdit initializations?|SDEdit",
    "RePaint resampling": r"RePaint resampling|RePaint",
    "prepended keys and values": r"[Pp]repended (?:\(cached\) )?keys and values|prepend(?:ed)?",
    "Fréchet distance": r"Fr[ée]chet distances?",
    "rotary positions": r"[Rr]otary positions?|[Rr]otary position embeddings?",
    "model preset": r"presets?",
    "boundary discontinuity": r"[Bb]oundary discontinuit(?:y|ies)",
    "history guidance": r"(?:[Vv]anilla )?history guidance",
    "fractional history guidance": r"(?<=\*)[Ff]ractional(?=\*)|[Ff]ractional history guidance",
    "temporal history guidance": r"(?<=\*)[Tt]emporal(?=\*)|[Tt]emporal history guidance",
    "past": r"(?<=the )past", "card": r"(?<=the )card|(?<=a )card|(?<=[Ii]ts )card",
    "method": r"(?<=extension )methods?|(?<=a )method|(?<=the )methods?",
    "blend": r"(?<=the )blend|blends?", "identity": r"(?<=an )identity|identity",
}
# Words with another meaning before the chapter that builds the term.
FROM = {"identity": "06", "stride": "06", "intensity": "05", "method": "06", "oracle": "07", "blend": "09"}
# What is left alone: roles, code, equations, links, pictures, headings, tables.
PROTECTED = re.compile(r"\{[\w:]+\}`[^`]*`|```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|!?\[[^\]]*\]\([^)]*\)"
                       r"|<[^>]*>|https?://\S+|^#+ .*?$|^\|.*?$", re.S | re.M)


def terms(glossary):
    """The terms of a glossary page, the longest first: `guidance weight` is not cut by `weight`."""
    found = re.findall(r"^(?! |:::)(\S.*)$", glossary.split(":::{glossary}")[1], re.M)
    return sorted(found, key=len, reverse=True)


def forms_of(term):
    """A pattern of how a term may stand in a text."""
    first = term[0]
    return FORMS.get(term) or (f"[{first.upper()}{first.lower()}]" if first.isalpha() else re.escape(first)
                               ) + re.escape(term[1:]) + "s?"


def link_terms(notebooks, glossary):
    """Link in place, in the chapters of {file name: notebook as a dict}, read in their order."""
    open_terms = terms(glossary)
    for name in sorted(name for name in notebooks if name[:2].isdigit()):
        cells = [cell for cell in notebooks[name]["cells"] if cell["cell_type"] == "markdown"]
        for term in [t for t in open_terms if name[:2] >= FROM.get(t, "00")]:
            for cell in cells:
                linked = link_first("".join(cell["source"]), term)
                if linked:
                    cell["source"] = linked
                    open_terms.remove(term)
                    break


def link_first(text, term):
    """The text with the first free occurrence of a term as a link, or None where there is none."""
    taken = [match.span() for match in PROTECTED.finditer(text)]
    for match in re.finditer(rf"(?<![\w`-])(?:{forms_of(term)})(?![\w`-])", text):
        if "\n" not in match.group() and not any(a < match.end() and match.start() < b for a, b in taken):
            return f"{text[:match.start()]}{{term}}`{match.group()} <{term}>`{text[match.end():]}"
    return None
