from functools import partial

import pytest
import torch
from conftest import gaussian_denoiser
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.guidance import autoguided, clip_denoised
from vdiff_lite.diffusion.samplers import (
    SAMPLERS,
    ddim,
    ddpm,
    dpmpp_2m,
    run_sampler,
    sample,
    seeded,
    trailing_times,
)
from vdiff_lite.diffusion.schedule import NoiseSchedule

SHAPE = (2, 1, 3, 4, 4)


def schedules(kind, zero, **options):
    """Our schedule, and that of diffusers with the same numbers. Their level i is our level i + 1."""
    ours = NoiseSchedule(zero_terminal_snr=zero)
    theirs = kind(num_train_timesteps=1000, prediction_type="sample", timestep_spacing="trailing", **options)
    theirs.alphas_cumprod = ours.alpha_bar[1:].clone()
    theirs.alphas = ours.alpha_bar[1:] / ours.alpha_bar[:-1]
    theirs.betas = 1 - theirs.alphas
    return ours, theirs


def diffusers_sample(theirs, denoise, xt, steps, generator=None, **options):
    theirs.set_timesteps(steps)
    options |= {} if generator is None else {"generator": generator}
    for i in theirs.timesteps:
        xt = theirs.step(denoise(xt, torch.full((xt.shape[0],), int(i) + 1)), i, xt, **options).prev_sample
    return xt


def start():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("steps", [5, 25, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_is_that_of_diffusers(steps, zero, eta):
    ours, theirs = schedules(DDIMScheduler, zero, clip_sample=False, set_alpha_to_one=True)
    denoise = gaussian_denoiser(ours)
    seeded = lambda: torch.Generator().manual_seed(5)
    mine = run_sampler(ddim(denoise, start(), ours, steps, eta=eta, generator=seeded()))
    expected = diffusers_sample(theirs, denoise, start(), steps, seeded(), eta=eta)
    torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("steps", [25, 100, 1000])
def test_ddpm_is_that_of_diffusers(steps, zero):
    ours, theirs = schedules(DDPMScheduler, zero, clip_sample=False, variance_type="fixed_small")
    denoise = gaussian_denoiser(ours)
    seeded = lambda: torch.Generator().manual_seed(5)
    mine = run_sampler(ddpm(denoise, start(), ours, steps, generator=seeded()))
    expected = diffusers_sample(theirs, denoise, start(), steps, seeded())
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [5, 20, 50])
def test_dpmpp_is_that_of_diffusers(steps):
    ours, theirs = schedules(DPMSolverMultistepScheduler, False, algorithm_type="dpmsolver++", solver_order=2,
                             final_sigmas_type="zero")
    denoise = gaussian_denoiser(ours)
    mine = run_sampler(dpmpp_2m(denoise, start(), ours, steps))
    expected = diffusers_sample(theirs, denoise, start(), steps)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_the_exact_denoiser_gives_the_exact_distribution(name):
    # The data is N(0.3, 0.5^2) in every pixel; its denoiser is known in closed form.
    schedule = NoiseSchedule()
    generator = torch.Generator().manual_seed(0)
    xt = torch.randn(64, 1, 4, 8, 8, generator=generator, dtype=torch.float64)
    made = run_sampler(SAMPLERS[name](gaussian_denoiser(schedule), xt, schedule, 200, generator=generator))
    assert abs(made.mean().item() - 0.3) < 0.02
    assert abs(made.std().item() - 0.5) < 0.02


def test_second_order_is_more_accurate_than_first():
    schedule = NoiseSchedule()
    denoise, xt = gaussian_denoiser(schedule), start()
    exact = run_sampler(ddim(denoise, xt, schedule, 1000))
    error = lambda sampler, steps: (run_sampler(sampler(denoise, xt, schedule, steps)) - exact).abs().max()
    assert error(dpmpp_2m, 20) < error(ddim, 20)


def test_ddim_with_eta_one_is_ddpm():
    schedule = NoiseSchedule()
    denoise, seeded = gaussian_denoiser(schedule), lambda: torch.Generator().manual_seed(1)
    torch.testing.assert_close(run_sampler(ddim(denoise, start(), schedule, 20, eta=1.0, generator=seeded())),
                               run_sampler(ddpm(denoise, start(), schedule, 20, generator=seeded())))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_same_seed_same_bytes(name, small_denoiser):
    seeded = lambda: torch.Generator().manual_seed(2)
    one, two = (sample(small_denoiser, 1, 3, SAMPLERS[name], 4, seeded()) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (1, 1, 3, 16, 16)


def test_steps_begin_at_noise_and_end_at_zero():
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    steps = list(ddpm(gaussian_denoiser(schedule), start(), schedule, 800, generator=generator))
    assert len(steps) == 801 and steps[0].t == 1000 and steps[-1].t == 0
    assert all(a.t > b.t for a, b in zip(steps, steps[1:]))


def test_steps_may_be_a_list_of_levels():
    schedule = NoiseSchedule()
    steps = ddim(gaussian_denoiser(schedule), start(), schedule, [1000, 400, 0])
    assert [step.t for step in steps] == [1000, 400, 0]
    assert trailing_times(1000, 4) == [1000, 750, 500, 250, 0]


@pytest.mark.parametrize("steps, message", [
    (0, "steps=0"), (1001, "steps=1001"),
    ([1000, 1000, 0], "fall"), ([500, 100], "fall"), ([1200, 0], "fall")])
def test_bad_steps_are_refused(steps, message):
    schedule = NoiseSchedule()
    with pytest.raises(ValueError, match=message):
        run_sampler(ddim(gaussian_denoiser(schedule), start(), schedule, steps))


def function(f):
    return Denoiser.from_function(f, NoiseSchedule(), SHAPE[1:2] + SHAPE[3:])


def test_clip_denoised_keeps_the_estimate_in_range():
    assert clip_denoised(function(lambda xt, t: xt * 10))(torch.ones(1), 0) == 1


def test_autoguided_extrapolates_from_the_weak_estimate_through_the_good_one():
    good, weak = function(lambda xt, t, gain: gain * xt), function(lambda xt, t, gain: gain - xt)
    guided = autoguided(good, weak, weight=1.5)
    assert guided(torch.tensor([2.0]), torch.tensor([7]), gain=3.0).item() == 1.0 + 1.5 * (6.0 - 1.0)


@pytest.mark.parametrize("weight, expected", [(1, 6.0), (0, 1.0)])
def test_autoguided_ends_at_the_good_and_at_the_weak_estimate(weight, expected):
    good, weak = function(lambda xt, t: 3 * xt), function(lambda xt, t: 3 - xt)
    assert autoguided(good, weak, weight)(torch.tensor([2.0]), torch.tensor([7])).item() == expected


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "3"])
def test_autoguided_refuses_a_weight_that_is_no_number(weight):
    good = function(lambda xt, t: xt)
    with pytest.raises(ValueError, match=f"weight={weight!r} must be a finite number"):
        autoguided(good, good, weight)


def test_autoguidance_away_from_a_wider_distribution_narrows_the_samples():
    # Both know the mean of the data, 0.3. The weak denoiser assumes twice the standard deviation.
    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    xt = torch.randn(64, 1, 4, 8, 8, generator=generator, dtype=torch.float64)
    good, weak = gaussian_denoiser(schedule), gaussian_denoiser(schedule, std=1.0)
    stds = []
    for weight in (1, 1.5, 2):
        made = run_sampler(ddpm(autoguided(good, weak, weight), xt, schedule, 100, generator=generator))
        assert abs(made.mean().item() - 0.3) < 0.02
        stds.append(made.std().item())
    assert stds[0] - 0.05 > stds[1] and stds[1] - 0.02 > stds[2]


def test_clip_i_is_drawn_by_seed_plus_i_however_many_are_drawn(small_denoiser):
    sampler = partial(ddim, eta=0.5)
    draw = lambda seed, clips: sample(small_denoiser, clips, 4, sampler, 3, seeded(seed, clips))
    three = draw(5, 3)
    torch.testing.assert_close(three[1:2], draw(6, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(three, draw(5, 5)[:3], rtol=1e-4, atol=1e-4)
    assert (three[0] - three[1]).abs().mean() > 0.05
