"""The Frechet distance: its formula, the network behind it, and whether it sees what is wrong with clips that were broken on purpose."""

import pytest
import torch
import torch.nn.functional as F
from broken import after, fading, other_digit

from vdiff_lite import checkpoint, features
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.evaluation.feature_net import clip_features, frechet, real_clip_features

CLIPS = 128


@pytest.fixture(scope="module")
def real():
    return BouncingDigits(split="test").sample(CLIPS, torch.Generator().manual_seed(1))


def test_the_distance_of_known_gaussians():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 2, generator=g) @ torch.diag(torch.tensor([1.0, 3.0]))
    b = torch.randn(200_000, 2, generator=g) @ torch.diag(torch.tensor([2.0, 1.0])) + torch.tensor([1.0, -2.0])
    assert frechet(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 1) ** 2, rel=0.02)  # commuting covariances: squared differences
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_the_distance_of_turned_gaussians_is_that_of_scipy():
    from scipy.linalg import sqrtm

    g = torch.Generator().manual_seed(2)
    a, b = (torch.randn(500, 5, generator=g).double() @ torch.randn(5, 5, generator=g).double() for _ in range(2))
    ca, cb = (torch.cov(x.T) for x in (a, b))
    cross = torch.from_numpy(sqrtm((ca @ cb).numpy()).real)
    assert frechet(a, b) == pytest.approx(((a.mean(0) - b.mean(0)) ** 2).sum().item() + (ca + cb - 2 * cross).trace().item(), rel=1e-6)


@pytest.mark.parametrize("a, b", [((4, 3), (4, 2)), ((1, 3), (4, 3)), ((4, 3, 1), (4, 3))])
def test_features_that_do_not_go_together_are_refused(a, b):
    with pytest.raises(ValueError, match="shapes"):
        frechet(torch.zeros(a), torch.zeros(b))


def test_clips_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 16, 64, 64\)"):
        clip_features(torch.zeros(2, 1, 16, 64, 64))


def test_the_network_reads_handwriting_that_it_has_not_seen(real):
    digit, place, velocity = features.load_features().read(real.video)
    assert (digit.mean(1).argmax(-1) == real.truth.labels[:, 0]).float().mean() > 0.9
    assert (place - real.truth.positions[:, 0]).norm(dim=-1).mean() < 0.5, "pixels"
    assert (velocity - real.truth.velocities[:, 0]).norm(dim=-1).mean() < 0.25, "pixels a frame"


def test_its_numbers_are_usual_for_real_clips_and_count_frames_of_any_number(real):
    usual = clip_features(BouncingDigits().sample(512, torch.Generator().manual_seed(3)).video)
    told = usual.std(0) > 0
    assert usual.mean().abs() < 0.1 and (usual.std(0)[told] - 1).abs().mean() < 0.15 and told.float().mean() > 0.5
    assert clip_features(real.video[:2, :, :1]).isfinite().all() and clip_features(real.video[:2, :, :7]).shape == usual[:2].shape


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
    assert frechet(clip_features(real.video.flip(2)), real_clip_features()) < 1.2 * near, "a film run backwards is as real"


def test_a_few_steps_teach_where_the_digit_is():
    data = BouncingDigits().sample(64, torch.Generator().manual_seed(9))
    torch.manual_seed(0)
    born, taught = (features.label_loss(net, data) for net in (features.ClipFeatures(), features.train_features(25, 8, bar=False)))
    assert taught[1] < 0.3 * born[1] and sum(taught) < sum(born)


def test_a_damaged_network_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VDIFF_CHECKPOINTS", str(tmp_path))
    path = features.save_features(tmp_path / "features" / "x", features.ClipFeatures())
    assert features.load_features("x").usual.shape == (64,)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    features.load_features.cache_clear()
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        features.load_features("x")
    features.load_features.cache_clear()
