import pytest
import torch

from vdiff_lite import metrics
from vdiff_lite.data import BouncingDigits
from vdiff_lite.evaluation import loss_curve


@pytest.fixture(scope="module")
def real():
    return BouncingDigits(split="test").sample(48, torch.Generator().manual_seed(0))


def test_psnr_of_known_errors():
    a = torch.zeros(1, 1, 2, 4, 4)
    b = torch.stack([torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 2.0)], dim=2)
    torch.testing.assert_close(metrics.psnr(a, b), torch.tensor([[20.0, 0.0]]), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.psnr(a, b[:, :, :1])


def test_speed_is_the_true_speed_and_zero_when_frozen(real):
    measured, true = metrics.speed(real.video), real.positions[:, 0].diff(dim=1).norm(dim=-1)
    assert ((measured - true).abs().mean() / true.mean()) < 0.1
    assert metrics.speed(real.video[:, :, :1].repeat(1, 1, 5, 1, 1)).max() < 1e-4


def test_ink_falls_with_fading(real):
    torch.testing.assert_close(metrics.ink((real.video + 1) * 0.5 - 1), metrics.ink(real.video) / 2)


def test_digits_are_read(real):
    read = metrics.read_digits(real.video)
    assert (read == real.labels).float().mean() > 0.75, "held-out handwriting"
    assert (read[:, 0] == read[:, -1]).float().mean() > 0.93, "the same digit between other pixels"
    train = BouncingDigits().sample(48, torch.Generator().manual_seed(1))
    assert (metrics.read_digits(train.video) == train.labels).float().mean() > 0.97


def test_a_copy_is_recognised_as_one(real):
    copied, index = metrics.nearest_handwriting(BouncingDigits().sample(48, torch.Generator().manual_seed(2)).video)
    others, _ = metrics.nearest_handwriting(real.video)
    assert copied.median() < 0.5 * others.median()
    sampled = BouncingDigits().sample(48, torch.Generator().manual_seed(2)).samples[:, 0]
    assert (index == sampled).float().mean() > 0.9


def test_a_loss_curve_is_thin_and_keeps_the_mean():
    curve = loss_curve([float(i) for i in range(1000)], points=100)
    assert len(curve) == 100 and curve[0] == [10, 4.5] and curve[-1][0] == 1000
