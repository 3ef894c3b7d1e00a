"""What a reader looks at: film strips, grids and clips, each with a text for those who do not see them."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange

# Okabe and Ito's colour-blind-safe colours, each with a line style as a second cue.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1))]


def to_uint8(clip):
    """A clip (c, f, h, w) in [-1, 1] -> frames (f, h, w) for one channel or (f, h, w, 3) for three, uint8."""
    clip = torch.as_tensor(clip).detach().cpu()
    if clip.ndim != 4 or clip.shape[0] not in (1, 3):
        raise ValueError(f"clip has shape {tuple(clip.shape)}; one clip is (c, f, h, w) with 1 or 3 channels")
    frames = ((clip.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(frames, "1 f h w -> f h w" if frames.shape[0] == 1 else "c f h w -> f h w c").numpy()


def film_strip(clips, labels=None, given=0, every=1, title=None, scale=0.62, joins=()):
    """Draw clips as rows of frames, on one time axis.

    clips: list of (c, f, h, w) or one tensor (b, c, f, h, w), all in [-1, 1];  labels: a name for each row;
    given: how many first frames were given, not made (one number, or one a row): they get a blue frame and a mark;
    every: show each n-th frame;  joins: frames with which a new window begins: the first of them that is shown gets an orange bar at its
    left, where it is not given.  Returns the matplotlib figure.
    """
    import matplotlib.pyplot as plt

    rows = [to_uint8(clip) for clip in clips]
    labels = labels or [""] * len(rows)
    given = [given] * len(rows) if isinstance(given, int) else list(given)
    shown = [range(0, len(row), every) for row in rows]
    columns = max(len(frames) for frames in shown)
    margin = 0.1 + 0.085 * max(len(label) for label in labels)
    size = (columns * scale + margin, len(rows) * scale + 0.35 + (0.25 if title else 0))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    figure.subplots_adjust(left=margin / size[0], right=0.995, bottom=0.01, top=1 - (0.3 + (0.25 if title else 0)) / size[1],
                           wspace=0.06, hspace=0.06)
    for row, label, k, frames, line in zip(rows, labels, given, shown, axes):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.set_visible(False)
        for axis, f in zip(line, frames):
            begins = f >= k and any(f - every < join <= f for join in joins)
            axis.set_visible(True)
            axis.imshow(row[f], cmap="gray", vmin=0, vmax=255)
            for spine in axis.spines.values():
                spine.set(color=COLOURS[0] if f < k else "#999999", linewidth=2.5 if f < k else 0.5)
            if begins:
                axis.spines["left"].set(color=COLOURS[1], linewidth=5)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    for axis, f in zip(axes[0], shown[0]):
        axis.set_title(f"{f} given" if f < given[0] and f == 0 else str(f), fontsize=8, pad=2)
    if title:
        figure.suptitle(title, fontsize=10, y=0.99, va="top")
    return figure


def framed(clip, given=0, joins=()):
    """A clip to play, with a border that says which frames were given: bright round those, dim round the ones that were made.

    clip: (c, f, h, w) in [-1, 1];  given: how many first frames were given;  joins: frames with which a new window begins: bright above
    and below.  Returns (c, f, h + 4, w + 4).
    """
    edge, joins = [0, 1, -2, -1], [join for join in joins if join < clip.shape[1]]
    out = F.pad(clip, (2, 2, 2, 2), value=0.1)
    for frames in (slice(given), joins):
        out[:, frames, 0:2] = out[:, frames, -2:] = 1.0
    out[:, :given, :, edge] = 1.0
    return out


def show_clips(clips, labels=None, alt=None, fps=8, height=128, columns=6):
    """Clips to play in a notebook, side by side, each with controls; still until played.

    clips: list of (c, f, h, w) in [-1, 1];  labels: a caption for each;  alt: one sentence that says what is seen.
    A video (h264) where ffmpeg is to be had, else a gif. Stored at native size and enlarged by the page.
    Returns an IPython HTML object.
    """
    from IPython.display import HTML

    labels = labels or [""] * len(clips)
    parts = [_player(clip, label, alt or label or "a short clip", fps, height) for clip, label in zip(clips, labels)]
    style = "display:flex;flex-wrap:wrap;gap:10px;margin:0.5em 0"
    return HTML(f'<div style="{style}">{"".join(parts)}</div>')


def _player(clip, label, alt, fps, height):
    alt = html.escape(f"{alt} ({label})" if label and label not in alt else alt, quote=True)
    look = f"height:{height}px;image-rendering:pixelated;border:1px solid #8888"
    video = encode_mp4(clip, fps)
    if video is None:
        data = base64.b64encode(encode_gif(clip, fps)).decode()
        body = f'<img src="data:image/gif;base64,{data}" alt="{alt}" style="{look}">'
    else:
        data, poster = base64.b64encode(video).decode(), png_data_url(clip, 0)
        # A button of its own: a browser's controls would cover a clip of this size.
        press = "const v = this.parentNode.querySelector('video'); v.paused ? v.play() : v.pause()"
        body = (f'<video loop muted playsinline preload="metadata" poster="{poster}" aria-label="{alt}" onclick="{press}" '
                f'style="{look};min-width:{height}px;display:block" src="data:video/mp4;base64,{data}"></video>'
                f'<button type="button" aria-label="Play or pause: {alt}" onclick="{press}" style="min-height:2.2em;margin-top:2px">'
                '&#9654; / &#10074;&#10074;</button>')
    return f'<figure style="margin:0;text-align:center">{body}<figcaption>{html.escape(label)}</figcaption></figure>'


def png_data_url(clip, frame=None):
    """One frame of a clip (c, f, h, w), or all of them side by side, as a data: address of a png."""
    from PIL import Image

    frames, out = to_uint8(clip), io.BytesIO()
    Image.fromarray(np.concatenate(list(frames), axis=1) if frame is None else frames[frame]).save(out, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def encode_gif(clip, fps=8, enlarge=1):
    """A clip (c, f, h, w) in [-1, 1] as an endless gif: bytes."""
    from PIL import Image

    frames = to_uint8(clip).repeat(enlarge, 1).repeat(enlarge, 2)
    images = [Image.fromarray(frame) for frame in frames]
    out = io.BytesIO()
    images[0].save(out, "gif", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return out.getvalue()


def encode_mp4(clip, fps=8, enlarge=4):
    """A clip (c, f, h, w) in [-1, 1] as h264: bytes, or None where there is no ffmpeg."""
    if not find_ffmpeg():
        return None
    import mediapy

    frames = to_uint8(clip).repeat(enlarge, 1).repeat(enlarge, 2)
    frames = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, -1)
    return mediapy.compress_video(frames, fps=fps, codec="h264", crf=18)


def find_ffmpeg():
    """The ffmpeg program that mediapy uses: the system's, else the one in imageio-ffmpeg's wheel, else None."""
    import shutil

    path = shutil.which("ffmpeg")
    try:
        import imageio_ffmpeg
        import mediapy

        path = path or imageio_ffmpeg.get_ffmpeg_exe()
        mediapy.set_ffmpeg(path)
    except (ImportError, RuntimeError):
        pass
    return path


def save_clip(clip, path, fps=8, enlarge=4):
    """Write a clip (c, f, h, w) to a .gif or .mp4 file, enlarged. Raises as `check_clip_path` does."""
    check_clip_path(path)
    encode = encode_gif if str(path).endswith(".gif") else encode_mp4
    Path(path).write_bytes(encode(clip, fps, enlarge))


def check_clip_path(path):
    """Raise ValueError unless `save_clip` can write there: a .gif, or an .mp4 where there is ffmpeg, in a folder that is there."""
    if not str(path).endswith((".gif", ".mp4")):
        raise ValueError(f"{path} has an unknown ending; write a .gif or an .mp4")
    if str(path).endswith(".mp4") and not find_ffmpeg():
        raise ValueError(f"{path} needs ffmpeg and there is none: pip install imageio-ffmpeg, or write a .gif")
    if not Path(path).parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {Path(path).parent}")


def plot_lines(axis, x, lines, **style):
    """Plot {label: y} with colour-blind-safe colours and a line style each. Returns the axis. Raises ValueError for more lines than colours."""
    if len(lines) > len(COLOURS):
        raise ValueError(f"{len(lines)} lines are more than {len(COLOURS)} colours can tell apart")
    for (label, y), colour, dashes in zip(lines.items(), COLOURS, STYLES):
        axis.plot(x, y, color=colour, linestyle=dashes, label=label, **style)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return axis


def plot_intervals(axis, intervals):
    """Plot {label: (mean, low, high)} as dots on horizontal bars, the first on top: what `metrics.bootstrap` gives. Returns the axis."""
    for line, (mean, low, high) in enumerate(intervals.values()):
        axis.plot([low, high], [line, line], color=COLOURS[0], lw=2)
        axis.plot(mean, line, "o", color=COLOURS[0], ms=4)
    axis.set(yticks=range(len(intervals)), yticklabels=intervals, ylim=(len(intervals) - 0.5, -0.5))
    axis.spines[["top", "right"]].set_visible(False)
    return axis
