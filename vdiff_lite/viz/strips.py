"""Film strips and figures."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import mediapy
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Okabe and Ito's color-blind-safe colors, each with a line style as a second cue.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]
MARKERS = "os^Dv*X"  # a third cue, where points are marked
DPI, FRAME, LABEL, GAP = 200, 128, 36, 4  # of film strips: pixels of a frame, a line of text and a gap


def to_uint8(clip: Tensor) -> np.ndarray:
    """A clip (c, f, h, w) in [-1, 1] as uint8 frames: (f, h, w) for one channel, (f, h, w, 3) for three."""
    clip = torch.as_tensor(clip).detach().cpu().float()
    if clip.ndim != 4 or clip.shape[0] not in (1, 3):
        raise ValueError(f"clip has shape {tuple(clip.shape)}; one clip is (c, f, h, w) with 1 or 3 channels")
    frames = mediapy.to_uint8((clip.numpy() + 1) / 2)
    return rearrange(frames, "1 f h w -> f h w" if len(clip) == 1 else "c f h w -> f h w c")


def film_strip(clips: Sequence[Tensor] | Tensor, labels: Sequence[str] | None = None,
               num_context: int | Sequence[int] = 0, every: int = 1, joins: Sequence[int] = (),
               columns: int = 8, titles: Sequence[str] | None = None) -> Figure:
    """Draw clips as rows of frames, on one time axis that breaks where a line is full.

    clips: list of (c, f, h, w) or one tensor (b, c, f, h, w), all in [-1, 1];  labels: a name for each row;
    num_context: how many first frames were given, not made (one number, or one per row): they get a blue
    frame; every: show each n-th frame;  joins: frames with which a new window begins: the first of them that
    is shown gets an orange bar at its left, where it was made;  columns: frames side by side at most;
    titles: what stands above each frame that is shown (else its number).
    Every pixel of a clip is a square of pixels of the figure, so nothing is smoothed.
    """
    rows = [to_uint8(clip) for clip in clips]
    labels = labels or [""] * len(rows)
    num_context = [num_context] * len(rows) if isinstance(num_context, int) else list(num_context)
    shown = list(range(0, max(map(len, rows)), every))
    lines = math.ceil(len(shown) / columns)
    columns = math.ceil(len(shown) / lines)
    tall = max(1, round(FRAME / max(len(row[0]) for row in rows))) * max(len(row[0]) for row in rows)
    wide = max(round(tall * row.shape[2] / row.shape[1]) for row in rows)
    head, gap = (LABEL if any(labels) else 0) + GAP, 2 * GAP
    width = max(columns * (wide + gap), 16 * max(map(len, labels))) + gap
    block = len(rows) * (tall + head) + 2 * LABEL
    figure = plt.figure(figsize=(width / DPI, lines * block / DPI), dpi=DPI)
    # Notebooks cut figures to what is drawn: let it be an even number of pixels, that a page halves exactly.
    figure.add_artist(plt.Rectangle((0, 0), 1, 1, fill=False, linewidth=0))
    place = lambda x, y: (x / width, 1 - y / (lines * block))
    for n, f in enumerate(shown):
        left, top = gap + n % columns * (wide + gap), n // columns * block + LABEL
        word = titles[n] if titles else "0 given" if f == 0 < num_context[0] else str(f)
        figure.text(*place(left + wide / 2, top), word, fontsize=9, ha="center", va="bottom")
        for row, label, k in zip(rows, labels, num_context):
            if n % columns == 0 and f < len(row):
                figure.text(*place(left, top + head - GAP), label, fontsize=10, va="bottom")
            if f < len(row):
                x, y = place(left, top + head + tall)
                axis = figure.add_axes((x, y, wide / width, tall / (lines * block)), xticks=[], yticks=[])
                axis.imshow(row[f], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axis.spines[:].set(color=COLORS[0] if f < k else "#999999", linewidth=2 if f < k else 0.5)
                if f >= k and any(f - every < join <= f for join in joins):
                    axis.spines["left"].set(color=COLORS[1], linewidth=4)
            top += tall + head
    return figure


def framed(clip: Tensor, num_context: int = 0, joins: Sequence[int] = ()) -> Tensor:
    """A clip to play, with a border that is bright around given frames and dim around those that were made.

    clip: (c, f, h, w) in [-1, 1];  num_context: how many first frames were given;  joins: frames with which a
    new window begins: bright above and below.  Returns (c, f, h + 4, w + 4).
    """
    edge, joins = [0, 1, -2, -1], [join for join in joins if join < clip.shape[1]]
    out = F.pad(clip, (2, 2, 2, 2), value=0.1)
    for frames in (slice(num_context), joins):
        out[:, frames, 0:2] = out[:, frames, -2:] = 1.0
    out[:, :num_context, :, edge] = 1.0
    return out


def plot_lines(axis: Axes, x: Sequence, lines: Mapping[str, Sequence], **style) -> Axes:
    """Plot {label: y}, each with its own color and line style; with `marker`, each with a marker of its own.

    Raises ValueError for too many lines.
    """
    if len(lines) > len(COLORS):
        raise ValueError(f"{len(lines)} lines are more than {len(COLORS)} colors can tell apart")
    for (label, y), color, dashes, marker in zip(lines.items(), COLORS, STYLES, MARKERS):
        own = style | ({"marker": marker} if style.get("marker") else {})
        axis.plot(x, y, color=color, linestyle=dashes, label=label, **own)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return axis


def plot_intervals(axis: Axes, intervals: Mapping[str, tuple[float, float, float]]) -> Axes:
    """Plot {label: (mean, low, high)}, as `video_metrics.bootstrap` gives, as dots on bars from the top."""
    for i, (mean, low, high) in enumerate(intervals.values()):
        axis.plot([low, high], [i, i], color=COLORS[0], lw=2)
        axis.plot(mean, i, "o", color=COLORS[0], ms=4)
    axis.set(yticks=range(len(intervals)), yticklabels=intervals, ylim=(len(intervals) - 0.5, -0.5))
    axis.spines[["top", "right"]].set_visible(False)
    return axis
