"""A video model whose every answer is known in closed form: what the right answer of a method looks like."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from vdiff_lite.diffusion.denoiser import Denoiser, per_frame
from vdiff_lite.diffusion.schedule import NoiseSchedule


class GaussianVideo(Denoiser):
    """Clips whose pixels are independent and Gaussian along time; its exact denoiser and posterior.

        x_0 ~ N(m, S),  S[f, g] = s^2 exp(-(f - g)^2 / 2 l^2)     for each pixel: it wanders smoothly around m

        E[x_0 | x_t] = m + S A (A S A + N)^-1 (x_t - A m),   frame by frame,
        A = diag(sqrt(alpha_bar)), N = diag(1 - alpha_bar)

    A Denoiser, so every sampler runs on it, and every method that needs no hooks. Frames at t = 0 are exact
    evidence and frames at t = num_timesteps none, so in-window conditioning is exact here. mean: m;  std:
    s;  length: l in frames;  positions: keyword, where frames stand in time, as in VideoUNet.
    """

    def __init__(self, schedule: NoiseSchedule, mean: float = -0.2, std: float = 0.5, length: float = 3.0,
                 size: int = 32):
        super().__init__(nn.Identity(), schedule, (1, size, size), "x0")
        self.mean, self.std, self.length = mean, std, length

    def covariance(self, positions: Sequence[int] | Tensor) -> Tensor:
        """S between the given times: (f,) -> (f, f) float64, plus 1e-4 s^2 on the diagonal."""
        positions = torch.as_tensor(positions, dtype=torch.float64)
        gap = positions[:, None] - positions
        return self.std**2 * (torch.exp(-(gap**2) / (2 * self.length**2)) + 1e-4 * torch.eye(len(gap)))

    def forward(self, xt: Tensor, t: Tensor, positions: Tensor | None = None) -> Tensor:
        b, f = xt.shape[0], xt.shape[2]
        cov = self.covariance(torch.arange(f) if positions is None else positions)
        signal = self.schedule.alpha_bar.double()[per_frame(t, b, f)].sqrt()
        noisy = signal[:, :, None] * cov * signal[:, None, :] + torch.diag_embed(1 - signal**2)
        gain = cov @ torch.linalg.solve(noisy, torch.diag_embed(signal)).mT.to(cov)
        seen = xt.double() - self.mean * signal[:, None, :, None, None]
        return (self.mean + torch.einsum("bfg,bcghw->bcfhw", gain, seen)).to(xt)

    def sample(self, clips: int, frames: int, size: int = 32, generator: Generator | None = None) -> Tensor:
        """Clips drawn from the model: (clips, 1, frames, size, size)."""
        root = torch.linalg.cholesky(self.covariance(torch.arange(frames)))
        z = torch.randn(clips, 1, frames, size, size, generator=generator, dtype=torch.float64)
        return (self.mean + torch.einsum("fg,bcghw->bcfhw", root, z)).float()

    def posterior(self, past: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """The future given the past, exactly: its mean (b, c, f - k, h, w), and its covariance along time."""
        k, cov = past.shape[2], self.covariance(torch.arange(frames))
        gain = torch.linalg.solve(cov[:k, :k], cov[:k, k:]).mT
        mean = self.mean + torch.einsum("fg,bcghw->bcfhw", gain, past.double() - self.mean)
        return mean.float(), cov[k:, k:] - gain @ cov[:k, k:]


def posterior_error(made: Tensor, past: Tensor, model: GaussianVideo) -> tuple[Tensor, Tensor]:
    """How far samples of the future are from the exact posterior, frame by frame.

    made: (b, c, f, h, w), the first k frames `past`.  Returns (bias, ratio), (f - k,) each: the root mean
    square of the mean over clips and pixels of (made - exact mean) explained by the past, in exact standard
    deviations; and the ratio of the samples' standard deviation around the exact mean to the exact one. Right
    is 0 and 1.
    """
    k, f = past.shape[2], made.shape[2]
    mean, cov = model.posterior(past, f)
    off = (made[:, :, k:] - mean).double()
    std = cov.diagonal().sqrt()
    # What a better use of the past would still remove: the linear regression of the error on the past.
    design = (past.double() - model.mean).movedim(2, -1).reshape(-1, k)
    design = torch.cat([design, torch.ones(len(design), 1, dtype=torch.float64)], dim=1)
    errors = off.movedim(2, -1).reshape(-1, f - k)
    explained = design @ torch.linalg.lstsq(design, errors).solution
    return explained.square().mean(0).sqrt() / std, (errors - explained).std(0) / std
