"""The measures of published Moving MNIST tables, against brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from vdiff_lite.data import BouncingDigits, MovingDigits
from vdiff_lite.evaluation import video_metrics
from vdiff_lite.evaluation.video_metrics import one_and_mean, published_scores


def pair(clips=3, noise=0.3):
    generator = torch.Generator().manual_seed(0)
    truth = MovingDigits(num_frames=4).sample(clips, generator).video
    return truth + noise * torch.randn(truth.shape, generator=generator), truth


def by_hand(clip, truth):
    """Frame by frame in numpy, with scipy's filter in place of scikit-image."""
    x, y = ((z.double().numpy() + 1) / 2 for z in (clip, truth))
    rows = []
    for made, true in zip(x[:, 0], y[:, 0]):
        rows.append([])
        for a, b in zip(made, true):
            mse, mae = ((a - b) ** 2).sum(), np.abs(a - b).sum()
            a, b = a.clip(0, 1), b.clip(0, 1)
            mean = lambda z: uniform_filter(z, 7)
            va, vb = (49 / 48 * (mean(z * z) - mean(z) ** 2) for z in (a, b))
            cov = 49 / 48 * (mean(a * b) - mean(a) * mean(b))
            c1, c2 = 0.02**2, 0.06**2
            local = ((2 * mean(a) * mean(b) + c1) * (2 * cov + c2)
                     / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (va + vb + c2)))
            rows[-1].append((mse, mae, local[3:-3, 3:-3].mean(), 10 * math.log10(1 / ((a - b) ** 2).mean())))
    return np.array(rows).mean(1)


def test_the_published_measures_by_brute_force():
    clip, truth = pair()
    scores = published_scores(clip, truth)
    assert list(scores) == ["mse", "mae", "ssim", "psnr"]
    np.testing.assert_allclose(torch.stack(list(scores.values()), 1), by_hand(clip, truth), rtol=1e-6)


def test_errors_are_summed_over_pixels_from_0_to_1():
    truth = torch.full((1, 1, 2, 64, 64), -1.0)
    clip = truth.clone()
    clip[:, :, 0, 0, :10] = 1.0  # ten pixels of one of two frames
    scores = published_scores(clip, truth)
    assert scores["mse"].item() == scores["mae"].item() == 5
    assert scores["psnr"].item() == math.inf and published_scores(truth, truth)["ssim"].item() == 1
    with pytest.raises(ValueError, match="differ in shape"):
        published_scores(clip, truth[:, :, :1])


def test_the_published_data_range_is_milder_than_the_right_one():
    """A blur by 5x5: .93 as published, .91 with the data range of 1 that pixels from 0 to 1 have."""
    truth = (pair()[1] + 1) / 2
    blur = torch.nn.functional.avg_pool3d(truth, (1, 5, 5), 1, (0, 2, 2))
    scores = [video_metrics._published_ssim(blur, truth, data_range) for data_range in (1.0, 2.0)]
    assert scores[1].mean() > scores[0].mean() + 0.01


def test_a_blur_wins_by_squared_error():
    """Four futures that are equally likely: their mean is closer to one of them than any other is."""
    futures = BouncingDigits(num_frames=5).sample(40, torch.Generator().manual_seed(0)).video
    samples, truth = futures[:32].reshape(8, 4, 1, 5, 32, 32), futures[32:36]
    scores = one_and_mean(samples, truth)
    assert list(scores) == ["one sample", "mean of 8"]
    assert scores["mean of 8"]["mse"] < 0.75 * scores["one sample"]["mse"]
    expected = published_scores(samples[0], truth)["mae"].mean().item()
    assert scores["one sample"]["mae"] == pytest.approx(expected)
