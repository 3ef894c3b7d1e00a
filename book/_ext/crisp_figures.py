"""Figures as large as they were drawn: half the size for what has twice the pixels; a click opens the file.

Film strips are the pictures that have twice the pixels (`viz.strips.DPI`). They keep that size, so that no
pixel of a clip is blurred, and scroll where a page is narrow.

Sphinx links a picture that has a width to its file (`html_scaled_image_link`).
"""

from pathlib import Path

from docutils import nodes
from PIL import Image

DENSITY = 100  # pixels per inch on the page; matplotlib's default


def setup(app):
    app.connect("doctree-read", set_widths)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def set_widths(app, doctree):
    for node in doctree.findall(nodes.image):
        path = Path(app.srcdir) / node["uri"]
        if "width" not in node and path.suffix == ".png" and path.exists():
            with Image.open(path) as picture:
                density = picture.info.get("dpi", (DENSITY,))[0]
                node["width"] = f"{round(picture.width * DENSITY / density)}px"
                node["classes"] += ["film-strip"] if round(density) == 2 * DENSITY else []
