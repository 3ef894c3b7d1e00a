"""Two digits that cross: the measures pass true clips, and fail clips that were broken on purpose."""

import json

import pytest
import torch
import torch.nn.functional as F

from vdiff_lite import checkpoint
from vdiff_lite.cli import main
from vdiff_lite.data.bouncing_digits import BouncingDigits, DigitTruth, draw, glyphs
from vdiff_lite.evaluation import two_digits
from vdiff_lite.evaluation.evaluate import held_out, report

NUM_CONTEXT, CLIPS = 5, 12
DATA = BouncingDigits(num_digits=2, size=64, speed=(1, 3), digit_size=24, split="test")
IMAGES, LABELS = (torch.cat(parts) for parts in zip(glyphs(24, "train"), glyphs(24, "test")))


@pytest.fixture(scope="module")
def real():
    """Held-out clips in which the digits meet and part: the clips, the truth, the frames after that."""
    batch = DATA.sample(12 * CLIPS, torch.Generator().manual_seed(0))
    _, after = two_digits.clear_frames(batch.truth, 64, NUM_CONTEXT)
    chosen = after.any(1).nonzero()[:CLIPS, 0]
    truth = DigitTruth(**{name: value[chosen] for name, value in vars(batch.truth).items()})
    assert len(chosen) == CLIPS
    return batch.video[chosen], truth, after[chosen]


def drawn(samples, positions):
    """Clips of these glyph samples at these positions."""
    return 2 * draw(IMAGES[samples], positions - (IMAGES.shape[-1] - 1) / 2, 64) - 1


def from_frame(start, clip, other):
    """A clip that goes on as another one from a frame on, which may differ from clip to clip."""
    late = torch.arange(clip.shape[2]) >= torch.as_tensor(start).view(-1, 1)
    return torch.where(late[:, None, :, None, None], other, clip)


def other_digit(truth):
    """For the first digit of each clip a held-out sample of a digit that is not in it; the second stays."""
    held_out = 1545 + torch.randperm(252, generator=torch.Generator().manual_seed(3))
    firsts = [next(s for s in held_out.roll(20 * i) if LABELS[s] not in pair)
              for i, pair in enumerate(truth.labels)]
    return torch.stack([torch.stack(firsts), truth.samples[:, 1]], dim=1)


def rates(clip, truth):
    scores = two_digits.score_two_digits(clip, truth, NUM_CONTEXT)
    assert scores["clear"].all() and scores["crosses"].all()
    return [scores[name].float().mean().item() for name in ("identity", "crossing", "swapped")]


def test_true_clips_pass(real):
    clip, truth, _ = real
    assert rates(clip, truth) == [1, 1, 0]


def test_true_clips_are_clear_and_cross_often_enough():
    truth = DATA.sample(200, torch.Generator().manual_seed(1)).truth
    clear, after = two_digits.clear_frames(truth, 64, NUM_CONTEXT)
    assert clear.any(1).float().mean() > 0.95 and 0.2 < after.any(1).float().mean() < 0.3
    assert not clear[:, :NUM_CONTEXT].any() and not (after & ~clear).any()


def test_digits_are_found_where_they_are(real):
    _, truth, after = real
    moved = truth.positions + torch.tensor([3.0, -2.0])
    positions, errors = two_digits.find_digits(drawn(truth.samples, moved), truth, where=after)
    rows = after[:, None].expand_as(errors)
    right = (positions - moved).norm(dim=-1)[rows] < 0.1
    assert right.float().mean() > 0.97 and errors[rows][right].max() < 0.02


@pytest.mark.parametrize("fault", ["noise", "blur", "dim", "shift"])
def test_clips_of_lesser_quality_pass(real, fault):
    clip, truth, _ = real
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(2))
    worse = dict(noise=clip + 0.2 * noise, dim=0.8 * (clip + 1) - 1,
                 blur=F.avg_pool3d(F.pad(clip, (1, 1, 1, 1), value=-1), (1, 3, 3), 1),
                 shift=drawn(truth.samples, truth.positions + torch.tensor([2.5, -1.5])))
    identity, crossing, swapped = rates(worse[fault], truth)
    assert identity > 0.9 and crossing > 0.9 and swapped == 0


@pytest.mark.parametrize("fault", ["swapped", "replaced", "vanished", "frozen", "dimmed"])
def test_broken_clips_fail(real, fault):
    clip, truth, after = real
    parted, samples, positions = after.int().argmax(1), truth.samples, truth.positions
    start, other = dict(swapped=(parted, drawn(samples, positions.flip(1))),
                        replaced=(NUM_CONTEXT, drawn(other_digit(truth), positions)),
                        vanished=(NUM_CONTEXT, drawn(samples[:, 1:], positions[:, 1:])),
                        frozen=(NUM_CONTEXT, clip[:, :, [NUM_CONTEXT - 1]].expand_as(clip)),
                        dimmed=(NUM_CONTEXT, 0.3 * (clip + 1) - 1))[fault]
    identity, crossing, swapped = rates(from_frame(start, clip, other), truth)
    assert identity < 0.1 and crossing < 0.1
    assert swapped > 0.9 if fault == "swapped" else swapped < 0.5


def test_paths_are_assigned_by_the_least_total_distance():
    positions = torch.tensor([[0.0, 0.0], [0.0, 10.0]]).view(1, 2, 1, 2)
    truth = DigitTruth(positions, *[torch.zeros(1, 2)] * 3)
    stays, passes = positions + torch.tensor([0.0, 4.0]), positions.flip(1) + torch.tensor([0.0, -4.0])
    assert two_digits.tracks(stays, truth).flatten().tolist() == [0, 1]
    assert two_digits.tracks(passes, truth).flatten().tolist() == [1, 0]


def test_evaluate_takes_the_digits_of_the_card():
    class Trained:
        card, sample_shape = checkpoint.read_card("digits64x2"), (1, 64, 64)

    assert held_out(Trained) == DATA
    Trained.card, Trained.sample_shape = checkpoint.read_card("digits32"), (1, 32, 32)
    assert held_out(Trained) == BouncingDigits(split="test")
    Trained.card = {}
    assert held_out(Trained) == BouncingDigits(split="test")
    Trained.card = dict(data="VideoFolder('nowhere', size=(32, 32), channels=1, clips=3)")
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        held_out(Trained)


def test_evaluate_prints_what_became_of_two_digits(tmp_path, capsys):
    command = ["evaluate", "--checkpoint", "digits64x2", "--clips", "2", "--steps", "1"]
    assert main([*command, "--out", str(tmp_path / "x.json")]) == 0
    printed, result = capsys.readouterr().out, json.loads((tmp_path / "x.json").read_text())
    assert printed == report(result) + "\n"
    assert all(f"\n{name} " in printed for name in ("identity", "crossing", "swapped", "intensity"))
    assert "clips from noise: left out" in printed and "from_noise" not in result
    scores = result["two_digits"]
    assert scores["true clips"]["identity"] == scores["true clips"]["clear"] == 2
    assert scores["copy the last frame"]["identity"] == 0 and scores["true clips"]["intensity"] == 1
    for row in scores.values():  # a table without a crossing has no fractions of one
        row.update(crosses=0, crossing=0, swapped=0)
    assert "\ncrossing   " in report(result) and "nan" not in report(result)
