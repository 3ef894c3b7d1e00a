import pytest
import torch
from broken import after, fading, other_digit

from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.training.run import loss_curve


@pytest.fixture(scope="module")
def real():
    return BouncingDigits(split="test").sample(48, torch.Generator().manual_seed(0))


def test_psnr_of_known_errors():
    a = torch.zeros(1, 1, 2, 4, 4)
    b = torch.stack([torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 2.0)], dim=2)
    torch.testing.assert_close(video_metrics.psnr(a, b), torch.tensor([[20.0, 0.0]]), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="differ in shape"):
        video_metrics.psnr(a, b[:, :, :1])


def test_speed_is_the_true_speed_and_zero_when_frozen(real):
    measured, true = digit_metrics.speed(real.video), real.truth.positions[:, 0].diff(dim=1).norm(dim=-1)
    assert ((measured - true).abs().mean() / true.mean()) < 0.1
    assert digit_metrics.speed(real.video[:, :, :1].repeat(1, 1, 5, 1, 1)).max() < 1e-4


def test_intensity_falls_with_fading(real):
    faded = digit_metrics.intensity((real.video + 1) * 0.5 - 1)
    torch.testing.assert_close(faded, digit_metrics.intensity(real.video) / 2)


def test_saturation_counts_what_clamping_hides(real):
    assert video_metrics.saturation(real.video).max() == 0
    guided = -1 + 1.5 * (real.video + 1)  # extrapolated: full intensity lies at 2
    fraction = (real.video > 0.4).float().mean((1, 3, 4))  # the pixels that land beyond 1.1
    torch.testing.assert_close(video_metrics.saturation(guided), fraction)
    assert video_metrics.saturation(guided.clamp(-1, 1)).max() == 0 and fraction.min() > 0


def test_digits_are_read(real):
    read = digit_metrics.read_digits(real.video)
    assert (read == real.truth.labels).float().mean() > 0.75, "held-out glyph samples"
    assert (read[:, 0] == read[:, -1]).float().mean() > 0.93, "the same digit between other pixels"
    train = BouncingDigits().sample(48, torch.Generator().manual_seed(1))
    assert (digit_metrics.read_digits(train.video) == train.truth.labels).float().mean() > 0.97
    torch.testing.assert_close(digit_metrics.same_digit(real.video), read[:, 0] == read[:, -1])
    # Another clip's digit at the end.
    mixed = torch.cat([train.video[:, :, :1], train.video.roll(1, 0)[:, :, :1]], dim=2)
    same = (train.truth.labels == train.truth.labels.roll(1, 0)).squeeze()
    assert (digit_metrics.same_digit(mixed) == same).float().mean() > 0.9


def test_a_shape_is_consistent_unless_it_changes_on_the_way(real, long):
    assert digit_metrics.shape_consistency(real.video).float().mean() > 0.95
    assert digit_metrics.shape_consistency(broken(long)["identity"]).float().mean() < 0.1
    with pytest.raises(ValueError, match="two or more"):
        digit_metrics.shape_consistency(real.video[:1])


def test_a_copy_is_found_out(real):
    train = BouncingDigits().sample(48, torch.Generator().manual_seed(2))
    copied, index = digit_metrics.nearest_glyph(train.video)
    others, _ = digit_metrics.nearest_glyph(real.video)
    assert copied.median() < 0.5 * others.median()
    assert (index == train.truth.samples[:, 0]).float().mean() > 0.9


def test_a_loss_curve_is_thin_and_keeps_the_mean():
    curve = loss_curve([float(i) for i in range(1000)], points=100)
    assert len(curve) == 100 and curve[0] == [10, 4.5] and curve[-1][0] == 1000


NUM_CONTEXT, FRAMES, JOINS = 5, 93, range(16, 93, 11)


@pytest.fixture(scope="module")
def long():
    return BouncingDigits(split="test", num_frames=FRAMES).sample(32, torch.Generator().manual_seed(3)).video


def broken(long):
    """Clips broken on purpose at frame 49, which is a join, and the check that is meant for each."""
    return {
        "motion": after(49, long, long[:, :, 48:49].expand_as(long)),  # frozen
        "jump": after(49, long, long.flip(-1).flip(-2)),  # teleported to the opposite corner
        "intensity": fading(49, long),
        "identity": after(49, long, other_digit(long)),  # another digit on the same path
    }


def test_real_clips_are_perfect(long):
    failed = digit_metrics.failures(long, long, NUM_CONTEXT)
    frames, reasons = digit_metrics.time_to_first_failure(failed, NUM_CONTEXT)
    assert (frames == FRAMES - NUM_CONTEXT).float().mean() > 0.9, reasons
    assert (~torch.stack(list(failed.values())).any(0)).float().mean() > 0.98
    torch.testing.assert_close(digit_metrics.motion(long, long), torch.ones(32))
    torch.testing.assert_close(video_metrics.boundary_discontinuity(long, JOINS, long), torch.ones(32))
    assert digit_metrics.identity(long, long).float().mean() > 0.97


@pytest.mark.parametrize("fault", ["motion", "jump", "intensity", "identity"])
def test_a_broken_clip_is_caught_by_the_check_meant_for_it(long, fault):
    failed = digit_metrics.failures(broken(long)[fault], long, NUM_CONTEXT)
    frames, reasons = digit_metrics.time_to_first_failure(failed, NUM_CONTEXT)
    of_real = digit_metrics.failures(long, long, NUM_CONTEXT)
    real_frames, _ = digit_metrics.time_to_first_failure(of_real, NUM_CONTEXT)
    digit = digit_metrics.read_digits(long).mode(1).values
    different = digit != digit.roll(1) if fault == "identity" else torch.ones(32, dtype=torch.bool)
    meant = (real_frames == FRAMES - NUM_CONTEXT) & different
    caught = [reason == fault for reason, m in zip(reasons, meant) if m]
    assert sum(caught) >= 0.85 * len(caught), reasons
    assert (frames[meant] >= 40).float().mean() > 0.9, "not before the fault"


@pytest.mark.parametrize("digits", ["none", "two"])
def test_a_digit_that_vanishes_or_is_doubled_is_caught_by_its_intensity(long, digits):
    other = -torch.ones_like(long) if digits == "none" else torch.maximum(long, long.roll(1, 0).flip(-1))
    failed = digit_metrics.failures(after(49, long, other), long, NUM_CONTEXT)
    frames, reasons = digit_metrics.time_to_first_failure(failed, NUM_CONTEXT)
    assert failed["intensity"][:, 53:].float().mean() > 0.9, "intensity fails from there on"
    assert ((frames >= 40) & (frames <= 47)).float().mean() > 0.9, (frames, reasons)


def test_one_odd_frame_does_not_fail_the_last_one(long):
    odd = torch.cat([long[:, :, :-1], -torch.ones_like(long[:, :, -1:])], dim=2)
    failed, before = (digit_metrics.failures(clip, long, NUM_CONTEXT) for clip in (odd, long))
    assert torch.equal(failed["intensity"], before["intensity"])
    assert (failed["identity"] != before["identity"]).any(1).sum() <= 1, "but where the reading was close"
    assert digit_metrics.identity(long[:, :, :3], long[:, :, :3]).all(), "a clip shorter than the span"


def test_measures_of_broken_clips(long):
    clips = broken(long)
    assert digit_metrics.motion(clips["motion"], long).mean() < 0.65
    assert video_metrics.boundary_discontinuity(clips["jump"], [49], long).median() > 1.8
    faded, full = (digit_metrics.intensity(clip)[:, -1].mean() for clip in (clips["intensity"], long))
    assert faded < 0.4 * full
    assert digit_metrics.identity(clips["identity"], long)[:, 60:].float().mean() < 0.4


def test_boundary_discontinuity_wants_a_join():
    with pytest.raises(ValueError, match="joins="):
        video_metrics.boundary_discontinuity(torch.zeros(1, 1, 4, 8, 8), [])


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    draws = torch.randn(60, 40, generator=torch.Generator().manual_seed(0)) + 3
    hits = [low < 3 < high for _, low, high in (video_metrics.bootstrap(d, draws=300) for d in draws)]
    assert 0.82 <= sum(hits) / len(hits) <= 1.0
    assert video_metrics.bootstrap([2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_ssim_is_one_for_equal_frames_and_falls_with_noise():
    clip = BouncingDigits(num_frames=6).sample(3, torch.Generator().manual_seed(0)).video
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    scores = [video_metrics.ssim(clip + level * noise, clip) for level in (0.0, 0.05, 0.3)]
    assert scores[0].shape == (3, 6)
    torch.testing.assert_close(scores[0], torch.ones(3, 6))
    assert (scores[0] > scores[1]).all() and (scores[1] > scores[2]).all()
