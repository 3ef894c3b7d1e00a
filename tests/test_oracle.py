"""Methods against the exact posterior of a Gaussian video model: which of them give the right answer, and which cannot."""

import pytest
import torch

from vdiff_lite.diffusion.oracle import GaussianVideo, posterior_error
from vdiff_lite.diffusion.samplers import ddim, ddpm, repaint, run_sampler
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.methods import copy_last, history_guidance, independent, reconstruction, replacement

MODEL = GaussianVideo(NoiseSchedule())
PAST = 4


@pytest.fixture(scope="module")
def truth():
    return MODEL.sample(8, 10, 16, torch.Generator().manual_seed(0))


def error(method, truth, sampler=ddim, steps=60, **options):
    xt = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    made = run_sampler(sampler(method(MODEL, truth[:, :, :PAST]), xt, MODEL.schedule, steps, generator=torch.Generator().manual_seed(2)))
    return posterior_error(made, truth[:, :, :PAST], MODEL)


def test_the_denoiser_is_the_conditional_mean(truth):
    # Regression of x_0 on x_t over many pixels finds no better guess than the denoiser's.
    t = torch.tensor([[0, 300, 600, 900, 1000, 500, 20, 700, 100, 400]])
    xt = MODEL.schedule.add_noise(truth, t, torch.randn(truth.shape, generator=torch.Generator().manual_seed(3)))
    rows = lambda x: x.movedim(2, -1).reshape(-1, 10).double()
    design = torch.cat([rows(xt), torch.ones(len(rows(xt)), 1)], 1)
    fitted = design @ torch.linalg.lstsq(design, rows(truth)).solution
    assert (fitted - rows(MODEL(xt, t))).square().mean() < 2e-3 * rows(truth).var()


def test_samples_have_the_covariance_that_is_stated(truth):
    pixels = truth.movedim(2, -1).reshape(-1, 10).double()
    torch.testing.assert_close(pixels.T.cov(), MODEL.covariance(range(10)), rtol=0, atol=0.02)


def test_the_truth_is_a_sample_of_the_posterior(truth):
    bias, spread = posterior_error(truth, truth[:, :, :PAST], MODEL)
    assert bias.max() < 0.1 and (spread - 1).abs().max() < 0.06


@pytest.mark.parametrize("sampler, steps", [(ddim, 60), (ddpm, 200)])
def test_the_past_in_the_window_gives_the_posterior(truth, sampler, steps):
    bias, spread = error(history_guidance, truth, sampler, steps)
    assert bias.max() < 0.12 and (spread - 1).abs().max() < 0.13


def test_guidance_beyond_one_is_too_sure(truth):
    bias, spread = error(lambda d, p: history_guidance(d, p, 2.0), truth)
    assert spread[0] < 0.7 and bias[0] > 0.3


def test_methods_without_training_miss_it_by_less_and_less(truth):
    first = lambda *args, **options: error(*args, **options)[0][0].item()
    none, still = first(independent, truth), first(copy_last, truth)
    replaced = first(replacement, truth)
    again = first(replacement, truth, lambda *args, **o: repaint(*args, repeats=10, **o))
    weak, strong = (first(lambda d, p, w=w: reconstruction(d, p, w), truth) for w in (1.0, 10.0))
    assert none > 2 * replaced and replaced > still > 1  # replacement is even behind repeating the last frame here
    assert replaced > weak > strong > 1  # reconstruction guidance closes in on it, and does not arrive
    assert again < 0.6 * replaced  # and so does resampling, for ten times the price


def test_the_exact_covariance_makes_reconstruction_exact(truth):
    def exact(model, past):
        def guided(xt, t):
            ab, cov = model.schedule.alpha_bar[int(t[0])].item(), model.covariance(range(xt.shape[2]))
            c = torch.linalg.inv(torch.linalg.inv(cov) + ab / (1 - ab) * torch.eye(len(cov)))
            gain = (c[PAST:, :PAST] @ torch.linalg.inv(c[:PAST, :PAST])).float()
            x0_hat = model(xt, t)
            step = torch.einsum("ba,ncahw->ncbhw", gain, past - x0_hat[:, :, :PAST])
            return torch.cat([past, x0_hat[:, :, PAST:] + step], dim=2)

        return guided

    bias, spread = error(exact, truth)
    assert bias.max() < 0.12 and (spread - 1).abs().max() < 0.13


def test_pigdm_is_the_vector_jacobian_product_of_its_paper(truth):
    past, t = truth[:, :, :PAST].double(), torch.tensor([400] * 8)
    xt = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = reconstruction(MODEL, past, 1.0, "pigdm", replace=False)(xt, t)
    # x0_hat is linear in x_t, so its Jacobian is the covariance gain, read off with one unit vector a frame.
    unit = torch.eye(10).double()[:, None, :, None, None]
    jacobian = (MODEL(unit, torch.tensor([400] * 10)) - MODEL(0 * unit, torch.tensor([400] * 10)))[:, 0, :, 0, 0].T
    x0_hat = MODEL(xt, t)
    step = torch.einsum("ag,bcahw->bcghw", jacobian[:PAST], past - x0_hat[:, :, :PAST])
    torch.testing.assert_close(made, x0_hat + step / MODEL.schedule.alpha_bar[400].sqrt().double(), rtol=1e-4, atol=1e-5)
