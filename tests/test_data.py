import gzip
import math
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from vdiff_lite.data import DataError, MovingDigits, VideoFolder, clip_source, source_of_card
from vdiff_lite.data.bouncing_digits import FIRST_HELD_OUT, BouncingDigits, centroid, draw, glyphs
from vdiff_lite.data.moving_mnist import MovingMNIST, mnist_digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shapes_ranges_and_seed():
    data = BouncingDigits(num_digits=2)
    one, two = data.sample(8, seeded()), data.sample(8, seeded())
    assert one.video.shape == (8, 1, 16, 32, 32)
    assert one.truth.positions.shape == one.truth.velocities.shape == (8, 2, 16, 2)
    assert one.truth.labels.shape == one.truth.samples.shape == (8, 2)
    assert one.video.min() == -1 and 0.8 < one.video.max() <= 1
    assert torch.equal(one.video, two.video) and not torch.equal(one.video, data.sample(8, seeded(1)).video)


def test_position_is_the_centroid_of_the_pixels():
    clips = BouncingDigits(num_frames=60).sample(16, seeded())
    measured = centroid((clips.video[:, 0] + 1) / 2)
    torch.testing.assert_close(measured, clips.truth.positions[:, 0], atol=1e-4, rtol=0)


def test_velocity_is_the_change_of_position_away_from_walls():
    clips = BouncingDigits(num_frames=40).sample(64, seeded())
    moved, v = clips.truth.positions.diff(dim=2), clips.truth.velocities
    free = (v[:, :, 1:] == v[:, :, :-1]).all(-1)
    assert 0.5 < free.float().mean() < 1
    torch.testing.assert_close(moved[free], v[:, :, :-1][free], atol=1e-4, rtol=0)
    speed = v.norm(dim=-1)
    assert speed.min() >= 0.5 and speed.max() <= 1.5
    torch.testing.assert_close(speed, speed[:, :, :1].expand_as(speed))


def test_drawing_is_interpolation_by_brute_force():
    image, corner = torch.rand(1, 1, 3, 3, generator=seeded()), torch.tensor([[[[1.25, 2.5]]]])
    frame = torch.zeros(8, 8)
    for y in range(8):
        for x in range(8):
            for j in range(3):
                for i in range(3):
                    weight = max(0, 1 - abs(y - j - 1.25)) * max(0, 1 - abs(x - i - 2.5))
                    frame[y, x] += weight * image[0, 0, j, i]
    torch.testing.assert_close(draw(image, corner, 8)[0, 0, 0], frame)


def test_two_digits_show_the_brighter():
    one = draw(torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 1, 2), 1.0), 6)
    images = torch.tensor([0.5, 0.9])[None, :, None, None].expand(1, 2, 2, 2)
    both = draw(images, torch.full((1, 2, 1, 2), 1.0), 6)
    torch.testing.assert_close(both, one / 0.5 * 0.9)


def test_the_split_is_by_form():
    train, test = (BouncingDigits(split=s).sample(500, seeded()).truth.samples for s in ("train", "test"))
    assert train.max() < FIRST_HELD_OUT <= test.min() and test.max() < 1797
    assert [len(glyphs(12, s)[0]) for s in ("train", "test")] == [FIRST_HELD_OUT, 1797 - FIRST_HELD_OUT]


def test_a_box_may_be_wider_than_high():
    clips = BouncingDigits(size=(20, 40), num_frames=200, speed=(1, 2)).sample(8, seeded())
    assert clips.video.shape == (8, 1, 200, 20, 40)
    measured, glyph = centroid((clips.video[:, 0] + 1) / 2), 16
    torch.testing.assert_close(measured, clips.truth.positions[:, 0], atol=1e-4, rtol=0)
    low, high = (glyph - 1) / 2, torch.tensor([20, 40]) - 1 - (glyph - 1) / 2
    gaps = torch.cat([measured.amin((0, 1)) - low, high - measured.amax((0, 1))])
    assert gaps.min() > -1e-4 and gaps.max() < 1, "it reaches all four walls"
    assert BouncingDigits(size=32) == BouncingDigits(size=(32, 32)) == BouncingDigits(size=[32, 32])


def test_without_intensity_the_centroid_is_the_middle():
    assert centroid(torch.zeros(5, 7)).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("bad, says", [
    (dict(split="dev"), "split='dev'"), (dict(digit_size=30), "digit_size=30"),
    (dict(size=(15, 64)), "digit_size=12 does not"), (dict(size=(64, 15)), "digit_size=12 does not"),
    (dict(size=(32, 32, 1)), r"must be \(height, width\)"), (dict(size=0), r"size=\(0, 0\)|height=0"),
    (dict(size=(20, 64), speed=(0, 5)), "fastest <= 4"),
    (dict(speed=(2, 1)), r"speed=\(2, 1\)"), (dict(speed=(0, 99)), "speed"),
    (dict(num_digits=0), "num_digits=0"), (dict(num_frames=0), "num_frames=0")])
def test_bad_settings_are_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        BouncingDigits(**bad)


@pytest.fixture
def mnist(tmp_path):
    path = tmp_path / "mnist_test_seq.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 5, 64, 64), dtype=np.uint8))
    return path


def test_moving_mnist(mnist):
    data = MovingMNIST(mnist)
    assert data.sample(3, seeded()).video.shape == (3, 1, 16, 64, 64)
    whole, all_frames = MovingMNIST(mnist, num_frames=20).sample(1, seeded()).video, np.load(mnist)
    assert any(np.allclose((whole[0, 0].numpy() + 1) * 127.5, all_frames[:, i], atol=1e-3) for i in range(5))
    small = MovingMNIST(mnist, num_frames=20, size=32).sample(1, seeded()).video
    torch.testing.assert_close(small, torch.nn.functional.avg_pool3d(whole, (1, 2, 2)))


@pytest.mark.parametrize("content, says", [
    (lambda p: np.save(p, np.zeros((20, 5, 64, 64), np.float32)), "holds float32 of shape"),
    (lambda p: np.save(p, np.zeros((5, 20, 64, 64), np.uint8)), r"shape \(5, 20, 64, 64\)"),
    (lambda p: p.write_bytes(b"nothing"), "not a readable .npy"),
    (lambda p: p.write_bytes(b""), "not a readable .npy"),
    (lambda p: None, "does not exist")])
def test_a_wrong_moving_mnist_is_refused(tmp_path, content, says):
    path = tmp_path / "mnist_test_seq.npy"
    content(path)
    with pytest.raises(DataError, match=says):
        MovingMNIST(path)


def test_the_size_of_moving_mnist_is_a_pair_or_a_number(mnist):
    for size in (32, 64):
        square, number = MovingMNIST(mnist, size=(size, size)), MovingMNIST(mnist, size=size)
        assert square == number and str(square) == str(number)
        assert square.sample(1, seeded()).video.shape == (1, 1, 16, size, size)


@pytest.mark.parametrize("bad, says", [
    (dict(num_frames=21), "num_frames=21"), (dict(size=48), r"size=\(48, 48\): Moving MNIST is 64x64"),
    (dict(size=(64, 32)), r"size=\(64, 32\): Moving MNIST is 64x64")])
def test_bad_settings_of_moving_mnist_are_refused(mnist, bad, says):
    with pytest.raises(DataError, match=says):
        MovingMNIST(mnist, **bad)


def test_the_split_lies_between_two_forms():
    from sklearn.datasets import load_digits

    labels = "".join(map(str, load_digits().target))
    starts = [i for i in range(len(labels)) if labels.startswith("01234567890123456", i)]
    starts = [i for i in starts if not labels[:i].endswith("0123456789")]
    assert FIRST_HELD_OUT in starts and len(starts) == 14


def test_clips_of_moving_mnist_come_in_order(mnist):
    data, all_frames = MovingMNIST(mnist, num_frames=20), np.load(mnist)
    clips = data.clips(1, 4)
    assert len(data) == 5 and clips.shape == (3, 1, 20, 64, 64)
    for i in range(3):
        np.testing.assert_allclose((clips[i, 0].numpy() + 1) * 127.5, all_frames[:, i + 1], atol=1e-3)
    assert str(data) == f"MovingMNIST(path={str(mnist)!r}, num_frames=20, size=(64, 64))"


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory):
    """MNIST's files in small: digit i has the value i + 1 in 5 of its rows, for training 10 and to test 3."""
    folder = tmp_path_factory.mktemp("mnist")
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for name, n in (("train-images-idx3-ubyte.gz", 10), ("t10k-images-idx3-ubyte", 3)):
        images = np.zeros((n, 28, 28), np.uint8)
        images[:, 10:15] = 20 * (1 + np.arange(n, dtype=np.uint8))[:, None, None]
        content = struct.pack(">4I", 2051, n, 28, 28) + images.tobytes()
        content = gzip.compress(content) if name.endswith("gz") else content
        (folder / "MNIST" / "raw" / name).write_bytes(content)
    return folder


def test_mnists_files_are_read(idx_folder):
    train, test = (mnist_digits(str(idx_folder), split) for split in ("train", "test"))
    assert train.shape == (10, 28, 28) and test.shape == (3, 28, 28)
    torch.testing.assert_close(train[:, 12, 3] * 255, 20 * (1 + torch.arange(10.0)))
    assert train[:, 9].max() == 0 and train.max() <= 1


def test_moving_digits_go_as_those_of_moving_mnist(idx_folder):
    """One digit of each clip by brute force: steps of a tenth, held at the wall, in whole pixels."""
    data = MovingDigits(idx_folder, num_frames=60)
    video = data.sample(20, seeded()).video
    assert video.shape == (20, 1, 60, 64, 64) and torch.equal(video, data.sample(20, seeded()).video)
    generator = seeded()
    indices = torch.randint(10, (20, 2), generator=generator)
    start = torch.rand(20, 2, 2, generator=generator)
    angles = 2 * torch.pi * torch.rand(20, 2, generator=generator)
    images = mnist_digits(str(idx_folder))
    for i in range(20):
        frames = torch.zeros(60, 64, 64)
        for n in range(2):
            (y, x), angle = start[i, n].tolist(), angles[i, n].item()
            v, u = 0.1 * math.sin(angle), 0.1 * math.cos(angle)
            for f in range(60):
                y, x = y + v, x + u
                v, u = -v if not 0 < y < 1 else v, -u if not 0 < x < 1 else u
                y, x = min(1, max(0, y)), min(1, max(0, x))
                top, left = int(36 * y + 1e-5), int(36 * x + 1e-5)
                box = frames[f, top:top + 28, left:left + 28]
                torch.maximum(box, images[indices[i, n]], out=box)
        same = ((video[i, 0] + 1) / 2 - frames).abs().amax((1, 2)) < 1e-4
        assert same.float().mean() > 0.9  # a position that is almost whole may be rounded either way


def test_moving_digits_without_mnist_are_those_of_scikit_learn():
    train, test = (MovingDigits(split=split).sample(4, seeded()).video for split in ("train", "test"))
    assert train.shape == (4, 1, 20, 64, 64) and not torch.equal(train, test)
    assert train.min() == -1 and train.max() > 0.8
    assert MovingDigits(size=96).with_frames(3).sample(1, seeded()).video.shape == (1, 1, 3, 96, 96)


@pytest.mark.parametrize("content, says", [
    (struct.pack(">4I", 2049, 1, 28, 28) + bytes(784), "magic number 2049"),
    (struct.pack(">4I", 2051, 2, 28, 28) + bytes(1000), "cannot reshape"), (b"", "is not an idx file"),
    (struct.pack(">4I", 2051, 1, 14, 14) + bytes(196), r"shape \(1, 14, 14\)"),
    (None, "holds no train-images")])
def test_damaged_idx_files_are_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=says):
        MovingDigits(tmp_path)


@pytest.mark.parametrize("bad, says", [
    (dict(size=(64, 27)), "width=27"), (dict(num_frames=0), "num_frames=0"),
    (dict(split="dev"), "split='dev'")])
def test_bad_settings_of_moving_digits_are_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        MovingDigits(**bad)


def test_data_by_a_text(mnist, idx_folder, tmp_path):
    assert clip_source("digits") == BouncingDigits() and clip_source("digits", split="test").split == "test"
    two = BouncingDigits(num_digits=2, size=64, digit_size=24, speed=(1, 3))  # what digits64x2 was trained on
    assert clip_source("digits2", "64x64") == two
    assert clip_source("digits", (48, 64), num_frames=9) == BouncingDigits(
        num_frames=9, size=(48, 64), digit_size=18, speed=(0.75, 2.25))
    assert clip_source("moving-mnist", 64) == MovingDigits()
    for split in ("train", "test"):
        digits = MovingDigits(idx_folder, split=split)
        assert clip_source(f"moving-mnist:{idx_folder}", 64, 1, split) == digits
    for path in (mnist, mnist.parent):
        assert clip_source(f"moving-mnist:{path}", 64, split="test") == MovingMNIST(mnist)
    assert clip_source("rooms", 64, 3).size == (64, 64)
    Image.new("RGB", (64, 48)).save(tmp_path / "0.png")
    videos = clip_source(f"videos:{tmp_path}", "24x32", 3, "train", num_frames=1, cache=tmp_path)
    assert (videos.size, videos.channels, videos.split) == ((24, 32), 3, "train")
    assert videos.sample(1).video.shape == (1, 3, 1, 24, 32)


def test_training_on_the_published_test_set_is_an_error(mnist):
    with pytest.raises(DataError, match="is the published test set, and training on it would spoil"):
        clip_source(f"moving-mnist:{mnist}", 64)
    assert len(clip_source(f"moving-mnist:{mnist}", 64, split="test")) == 5


OWN = """
from dataclasses import dataclass
import torch
from vdiff_lite import Batch

@dataclass
class Stripes:
    size: tuple
    channels: int
    num_frames: int = 16
    def sample(self, batch, generator=None):
        return Batch(torch.zeros(batch, self.channels, self.num_frames, *self.size))
    def with_frames(self, num_frames):
        return Stripes(self.size, self.channels, num_frames)

fixed = Stripes((32, 32), 1)
def made(size, channels, split):
    return Stripes(size, channels)
"""


def test_own_data_by_file_and_name(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    text = f"{tmp_path / 'mine.py'}:made"
    source = clip_source(text, (16, 24), 3)
    assert source.with_frames(5).sample(2).video.shape == (2, 3, 5, 16, 24) and str(source) == text
    assert str(source_of_card(str(source.with_frames(3)), (16, 24), 3, split="test")) == text
    assert clip_source(f"{tmp_path / 'mine.py'}:fixed").sample(1).video.shape == (1, 1, 16, 32, 32)
    with pytest.raises(DataError, match=r"fixed gives one frame as \(1, 1, 1, 32, 32\); size=\(64, 64\)"):
        clip_source(f"{tmp_path / 'mine.py'}:fixed", 64)
    with pytest.raises(ValueError, match="defines no other"):
        clip_source(f"{tmp_path / 'mine.py'}:other")
    with pytest.raises(ValueError, match="is no file"):
        clip_source(f"{tmp_path / 'yours.py'}:made")


@pytest.mark.parametrize("text, settings, says", [
    ("digit", {}, "data='digit' is unknown; give digits, digits2, rooms"),
    ("videos:", {}, "data='videos:' is"), ("digits:4", {}, "data='digits:4'"),
    ("digits", dict(channels=3), "channels=3 does not fit digits; choose 1"),
    ("digits", dict(fps=8), "fps=8 is no setting of digits; choose from num_digits"),
    ("rooms", dict(channels=1), "choose 3"), ("digits", dict(size="64x"), "size='64x' must be HxW"),
    ("digits", dict(size="4x5x6"), r"size=\(4, 5, 6\)"), ("videos:nowhere", {}, "nowhere is not a folder"),
    ("moving-mnist:nowhere", {}, "nowhere holds no train-images"),
    ("moving-mnist:nowhere", dict(split="test"), "nowhere does not exist")])
def test_a_text_that_is_no_data_is_refused(text, settings, says):
    with pytest.raises(ValueError, match=says):
        clip_source(text, **dict(size=64) | settings)


def test_a_card_names_its_data(mnist, tmp_path):
    Image.new("L", (64, 48)).save(tmp_path / "0.png")
    for source in (BouncingDigits(num_digits=2, size=(20, 40)), MovingMNIST(mnist), MovingDigits(size=96)):
        assert source_of_card(str(source)) == source
        assert source_of_card(str(source), num_frames=4).num_frames == 4
    videos = VideoFolder(tmp_path, num_frames=1, size=(24, 32), channels=3, fps=5, cache=tmp_path)
    again = source_of_card(str(videos), num_frames=1, cache=tmp_path)
    assert str(again) == str(videos) and torch.equal(again.clip(0), videos.clip(0))
    old = source_of_card(f"VideoFolder({str(tmp_path)!r}, size=(32, 32), channels=1, clips=1)", num_frames=1)
    assert old.size == (32, 32) and old.split == "all"
    assert source_of_card("BouncingDigits(num_digits=1)", split="test") == BouncingDigits(split="test")
    for data in ("Flowers(size=3)", "", "something else", "BouncingDigits(size=x)"):
        with pytest.raises(ValueError, match="the card's data="):
            source_of_card(data)
