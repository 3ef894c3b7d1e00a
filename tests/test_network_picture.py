import itertools

import matplotlib
import pytest
import torch
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from vdiff_lite import VideoUNet, VideoUNetConfig, viz

matplotlib.use("Agg")
CONFIGS = dict(tiny=VideoUNetConfig.preset("tiny"), base=VideoUNetConfig.preset("base"),
               color=VideoUNetConfig(in_channels=3, size=(48, 160), channels=(64, 96, 160, 256),
                                     num_middle=2),
               thin=VideoUNetConfig(channels=(32, 512), num_middle=1))


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text()]


def boxes(figure):
    """(left, top, width, height) of each block, in inches."""
    patches = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in patches]


def test_the_picture_says_what_the_network_does(config):
    """Every stage that a hook sees is named, in its order, with its channels and its tokens."""
    stages = {}
    clip = torch.zeros(1, config.in_channels, 2, *config.size)
    with torch.no_grad():
        VideoUNet(config)(clip, torch.tensor([500]), hook=lambda site, x: stages.setdefault(site, x))
    shapes = {site: tuple(x.shape) for site, x in stages.items() if torch.is_tensor(x)}
    said = [text.get_text() for text in texts(viz.network_diagram(config))]
    joint = [site for site in stages if site.endswith(".joint")]
    assert f"middle: {len(joint)} block{'s' * (len(joint) > 1)}" in said
    sites = [text for text in said if text.startswith(("encoder.", "decoder."))]
    assert sorted(sites) == sorted(set(shapes) - {"middle"})
    for i in range(len(config.channels)):
        _, c, _, h, w = shapes[f"encoder.{i}"]
        at = said.index(f"{c} channels")
        assert said[at + 1] == f"{h} \u00d7 {w} tokens"
        assert said[at - 2:at] == [f"encoder.{i}", f"decoder.{i}"]
    whole = f"{config.in_channels} \u00d7 f \u00d7 {config.size[0]} \u00d7 {config.size[1]}"
    assert [text for text in said if whole in text] == [f"noisy clip\n{whole}", f"estimate of v\n{whole}"]


def test_boxes_are_scaled(config):
    blocks = boxes(viz.network_diagram(config))
    levels, middle = blocks[:4 * len(config.channels)], blocks[4 * len(config.channels):]
    assert len(middle) == config.num_middle and len({height for *_, height in middle}) == 1
    widths, heights = ([level[i] for level in levels[::4]] for i in (2, 3))
    assert widths == sorted(widths) and heights == sorted(heights, reverse=True)
    if config != CONFIGS["thin"]:  # whose thinnest box is as wide as its arrows need
        ratios = [c / config.channels[0] for c in config.channels]
        assert [w / widths[0] for w in widths] == pytest.approx(ratios)
    assert heights[1] == pytest.approx(heights[0] / 2)


def test_nothing_overlaps_and_all_is_large_enough_for_a_phone(config):
    figure = viz.network_diagram(config)
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in texts(figure)]
    inside = figure.bbox.padded(1)
    assert all(inside.contains(e.x0, e.y0) and inside.contains(e.x1, e.y1) for e in extents)
    both = itertools.combinations(extents, 2)
    assert not any(a.overlaps(b) for a, b in both)
    drawn = [p.get_window_extent() for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert not any(text.overlaps(box) for text in extents for box in drawn)
    assert min(text.get_fontsize() for text in texts(figure)) * 360 / (72 * figure.get_figwidth()) > 9
