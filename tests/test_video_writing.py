"""What is written is read back: times, colors, sizes and every frame."""

import io
import weakref
from collections import namedtuple
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageSequence

from vdiff_lite import viz
from vdiff_lite.viz import ClipWriter, writers


def moving(n=30, channels=1, height=32, width=48):
    """A bar that moves, with frames 5 to 7 held."""
    clip = torch.full((channels, n, height, width), -1.0)
    for i in range(n):
        place = i if i not in (6, 7) else 5
        clip[:, i, :, place:place + 6] = torch.linspace(-0.5, 1, channels)[:, None, None]
    return clip


def gif_frames(content):
    """Delays in ms and frames (f, h, w, 3) of a gif, as Pillow reads it."""
    frames = [(frame.info["duration"], np.asarray(frame.convert("RGB")))
              for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content)))]
    return [delay for delay, _ in frames], np.stack([pixels for _, pixels in frames])


def mp4_frames(content):
    """Times in seconds and frames (f, h, w, 3) of a video, as PyAV reads it."""
    with av.open(io.BytesIO(content)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], np.stack([pixels for _, pixels in frames])


@pytest.mark.parametrize("fps", [1, 8, 12.5, 15, 24, 29.97, 30, 40, 50])
def test_a_gif_takes_as_long_as_it_should(fps):
    delays, _ = gif_frames(viz.encode_gif(moving(), fps))
    shown = np.cumsum(delays) / 1000
    assert np.abs(shown - np.arange(1, 31) / fps).max() <= 0.005 + 1e-9, "each frame to half a hundredth"
    assert min(delays) >= 20


@pytest.mark.parametrize("fps", [50.1, 60, 1000, 0, -8, float("nan"), "8"])
def test_a_gif_that_browsers_would_play_slowly_is_refused(fps, tmp_path):
    with pytest.raises(ValueError, match=r"choose 50 or less, or an mp4|^fps=\S+ must"):
        viz.save_clip(moving(), tmp_path / "a.gif", fps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_keeps_frames_that_are_held(channels):
    clip = moving(channels=channels)
    delays, frames = gif_frames(viz.encode_gif(clip))
    assert len(delays) == len(frames) == 30
    expected = viz.to_uint8(clip.expand(3, -1, -1, -1))
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_still_clip_is_a_gif_of_all_its_frames(channels):
    delays, frames = gif_frames(viz.encode_gif(torch.zeros(channels, 16, 8, 8)))
    assert len(frames) == 16 and sum(delays) == 2000 and (frames == 128).all()
    assert len(gif_frames(viz.encode_gif(torch.zeros(channels, 1, 8, 8)))[1]) == 1


def test_all_gray_levels_survive_a_gif():
    clip = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    np.testing.assert_array_equal(gif_frames(viz.encode_gif(clip))[1][..., 0], viz.to_uint8(clip))


def test_a_gif_of_many_colors_is_close():
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    clip = torch.nn.functional.interpolate(noise, (16, 32, 32), mode="trilinear")[0].clamp(-1, 1)
    _, frames = gif_frames(viz.encode_gif(clip))
    assert np.abs(frames.astype(float) - viz.to_uint8(clip)).mean() < 12


@pytest.mark.parametrize("size, enlarge, written", [((15, 31), 1, (16, 32)), ((16, 31), 1, (16, 32)),
                                                    ((15, 31), 3, (46, 94)), ((16, 32), 1, None)])
def test_an_mp4_is_padded_to_even_sides_and_says_so(tmp_path, size, enlarge, written, recwarn):
    clip = torch.rand(1, 3, *size) * 2 - 1
    viz.save_clip(clip, tmp_path / "a.mp4", enlarge=enlarge)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (written or size)
    said = [str(warning.message) for warning in recwarn]
    assert len(said) == (written is not None)
    if written:
        assert f"was padded to {written[0]}x{written[1]}, since h264 wants even sides" in said[0]


COLORS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "orange": (1, 0.2, -0.8)}


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("height", [64, 718, 720, 1080])
def test_colors_come_back(color, height):
    clip = torch.tensor(COLORS[color])[:, None, None, None].expand(3, 2, height, 32)
    content = viz.encode_mp4(clip, enlarge=1)
    with av.open(io.BytesIO(content)) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
    # What a player takes: the tags, and without them BT.709 from 720 lines on and BT.601 below.
    seen_as = "ITU709" if (frame.colorspace == 1 if frame.colorspace != 2 else height >= 720) else "ITU601"
    pixel = frame.to_ndarray(format="rgb24", src_colorspace=seen_as)[height // 2, 16]
    np.testing.assert_allclose(pixel, viz.to_uint8(clip)[0, 0, 0], atol=4)
    assert tags == ((1, 1, 1, 1) if height >= 720 else (2, 2, 2, 0))


@pytest.mark.parametrize("fps", [8, 12.5, 29.97, 30])
def test_times_begin_at_0(fps):
    times, frames = mp4_frames(viz.encode_mp4(moving(), fps))
    np.testing.assert_allclose(times, np.arange(30) / fps, atol=1e-3)
    assert len(frames) == 30


def test_times_begin_at_0_when_it_is_streamed():
    whole, out = io.BytesIO(viz.encode_mp4(moving())), io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(whole) as source, av.open(out, "w", format="mp4", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    np.testing.assert_allclose(mp4_frames(out.getvalue())[0], np.arange(30) / 8, atol=1e-6)


@pytest.mark.parametrize("fps", [8, 15, 29.97, 30])
def test_a_page_that_seeks_to_the_middle_of_a_frame_shows_it(fps):
    with av.open(io.BytesIO(viz.encode_mp4(moving(90), fps))) as container:
        stream = container.streams.video[0]
        starts = sorted(packet.pts * stream.time_base for packet in container.demux(stream) if packet.size)

    def shown(seconds):  # browsers count whole microseconds
        seconds = Fraction(int(seconds * 1_000_000), 1_000_000)
        return sum(start <= seconds for start in starts) - 1

    assert [shown((k + 0.5) / fps) for k in range(90)] == list(range(90))
    if fps in (15, 30):
        assert sum(shown(k / fps) != k for k in range(90)) >= 30, "k / fps shows the frame before"


ENCODE = {".gif": viz.encode_gif, ".mp4": viz.encode_mp4}


def several(clips, channels, frames=3, h=8, w=10):
    return torch.rand(clips, channels, frames, h, w, generator=torch.Generator().manual_seed(0)) * 2 - 1


def written(path, clips, block, **options):
    b, c, f, h, w = clips.shape
    with ClipWriter(path, (c, h, w), b, f, **options) as writer:
        for first in range(0, b, block):
            for k in range(f):
                writer.add(k, clips[first:first + block, :, k], first)
    return path.read_bytes()


@pytest.mark.parametrize("ending", ENCODE)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("number, rows, columns", [(1, 1, 1), (3, 1, 3), (11, 3, 4)])
@pytest.mark.filterwarnings("ignore:.*was padded")
def test_what_is_streamed_is_what_is_written_at_once(tmp_path, ending, channels, number, rows, columns):
    clips = several(number, channels)
    padded = F.pad(clips, (0, 1, 0, 1, 0, 0, 0, 0, 0, rows * columns - number))
    lines = [torch.cat([*padded[r * columns:(r + 1) * columns]], dim=-1) for r in range(rows)]
    together = torch.cat(lines, dim=-2)[..., :-1, :-1]
    expected = ENCODE[ending](together, enlarge=4)
    for block in (1, 4, number):
        assert written(tmp_path / f"x{ending}", clips, block) == expected
    assert [path.name for path in tmp_path.iterdir()] == [f"x{ending}"]


@pytest.mark.parametrize("ending", ENCODE)
@pytest.mark.parametrize("channels", [1, 3])
def test_frames_of_an_iterator_are_written_and_not_kept(tmp_path, ending, channels):
    clip, alive = several(1, channels, 30)[0], weakref.WeakSet()

    def frames():
        for frame in clip.unbind(1):
            frame = frame.clone()
            alive.add(frame)
            yield frame
            del frame
            assert len(alive) <= 2

    viz.save_clip(frames(), tmp_path / f"x{ending}")
    assert (tmp_path / f"x{ending}").read_bytes() == ENCODE[ending](clip, enlarge=4)


def test_a_gif_of_many_frames_is_written(tmp_path):
    frames = (torch.full((1, 2, 2), k % 7 / 7) for k in range(8000))
    viz.save_clip(frames, tmp_path / "x.gif", enlarge=1)
    assert Image.open(tmp_path / "x.gif").n_frames == 8000


def test_a_gif_of_very_many_colors_has_fewer_levels_and_is_close(monkeypatch):
    clip = several(1, 3, 4, 32, 32)[0] / 4
    exact = viz.encode_gif(clip)
    monkeypatch.setattr(writers, "EXACT", 0)
    assert viz.encode_gif(clip) != exact
    _, frames = gif_frames(viz.encode_gif(clip))
    assert np.abs(frames.astype(float) - viz.to_uint8(clip)).mean() < 12


@pytest.mark.parametrize("clips, enlarge", [(1, 4), (100, 4), (121, 3), (300, 2), (1024, 1), (1892, 1)])
def test_many_clips_are_enlarged_less(tmp_path, clips, enlarge):
    writer = ClipWriter(tmp_path / "x.gif", (1, 32, 32), clips)
    assert writer.enlarge == enlarge and np.prod(writer.size) * enlarge**2 <= 1920 * 1080


def fails(call, says, folder):
    with pytest.raises(ValueError, match=says):
        call()
    assert not list(folder.iterdir())


def test_what_a_format_cannot_hold_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    gif, mp4 = tmp_path / "x.gif", tmp_path / "x.mp4"
    fails(lambda: ClipWriter(gif, (1, 32, 32), 1893), "at most 1892 fit", tmp_path)
    ClipWriter(gif, (1, 32, 32), 1892)
    ClipWriter(mp4, (1, 2000, 2000))  # one clip is one clip
    fails(lambda: ClipWriter(mp4, (1, 16, 4000), 5), "clips=5 of 16x4000 .*; at most 4 fit", tmp_path)
    fails(lambda: ClipWriter(mp4, (2, 16, 16)), "frames of 2 channels", tmp_path)
    fails(lambda: ClipWriter(gif, (1, 16, 70_000)), ".gif holds 65,535 pixels to a side", tmp_path)
    fails(lambda: viz.encode_mp4(torch.zeros(1, 1, 2, 5000)), ".mp4 holds 16,384 pixels to a side", tmp_path)
    fails(lambda: viz.encode_gif(torch.zeros(1, 0, 2, 2)), "frames=0 must be", tmp_path)
    fails(lambda: viz.save_clip(torch.zeros(1, 0, 2, 2), gif), "clip has no frames", tmp_path)
    fails(lambda: viz.save_clip(torch.zeros(4, 4), gif), r"a first frame of shape \(4,\)", tmp_path)
    fails(lambda: viz.save_clip(torch.zeros(1, 2, 4, 4), gif, enlarge=0), "enlarge=0 must be", tmp_path)
    monkeypatch.setattr(writers.shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(32 * 32 * 50))
    fails(lambda: ClipWriter(gif, (1, 32, 32), 1, 100), "frames=100 of 1 clips .*; at most 50 fit", tmp_path)
    ClipWriter(gif, (1, 32, 32), 1, 50)
    (tmp_path / "d.gif").mkdir()
    with pytest.raises(ValueError, match="there is a folder of that name"):
        ClipWriter(tmp_path / "d.gif", (1, 8, 8))


def test_an_error_on_the_way_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "x.gif"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), ClipWriter(path, (1, 8, 8)) as writer:
        writer.add(0, torch.zeros(1, 1, 8, 8))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="from clip 1 on"), ClipWriter(path, (1, 8, 8)) as writer:
        writer.add(0, torch.zeros(1, 1, 8, 8), 1)
    assert path.read_text() == "old" and [path.name] == [p.name for p in tmp_path.iterdir()]
