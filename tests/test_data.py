import numpy as np
import pytest
import torch

from vdiff_lite.data import DataError
from vdiff_lite.data.bouncing_digits import FIRST_HELD_OUT, BouncingDigits, centroid, draw, glyphs
from vdiff_lite.data.moving_mnist import MovingMNIST


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
