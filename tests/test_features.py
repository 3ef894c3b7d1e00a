"""The Frechet distance: its formula, the network behind it, and whether it sees what is wrong."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from broken import after, fading, other_digit

from vdiff_lite import checkpoint
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.evaluation.feature_net import (
    ClipFeatures,
    clip_features,
    frechet,
    load_features,
    real_clip_features,
)

CLIPS = 128
TOOL = Path(__file__).parents[1] / "book" / "_tools" / "features.py"


@pytest.fixture(scope="module")
def tool():
    """book/_tools/features.py, which trained the network."""
    spec = importlib.util.spec_from_file_location("features_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def real():
    return BouncingDigits(split="test").sample(CLIPS, torch.Generator().manual_seed(1))


def test_the_distance_of_known_gaussians():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 2, generator=g) @ torch.diag(torch.tensor([1.0, 3.0]))
    b = torch.randn(200_000, 2, generator=g) @ torch.diag(torch.tensor([2.0, 1.0]))
    b = b + torch.tensor([1.0, -2.0])
    # Covariances that commute: squared differences of the means and of the deviations.
    assert frechet(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 1) ** 2, rel=0.02)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_the_distance_of_rotated_gaussians_is_that_of_scipy():
    from scipy.linalg import sqrtm

    g = torch.Generator().manual_seed(2)
    normal = lambda n: torch.randn(n, 5, generator=g).double()
    a, b = (normal(500) @ normal(5) for _ in range(2))
    ca, cb = (torch.cov(x.T) for x in (a, b))
    cross = torch.from_numpy(sqrtm((ca @ cb).numpy()).real)
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum() + (ca + cb - 2 * cross).trace()
    assert frechet(a, b) == pytest.approx(apart.item(), rel=1e-6)


@pytest.mark.parametrize("a, b", [((4, 3), (4, 2)), ((1, 3), (4, 3)), ((4, 3, 1), (4, 3))])
def test_features_that_do_not_go_together_are_refused(a, b):
    with pytest.raises(ValueError, match="shapes"):
        frechet(torch.zeros(a), torch.zeros(b))


def test_clips_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 16, 64, 64\)"):
        clip_features(torch.zeros(2, 1, 16, 64, 64))


def test_the_network_reads_glyph_samples_that_it_has_not_seen(real):
    digit, position, velocity = load_features().read(real.video)
    assert (digit.mean(1).argmax(-1) == real.truth.labels[:, 0]).float().mean() > 0.9
    assert (position - real.truth.positions[:, 0]).norm(dim=-1).mean() < 0.5, "pixels"
    assert (velocity - real.truth.velocities[:, 0]).norm(dim=-1).mean() < 0.25, "pixels a frame"


def test_features_are_normalized_over_real_clips_and_defined_for_any_number_of_frames(real):
    features = clip_features(BouncingDigits().sample(512, torch.Generator().manual_seed(3)).video)
    varies = features.std(0) > 0
    assert features.mean().abs() < 0.1 and varies.float().mean() > 0.5
    assert (features.std(0)[varies] - 1).abs().mean() < 0.15
    assert clip_features(real.video[:2, :, :1]).isfinite().all()
    assert clip_features(real.video[:2, :, :7]).shape == (2, 64)


def broken(clip):
    return {
        "frozen": after(5, clip, clip[:, :, 4:5].expand_as(clip)),
        "another clip": after(5, clip, clip.roll(1, 0)),
        "teleported": after(5, clip, clip.flip(-1).flip(-2)),
        "another digit": after(5, clip, other_digit(clip)),
        "fading": fading(5, clip),
        "doubled": torch.maximum(clip, clip.roll(1, 0)),
        "blurred": F.avg_pool2d(clip.flatten(1, 2), 3, 1, 1, count_include_pad=False).unflatten(1, (1, -1)),
        "shuffled": clip[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(4))],
    }


def test_real_clips_are_near_and_broken_ones_are_not(real):
    near = frechet(clip_features(real.video), real_clip_features())
    for name, clip in broken(real.video).items():
        assert frechet(clip_features(clip), real_clip_features()) > 1.5 * near, name
    backwards = frechet(clip_features(real.video.flip(2)), real_clip_features())
    assert backwards < 1.2 * near, "a film run backwards is as real"


def test_a_few_steps_teach_where_the_digit_is(tool):
    batch = BouncingDigits().sample(64, torch.Generator().manual_seed(9))
    torch.manual_seed(0)
    before, after = (tool.label_losses(net, batch) for net in (ClipFeatures(), tool.train(25, 8, bar=False)))
    assert after[1] < 0.3 * before[1] and sum(after) < sum(before)


def test_calibrated_features_have_mean_0_and_deviation_1(tool, real):
    torch.manual_seed(0)
    net = ClipFeatures().requires_grad_(False)
    tool.calibrate(net, real.video)
    features = net(real.video)
    torch.testing.assert_close(features.mean(0), torch.zeros(64), atol=1e-3, rtol=0)
    deviation = features.std(0)[net.scale > 0]
    torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=1e-3, rtol=0)


def test_a_damaged_network_is_refused(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("VDIFF_CHECKPOINTS", str(tmp_path))
    path = tool.save(tmp_path / "features" / "x", ClipFeatures())
    assert load_features("x").mean.shape == (64,)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    load_features.cache_clear()
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        load_features("x")
    load_features.cache_clear()
