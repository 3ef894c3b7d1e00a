"""What is written is read back: times, colors, sizes and every frame."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from vdiff_lite import viz


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


@pytest.mark.parametrize("fps", [50.1, 60, 1000, 0, -8, float("nan")])
def test_a_gif_that_browsers_would_play_slowly_is_refused(fps, tmp_path):
    with pytest.raises(ValueError, match="at most 50 frames per second; choose 50 or less, or an mp4"):
        viz.save_clip(moving(), tmp_path / "a.gif", fps)
    assert not (tmp_path / "a.gif").exists()


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
