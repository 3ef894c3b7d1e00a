import threading
import time

import torch

from vdiff_lite.sliders import guidance_slider


def clip(value):
    return torch.full((1, 3, 8, 8), float(value) / 10 - 1).add(torch.linspace(0, 0.5, 3)[:, None, None])


def test_the_page_holds_one_clip_a_weight_and_the_kernel_a_widget():
    slider = guidance_slider(clip, [0, 5, 10], alt="A square.", start=1)
    shown = slider._repr_mimebundle_()
    assert shown["text/html"].count("data:image/gif") == 4 and "application/vnd.jupyter.widget-view+json" in shown
    assert slider.slider.value == 5 and "A square. guidance weight w: 5." in slider.picture.value


def test_moving_it_samples_anew():
    slider = guidance_slider(clip, [0, 10], fine=range(11))
    before = slider.picture.value
    slider.slider.value = 7
    assert slider.wait() and slider.picture.value != before and "w: 7." in slider.picture.value and slider.status.value == ""


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


