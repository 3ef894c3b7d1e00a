"""Clips to play in a notebook."""

import base64
import html
from collections.abc import Sequence

import mediapy
import numpy as np
from torch import Tensor

from vdiff_lite.viz.pages import Page
from vdiff_lite.viz.strips import to_uint8
from vdiff_lite.viz.writers import encode_mp4

# A button of its own: a browser's controls would cover a clip of this size. The picture is for where there is
# no video (GitHub).
_PRESS = "const v = this.parentNode.querySelector('video'); v.paused ? v.play() : v.pause()"
_PLAYER = (
    '<figure style="margin:0;text-align:center">'
    '<video loop muted playsinline preload="metadata" poster="{poster}" aria-label="{alt}" onclick="{press}" '
    'style="width:{width}px;max-width:100%;height:auto;image-rendering:pixelated;border:1px solid #8888;'
    'display:block" src="{video}"><img src="{poster}" alt="{alt}" width="{width}"></video>'
    '<button type="button" aria-label="Play or pause: {alt}" onclick="{press}" '
    'style="min-height:2.2em;margin-top:2px">&#9654; / &#10074;&#10074;</button>'
    "<figcaption>{label}</figcaption></figure>")


def show_clips(clips: Sequence[Tensor] | Tensor, labels: Sequence[str] | None = None, alt: str | None = None,
               fps: float = 8, height: int = 128) -> Page:
    """Clips to play in a notebook, side by side, each with a button; still until played.

    clips: list of (c, f, h, w) in [-1, 1];  labels: a caption for each;  alt: one sentence that says what is
    seen;  height: in pixels on the page, about: each pixel of a clip is a square of whole pixels.
    """
    players, texts = [], []
    for clip, label in zip(clips, labels or [""] * len(clips)):
        text = alt or label or "a short clip"
        texts.append(f"{text} ({label})" if label not in text else text)
        enlarge = max(1, round(height / clip.shape[-2]))
        players.append(_PLAYER.format(alt=html.escape(texts[-1]), label=html.escape(label),
                                      width=enlarge * clip.shape[-1],
                                      press=_PRESS, poster=png_data_url(clip, 0),
                                      video=data_url("video/mp4", encode_mp4(clip, fps, enlarge))))
    style = "display:flex;flex-wrap:wrap;gap:10px;margin:0.5em 0"
    return Page(f'<div style="{style}">{"".join(players)}</div>', "\n".join(texts))


def data_url(kind: str, content: bytes) -> str:
    """A file's content as a data: address. kind: its MIME type, "image/gif" say."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png_data_url(clip: Tensor, frame: int | None = None) -> str:
    """One frame of a clip (c, f, h, w), or all of them side by side, as a data: address of a png."""
    frames = to_uint8(clip)
    image = np.concatenate(frames, axis=1) if frame is None else frames[frame]
    return data_url("image/png", mediapy.compress_image(image, optimize=True))
