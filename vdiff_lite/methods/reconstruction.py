"""Reconstruction guidance: push the window so that what the network takes its overlap for becomes the past."""

import torch

from ..samplers import check_weight

NORMS = ("sum", "mean", "root", "pigdm")


class GuidanceError(FloatingPointError):
    """The gradient of reconstruction guidance is not a number, or has exploded."""


def reconstruction(denoiser, past, weight=10.0, norm="sum", replace=True, record=None):
    """Guide the new frames by the error that the network makes on the old ones.

        x0_hat_b  <-  x0_hat_b - (w alpha_t / 2) grad_{z_b} || past - x0_hat_a(z) ||^2          (Ho et al. 2022, Eq. 7)
        alpha_t = sqrt(alpha_bar_t);  a: the k past frames of the window, b: the new ones

    past: (b, c, k, h, w) in [-1, 1];  weight: w;  norm: what is differentiated, and so what w means:
      "sum"   the squared norm, summed over pixels: the paper's
      "mean"  the same divided by the number of pixels: weights are larger by that number
      "root"  the norm itself, not squared, so that the step does not fade with the error   (Chung et al. 2023, DPS)
      "pigdm" the sum divided by the variance that the past still has given z, taken to be 1 - alpha_bar_t for every pixel:
              w grows to w / alpha_bar_t at high noise                                      (Song et al. 2023, PiGDM)
    replace: the overlap is the noised past at every level, and only the new frames are pushed (the paper's). False pushes
    all frames and leaves the overlap to guidance alone.
    record: a list that gets one dict a step: t, loss (mean squared error of the overlap, per clip), gradient_norm,
    cosine (between the push and eps-direction x_t - alpha_t x0_hat, per clip).
    Costs a forward and a backward pass. Returns denoiser(xt, t) -> x0_hat. Raises ValueError for an unknown norm or a
    weight that is not finite; GuidanceError, naming step and weight, for a gradient that is not finite or explodes.
    """
    check_weight("weight", weight)
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r} is unknown; choose one of {', '.join(NORMS)}")
    k = past.shape[2]

    def guided(xt, t, **features):
        known = past.to(xt)
        with torch.enable_grad():
            z = xt.detach().requires_grad_(True)
            x0_hat = denoiser(z, t, **features)
            squares = (known - x0_hat[:, :, :k]).square().flatten(1)
            total = squares.sum(1)
            distance = dict(mean=squares.mean(1), root=total.clamp(min=1e-12).sqrt()).get(norm, total)
            gradient, = torch.autograd.grad(distance.sum(), z)
        x0_hat = x0_hat.detach()
        signal, _ = denoiser.schedule.signal_and_noise(t, xt)
        # At pure noise the gradient is 0, and so is alpha_bar: the bound keeps 0 / 0 away.
        scale = 1 / signal.clamp(min=0.02) if norm == "pigdm" else signal
        push = -0.5 * weight * scale * gradient
        _check(push, t, weight)
        if record is not None:
            record.append(_measured(t, squares, gradient, xt - signal * x0_hat))
        if replace:
            return torch.cat([known, (x0_hat + push)[:, :, k:]], dim=2)
        return x0_hat + push

    return guided


def noised_start(denoiser, past, window, t, generator=None):
    """A start that is not pure noise: the past, then its last frame repeated, all noised to level t.

    past: (b, c, k, h, w);  window: F;  t: 1 .. num_timesteps. Returns (b, c, F, h, w), for a sampler whose levels begin at t.
    """
    still = torch.cat([past, past[:, :, -1:].expand(-1, -1, window - past.shape[2], -1, -1)], dim=2)
    noise = torch.randn(still.shape, generator=generator).to(past)
    return denoiser.schedule.add_noise(still, torch.full((past.shape[0],), t, device=past.device), noise)


def _check(push, t, weight, largest=1e3):
    size = push.abs().max().item()
    if not size < largest:
        said = "is not a number" if size != size else f"reaches {size:.1e} where pixels span [-1, 1]"
        raise GuidanceError(f"reconstruction guidance at t={int(t.max())} with weight={weight}: the push {said}; choose a smaller weight")


def _measured(t, squares, gradient, noise):
    flat = lambda x: x.detach().flatten(1)
    return dict(t=int(t.max()), loss=squares.detach().mean(1).tolist(), gradient_norm=flat(gradient).norm(dim=1).tolist(),
                cosine=torch.cosine_similarity(flat(-gradient), flat(-noise)).tolist())
