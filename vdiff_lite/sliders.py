"""A slider that needs no kernel: pictures made beforehand, a range input and a few lines of script in one piece of HTML."""

import base64
import html
import itertools
import json
import os
import threading

import torch

from .viz import encode_gif, png_data_url

_ids = itertools.count()

_TEMPLATE = """<div class="vdiff-slider" id="{id}" style="max-width:{width}px;margin:0.6em 0">
<figure style="margin:0"><img alt="{alt}" src="{poster}"
 style="width:100%;image-rendering:pixelated;border:1px solid #8888"></figure>
<div style="display:flex;gap:8px;align-items:center">
<button type="button" aria-label="{name}: one step down" style="min-width:2.2em;min-height:2.2em">&#8722;</button>
<label style="flex:1">{name} <output>{value}</output>
<input type="range" min="0" max="{last}" value="{start}" step="1" aria-label="{name}" aria-valuetext="{value}" style="width:100%"></label>
<button type="button" aria-label="{name}: one step up" style="min-width:2.2em;min-height:2.2em">+</button>
</div>
<script>
(() => {{
  const root = document.getElementById("{id}"), input = root.querySelector("input"), data = {data};
  const [down, up] = root.querySelectorAll("button");
  const show = () => {{
    const i = +input.value;
    root.querySelector("img").src = data.pictures[i];
    root.querySelector("img").alt = data.alts[i];
    root.querySelector("output").textContent = data.values[i];
    input.setAttribute("aria-valuetext", data.values[i]);
  }};
  input.addEventListener("input", show);
  down.addEventListener("click", () => {{ input.stepDown(); show(); }});
  up.addEventListener("click", () => {{ input.stepUp(); show(); }});
}})();
</script>
</div>"""


def picture_slider(pictures, values, name, alt, start=0, width=360):
    """One picture for each value of a slider; works in JupyterLab and in the built page, without a kernel.

    pictures: data: addresses (see `clip_pictures`, `figure_picture`);  values: what the slider says at each;
    name: what is moved;  alt: a sentence that says what is seen;  start: index shown first;  width: in pixels.
    Returns an IPython HTML object. Raises ValueError unless there is one picture a value, and at least two.
    """
    from IPython.display import HTML

    pictures, values = list(pictures), [str(value) for value in values]
    if len(pictures) != len(values) or len(pictures) < 2:
        raise ValueError(f"{len(pictures)} pictures for {len(values)} values; a slider wants two or more, one picture each")
    # The process is part of the id, so that two runs of a notebook never share one on the same page.
    name_id = f"vdiff-slider-{os.getpid():x}-{next(_ids)}"
    data = json.dumps(dict(pictures=pictures, values=values, alts=[f"{alt} {name}: {value}." for value in values]))
    return HTML(_TEMPLATE.format(id=name_id, name=html.escape(name), alt=html.escape(f"{alt} {name}: {values[start]}.", quote=True),
                                 poster=pictures[start], value=html.escape(values[start]), last=len(values) - 1, start=start,
                                 width=width, data=data.replace("</", "<\\/")))


def clip_pictures(clips, fps=8):
    """Clips (b, c, f, h, w) as moving pictures (gif) for `picture_slider`, at native size."""
    return ["data:image/gif;base64," + base64.b64encode(encode_gif(clip, fps)).decode() for clip in clips]


def frame_pictures(clips, frame=0):
    """One frame of each clip as a still picture (png) for `picture_slider`."""
    return [png_data_url(clip, frame) for clip in clips]


def figure_picture(figure, dpi=90):
    """A matplotlib figure as a still picture (png) for `picture_slider`; closes the figure."""
    import io

    import matplotlib.pyplot as plt

    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def guidance_slider(make_clip, weights, name="guidance weight w", alt="", start=0, fine=None, width=360, fps=8):
    """A slider whose clip is sampled anew in a live kernel, and was sampled beforehand in the built page and on GitHub.

    make_clip(weight) -> a clip (c, f, h, w) in [-1, 1], or a generator of clips of which the last is the answer and the others are shown
    on the way (the sampler's x0_hat, say);  weights: what the page's slider offers, one clip each, made now;
    fine: what the live slider offers (default: the same);  the rest as in `picture_slider`. For any number that a clip depends on,
    not only weights. In a live kernel a drag is coalesced (only the latest value is sampled), a busy mark shows, and an error shows as
    text in place. Returns an object that Jupyter displays.
    """
    pictures = clip_pictures([_last(make_clip(weight)) for weight in weights], fps)
    page = picture_slider(pictures, weights, name, alt, start, width)
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return page
    return LiveSlider(make_clip, list(fine or weights), weights[start], name, alt, width, fps, page, pictures[start])


def _last(made):
    if torch.is_tensor(made):
        return made
    for clip in made:
        pass
    return clip


class LiveSlider:
    """What `guidance_slider` shows: an ipywidget where there is a kernel, `page` (HTML) elsewhere."""

    def __init__(self, make_clip, values, value, name, alt, width, fps, page, poster):
        import ipywidgets as w

        self.make_clip, self.name, self.alt, self.width, self.fps, self.page = make_clip, name, alt, width, fps, page
        self.picture = w.HTML(self._image(poster, value))
        self.slider = w.SelectionSlider(options=values, value=value if value in values else values[0], description=name, continuous_update=True,
                                        style={"description_width": "initial"}, layout={"width": f"{width}px"})
        self.status = w.HTML("")
        self.widget = w.VBox([self.picture, self.slider, self.status])
        self._wanted, self._wake, self._thread = None, threading.Condition(), None
        self.slider.observe(lambda change: self._ask(change["new"]), names="value")

    def _image(self, source, value):
        return (f'<img src="{source}" alt="{html.escape(f"{self.alt} {self.name}: {value}.", quote=True)}" '
                f'style="width:{self.width}px;max-width:100%;image-rendering:pixelated;border:1px solid #8888">')

    def _ask(self, value):
        with self._wake:
            self._wanted = (value,)
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
                (value,), self._wanted = self._wanted, None
            try:
                self._show(value)
                said = ""
            except Exception as error:  # shown to the reader: a widget must not die
                said = f'<span role="alert">{html.escape(f"{self.name} = {value}: {type(error).__name__}: {error}")}</span>'
            with self._wake:
                if self._wanted is None:
                    self.status.value = said

    def _show(self, value):
        made = self.make_clip(value)
        for clip in [made] if torch.is_tensor(made) else made:
            if self._wanted is not None:  # a newer value waits: this clip is stale
                return
            self.picture.value = self._image(clip_pictures([clip], self.fps)[0], value)

    def wait(self, seconds=60):
        """Until nothing is being sampled any more. Returns whether that came within `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return self._thread is None

    def _repr_mimebundle_(self, **_):
        return dict(self.widget._repr_mimebundle_() or {}, **{"text/html": self.page.data})
