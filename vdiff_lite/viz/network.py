"""A picture of a VideoUNet, drawn from its config."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from vdiff_lite.models.video_unet import VideoUNetConfig
from vdiff_lite.viz.strips import COLORS

# What a block looks at: its color and its hatch, a second cue.
LOOKS = {"convolutions, within each frame": (COLORS[5], ""),
         "attention along time, per token": (COLORS[4], "///"),
         "joint attention, all tokens of all frames": (COLORS[3], "xx")}
CONVOLUTIONS, TEMPORAL, JOINT = LOOKS
WIDTH, EDGE, STEM = 6.4, 0.1, 0.35  # inches: figure; margin; from an edge to the arrows that go down and up
WIDEST, TALLEST, LOWEST = 2.1, 1.6, 0.5  # of a box: width of the most channels, height of the finest level
HEAD, GAP, LEGEND = 1.0, 0.62, 1.75  # above the first level, between levels, under the last box
LARGE, SMALL = 14, 12.5  # points; on a phone the figure is little more than half as wide


def network_diagram(config: VideoUNetConfig) -> Figure:
    """Draw the stages of a VideoUNet as boxes: the encoder down the left side, the decoder up the right one.

    A box is as tall as its level is fine (each level halves height and width of the grid of tokens) and as
    wide as it has channels. Its parts are its blocks. The names are those of the sites that a hook sees.
    config: VideoUNetConfig.
    """
    channels, (h, w) = config.channels, (n // config.patch for n in config.size)
    heights = [max(LOWEST, TALLEST / 2**i) for i in range(len(channels))]
    tops = [HEAD + sum(heights[:i]) + GAP * i for i in range(len(heights) + 1)]
    figure, axis = plt.subplots(figsize=(WIDTH, tops[-1] + LOWEST + LEGEND))
    figure.subplots_adjust(0, 0, 1, 1)
    axis.set(xlim=(0, WIDTH), ylim=(figure.get_figheight(), 0))
    axis.axis("off")
    _ends(axis, config)
    bottom = HEAD - 0.42
    for i, (c, top, height) in enumerate(zip(channels, tops, heights)):
        width, right = max(STEM + 0.15, WIDEST * c / max(channels)), WIDTH - EDGE
        for x, ha, name in ((EDGE, "left", "encoder"), (right - width, "right", "decoder")):
            _box(axis, x, top, width, height / 2, [CONVOLUTIONS])
            _box(axis, x, top + height / 2, width, height / 2, [TEMPORAL])
            beside = EDGE + STEM + 0.17 if ha == "left" else right - STEM - 0.17
            _text(axis, beside, top - 0.29, f"{name}.{i}", ha=ha, size=SMALL)
        _arrow(axis, (EDGE + STEM, bottom), (EDGE + STEM, top))
        _arrow(axis, (right - STEM, top), (right - STEM, bottom))
        skip = top + 0.75 * height
        _arrow(axis, (EDGE + width, skip), (right - width, skip), linestyle="--")
        _text(axis, WIDTH / 2, skip - 0.05, f"{c} channels", va="bottom")
        _text(axis, WIDTH / 2, skip + 0.05, f"{h >> i} x {w >> i} tokens")
        bottom = top + height
    _middle(axis, config.num_middle, tops[-1] + 0.1, bottom)
    handles = [Patch(facecolor=color, hatch=hatch, edgecolor="black", label=kind)
               for kind, (color, hatch) in LOOKS.items()]
    handles.append(axis.plot([], [], "k--", label="skip connection: added to what comes from below")[0])
    axis.legend(handles=handles, loc="lower left", frameon=False, fontsize=LARGE, handlelength=1.6,
                borderaxespad=0, bbox_to_anchor=(0, 0.01))
    return figure


def _ends(axis: Axes, config: VideoUNetConfig) -> None:
    """What goes in, what comes out, and how it is cut into tokens."""
    shape = f"{config.in_channels} x f x {config.size[0]} x {config.size[1]}"
    _text(axis, EDGE, 0.05, f"noisy clip\n{shape}", ha="left")
    _text(axis, WIDTH - EDGE, 0.05, f"estimate of v\n{shape}", ha="right")
    _text(axis, WIDTH / 2, 0.05, f"a token:\n{config.patch} x {config.patch} pixels")


def _middle(axis: Axes, number: int, top: float, bottom: float) -> None:
    """The joint blocks; bottom: of the boxes above, between which they stand."""
    left, right, y = WIDTH / 2 - 1.55, WIDTH / 2 + 1.55, top + LOWEST / 2
    _box(axis, left, top, right - left, LOWEST, [JOINT] * number)
    _text(axis, WIDTH / 2, top - 0.29, f"middle: {number} block{'s' * (number != 1)}", size=SMALL)
    _arrow(axis, (EDGE + STEM, bottom), (left, y), connectionstyle="angle,angleA=-90,angleB=0")
    _arrow(axis, (right, y), (WIDTH - EDGE - STEM, bottom), connectionstyle="angle,angleA=0,angleB=90")


def _box(axis: Axes, x: float, y: float, width: float, height: float, kinds: Sequence[str]) -> None:
    for i, kind in enumerate(kinds):
        color, hatch = LOOKS[kind]
        part = width / len(kinds)
        axis.add_patch(Rectangle((x + i * part, y), part, height, facecolor=color, hatch=hatch,
                                 edgecolor="black", linewidth=1.2))


def _text(axis: Axes, x: float, y: float, text: str, ha="center", va="top", size=LARGE) -> None:
    axis.text(x, y, text.replace(" x ", " \u00d7 "), ha=ha, va=va, fontsize=size, linespacing=1.15)


def _arrow(axis: Axes, start: tuple, end: tuple, linestyle="-", **style) -> None:
    style |= dict(arrowstyle="-|>", linestyle=linestyle, color="black", linewidth=1.4, mutation_scale=16)
    axis.annotate("", end, start, arrowprops=style | dict(shrinkA=0, shrinkB=0))
