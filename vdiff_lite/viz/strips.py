"""What a reader looks at: film strips and figures, each with a text for those who do not see them."""

import torch
import torch.nn.functional as F
from einops import rearrange

# Okabe and Ito's colour-blind-safe colours, each with a line style as a second cue.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]


def to_uint8(clip):
    """A clip (c, f, h, w) in [-1, 1] -> frames (f, h, w) for one channel or (f, h, w, 3) for three, uint8."""
    clip = torch.as_tensor(clip).detach().cpu()
    if clip.ndim != 4 or clip.shape[0] not in (1, 3):
        raise ValueError(f"clip has shape {tuple(clip.shape)}; one clip is (c, f, h, w) with 1 or 3 channels")
    frames = ((clip.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(frames, "1 f h w -> f h w" if frames.shape[0] == 1 else "c f h w -> f h w c").numpy()


def film_strip(clips, labels=None, num_context=0, every=1, title=None, scale=0.62, joins=()):
    """Draw clips as rows of frames, on one time axis.

    clips: list of (c, f, h, w) or one tensor (b, c, f, h, w), all in [-1, 1];  labels: a name for each row;
    given: how many first frames were given, not made (one number, or one a row): they get a blue frame and a mark;
    every: show each n-th frame;  joins: frames with which a new window begins: the first of them that is shown gets an orange bar at its
    left, where it is not given.  Returns the matplotlib figure.
    """
    import matplotlib.pyplot as plt

    rows = [to_uint8(clip) for clip in clips]
    labels = labels or [""] * len(rows)
    num_context = [num_context] * len(rows) if isinstance(num_context, int) else list(num_context)
    shown = [range(0, len(row), every) for row in rows]
    columns = max(len(frames) for frames in shown)
    margin = 0.1 + 0.085 * max(len(label) for label in labels)
    size = (columns * scale + margin, len(rows) * scale + 0.35 + (0.25 if title else 0))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    figure.subplots_adjust(left=margin / size[0], right=0.995, bottom=0.01, top=1 - (0.3 + (0.25 if title else 0)) / size[1],
                           wspace=0.06, hspace=0.06)
    for row, label, k, frames, line in zip(rows, labels, num_context, shown, axes):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.set_visible(False)
        for axis, f in zip(line, frames):
            begins = f >= k and any(f - every < join <= f for join in joins)
            axis.set_visible(True)
            axis.imshow(row[f], cmap="gray", vmin=0, vmax=255)
            for spine in axis.spines.values():
                spine.set(color=COLORS[0] if f < k else "#999999", linewidth=2.5 if f < k else 0.5)
            if begins:
                axis.spines["left"].set(color=COLORS[1], linewidth=5)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    for axis, f in zip(axes[0], shown[0]):
        axis.set_title(f"{f} given" if f < num_context[0] and f == 0 else str(f), fontsize=8, pad=2)
    if title:
        figure.suptitle(title, fontsize=10, y=0.99, va="top")
    return figure


def framed(clip, num_context=0, joins=()):
    """A clip to play, with a border that says which frames were given: bright round those, dim round the ones that were made.

    clip: (c, f, h, w) in [-1, 1];  given: how many first frames were given;  joins: frames with which a new window begins: bright above
    and below.  Returns (c, f, h + 4, w + 4).
    """
    edge, joins = [0, 1, -2, -1], [join for join in joins if join < clip.shape[1]]
    out = F.pad(clip, (2, 2, 2, 2), value=0.1)
    for frames in (slice(num_context), joins):
        out[:, frames, 0:2] = out[:, frames, -2:] = 1.0
    out[:, :num_context, :, edge] = 1.0
    return out


def plot_lines(axis, x, lines, **style):
    """Plot {label: y} with colour-blind-safe colours and a line style each. Returns the axis. Raises ValueError for more lines than colours."""
    if len(lines) > len(COLORS):
        raise ValueError(f"{len(lines)} lines are more than {len(COLORS)} colours can tell apart")
    for (label, y), color, dashes in zip(lines.items(), COLORS, STYLES):
        axis.plot(x, y, color=color, linestyle=dashes, label=label, **style)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return axis


def plot_intervals(axis, intervals):
    """Plot {label: (mean, low, high)} as dots on horizontal bars, the first on top: what `video_metrics.bootstrap` gives. Returns the axis."""
    for line, (mean, low, high) in enumerate(intervals.values()):
        axis.plot([low, high], [line, line], color=COLORS[0], lw=2)
        axis.plot(mean, line, "o", color=COLORS[0], ms=4)
    axis.set(yticks=range(len(intervals)), yticklabels=intervals, ylim=(len(intervals) - 0.5, -0.5))
    axis.spines[["top", "right"]].set_visible(False)
    return axis
