import math

import pytest
import torch

from vdiff_lite.diffusion.schedule import SHAPES, NoiseSchedule, rescale_zero_terminal_snr


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zero", [True, False])
def test_alpha_bar_falls_from_one(shape, zero):
    alpha_bar = NoiseSchedule(shape=shape, zero_terminal_snr=zero).alpha_bar
    assert alpha_bar[0] == 1
    assert (alpha_bar.diff() < 0).all()
    assert (alpha_bar[-1] == 0) == zero


def test_linear_is_the_published_one():
    alpha_bar = NoiseSchedule(shape="linear", zero_terminal_snr=False).alpha_bar
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(alpha_bar[1:], torch.cumprod(1 - beta, 0))


def test_rescaling_is_the_published_one():
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr as published

    alpha_bar = NoiseSchedule(shape="linear", zero_terminal_snr=False).alpha_bar
    theirs = torch.cumprod(1 - published(1 - alpha_bar[1:] / alpha_bar[:-1]), 0)
    torch.testing.assert_close(rescale_zero_terminal_snr(alpha_bar[1:]), theirs)


def test_cosine_is_the_published_one():
    from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar

    theirs = torch.cumprod(1 - betas_for_alpha_bar(1000).double(), 0)
    alpha_bar = NoiseSchedule(zero_terminal_snr=False).alpha_bar
    torch.testing.assert_close(alpha_bar[1:], theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("t", [0, 1, 500, 999, 1000])
def test_conversions_are_exact_at_every_level(t):
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    x0 = torch.rand(2, 1, 3, 4, 4, generator=generator) * 2 - 1
    eps = torch.randn(2, 1, 3, 4, 4, generator=generator)
    level = torch.full((2,), t)
    xt, v = schedule.add_noise(x0, level, eps), schedule.v(x0, level, eps)
    torch.testing.assert_close(schedule.x0_from_v(xt, level, v), x0)
    torch.testing.assert_close(schedule.eps_from_v(xt, level, v), eps)
    if t == 1000:
        torch.testing.assert_close(xt, eps)
    if t == 0:
        torch.testing.assert_close(xt, x0)
        assert (schedule.eps_from_x0(xt, level, x0) == 0).all()
    if 0 < t < 1000:
        torch.testing.assert_close(schedule.x0_from_eps(xt, level, eps), x0, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(schedule.eps_from_x0(xt, level, x0), eps, rtol=1e-2, atol=1e-2)


def test_levels_per_frame_are_the_levels_of_each_frame():
    schedule = NoiseSchedule()
    x0, eps = torch.randn(2, 2, 1, 4, 3, 3)
    t = torch.tensor([[0, 10, 500, 1000], [3, 3, 3, 3]])
    xt = schedule.add_noise(x0, t, eps)
    for b in range(2):
        for f in range(4):
            alone = schedule.add_noise(x0[b:b + 1, :, f:f + 1], t[b:b + 1, f], eps[b:b + 1, :, f:f + 1])
            torch.testing.assert_close(xt[b:b + 1, :, f:f + 1], alone)


def test_snr_and_shift():
    plain, shifted = NoiseSchedule(), NoiseSchedule(shift=2.0)
    assert plain.snr(torch.tensor(0)).isinf() and plain.snr(torch.tensor(1000)) == 0
    plain, shifted = NoiseSchedule(zero_terminal_snr=False), NoiseSchedule(shift=2.0, zero_terminal_snr=False)
    t = torch.tensor([100, 500, 900])
    torch.testing.assert_close(shifted.snr(t), plain.snr(t) / 4)


@pytest.mark.parametrize("bad, message", [
    (dict(shape="square"), "shape='square'"), (dict(num_timesteps=1), "num_timesteps=1"),
    (dict(shift=0), "shift=0"), (dict(shift=math.nan), "shift=nan")])
def test_bad_schedules_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**bad)


@pytest.mark.parametrize("t, message", [
    (torch.tensor([1001, 0]), "1001"), (torch.tensor([-1, 5]), "-1"), (torch.tensor([0.5, 0.5]), "float"),
    (torch.zeros(3, dtype=torch.long), "shape")])
def test_bad_levels_are_refused(t, message):
    x = torch.zeros(2, 1, 4, 3, 3)
    with pytest.raises(ValueError, match=message):
        NoiseSchedule().add_noise(x, t, x)


def test_eps_does_not_determine_x0_at_pure_noise():
    x = torch.zeros(1, 1, 1, 2, 2)
    with pytest.raises(ValueError, match="t=1000"):
        NoiseSchedule().x0_from_eps(x, torch.tensor([1000]), x)
