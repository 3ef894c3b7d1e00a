"""Own videos, read right: each file is made here, by PyAV or Pillow, about a second of 64x48."""

import os
import struct
import subprocess
import sys
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from reading import read_frames

from vdiff_lite.data import DataError, VideoFolder
from vdiff_lite.data.decode import frames_at, picture
from vdiff_lite.data.find import find_videos, split_spans
from vdiff_lite.data.frame_cache import FrameCache
from vdiff_lite.data.video_index import open_video

RATE = 25


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gray_frames(n=RATE, height=48, width=64):
    """Frames that say which they are: frame i has the gray level 9 i + 16 everywhere."""
    levels = 9 * np.arange(n, dtype=np.uint8) + 16
    return np.broadcast_to(levels[:, None, None, None], (n, height, width, 3)).copy()


def number_of(frames):
    """Which frames of `gray_frames` these are."""
    return np.round((frames.reshape(len(frames), -1).mean(1) - 16) / 9).astype(int).tolist()


def write(path, frames, codec="h264", pixels="yuv420p", times=None, options=None, container=None,
          aspect=None):
    """A video file. times: of each frame in thousandths of a second."""
    rate = 1000 if times is not None else RATE
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for i, pixels_of_frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels_of_frame, format="rgb24")
            frame.pts, frame.time_base = (i if times is None else int(times[i])), Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


X265 = {"x265-params": "log-level=none"}
FORMATS = [("a.mp4", "h264", "yuv420p"), ("a.mov", "h264", "yuv420p"), ("a.m4v", "mpeg4", "yuv420p"),
           ("a.mkv", "h264", "yuv420p"), ("a.avi", "mpeg4", "yuv420p"), ("b.avi", "h264", "yuv420p"),
           ("a.webm", "libvpx-vp9", "yuv420p"), ("a.mpg", "mpeg1video", "yuv420p"),
           ("a.ts", "h264", "yuv420p"), ("ten.mp4", "libx265", "yuv420p10le"), ("a.wmv", "wmv2", "yuv420p"),
           ("a.gif", "gif", "rgb8")]


@pytest.mark.parametrize("name, codec, pixels", FORMATS, ids=[" ".join(kind) for kind in FORMATS])
def test_every_format_gives_every_frame_once(tmp_path, name, codec, pixels):
    frames = gray_frames(20)
    if codec == "gif":
        frames = frames // 40 * 36 + 3 * np.arange(20, dtype=np.uint8)[:, None, None, None]
    write(tmp_path / name, frames, codec, pixels, options=X265 if codec == "libx265" else {})
    video = open_video(tmp_path / name)
    assert len(video.times) == 20 and video.fps == pytest.approx(RATE)
    read = read_frames(tmp_path / name)
    assert read.shape == (20, 48, 64, 3)
    if codec != "gif":  # 6 levels of gray
        assert number_of(read) == list(range(20))


def test_odd_sizes(tmp_path):
    write(tmp_path / "a.mp4", gray_frames(5, 47, 63), pixels="yuv444p")
    assert read_frames(tmp_path / "a.mp4").shape == (5, 47, 63, 3)
    assert VideoFolder(tmp_path, num_frames=5, size=(9, 15)).sample(1).video.shape == (1, 1, 5, 9, 15)


def test_classes_are_kept_in_nested_folders(tmp_path):
    for name in ("b/x.mp4", "a/deep/y.mkv", "a/z.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, gray_frames(4), "mpeg4" if name.endswith("avi") else "h264")
    (tmp_path / "b" / "frames").mkdir()
    for i in range(4):
        Image.new("L", (8, 8)).save(tmp_path / "b" / "frames" / f"{i}.png")
    (tmp_path / "b" / "cover.jpg").write_bytes(b"a picture beside a video is no clip")
    data = VideoFolder(tmp_path, num_frames=4)
    names = [video.path.relative_to(tmp_path).as_posix() for video in data.videos]
    assert list(zip(names, data.labels)) == [("a/z.avi", "a"), ("a/deep/y.mkv", "a/deep"), ("b/x.mp4", "b"),
                                             ("b/frames", "b")]
    origin = data.sample(40, seeded()).truth
    paths = [str(video.path) for video in data.videos]
    assert set(zip(origin.paths, origin.labels)) == set(zip(paths, data.labels))
    assert set(origin.seconds) == {0.0}


def test_images_are_read_in_natural_order(tmp_path):
    for i in range(1, 21):
        Image.new("L", (8, 8), 10 * i).save(tmp_path / f"frame{i}.png")
    assert read_frames(tmp_path)[:, 0, 0, 0].tolist() == [10 * i for i in range(1, 21)]


@pytest.mark.parametrize("mode", ["gray", "rgb"])
def test_16_bits_are_scaled(tmp_path, mode):
    levels = np.tile(np.linspace(0, 65535, 8).astype(np.uint16), (8, 1))
    if mode == "gray":
        Image.fromarray(levels).save(tmp_path / "0.png")
    else:
        with av.open(str(tmp_path / "0.png"), "w", format="image2", options={"update": "1"}) as out:
            stream = out.add_stream("png", rate=1)
            stream.height, stream.width, stream.pix_fmt = 8, 8, "rgb48be"
            pixels = np.repeat(levels[..., None], 3, 2)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le")
            out.mux(stream.encode(frame.reformat(format="rgb48be")))
            out.mux(stream.encode())
    np.testing.assert_allclose(read_frames(tmp_path)[0, 0, :, 0], levels[0] / 257, atol=1)


def half_transparent(alpha):
    """White on the left, transparent red on the right."""
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:, 4:] = 255, 0, 0, alpha
    return Image.fromarray(pixels)


@pytest.mark.parametrize("background", [(0, 0, 0), (0, 200, 40)])
@pytest.mark.parametrize("kind", ["png", "gif"])
def test_transparent_pixels_are_composited_on_the_background(tmp_path, kind, background):
    (tmp_path / "clip").mkdir()
    image = half_transparent(0)
    if kind == "png":
        image.save(tmp_path / "clip" / "0.png")
    else:
        image.save(tmp_path / "a.gif")
    data = VideoFolder(tmp_path, num_frames=1, size=8, channels=3, background=background)
    pixels = ((data.clip(0)[:, 0] + 1) * 127.5).round().permute(1, 2, 0)
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[0, 7].tolist() == list(background)


def test_half_transparent_pixels_are_mixed(tmp_path):
    half_transparent(51).save(tmp_path / "0.png")
    assert read_frames(tmp_path)[0, 0, 7].tolist() == [51, 0, 0]


def corners():
    """48 high and 64 wide: red upper left, green upper right, blue lower left, black lower right."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32, 0] = pixels[:24, 32:, 1] = pixels[24:, :32, 2] = 255
    return pixels


def where(pixels):
    """The color names in the four corners, read row by row."""
    h, w = pixels.shape[:2]
    name = lambda rgb: "rgb"[int(rgb.argmax())] if rgb.max() > 128 else "."
    return "".join(name(pixels[y, x]) for y in (4, h - 5) for x in (4, w - 5))


# What a picture must be turned by before it is seen, as EXIF and as the matrix (a, b, c, d) of an mp4.
UPRIGHT = {1: ("rgb.", (1, 0, 0, 1)), 2: ("gr.b", (-1, 0, 0, 1)), 3: (".bgr", (-1, 0, 0, -1)),
           4: ("b.rg", (1, 0, 0, -1)), 5: ("rbg.", (0, 1, 1, 0)), 6: ("br.g", (0, 1, -1, 0)),
           7: (".gbr", (0, -1, -1, 0)), 8: ("g.rb", (0, -1, 1, 0))}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photos_are_turned_as_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners()).save(tmp_path / "0.jpg", exif=exif, quality=95)
    pixels = read_frames(tmp_path)[0]
    assert pixels.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    assert where(pixels) == UPRIGHT[orientation][0]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_videos_are_turned_and_mirrored_as_their_matrix_says(tmp_path, orientation):
    # Phones store how the camera was held: a matrix in the mp4's track header, here by hand.
    content = write(tmp_path / "plain.mp4", np.stack([corners()] * 3)).read_bytes()
    start = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[start:start + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (number << 16 for number in UPRIGHT[orientation][1])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(content[:start] + matrix + content[start + 36:])
    frames = read_frames(tmp_path / "turned.mp4")
    assert frames.shape == ((3, 48, 64, 3) if orientation < 5 else (3, 64, 48, 3))
    assert [where(frame) for frame in frames] == [UPRIGHT[orientation][0]] * 3


def test_pixels_that_are_not_square(tmp_path):
    y, x = np.mgrid[:48, :64]
    disk = (255 * ((y - 23.5) ** 2 / 20**2 + (x - 31.5) ** 2 / 10**2 < 1)).astype(np.uint8)  # seen as round
    write(tmp_path / "a.mp4", np.stack([np.repeat(disk[..., None], 3, 2)] * 2), aspect=2)
    whole = read_frames(tmp_path / "a.mp4")
    assert whole.shape == (2, 48, 128, 3)
    cut = (VideoFolder(tmp_path / "a.mp4", num_frames=2, size=48).clip(0)[0, 0] > 0).float()
    for seen in (torch.tensor(whole[0, :, :, 0] > 128).float(), cut):
        high, wide = seen.amax(1).sum(), seen.amax(0).sum()
        assert abs(high - 40) <= 2 and abs(wide - 40) <= 2


def test_a_turned_clip_keeps_the_aspect_of_its_pixels(tmp_path):
    content = write(tmp_path / "a.mp4", gray_frames(2), aspect=2).read_bytes()
    start = content.index(b"tkhd") + 44
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content[:start] + matrix + content[start + 36:])
    assert read_frames(tmp_path / "a.mp4").shape == (2, 64, 24, 3)  # twice as high as stored, for its width


def test_untagged_video_from_720_lines_on_is_bt709(tmp_path):
    red = np.zeros((2, 720, 64, 3), np.uint8)
    red[..., 0] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("h264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 720, 64, "yuv420p"
        for frame in red:
            frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        out.mux(stream.encode())
    np.testing.assert_allclose(read_frames(tmp_path / "a.mp4")[0, 100, 30], (255, 0, 0), atol=4)


def test_a_browsers_recording_comes_back_frame_for_frame(tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(28, 38, 25))
    write(tmp_path / "a.webm", gray_frames(), "libvpx-vp9", times=times)
    with av.open(str(tmp_path / "a.webm")) as container:
        assert container.streams.video[0].average_rate == 1000, "what such a recording says"
    assert open_video(tmp_path / "a.webm").fps == pytest.approx(1000 / np.diff(times).mean(), rel=0.01)
    numbers = number_of(read_frames(tmp_path / "a.webm"))
    assert abs(len(numbers) - 25) <= 1 and len(set(numbers)) >= 23


def test_rounded_times_are_no_jitter(tmp_path):
    write(tmp_path / "a.webm", gray_frames(), "libvpx-vp9", times=np.round(np.arange(25) * 1000 / 30))
    assert open_video(tmp_path / "a.webm").fps == pytest.approx(30, rel=0.005)
    assert number_of(read_frames(tmp_path / "a.webm")) == list(range(25))
    assert number_of(read_frames(tmp_path / "a.webm", fps=15)) == list(range(0, 25, 2))


def test_variable_frame_rate_is_resampled(tmp_path):
    times = [*range(0, 400, 40), *range(1000, 1200, 40)]  # a pause of 640 ms after the tenth frame
    write(tmp_path / "a.mkv", gray_frames(15), times=times)
    assert open_video(tmp_path / "a.mkv").fps == pytest.approx(25)
    assert number_of(read_frames(tmp_path / "a.mkv")) == [*range(10), *[9] * 15, *range(10, 15)]
    assert number_of(read_frames(tmp_path / "a.mkv", fps=5)) == [0, 5, 9, 9, 9, 10]
    assert number_of(read_frames(tmp_path / "a.mkv", fps=50))[:6] == [0, 0, 1, 1, 2, 2]


def test_a_gif_rests_as_long_as_it_says(tmp_path):
    first, *rest = (Image.fromarray(frame) for frame in gray_frames(4))
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=[100, 300, 100, 100])
    assert number_of(read_frames(tmp_path / "a.gif")) == [0, 1, 1, 1, 2, 3]
    assert number_of(read_frames(tmp_path / "a.gif", fps=20)) == [0] * 2 + [1] * 6 + [2] * 2 + [3] * 2


def test_fps_and_every_reach_the_clips(tmp_path):
    write(tmp_path / "a.mp4", gray_frames())
    clip = lambda **settings: number_of(((VideoFolder(tmp_path, num_frames=3, **settings).clip(0, 1)[0] + 1)
                                         * 127.5).numpy())
    assert clip() == [1, 2, 3] and clip(every=4) == [4, 8, 12] and clip(fps=5) == [5, 10, 15]
    assert clip(fps=12.5, every=2) == [4, 8, 12]


def test_hidden_files_cost_themselves(tmp_path):
    write(tmp_path / "x.mp4", gray_frames(4))
    (tmp_path / "._x.mp4").write_bytes(b"what macOS puts beside a file")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "x.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 files left out, .* the first: .*\._x\.mp4 is a hidden file"):
        assert len(VideoFolder(tmp_path, num_frames=4)) == 1


@pytest.mark.parametrize("name, content", [("._3.png", b"hidden"), ("3b.png", b"no image")])
def test_an_image_that_cannot_be_opened_costs_itself(tmp_path, name, content):
    for i in range(6):
        Image.new("L", (8, 8), 9 * i + 16).save(tmp_path / f"{i}.png")
    (tmp_path / name).write_bytes(content)
    with pytest.warns(UserWarning, match=rf"1 of 7 images cannot be read, {name.replace('.', '[.]')} first"):
        data = VideoFolder(tmp_path, num_frames=6, size=8)
    assert number_of(((data.clip(0)[0] + 1) * 127.5).numpy()) == list(range(6))


def test_an_image_that_is_cut_off_costs_itself(tmp_path):
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 9, (64, 64)) + 9 * i + 12
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:-1500])
    data = VideoFolder(tmp_path, num_frames=6, size=8)
    with pytest.warns(UserWarning, match="1 frames damaged, number 3 first; each is replaced"):
        clip = data.sample(1).video
    assert number_of(((clip[0, 0] + 1) * 127.5).numpy()) == [0, 1, 2, 2, 4, 5]


def test_a_damaged_frame_of_a_video_costs_itself(tmp_path):
    write(tmp_path / "a.avi", gray_frames(), "mjpeg", "yuvj420p")
    content = bytearray((tmp_path / "a.avi").read_bytes())
    starts = [i for i in range(content.index(b"movi"), len(content)) if content[i:i + 4] == b"00dc"]
    content[starts[7] + 8:starts[8]] = bytes(starts[8] - starts[7] - 8)
    (tmp_path / "a.avi").write_bytes(content)
    data = VideoFolder(tmp_path, num_frames=25)
    with pytest.warns(UserWarning, match=r"a\.avi: 1 frames damaged, number 7 first; each is"):
        clip = data.sample(1).video
    assert number_of(((clip[0, 0] + 1) * 127.5).numpy()) == [*range(7), 6, *range(8, 25)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.sample(1)


@pytest.mark.parametrize("name, codec", [("a.mp4", "h264"), ("a.mkv", "h264"), ("a.avi", "mpeg4")])
def test_a_file_that_is_cut_off_says_how_many_frames(tmp_path, name, codec):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3)).astype(np.uint8)
    write(tmp_path / name, noise, codec, container={"movflags": "faststart"} if name == "a.mp4" else {})
    whole = len(VideoFolder(tmp_path)._indices[0])
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:len(content) * 8 // 10])
    with pytest.warns(UserWarning, match=r"is cut off: \d+ of 30 frames are there") as record:
        data = VideoFolder(tmp_path)
    there = int(str(record[0].message).split("cut off: ")[1].split()[0])
    assert whole == 30 and 16 <= there == len(data._indices[0]) <= 25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.clip(0, 0, there - 1)


def test_a_folder_without_videos_says_which_endings_it_holds(tmp_path):
    for name in ("a.txt", "b.txt", "c.json", "README"):
        (tmp_path / name).write_text("no video")
    with pytest.raises(DataError, match=r"there is 2 \.txt, 1 \.json, 1 no ending; expected \.mp4"):
        VideoFolder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no file; expected"):
        VideoFolder(tmp_path / "empty")


def test_a_path_to_one_file_works(tmp_path):
    path = write(tmp_path / "a.mp4", gray_frames())
    path.rename(tmp_path / "no ending")
    data = VideoFolder(tmp_path / "no ending", num_frames=25)
    assert len(data) == 1 and data.labels == [""]
    assert number_of(((data.sample(1).video[0, 0] + 1) * 127.5).numpy()) == list(range(25))


@pytest.mark.parametrize("size, top, left, scale", [
    ((20, 16), 0, 16, 2), ((8, 32), 12, 0, 2), (20, 0, 12, 2), ((40, 64), 0, 0, 1), ((8, 4), 0, 22, 5)])
def test_a_clip_is_cut_to_its_middle_part_of_the_shape_asked_for(tmp_path, size, top, left, scale):
    y, x = np.mgrid[:40, :64]  # red says where a pixel was from top to bottom, green from left to right
    Image.fromarray(np.stack([6 * y, 4 * x, 0 * x], -1).astype(np.uint8)).save(tmp_path / "0.png")
    video = VideoFolder(tmp_path, num_frames=1, size=size, channels=3).sample(1, seeded()).video
    red, green, _ = (video[0, :, 0] + 1) * 127.5
    h, w = size if isinstance(size, tuple) else (size, size)
    assert video.shape == (1, 3, 1, h, w)
    place = lambda n, first: first + (torch.arange(n) + 0.5) * scale - 0.5
    torch.testing.assert_close(red, (6 * place(h, top))[:, None].expand(h, w), atol=3, rtol=0)
    torch.testing.assert_close(green, (4 * place(w, left)).expand(h, w), atol=3, rtol=0)


@pytest.mark.parametrize("make, says", [
    (lambda p: p / "nowhere", "nowhere is not a folder or a file"),
    (lambda p: (p / "x.mp4").write_bytes(b"no video") and p, "x.mp4 cannot be read: Invalid data"),
    (lambda p: (p / "x.webm").write_bytes(b"") or p, "x.webm cannot be read: Invalid data"),
    (lambda p: (p / "x.gif").write_bytes(b"") or p, "x.gif cannot be read"),
    (lambda p: (p / "x.png").write_bytes(b"") or p, "holds no image that can be read, of 1"),
    (lambda p: write(p / "x.mp4", gray_frames(3)) and p, "x.mp4 has 3 frames; num_frames=16 needs")])
def test_what_cannot_be_used_is_named(tmp_path, make, says):
    with pytest.raises(DataError, match=says):
        VideoFolder(make(tmp_path))


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 22050), np.float32), format="fltp")
        frame.rate = 44100
        for unit in (frame, None):
            out.mux(stream.encode(unit))
    with pytest.raises(DataError, match=r"x\.mp4 holds no frames: it has no video stream"):
        VideoFolder(tmp_path)


def test_images_of_different_sizes_are_refused(tmp_path):
    for i, width in enumerate((8, 8, 9)):
        Image.new("L", (width, 8)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match=r"different sizes: \(8, 8\) and \(9, 8\)"):
        VideoFolder(tmp_path, num_frames=1)


@pytest.mark.parametrize("bad, says", [
    (dict(channels=2), "channels=2"), (dict(split="dev"), "split='dev'"), (dict(fps=0), "fps=0"),
    (dict(every=0), "every=0")])
def test_settings_that_do_not_fit_are_refused(tmp_path, bad, says):
    write(tmp_path / "a.mp4", gray_frames(16))
    with pytest.raises(ValueError, match=says):
        VideoFolder(tmp_path, **bad)


@pytest.mark.parametrize("name, codec", [("a.mp4", "h264"), ("a.mkv", "h264"), ("a.mp4", "libx265"),
                                         ("a.webm", "libvpx-vp9"), ("a.ts", "h264")])
def test_a_seek_gives_the_frames_of_a_whole_read(tmp_path, name, codec):
    frames = np.concatenate([gray_frames()] * 4)
    frames[:, :24, :32] = np.arange(100, dtype=np.uint8)[:, None, None, None] * 2 + 20
    options = {"x265-params": "log-level=none:keyint=12"} if codec == "libx265" else {"g": "12"}
    video = open_video(write(tmp_path / name, frames, codec, options=options))
    whole = read_frames(tmp_path / name)
    for first in (0, 1, 11, 12, 13, 50, 99):
        for index, (i, frame) in zip(range(first, 100), frames_at(video, range(first, 100))):
            assert i == index
            if index in (first, 99):
                np.testing.assert_array_equal(np.asarray(picture(video, frame)[0]), whole[index])


def test_clips_across_parts_are_whole(tmp_path, monkeypatch):
    write(tmp_path / "a.mp4", gray_frames(), options={"g": "5"})
    monkeypatch.setattr("vdiff_lite.data.video_files.PART", 4)
    data = VideoFolder(tmp_path, num_frames=10)
    for start in range(16):
        numbers = number_of(((data.clip(0, start)[0] + 1) * 127.5).numpy())
        assert numbers == list(range(start, start + 10))
    with pytest.raises(ValueError, match=r"start=16, num_frames=10: .* has 25 frames"):
        data.clip(0, 16)


def test_every_clip_is_as_likely_as_any_other(tmp_path):
    write(tmp_path / "a.mp4", gray_frames(10))
    write(tmp_path / "b.mp4", gray_frames(25))
    origin = VideoFolder(tmp_path, num_frames=8).sample(2000, seeded()).truth
    starts = [(path[-5], round(seconds * RATE)) for path, seconds in zip(origin.paths, origin.seconds)]
    counts = {start: starts.count(start) for start in set(starts)}
    assert set(counts) == {("a", i) for i in range(3)} | {("b", i) for i in range(18)}
    assert min(counts.values()) > 55 and max(counts.values()) < 145  # 95 each


def test_a_seed_gives_the_same_clips_whatever_is_decoded_already(tmp_path, cache):
    write(tmp_path / "a.mp4", gray_frames())
    data = VideoFolder(tmp_path, num_frames=4)
    first = data.sample(8, seeded()).video
    assert len(list((cache / "vdiff").glob("*.npy"))) == 1
    assert torch.equal(first, data.sample(8, seeded()).video)
    assert torch.equal(first, VideoFolder(tmp_path, num_frames=4).sample(8, seeded()).video)
    assert data.with_frames(9).sample(2, seeded()).video.shape == (2, 1, 9, 32, 32)
    with pytest.raises(DataError, match="num_frames=26 needs as many"):
        data.with_frames(26)


def test_another_file_or_setting_is_decoded_anew(tmp_path):
    write(tmp_path / "a.mp4", gray_frames())
    first = VideoFolder(tmp_path, num_frames=4).clip(0)
    assert VideoFolder(tmp_path, num_frames=4, every=2).clip(0).mean() > first.mean() + 0.05
    write(tmp_path / "a.mp4", gray_frames()[::-1])
    assert VideoFolder(tmp_path, num_frames=4).clip(0).mean() > first.mean() + 0.5


def test_the_cache_keeps_to_its_limit(tmp_path):
    cache = FrameCache(tmp_path, 3500)
    frames = np.arange(1000, dtype=np.uint8).reshape(10, 10, 10)
    for i, name in enumerate("abc"):
        np.testing.assert_array_equal(cache.write(name, frames, frames.shape), frames)
        os.utime(cache.path(name), (i, i))
    cache.read("a")  # "b" is now the one that was not used for longest
    cache.write("d", frames, frames.shape)
    there = {path.stem for path in tmp_path.iterdir()}
    assert there == {"a", "c", "d"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3500
    np.testing.assert_array_equal(cache.read("a"), frames)
    assert cache.read("b") is None


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield np.zeros((2, 2), np.uint8)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        FrameCache(tmp_path, 1e9).write("x", broken(), (3, 2, 2))
    assert list(tmp_path.iterdir()) == []


def test_training_goes_on_when_the_cache_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr("vdiff_lite.data.video_files.PART", 4)
    write(tmp_path / "a.mp4", gray_frames())
    small, large = (VideoFolder(tmp_path, num_frames=6, cache=tmp_path / str(gb), cache_gb=gb)
                    for gb in (1e-8, 1))
    assert torch.equal(small.sample(6, seeded()).video, large.sample(6, seeded()).video)


def test_all_can_be_decoded_first(tmp_path, cache):
    write(tmp_path / "a.mp4", gray_frames())
    write(tmp_path / "b.avi", gray_frames(), "mpeg4")
    data = VideoFolder(tmp_path)
    data.decode_all(bar=False)
    assert len(list((cache / "vdiff").glob("*.npy"))) == 2


def test_parts_are_split_by_file_where_there_are_enough():
    train, test = (split_spans(["a"] * 20 + ["b"] * 4, [50] * 24, split) for split in ("train", "test"))
    assert train.tolist() == [[0, 50]] * 18 + [[0, 0]] * 2 + [[0, 50]] * 3 + [[0, 0]]
    assert test.tolist() == [[50, 50]] * 18 + [[0, 50]] * 2 + [[50, 50]] * 3 + [[0, 50]]


def test_parts_are_split_by_time_within_a_file():
    for split, spans in (("all", [[0, 1000], [0, 100]]), ("train", [[0, 900], [0, 100]]),
                         ("test", [[900, 1000], [100, 100]])):
        assert split_spans(["", ""], [1000, 100], split).tolist() == spans


def test_no_frame_is_in_both_parts(tmp_path):
    numbers = np.arange(200, dtype=np.uint8)
    frames = np.broadcast_to(numbers[:, None, None, None], (200, 48, 64, 3)).copy()
    write(tmp_path / "a.mkv", frames, "ffv1", "bgr0")
    seen = {}
    for split in ("train", "test"):
        clips = VideoFolder(tmp_path, num_frames=10, split=split).sample(300, seeded()).video
        seen[split] = set(((clips + 1) * 127.5).round().int().flatten().tolist())
    assert seen == {"train": set(range(180)), "test": set(range(180, 200))}
    with pytest.raises(DataError, match=r"num_frames=21 needs as many frames in a row, and there are 20"):
        VideoFolder(tmp_path, num_frames=21, split="test")


def test_a_data_set_says_what_it_is(tmp_path):
    write(tmp_path / "a.mp4", gray_frames())
    data = VideoFolder(tmp_path, size=(16, 24), channels=3, fps=5, num_frames=2, split="train")
    assert str(data) == (f"VideoFolder({str(tmp_path)!r}, size=(16, 24), channels=3, fps=5, every=1, "
                         "split='train', background=(0, 0, 0), clips=1)")


HOUR = r"""
import re, sys, time
import torch
from vdiff_lite.data import VideoFolder

def peak():  # of this process alone: ru_maxrss would count what it was forked from
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1e6

before, start = peak(), time.perf_counter()
data = VideoFolder(sys.argv[1], num_frames=16, size=64, channels=3, cache=sys.argv[2])
seconds, indexed = time.perf_counter() - start, peak()
data.sample(2, torch.Generator().manual_seed(0))
print(len(data._indices[0]), before, indexed, peak(), seconds)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from Linux's /proc")
def test_an_hour_of_1080p_takes_little_memory(tmp_path):
    second = write(tmp_path / "second.mp4", np.zeros((30, 1080, 1920, 3), np.uint8) + 90, times=None,
                   options={"bf": "0", "preset": "ultrafast"})
    with av.open(str(second)) as one, av.open(str(tmp_path / "hour.mp4"), "w") as hour:
        stream = one.streams.video[0]
        out = hour.add_stream_from_template(stream)
        packets = [packet for packet in one.demux(stream) if packet.size]
        step = sum(packet.duration for packet in packets)
        for i in range(3600):
            for packet in packets:
                packet.stream = out
                packet.pts, packet.dts = packet.pts + step * (i > 0), packet.dts + step * (i > 0)
                packet.time_base = stream.time_base
                hour.mux_one(packet)
    second.unlink()
    run = subprocess.run([sys.executable, "-c", HOUR, str(tmp_path / "hour.mp4"), str(tmp_path / "cache")],
                         capture_output=True, text=True, check=True)
    frames, before, indexed, drawn, seconds = map(float, run.stdout.split())
    print(f"GB: {before:.2f} before, {indexed:.2f} indexed in {seconds:.1f} s, {drawn:.2f} with clips drawn")
    assert frames == 108_000 and indexed < 1 and drawn < 1


def test_find_videos_goes_in_natural_order(tmp_path):
    for name in ("clip10.mp4", "clip9.mp4", "B/x.mp4", "a/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_videos(tmp_path)[0]]
    assert names == ["clip9.mp4", "clip10.mp4", "a/x.mp4", "B/x.mp4"]


def test_the_split_is_the_same_for_clips_of_any_length(tmp_path):
    """A video too short for training's clips must not move the others between the parts."""
    for i, count in enumerate((5, 25, 25, 25)):
        write(tmp_path / f"{i}.mp4", gray_frames(count))
    with pytest.warns(UserWarning, match=r"0\.mp4 has 5 frames; num_frames=10 needs that many"):
        trained = set(VideoFolder(tmp_path, num_frames=10, split="train").sample(300, seeded()).truth.paths)
    held_out = set(VideoFolder(tmp_path, num_frames=4, split="test").sample(300, seeded()).truth.paths)
    assert len(trained) == 2 and len(held_out) == 1 and not trained & held_out
