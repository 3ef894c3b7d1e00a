"""Reconstruction guidance: push the window so that the network's estimate of its overlap becomes the past."""

import torch
from torch import Tensor

from vdiff_lite.checks import number, one_of
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper
from vdiff_lite.diffusion.guidance import check_new_frames

NORMS = ("sum", "mean", "root", "pigdm")
LARGEST_PUSH = 1e3  # pixels span [-1, 1]


class GuidanceError(FloatingPointError):
    """The gradient of reconstruction guidance is not a number, or has exploded."""


class reconstruction(DenoiserWrapper):
    """Guide the new frames by the error that the network makes on the old ones.

        x0_hat_b  <-  x0_hat_b - (w alpha_t / 2) grad_{x_b} || past - x0_hat_a(x_t) ||^2  (Ho et al. 2022)
        alpha_t = sqrt(alpha_bar_t);  a: the k past frames of the window, b: the new ones

    past: (b, c, k, h, w) in [-1, 1];  weight: w;  norm: what is differentiated, and so what w means:
      "sum"   the squared norm, summed over pixels: the paper's
      "mean"  the same divided by the number of pixels: weights are larger by that number
      "root"  the norm itself, not squared, so that the step does not fade with the error (Chung et al. 2023)
      "pigdm" the sum divided by the variance that the past still has given x_t, taken as 1 - alpha_bar_t for
              every pixel: w grows to w / alpha_bar_t at high noise                  (Song et al. 2023, PiGDM)
    replace: the overlap is the noised past at every level, and only the new frames are pushed (the paper's).
    False pushes all frames and leaves the overlap to guidance alone. record: a list that gets one dict a
    step: t, loss (mean squared error of the overlap, per clip), gradient_norm, cosine (between the push and
    the direction of the noise, x_t - alpha_t x0_hat, per clip). Costs a forward and a backward pass. Around a
    denoiser that returns the past exactly, such as `history_guidance`, it has no error to guide by and
    changes nothing. Raises ValueError for an unknown norm or a weight that is not finite, and when the window
    has no new frame; GuidanceError, naming step and weight, for a gradient that is not finite or explodes.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor, weight: float = 10.0, norm: str = "sum",
                 replace: bool = True, record: list | None = None):
        super().__init__(denoiser)
        number(weight=weight)
        one_of(NORMS, norm=norm)
        one_of((True, False), replace=replace)
        self.past, self.weight, self.norm, self.replace, self.record = past, weight, norm, replace, record
        self.takes_hooks = False

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        known, k = self.past.to(xt), self.past.shape[2]
        check_new_frames(k, xt.shape[2])
        with torch.enable_grad():
            z = xt.detach().requires_grad_(True)
            x0_hat = self.inner(z, t, **model_kwargs)
            squares = (known - x0_hat[:, :, :k]).square().flatten(1)
            total = squares.sum(1)
            distance = dict(mean=squares.mean(1), root=total.clamp(min=1e-12).sqrt()).get(self.norm, total)
            gradient, = torch.autograd.grad(distance.sum(), z)
        x0_hat = x0_hat.detach()
        signal, _ = self.schedule.signal_and_noise(t, xt)
        # At pure noise the gradient is 0, and so is alpha_bar: the bound keeps 0 / 0 away.
        scale = 1 / signal.clamp(min=0.02) if self.norm == "pigdm" else signal
        push = -0.5 * self.weight * scale * gradient
        self._check(push, t)
        if self.record is not None:
            self.record.append(_measured(t, squares, gradient, xt - signal * x0_hat))
        if self.replace:
            return torch.cat([known, (x0_hat + push)[:, :, k:]], dim=2)
        return x0_hat + push

    def _check(self, push: Tensor, t: Tensor) -> None:
        size = push.abs().max().item()
        if not size < LARGEST_PUSH:
            fault = "is not a number" if size != size else f"reaches {size:.1e} where pixels span [-1, 1]"
            raise GuidanceError(f"reconstruction guidance at t={int(t.max())} with weight={self.weight}: "
                                f"the push {fault}; choose a smaller weight")


def _measured(t: Tensor, squares: Tensor, gradient: Tensor, noise: Tensor) -> dict:
    flat = lambda x: x.detach().flatten(1)
    return dict(t=int(t.max()), loss=squares.detach().mean(1).tolist(),
                gradient_norm=flat(gradient).norm(dim=1).tolist(),
                cosine=torch.cosine_similarity(flat(-gradient), flat(-noise)).tolist())
