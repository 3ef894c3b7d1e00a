"""Clips to play in a notebook, and clips as files."""

import base64
import html
import io
from pathlib import Path

import numpy as np

from vdiff_lite.viz.strips import to_uint8


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
