from functools import partial

import pytest
import torch
from conftest import gaussian_denoiser

from vdiff_lite.methods import history_cfg, independent
from vdiff_lite.rollout import rollout
from vdiff_lite.samplers import ddim, ddpm, finish
from vdiff_lite.schedule import NoiseSchedule


def clip(f, seed=0, b=1):
    return torch.randn(b, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


class Recorder:
    """A denoiser that remembers what it was asked."""

    def __init__(self):
        self.schedule, self.asked = NoiseSchedule(), []

    def __call__(self, xt, t):
        self.asked.append((xt, t))
        return xt * 0.5


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("sampler", [partial(ddim, steps=3), partial(ddpm, steps=3)])
def test_the_overlap_is_exact(small_denoiser, weight, sampler):
    past = clip(2)
    made = finish(sampler(history_cfg(small_denoiser, past, weight), clip(5, 1), small_denoiser.schedule,
                          generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(made[:, :, :2], past, rtol=1e-5, atol=1e-5)


def test_weight_one_asks_once_with_a_clean_past():
    ask, past = Recorder(), clip(2)
    history_cfg(ask, past, 1.0)(clip(5, 1), torch.tensor([700]))
    [(xt, t)] = ask.asked
    assert torch.equal(xt[:, :, :2], past) and t.tolist() == [[0, 0, 700, 700, 700]]


def test_both_branches_run_in_one_pass_and_the_forgotten_one_knows_nothing():
    ask, past, xt = Recorder(), clip(2), clip(5, 1)
    level = torch.tensor([700])
    noisy = ask.schedule.add_noise(torch.cat([past, xt[:, :, 2:]], 2), level, clip(5, 2))
    history_cfg(ask, past, 2.0)(noisy, level)
    [(x, t)] = ask.asked
    assert t.tolist() == [[0, 0, 700, 700, 700], [1000, 1000, 700, 700, 700]]
    torch.testing.assert_close(x[1:, :, :2], clip(5, 2)[:, :, :2], rtol=1e-3, atol=1e-3)


def test_weights_are_on_a_line(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    with torch.no_grad():
        u, c, w = (history_cfg(small_denoiser, past, weight)(xt, t) for weight in (0.0, 1.0, 3.0))
    torch.testing.assert_close(w, u + 3 * (c - u), rtol=1e-3, atol=1e-3)
    assert (c - u)[:, :, 2:].abs().max() > 1e-3


def test_independent_changes_nothing():
    ask = Recorder()
    assert independent(ask, clip(2)) is ask


def test_bad_settings_of_guidance():
    with pytest.raises(ValueError, match="weight=nan"):
        history_cfg(Recorder(), clip(2), float("nan"))
    with pytest.raises(ValueError, match="past has 5 frames and leaves no new frames in a window of 5"):
        history_cfg(Recorder(), clip(5))(clip(5), torch.tensor([3]))


def frames_of(denoiser, past, n, **options):
    options = dict(window=6, overlap=2, sampler=partial(ddim, steps=2), generator=torch.Generator().manual_seed(0)) | options
    return list(rollout(denoiser, past, n, **options))


def test_rollout_makes_as_many_frames_as_asked(small_denoiser):
    made = frames_of(small_denoiser, clip(3, b=2), 9)
    assert len(made) == 9 and made[0].shape == (2, 1, 16, 16)
    assert torch.equal(torch.stack(made), torch.stack(frames_of(small_denoiser, clip(3, b=2), 9)))
    assert frames_of(small_denoiser, clip(3), 0) == []


def test_rollout_by_hand(small_denoiser):
    generator, past = torch.Generator().manual_seed(0), clip(2)
    made = []
    for _ in range(2):
        xt = torch.randn(1, 1, 6, 16, 16, generator=generator)
        with torch.no_grad():
            window = finish(ddim(history_cfg(small_denoiser, past), xt, small_denoiser.schedule, 2))
        made += list(window[:, :, 2:].unbind(2))
        past = window[:, :, -2:]
    torch.testing.assert_close(torch.stack(frames_of(small_denoiser, clip(2), 8)), torch.stack(made))


def test_rollout_without_end_is_lazy(small_denoiser):
    frames = rollout(small_denoiser, clip(2), None, window=4, overlap=2, sampler=partial(ddim, steps=1))
    assert len([next(frames) for _ in range(7)]) == 7


@pytest.mark.parametrize("options, says", [
    (dict(overlap=6), "overlap=6 leaves no new frames in a window of 6; choose overlap between 1 and 5"),
    (dict(overlap=0), "overlap=0"), (dict(overlap=4), "k >= 4"), (dict(n=-1), "num_frames=-1")])
def test_bad_settings_of_rollout_come_before_any_work(options, says):
    with pytest.raises(ValueError, match=says):
        rollout(None, clip(3), options.pop("n", 5), **(dict(window=6, overlap=2) | options))


def test_a_gaussian_future_stays_gaussian():
    # Pixels that are independent of each other: the past says nothing, and the exact denoiser must not be misled by it.
    schedule = NoiseSchedule()
    denoise = gaussian_denoiser(schedule)
    past = torch.full((1, 1, 2, 16, 16), 0.9)
    xt = torch.randn(1, 1, 20, 16, 16, generator=torch.Generator().manual_seed(0))
    future = finish(ddim(history_cfg(denoise, past), xt, schedule, 100))[:, :, 2:]
    assert abs(future.mean().item() - 0.3) < 0.03 and abs(future.std().item() - 0.5) < 0.03
