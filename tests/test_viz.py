import base64
import io
import re

import av
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from vdiff_lite import BouncingDigits, viz
from vdiff_lite.viz import sliders

matplotlib.use("Agg")


@pytest.fixture
def clip():
    return BouncingDigits(num_frames=6).sample(1, torch.Generator().manual_seed(0)).video[0]


def test_pixels_map_to_bytes():
    clip = torch.tensor([-1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 2, 2)
    assert viz.to_uint8(clip).flatten().tolist() == [0, 128, 255, 255]
    assert viz.to_uint8(torch.zeros(3, 2, 4, 5)).shape == (2, 4, 5, 3)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\)"):
        viz.to_uint8(torch.zeros(2, 3, 4, 4))


def test_a_strip_shows_every_frame_and_marks_the_context(clip):
    figure = viz.film_strip([clip, clip[:, :3]], ["long", "short"], num_context=2)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 9
    blue = matplotlib.colors.to_rgba(viz.COLORS[0])
    assert sum(axis.spines["top"].get_edgecolor() == blue for axis in shown) == 4
    assert len([a for a in viz.film_strip([clip], every=2).axes if a.get_visible()]) == 3


def test_a_strip_marks_where_windows_join(clip):
    figure = viz.film_strip([clip, clip], num_context=[6, 2], every=2, joins=[3])
    orange = matplotlib.colors.to_rgba(viz.COLORS[1])
    marked = [axis.spines["left"].get_edgecolor() == orange for axis in figure.axes if axis.get_visible()]
    assert marked == [False] * 5 + [True]  # the truth is not joined; frame 3 is not shown, 4 is


def test_a_strip_breaks_its_lines_and_smooths_nothing(clip):
    tall = clip[:, :3].repeat_interleave(4, -1).repeat_interleave(4, -2)  # of another size
    figure = viz.film_strip([clip, tall], ["a", "b"], columns=4)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    picture = np.asarray(Image.open(out).convert("L")).astype(int)
    boxes = [np.round(axis.get_window_extent().extents).astype(int) for axis in figure.axes]
    assert len({box[0] for box in boxes}) == 3 and len({box[1] for box in boxes}) == 3  # two lines of three
    for (x0, y0, x1, y1), frame in zip(boxes, viz.to_uint8(clip)[[0, 0, 1, 1, 2, 2, 3, 4, 5]]):
        drawn, frame = picture[::-1][y0:y1, x0:x1][::-1], frame.repeat(4, 0).repeat(4, 1)
        assert drawn.shape == (128, 128)
        assert np.abs(drawn - frame)[4:-4, 4:-4].max() <= 2  # but for the border


def test_points_of_several_lines_have_markers_of_their_own():
    axis, lines = matplotlib.figure.Figure().subplots(), {"a": [0, 1], "b": [1, 0]}
    viz.plot_lines(axis, [0, 1], lines, marker="o")
    assert [line.get_marker() for line in axis.lines] == ["o", "s"]


def test_a_border_tells_given_frames_from_made_ones(clip):
    out = viz.framed(clip, num_context=2, joins=[4, 9])
    assert torch.equal(out[:, :, 2:-2, 2:-2], clip) and out.shape[1:] == (6, 36, 36)
    above, beside = out[0, :, 0, 9].tolist(), out[0, :, 9, -1].tolist()
    assert above == pytest.approx([1, 1, 0.1, 0.1, 1, 0.1])  # the context, and where a window begins
    assert beside == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1])  # the context


def test_gifs_hold_the_frames(clip):
    image = Image.open(io.BytesIO(viz.encode_gif(clip, enlarge=3)))
    assert image.n_frames == 6 and image.size == (96, 96) and image.info["loop"] == 0
    np.testing.assert_array_equal(np.asarray(image.convert("L"))[::3, ::3], viz.to_uint8(clip)[0])


@pytest.mark.parametrize("channels, size, enlarge", [(1, (32, 32), 4), (3, (32, 32), 1), (1, (15, 31), 1)])
def test_an_mp4_holds_the_frames_in_even_sizes(channels, size, enlarge):
    clip = torch.linspace(-1, 1, 6)[:, None, None].expand(channels, 6, *size)
    with av.open(io.BytesIO(viz.encode_mp4(clip, fps=12.5, enlarge=enlarge))) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12.5)
    assert len(frames) == 6 and frames[0].shape == (*(n * enlarge + n * enlarge % 2 for n in size), 3)
    for frame, level in zip(frames, viz.to_uint8(clip)):
        assert np.abs(frame.astype(int) - int(level.flat[0])).max() <= 3


def test_the_same_clip_gives_the_same_mp4(clip):
    assert viz.encode_mp4(clip) == viz.encode_mp4(clip) != viz.encode_mp4(-clip)


def test_clips_are_shown_with_controls_and_text(clip):
    html = viz.show_clips([clip], ["a <digit>"], alt='It "moves"').data
    assert "a &lt;digit&gt;" in html and "&quot;moves&quot;" in html
    assert "<video loop muted" in html and 'aria-label="Play or pause: ' in html and "autoplay" not in html
    assert 'src="data:video/mp4;base64,' in html and 'poster="data:image/png;base64,' in html
    assert "width:128px;max-width:100%;height:auto" in html  # 4 x 32
    assert "width:144px" in viz.show_clips([viz.framed(clip)], alt="x").data  # 4 x 36


def test_where_there_is_no_video_or_html_there_is_a_picture_or_text(clip):
    clips = viz.show_clips([clip, clip], ["a", "<b>"], alt="It moves")
    assert repr(clips) == "It moves (a)\nIt moves (<b>)"
    stills = re.findall(r'<video [^>]*><img src="data:image/png;base64,[^"]+" alt="([^"]+)"', clips.data)
    assert stills == ["It moves (a)", "It moves (&lt;b&gt;)"]
    slider = sliders.versus_slider([clip, -clip], [0, 1], alt="It moves.")
    assert repr(slider) == "It moves. left: 0.\nIt moves. right: 1."
    live = sliders.guidance_slider(lambda weight: clip, [0, 1], "w", "It moves.")
    assert live._repr_mimebundle_()["text/plain"] == "It moves. w: 0."


def test_a_clip_is_saved_by_its_ending_and_what_cannot_be_is_refused(clip, tmp_path):
    viz.save_clip(clip, tmp_path / "x.gif")
    viz.save_clip(clip, tmp_path / "x.mp4")
    assert (tmp_path / "x.gif").read_bytes() == viz.encode_gif(clip, enlarge=4)
    assert (tmp_path / "x.mp4").read_bytes() == viz.encode_mp4(clip)
    with pytest.raises(ValueError, match="unknown ending"):
        viz.save_clip(clip, tmp_path / "x.avi")
    with pytest.raises(ValueError, match="there is no folder"):
        viz.save_clip(clip, tmp_path / "nowhere" / "x.mp4")


def test_a_slider_holds_a_picture_for_each_value(clip):
    pictures = sliders.frame_pictures([clip, -clip, clip * 0], 1)
    html = sliders.picture_slider(pictures, [0, 0.5, 1], "weight <w>", 'A "digit".', start=1).data
    assert html.count("data:image/png;base64,") == 4 and 'max="2"' in html and 'value="1"' in html
    assert "weight &lt;w&gt;" in html and "http" not in html.replace("https://", "http://")
    decoded = [Image.open(io.BytesIO(base64.b64decode(p.split(",")[1]))) for p in pictures]
    np.testing.assert_array_equal(np.asarray(decoded[0]), viz.to_uint8(clip)[1])


def test_two_sliders_have_two_names(clip):
    pictures = sliders.clip_pictures([clip, clip])
    pages = [sliders.picture_slider(pictures, [0, 1], "w", "x").data for _ in range(2)]
    names = [re.search(r'id="([^"]+)"', page).group(1) for page in pages]
    assert names[0] != names[1]


@pytest.mark.parametrize("n, values", [(2, [1]), (1, [1]), (2, [1, 2, 3])])
def test_a_slider_wants_one_picture_a_value(clip, n, values):
    with pytest.raises(ValueError, match=f"{n} pictures for {len(values)} values"):
        sliders.picture_slider(sliders.frame_pictures([clip] * n), values, "w", "x")


def test_intervals_are_dots_on_bars_from_top_to_bottom():
    intervals = {"first": (1.0, 0.5, 1.25), "second": (2.0, 1.5, 3.0)}
    axis = viz.plot_intervals(matplotlib.figure.Figure().subplots(), intervals)
    bars, dots = axis.lines[::2], axis.lines[1::2]
    assert [list(bar.get_xdata()) for bar in bars] == [[0.5, 1.25], [1.5, 3.0]]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [1.0, 2.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    assert axis.transData.transform((0, 0))[1] > axis.transData.transform((0, 1))[1]
