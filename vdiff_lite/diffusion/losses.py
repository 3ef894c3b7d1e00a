"""What training lowers, and at which noise levels: the error of v."""

from collections.abc import Callable

import torch
from einops import reduce
from torch import Generator, Tensor

from vdiff_lite.diffusion.schedule import NoiseSchedule

NOISE_KINDS = ("same", "per_frame", "prefix", "dropped")

WEIGHTINGS = {
    "v": torch.ones_like,
    "x0": lambda snr: 1 / (snr + 1),
    "min_snr": lambda snr: snr.clamp(max=5) / (snr + 1),
}


def v_errors(net: Callable, schedule: NoiseSchedule, x0: Tensor, t: Tensor, eps: Tensor,
             **model_kwargs) -> Tensor:
    """Squared error of v, mean over each frame: x0, eps (b, c, f, h, w), t (b, f) long -> (b, f)."""
    error = (net(schedule.add_noise(x0, t, eps), t, **model_kwargs) - schedule.v(x0, t, eps)) ** 2
    return reduce(error, "b c f h w -> b f", "mean")


def v_loss(net: Callable, schedule: NoiseSchedule, x0: Tensor, t: Tensor, eps: Tensor, weighting: str = "v",
           **model_kwargs) -> Tensor:
    """Mean squared error of v over the frames that are noisy.

        L = E || v_hat(x_t, t) - v ||^2                                      (Salimans and Ho 2022, App. D)

    x0, eps: (b, c, f, h, w);  t: (b, f) long;  weighting: as in `mean_error`;  model_kwargs: what else the
    network takes. Returns a scalar.
    """
    return mean_error(v_errors(net, schedule, x0, t, eps, **model_kwargs), schedule, t, weighting)


def mean_error(error: Tensor, schedule: NoiseSchedule, t: Tensor, weighting: str = "v",
               count: Tensor | None = None) -> Tensor:
    """Weighted mean of squared errors of v over noisy frames: (b, f) twice -> scalar.

    Given frames (t = 0) hold no noise and teach nothing: they do not count. An error of v is an error of x_0
    times sqrt(snr + 1), so a frame's weight says what counts:
      "v"        1: as it stands; low noise counts most
      "x0"       1 / (snr + 1): the squared error of x_0; high noise, where motion is decided, counts most
      "min_snr"  min(snr, 5) / (snr + 1)                                          (Hang et al. 2023, Sec. 3.4)
    count: noisy frames to divide by, where this is part of a larger batch; None: those of t.
    """
    noisy = t > 0
    count = noisy.sum().clamp(min=1) if count is None else count
    snr = schedule.snr(torch.where(noisy, t, 1)).to(error)
    return (noisy * WEIGHTINGS[weighting](snr) * error).sum() / count


def errors_by_level(error: Tensor, t: Tensor, num_timesteps: int, bins: int = 5) -> Tensor:
    """Squared errors of v sorted by noise level: (b, f) twice -> (2, bins), sums and how many frames."""
    level = torch.where(t > 0, (t - 1) * bins // num_timesteps, bins)
    inside = level[..., None] == torch.arange(bins, device=t.device)
    return torch.stack([(error[..., None] * inside).sum((0, 1)), inside.sum((0, 1)).to(error)])


def draw_noise_levels(batch: int, frames: int, num_timesteps: int, noise_mix: tuple,
                      high_noise_fraction: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Noise levels of a training batch: (b, f) long.

    Each clip is of one of NOISE_KINDS, drawn with the fractions `noise_mix` = (same, per_frame, prefix,
    dropped):
      same       all frames at one level: clips from noise
      per_frame  every frame at its own level (Chen et al. 2024)
      prefix     the first K frames clean (t = 0), the rest at one level: continuing a past
      dropped    the first K frames pure noise (t = num_timesteps): the unconditional branch of guidance
    Levels are uniform on 1 .. num_timesteps = T, stratified over the batch (Kingma et al. 2021, App. I.1); in
    a fraction `high_noise_fraction` of the clips they crowd towards pure noise, as T (1 - u^3) with u uniform
    on [0, 1): there the past is all there is to go by. K lies between 1 and frames - 1, small ones more
    often: K - 1 is (frames - 1) u^1.5 rounded down.
    """
    weights = torch.tensor(noise_mix, dtype=torch.float32)
    kind = torch.multinomial(weights, batch, replacement=True, generator=generator)[:, None]
    u = torch.rand(1, generator=generator) + (torch.randperm(batch, generator=generator) / batch)
    u = torch.remainder(u, 1)
    u = torch.where(torch.rand(batch, generator=generator) < high_noise_fraction, 1 - u**3, u)
    level = 1 + (u * num_timesteps).long().clamp(max=num_timesteps - 1)
    each = torch.randint(1, num_timesteps + 1, (batch, frames), generator=generator)
    context = 1 + ((frames - 1) * torch.rand(batch, 1, generator=generator) ** 1.5).floor()
    past = torch.arange(frames) < context
    t = torch.where(kind == 1, each, level[:, None])
    t = torch.where((kind == 2) & past, 0, t)
    return torch.where((kind == 3) & past, num_timesteps, t)
