"""Repairs markup of Sphinx and docutils that a screen reader cannot make sense of."""

import re

ROLES = re.compile(r' role="(?:list|doc-biblioentry)"')  # a list may hold list items alone
PARAMETERS = re.compile(r'<dl>\n(<dd><em class="sig-param">.*?)</dl>', re.S)  # definitions of no term


def setup(app):
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def repair(app, pagename, templatename, context, doctree):
    if "body" in context:
        body = PARAMETERS.sub(lambda match: f'<span class="sig-list">{as_spans(match[1])}</span>',
                              context["body"])
        context["body"] = ROLES.sub("", body)


def as_spans(items):
    return items.replace("<dd>", '<span class="sig-item">').replace("</dd>", "</span>")
