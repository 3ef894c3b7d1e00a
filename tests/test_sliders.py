import threading
import time

import pytest
import torch

from vdiff_lite.viz.sliders import (
    clip_pictures,
    explore_slider,
    frame_pictures,
    guidance_slider,
    picture_slider,
    versus_slider,
)


def clip(value):
    return torch.full((1, 3, 8, 8), float(value) / 10 - 1).add(torch.linspace(0, 0.5, 3)[:, None, None])


def test_the_page_holds_one_clip_a_weight_and_the_kernel_a_widget():
    slider = guidance_slider(clip, [0, 5, 10], alt="A square.", start=1)
    shown = slider._repr_mimebundle_()
    html = shown["text/html"]
    assert html.count("data:image/gif") == 1 and html.count("data:image/png") == 3
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert slider.slider.value == 5 and "A square. guidance weight w: 5." in slider.picture.value


def test_moving_it_samples_anew():
    slider = guidance_slider(clip, [0, 10], fine=range(11))
    before = slider.picture.value
    slider.slider.value = 7
    assert slider.wait() and slider.picture.value != before
    assert "w: 7." in slider.picture.value and slider.status.value == ""


def test_a_drag_is_coalesced_and_stale_work_is_dropped():
    asked, gate = [], threading.Event()

    def slow(value):
        asked.append(value)
        if len(asked) > 2:
            gate.wait(10)
        yield clip(value)
        yield clip(value)

    slider = guidance_slider(slow, [0, 1], fine=range(30))
    for value in range(2, 30):
        slider.slider.value = value
        time.sleep(0.001)
    assert "sampling" in slider.status.value
    gate.set()
    assert slider.wait()
    assert asked[0:2] == [0, 1] and asked[-1] == 29 and len(asked) < 20
    assert "w: 29." in slider.picture.value and slider.status.value == ""


def test_an_error_is_text_and_the_slider_lives_on():
    def fragile(value):
        if value == 3:
            raise ValueError("weight=3 <is> too much")
        return clip(value)

    slider = guidance_slider(fragile, [0, 1], fine=range(5))
    slider.slider.value = 3
    assert slider.wait() and "weight=3 &lt;is&gt; too much" in slider.status.value
    slider.slider.value = 4
    assert slider.wait() and slider.status.value == "" and "w: 4." in slider.picture.value


def test_several_settings_make_a_table_of_pictures():
    asked = []

    def make(site, blend):
        asked.append((site, blend))
        return clip(blend + (site == "joint"))

    axes = {"site": ["joint", "temporal"], "blend": [0, 5, 10]}
    slider = explore_slider(make, axes, start=[1, 2], fine={"blend": range(11)})
    html = slider._repr_mimebundle_()["text/html"]
    assert asked == [(site, blend) for site in ("joint", "temporal") for blend in (0, 5, 10)]
    assert html.count("data:image/png") == 6 and html.count("data-axis style") == 2
    poster = clip_pictures([clip(10)])[0].poster
    assert f'alt="site: temporal, blend: 10." src="{poster}"' in html and poster in slider.picture.value
    slider.sliders[1].value = 7
    assert slider.wait() and asked[-1] == ("temporal", 7)
    assert "site: temporal, blend: 7." in slider.picture.value


def test_a_picture_may_be_a_still():
    still = frame_pictures([clip(3)])[0]
    slider = guidance_slider(lambda value: still, [0, 1])
    assert "data-play style" not in slider._repr_mimebundle_()["text/html"]
    slider.slider.value = 1
    assert slider.wait() and still in slider.picture.value


def test_two_players_share_their_pictures():
    html = versus_slider(clip_pictures([clip(v) for v in range(4)]), "abcd", alt="Two methods.").data
    assert html.count("data:image/png") == 4
    assert html.count("<figure data-panel") == html.count("data-axis style") == 2
    assert 'alt="Two methods. left: a."' in html and 'alt="Two methods. right: b."' in html


def test_names_cannot_break_out_of_the_page():
    pictures, values = clip_pictures([clip(0), clip(1)]), ["</script>", '"']
    html = picture_slider(pictures, values, '<b>"x"</b>', alt='<img src="y">').data
    markup = html.split("<script>")[0]
    assert html.count("</script>") == 1 and "<b>" not in markup and '<img src="y">' not in markup


@pytest.mark.parametrize("pictures, values, says", [(1, "a", "two or more"), (2, "abc", "2 pictures for 3")])
def test_a_slider_wants_a_picture_for_each_value(pictures, values, says):
    with pytest.raises(ValueError, match=says):
        picture_slider(clip_pictures([clip(v) for v in range(pictures)]), values, "x", "")


def test_clips_of_one_slider_are_of_one_length():
    with pytest.raises(ValueError, match=r"one length.*\[2, 3\]"):
        picture_slider(clip_pictures([clip(0), clip(0)[:, :2]]), "ab", "x", "")
