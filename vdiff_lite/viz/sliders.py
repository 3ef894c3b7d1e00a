"""Sliders that need no kernel: pictures made beforehand, range inputs and a few lines of script in one piece of HTML. And, where
there is a kernel, the same sliders sampling anew."""

import base64
import html
import io
import itertools
import json
import math
import os
import threading
from pathlib import Path
from typing import NamedTuple

import torch

from vdiff_lite.viz.players import encode_gif, png_data_url

_ids = itertools.count()

_SCRIPT = Path(__file__).with_name("slider.js").read_text().partition("\n")[2].strip()

_BUTTON = '<button type="button" aria-label="{label}" style="min-width:2.2em;min-height:2.2em">{text}</button>'


class Film(NamedTuple):
    """A clip (c, f, h, w) as a picture for a slider."""

    clip: torch.Tensor
    fps: int

    @property
    def strip(self):
        """Its frames side by side in one png: what the script plays."""
        return png_data_url(self.clip)

    @property
    def poster(self):
        """A gif, for where no script runs."""
        return "data:image/gif;base64," + base64.b64encode(encode_gif(self.clip, self.fps)).decode()

    @property
    def frames(self):
        return self.clip.shape[1]


class Still(NamedTuple):
    """A data: address with the attributes of a Film."""

    strip: str
    frames = fps = 1

    @property
    def poster(self):
        return self.strip


def picture_slider(pictures, values, name, alt, start=0, width=360):
    """One picture for each value of a slider; works in JupyterLab and in the built page, without a kernel.

    pictures: Films (see `clip_pictures`), which play, or data: addresses of stills (`frame_pictures`, `figure_picture`);
    values: what the slider says at each;  name: what is moved;  alt: a sentence that says what is seen;  start: index shown first;
    width: in pixels.  Returns an IPython HTML object. Raises ValueError unless there is one picture a value, and at least two.
    """
    return _page(pictures, {name: values}, [[0]], alt, [start], width)


def versus_slider(pictures, values, names=("left", "right"), alt="", start=(0, 1), width=240):
    """Two players side by side, each with a slider over the same pictures; they play in step. The rest as in `picture_slider`."""
    return _page(pictures, dict.fromkeys(names, values), [[0], [1]], alt, start, width)


def _page(pictures, axes, panels, alt, start, width):
    """The HTML: `panels` lists, for each player, the axes that its picture depends on; pictures lie row by row over those axes."""
    from IPython.display import HTML

    pictures, axes = list(pictures), {name: [str(value) for value in values] for name, values in axes.items()}
    sizes = [len(values) for values in axes.values()]
    if len(pictures) != math.prod(sizes[axis] for axis in panels[0]) or min(sizes) < 2:
        raise ValueError(f"{len(pictures)} pictures for {' x '.join(map(str, sizes))} values; a slider wants two or more, one picture each")
    films = [picture if isinstance(picture, Film) else Still(picture) for picture in pictures]
    if len({film.frames for film in films}) > 1:
        raise ValueError(f"the clips of one slider must be of one length; there are {sorted({film.frames for film in films})} frames")
    # The process is part of the id, so that two runs of a notebook never share one on the same page.
    root, names = f"vdiff-slider-{os.getpid():x}-{next(_ids)}", list(axes)
    said = lambda on: itertools.product(*([f"{names[axis]}: {value}" for value in axes[names[axis]]] for axis in on))
    alts = [[f"{alt} {', '.join(words)}.".strip() for words in said(on)] for on in panels]
    data = json.dumps(dict(pictures=[film.strip for film in films], alts=alts, axes=list(axes.values()), panels=panels,
                           frames=films[0].frames, fps=films[0].fps)).replace("</", "<\\/")
    look = "width:100%;image-rendering:pixelated;border:1px solid #8888"
    parts = [f'<div class="vdiff-slider" id="{root}" style="max-width:{width * len(panels)}px;margin:0.6em 0">',
             '<div style="display:flex;gap:6px">']
    for on, words in zip(panels, alts):
        i = _row_by_row([start[axis] for axis in on], [sizes[axis] for axis in on])
        parts += [f'<figure data-panel style="margin:0;flex:1"><img alt="{html.escape(words[i], quote=True)}" src="{films[i].poster}" '
                  f'style="{look}"></figure>']
    parts += ["</div>"]
    row = 'style="display:flex;gap:8px;align-items:center"'
    if films[0].frames > 1:
        parts += [f'<div {row}><button type="button" data-play style="min-width:4.5em;min-height:2.2em">Play</button>',
                  f'<input data-time type="range" min="0" max="{films[0].frames - 1}" value="0" step="1" aria-label="frame" style="flex:1">',
                  f'<span data-count style="min-width:4em">1 / {films[0].frames}</span></div>']
    for (name, values), first in zip(axes.items(), start):
        name, value = html.escape(name, quote=True), html.escape(values[first], quote=True)
        parts += [f"<div data-axis {row}>", _BUTTON.format(label=f"{name}: one step down", text="&#8722;"),
                  f'<label style="flex:1">{name} <output>{value}</output><input type="range" min="0" max="{len(values) - 1}" value="{first}" ',
                  f'step="1" aria-label="{name}" aria-valuetext="{value}" style="width:100%"></label>',
                  _BUTTON.format(label=f"{name}: one step up", text="+"), "</div>"]
    script = _SCRIPT.replace("SLIDER", f'"{root}"').replace("DATA", data)
    return HTML("\n".join([*parts, f"<script>\n{script}\n</script>", "</div>"]))


def _row_by_row(indices, sizes):
    """Where a picture lies in the list, from its index along each axis."""
    at = 0
    for index, size in zip(indices, sizes):
        at = at * size + index
    return at


def clip_pictures(clips, fps=8):
    """Clips (b, c, f, h, w), or a list of (c, f, h, w), as Films for the sliders, at native size."""
    return [Film(clip, fps) for clip in clips]


def frame_pictures(clips, frame=0):
    """One frame of each clip as a still picture (png) for the sliders."""
    return [png_data_url(clip, frame) for clip in clips]


def figure_picture(figure, dpi=90):
    """A matplotlib figure as a still picture (png) for the sliders; closes the figure."""
    import matplotlib.pyplot as plt

    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def guidance_slider(make_clip, weights, name="guidance weight w", alt="", start=0, fine=None, width=360, fps=8):
    """A slider whose clip is sampled anew in a live kernel, and was sampled beforehand in the built page and on GitHub.

    make_clip(weight) -> what is seen: a clip (c, f, h, w) in [-1, 1], a still picture (a data: address), or a generator of either of
    which the last is the answer and the others are shown on the way (the sampler's x0_hat, say);  weights: what the page's
    slider offers, one picture each, made now;  fine: what the live slider offers (default: the same);  the rest as in
    `picture_slider`. For any number that a clip depends on, not only weights. In a live kernel a drag is coalesced (only the
    latest value is sampled), a busy mark shows, and an error shows as text in place. Returns an object that Jupyter displays.
    """
    return explore_slider(make_clip, {name: weights}, alt, [start], {name: fine or weights}, width, fps)


def explore_slider(make_clip, axes, alt="", start=None, fine=None, width=360, fps=8):
    """`guidance_slider` for several settings at once: make_clip(a, b, ...) with one argument for each axis.

    axes: {name: values}; the page holds one picture for each combination, so keep the product small;  start: an index for each
    axis;  fine: {name: values} of the live sliders, where they offer more.
    """
    start = list(start or [0] * len(axes))
    pictures = [_picture(list(_stages(make_clip(*values)))[-1], fps) for values in itertools.product(*axes.values())]
    page = _page(pictures, axes, [list(range(len(axes)))], alt, start, width)
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return page
    at = _row_by_row(start, map(len, axes.values()))
    first = [list(values)[i] for values, i in zip(axes.values(), start)]
    return LiveSlider(make_clip, axes | (fine or {}), first, alt, width, fps, page, pictures[at])


def _picture(made, fps):
    return clip_pictures([made], fps)[0] if torch.is_tensor(made) else made


def _stages(made):
    """What make_clip returned, as the things to show one after the other."""
    return [made] if torch.is_tensor(made) or isinstance(made, str) else made


class LiveSlider:
    """What `guidance_slider` shows: ipywidgets where there is a kernel, `page` (HTML) elsewhere."""

    def __init__(self, make_clip, axes, start, alt, width, fps, page, poster):
        import ipywidgets as w

        self.make_clip, self.names, self.alt, self.width, self.fps, self.page = make_clip, list(axes), alt, width, fps, page
        self.sliders = []
        for (name, values), value in zip(axes.items(), start):
            values = list(values)
            self.sliders.append(w.SelectionSlider(options=values, value=value if value in values else values[0], description=name,
                                                  continuous_update=True, style={"description_width": "initial"},
                                                  layout={"width": f"{width}px"}))
        self.picture = w.HTML(self._image(poster, start))
        self.status = w.HTML("")
        self.widget = w.VBox([self.picture, *self.sliders, self.status])
        self._wanted, self._wake, self._thread = None, threading.Condition(), None
        for slider in self.sliders:
            slider.observe(lambda change: self._ask([slider.value for slider in self.sliders]), names="value")

    @property
    def slider(self):
        """The first slider."""
        return self.sliders[0]

    def _words(self, values):
        return ", ".join(f"{name}: {value}" for name, value in zip(self.names, values))

    def _image(self, picture, values):
        source = picture.poster if isinstance(picture, Film) else picture
        return (f'<img src="{source}" alt="{html.escape(f"{self.alt} {self._words(values)}.", quote=True)}" '
                f'style="width:{self.width}px;max-width:100%;image-rendering:pixelated;border:1px solid #8888">')

    def _ask(self, values):
        with self._wake:
            self._wanted = values
            self.status.value = "<em>sampling ...</em>"
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def _work(self):
        while True:
            with self._wake:
                if self._wanted is None:
                    self._thread = None
                    return
                values, self._wanted = self._wanted, None
            try:
                self._show(values)
                said = ""
            except Exception as error:  # shown to the reader: a widget must not die
                said = f'<span role="alert">{html.escape(f"{self._words(values)}: {type(error).__name__}: {error}")}</span>'
            with self._wake:
                if self._wanted is None:
                    self.status.value = said

    def _show(self, values):
        for one in _stages(self.make_clip(*values)):
            if self._wanted is not None:  # newer values wait: this clip is stale
                return
            self.picture.value = self._image(_picture(one, self.fps), values)

    def wait(self, seconds=60):
        """Until nothing is being sampled any more. Returns whether that came within `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return self._thread is None

    def _repr_mimebundle_(self, **_):
        return dict(self.widget._repr_mimebundle_() or {}, **{"text/html": self.page.data})
