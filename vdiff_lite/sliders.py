"""A slider that needs no kernel: pictures made beforehand, a range input and a few lines of script in one piece of HTML."""

import base64
import html
import itertools
import json
import os

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
