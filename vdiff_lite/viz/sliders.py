"""Sliders without a kernel, in one piece of HTML; and, where there is a kernel, sliders that sample anew."""

import html
import io
import itertools
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vdiff_lite.viz.pages import Page
from vdiff_lite.viz.players import data_url, png_data_url
from vdiff_lite.viz.writers import encode_gif

_numbers = itertools.count()
_SCRIPT = Path(__file__).with_name("slider.js").read_text().partition("\n")[2].strip()
_STYLE = "image-rendering:pixelated;border:1px solid #8888"
_ROW = 'style="display:flex;gap:8px;align-items:center"'
_BUTTON = 'type="button" style="min-width:2.2em;min-height:2.2em"'
_AXIS = f"""<div data-axis {_ROW}>
<button {_BUTTON} aria-label="{{name}}: one step down">&#8722;</button>
<label style="flex:1">{{name}} <output>{{value}}</output>
<input type="range" min="0" max="{{last}}" value="{{index}}" step="1" style="width:100%"
aria-label="{{name}}" aria-valuetext="{{value}}"></label>
<button {_BUTTON} aria-label="{{name}}: one step up">+</button>
</div>"""
_TIME = f"""<div {_ROW}>
<button type="button" data-play style="min-width:4.5em;min-height:2.2em">Play</button>
<input data-time type="range" min="0" max="{{last}}" value="0" step="1" aria-label="frame" style="flex:1">
<span data-count style="min-width:4em">1 / {{frames}}</span></div>"""


class Picture(NamedTuple):
    """What a slider shows: a clip, or a still with one frame."""

    strip: str  # a data: address: the frames side by side in one png, which the script plays
    poster: str  # a data: address: for where no script runs
    frames: int = 1
    fps: float = 1


def picture_slider(pictures: Iterable[Picture | str], values: Iterable, name: str, alt: str, start: int = 0,
                   width: int = 360) -> Page:
    """One picture for each value of a slider; works in JupyterLab and in the built page, without a kernel.

    pictures: clips that play (`clip_pictures`) or stills (`frame_pictures`, `figure_picture`);
    values: what the slider shows for each;  name: what is moved;  alt: a sentence that says what is seen;
    start: index shown first;  width: in pixels.  Raises ValueError unless there is one picture per value, and
    at least two.
    """
    return _page(pictures, {name: values}, [[0]], alt, [start], width)


def versus_slider(pictures: Iterable[Picture | str], values: Iterable,
                  names: Sequence[str] = ("left", "right"), alt: str = "", start: Sequence[int] = (0, 1),
                  width: int = 240) -> Page:
    """Two players side by side, in step, each with a slider over the same pictures; see `picture_slider`."""
    return _page(pictures, dict.fromkeys(names, values), [[0], [1]], alt, start, width)


def _page(pictures, axes, panels, alt, start, width) -> Page:
    """The page. panels: for each player, the axes that its picture depends on; pictures lie row by row."""
    axes = {name: list(map(str, values)) for name, values in axes.items()}
    pictures = [_picture(picture) for picture in pictures]
    sizes, lengths = list(map(len, axes.values())), sorted({picture.frames for picture in pictures})
    if len(pictures) != math.prod(sizes[axis] for axis in panels[0]) or min(sizes) < 2:
        raise ValueError(f"{len(pictures)} pictures for {' x '.join(map(str, sizes))} values; "
                         "a slider wants two or more, one picture each")
    if len(lengths) > 1:
        raise ValueError(f"the clips of one slider must be of one length; there are {lengths} frames")
    settings = [[f"{name}: {value}" for value in values] for name, values in axes.items()]
    combinations = [itertools.product(*(settings[axis] for axis in panel)) for panel in panels]
    alts = [[f"{alt} {', '.join(names)}.".strip() for names in rows] for rows in combinations]
    # The process is part of the id, so that two runs of a notebook never share one on the same page.
    root, num_frames = f"vdiff-slider-{os.getpid():x}-{next(_numbers)}", lengths[0]
    style = f"max-width:{width * len(panels)}px;margin:0.6em 0"
    parts = [f'<div class="vdiff-slider" id="{root}" style="{style}">', '<div style="display:flex;gap:6px">']
    shown = []
    for panel, texts in zip(panels, alts):
        i = np.ravel_multi_index([start[axis] for axis in panel], [sizes[axis] for axis in panel])
        shown.append(texts[i])
        parts.append(f'<figure data-panel style="margin:0;flex:1"><img alt="{html.escape(texts[i])}" '
                     f'src="{pictures[i].poster}" width="{width}" style="width:100%;{_STYLE}"></figure>')
    parts.append("</div>")
    if num_frames > 1:
        parts.append(_TIME.format(last=num_frames - 1, frames=num_frames))
    for (name, values), i in zip(axes.items(), start):
        parts.append(_AXIS.format(name=html.escape(name), value=html.escape(values[i]), index=i,
                                  last=len(values) - 1))
    data = dict(pictures=[picture.strip for picture in pictures], alts=alts, axes=list(axes.values()),
                panels=panels, frames=num_frames, fps=pictures[0].fps)
    script = _SCRIPT.replace("SLIDER", f'"{root}"').replace("DATA", json.dumps(data).replace("</", "<\\/"))
    return Page("\n".join([*parts, f"<script>\n{script}\n</script>", "</div>"]), "\n".join(shown))


def clip_pictures(clips: Iterable[Tensor], fps: float = 8) -> list[Picture]:
    """Clips (b, c, f, h, w), or a list of (c, f, h, w), as pictures that play, at native size."""
    return [_picture(clip, fps) for clip in clips]


def frame_pictures(clips: Iterable[Tensor], frame: int = 0) -> list[str]:
    """One frame of each clip as a still picture (png) for the sliders."""
    return [png_data_url(clip, frame) for clip in clips]


def figure_picture(figure: Figure, dpi: int = 90) -> str:
    """A matplotlib figure as a still picture (png) for the sliders; closes the figure."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    return data_url("image/png", out.getvalue())


def guidance_slider(make_clip: Callable, weights: Sequence, name: str = "guidance weight w", alt: str = "",
                    start: int = 0, fine: Sequence | None = None, width: int = 360, fps: float = 8):
    """A slider whose clip is sampled anew in a live kernel, and was sampled beforehand in the built page.

    make_clip(weight) -> what is seen: a clip (c, f, h, w) in [-1, 1], a still picture (a data: address), or a
    generator of either, of which the last is the answer and the others are shown on the way (the sampler's
    x0_hat, say);  weights: what the page's slider offers, one picture each, made now;  fine: what the live
    slider offers (default: the same);  the rest as in `picture_slider`. For any number that a clip depends
    on, not only weights. In a live kernel only the latest value of a drag is sampled, a busy mark shows, and
    an error shows as text in place. Returns an object that Jupyter displays.
    """
    return explore_slider(make_clip, {name: weights}, alt, [start], {name: fine or weights}, width, fps)


def explore_slider(make_clip: Callable, axes: Mapping[str, Sequence], alt: str = "",
                   start: Sequence[int] | None = None, fine: Mapping[str, Sequence] | None = None,
                   width: int = 360, fps: float = 8):
    """`guidance_slider` for several settings at once: make_clip(a, b, ...) with one argument for each axis.

    axes: {name: values}; the page holds one picture for each combination, so keep the product small;  start:
    an index for each axis;  fine: {name: values} of the live sliders, where they offer more.
    """
    axes, start = {name: list(values) for name, values in axes.items()}, start or [0] * len(axes)
    answers = (list(_stages(make_clip(*values)))[-1] for values in itertools.product(*axes.values()))
    pictures = [_picture(answer, fps) for answer in answers]
    page = _page(pictures, axes, [list(range(len(axes)))], alt, start, width)
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return page
    poster = pictures[np.ravel_multi_index(start, [len(values) for values in axes.values()])]
    first = [values[i] for values, i in zip(axes.values(), start)]
    return LiveSlider(make_clip, axes | (fine or {}), first, alt, width, fps, page, poster)


def _picture(content, fps=8) -> Picture:
    """A clip (c, f, h, w), the data: address of a still, or what is a picture already."""
    if torch.is_tensor(content):
        poster = data_url("image/gif", encode_gif(content, fps))
        return Picture(png_data_url(content), poster, content.shape[1], fps)
    return Picture(content, content) if isinstance(content, str) else content


def _stages(answer) -> Iterable:
    """What make_clip returned, as the things to show one after the other."""
    return [answer] if torch.is_tensor(answer) or isinstance(answer, str) else answer


class LiveSlider:
    """What `guidance_slider` shows: ipywidgets where there is a kernel, `page` (HTML) elsewhere."""

    def __init__(self, make_clip, axes, start, alt, width, fps, page, poster):
        import ipywidgets as w

        self.make_clip, self.names, self.alt, self.width, self.fps = make_clip, list(axes), alt, width, fps
        self.page = page
        self.sliders = [w.SelectionSlider(options=list(values), value=value if value in values else values[0],
                                          description=name, style={"description_width": "initial"},
                                          layout={"width": f"{width}px"})
                        for (name, values), value in zip(axes.items(), start)]
        self.picture, self.status = w.HTML(self._image(poster, start)), w.HTML("")
        self.widget = w.VBox([self.picture, *self.sliders, self.status])
        self._next, self._lock, self._thread = None, threading.Lock(), None
        for slider in self.sliders:
            slider.observe(lambda change: self._ask([slider.value for slider in self.sliders]), names="value")

    @property
    def slider(self):
        """The first slider."""
        return self.sliders[0]

    def _caption(self, values) -> str:
        return ", ".join(f"{name}: {value}" for name, value in zip(self.names, values))

    def _image(self, picture, values) -> str:
        return (f'<img src="{picture.poster}" alt="{html.escape(f"{self.alt} {self._caption(values)}.")}" '
                f'style="width:{self.width}px;max-width:100%;{_STYLE}">')

    def _ask(self, values) -> None:
        with self._lock:
            self._next = values
            self.status.value = "<em>sampling ...</em>"
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._next is None:
                    self._thread = None
                    return
                values, self._next = self._next, None
            try:
                self._show(values)
                message = ""
            except Exception as error:  # shown to the reader: a widget must not die
                text = f"{self._caption(values)}: {type(error).__name__}: {error}"
                message = f'<span role="alert">{html.escape(text)}</span>'
            with self._lock:
                if self._next is None:
                    self.status.value = message

    def _show(self, values) -> None:
        for answer in _stages(self.make_clip(*values)):
            if self._next is not None:  # newer values wait: this clip is stale
                return
            self.picture.value = self._image(_picture(answer, self.fps), values)

    def wait(self, seconds: float = 60) -> bool:
        """Until nothing is being sampled any more. Returns whether that came within `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return self._thread is None

    def _repr_mimebundle_(self, **_):
        page = {"text/html": self.page.data, "text/plain": self.page.text}
        return dict(self.widget._repr_mimebundle_() or {}, **page)
