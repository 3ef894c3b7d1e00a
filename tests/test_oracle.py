"""Methods against the exact posterior of a Gaussian video model: which are exact, and which cannot be."""

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


def error(method, truth, sampler=ddim, steps=60):
    past, generator = truth[:, :, :PAST], torch.Generator().manual_seed(2)
    xt = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    made = run_sampler(sampler(method(MODEL, past), xt, MODEL.schedule, steps, generator=generator))
    return posterior_error(made, past, MODEL)


def test_the_denoiser_is_the_conditional_mean(truth):
    # Regression of x_0 on x_t over many pixels finds no better estimate than the denoiser's.
    t = torch.tensor([[0, 300, 600, 900, 1000, 500, 20, 700, 100, 400]])
    eps = torch.randn(truth.shape, generator=torch.Generator().manual_seed(3))
    xt = MODEL.schedule.add_noise(truth, t, eps)
    rows = lambda x: x.movedim(2, -1).reshape(-1, 10).double()
    design = torch.cat([rows(xt), torch.ones(len(rows(xt)), 1)], 1)
    fitted = design @ torch.linalg.lstsq(design, rows(truth)).solution
    assert (fitted - rows(MODEL(xt, t))).square().mean() < 2e-3 * rows(truth).var()


def test_samples_have_the_covariance_of_the_model(truth):
    pixels = truth.movedim(2, -1).reshape(-1, 10).double()
    torch.testing.assert_close(pixels.T.cov(), MODEL.covariance(range(10)), rtol=0, atol=0.02)


def test_the_truth_is_a_sample_of_the_posterior(truth):
    bias, std_ratio = posterior_error(truth, truth[:, :, :PAST], MODEL)
    assert bias.max() < 0.1 and (std_ratio - 1).abs().max() < 0.06


@pytest.mark.parametrize("sampler, steps", [(ddim, 60), (ddpm, 200)])
def test_the_past_in_the_window_gives_the_posterior(truth, sampler, steps):
    bias, std_ratio = error(history_guidance, truth, sampler, steps)
    assert bias.max() < 0.12 and (std_ratio - 1).abs().max() < 0.13


def test_guidance_above_one_is_biased_and_too_narrow(truth):
    bias, std_ratio = error(lambda d, p: history_guidance(d, p, 2.0), truth)
    assert std_ratio[0] < 0.7 and bias[0] > 0.3


def test_training_free_methods_are_biased_each_less_than_the_one_before(truth):
    first_bias = lambda *args: error(*args)[0][0].item()
    unconditional, copied = first_bias(independent, truth), first_bias(copy_last, truth)
    replaced = first_bias(replacement, truth)
    repainted = first_bias(replacement, truth, lambda *args, **options: repaint(*args, repeats=10, **options))
    weak, strong = (first_bias(lambda d, p, w=w: reconstruction(d, p, w), truth) for w in (1.0, 10.0))
    assert unconditional > 2 * replaced
    assert replaced > copied > 1  # replacement is even behind repeating the last frame here
    assert replaced > weak > strong > 1  # reconstruction guidance comes closer, and stays biased
    assert repainted < 0.6 * replaced  # and so does RePaint, with ten times the network evaluations


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

    bias, std_ratio = error(exact, truth)
    assert bias.max() < 0.12 and (std_ratio - 1).abs().max() < 0.13


def test_pigdm_is_the_vector_jacobian_product_of_its_paper(truth):
    past, t = truth[:, :, :PAST].double(), torch.tensor([400] * 8)
    xt = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = reconstruction(MODEL, past, 1.0, "pigdm", replace=False)(xt, t)
    # x0_hat is affine in x_t, so its Jacobian, the covariance gain, is read off with a unit vector per frame.
    unit, levels = torch.eye(10).double()[:, None, :, None, None], torch.tensor([400] * 10)
    jacobian = (MODEL(unit, levels) - MODEL(0 * unit, levels))[:, 0, :, 0, 0].T
    x0_hat = MODEL(xt, t)
    step = torch.einsum("ag,bcahw->bcghw", jacobian[:PAST], past - x0_hat[:, :, :PAST])
    expected = x0_hat + step / MODEL.schedule.alpha_bar[400].sqrt().double()
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
