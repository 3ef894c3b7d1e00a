"""Samplers: from noise to a clip. Each is a generator of Steps, and sees nothing but denoiser(xt, t) -> x0_hat."""

import math
from typing import NamedTuple

import torch

from .schedule import NoiseSchedule


class Step(NamedTuple):
    """Where a sampler stands: the noisy clip at level t, and what the denoiser takes it for. The last has t = 0."""

    t: int
    xt: torch.Tensor
    x0_hat: torch.Tensor


def trailing_times(num_timesteps, steps):
    """Noise levels of a run of `steps` evaluations, from pure noise down, and 0 at the end.

        t_i = round(T (1 - i / steps)), i = 0 .. steps       ("trailing" spacing, Lin et al. 2024, Sec. 3.3)

    Returns steps + 1 ints, falling. Raises ValueError unless 1 <= steps <= num_timesteps.
    """
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"steps={steps} is out of range; choose between 1 and {num_timesteps}")
    return [round(num_timesteps * (steps - i) / steps) for i in range(steps + 1)]


def ddpm(denoiser, xt, schedule: NoiseSchedule, steps=1000, generator=None):
    """Ancestral sampling: draw x_{t_next} from the posterior of the forward process, with x0_hat for x_0.

        mean = sqrt(ab') b / (1 - ab) x0_hat + sqrt(a) (1 - ab') / (1 - ab) x_t,   variance = b (1 - ab') / (1 - ab)
        with ab = alpha_bar_t, ab' = alpha_bar_{t_next}, a = ab / ab', b = 1 - a      (Ho et al. 2020, Eq. 6 and 7)

    xt: (b, c, f, h, w) pure noise;  steps: how many levels (trailing), or the levels themselves, falling to 0.
    Yields Step at each level. Deterministic for one state of the generator.
    """
    for t, t_next in _pairs(schedule, steps):
        x0_hat = denoiser(xt, _level(xt, t))
        yield Step(t, xt, x0_hat)
        xt = _ancestral(schedule, xt, x0_hat, t, t_next, generator)
    yield Step(0, xt, xt)


def ddim(denoiser, xt, schedule: NoiseSchedule, steps=25, eta=0.0, generator=None):
    """Walk towards x0_hat along the same noise; eta mixes in fresh noise.

        x_{t_next} = sqrt(ab') x0_hat + sqrt(1 - ab' - s^2) eps_hat + s z,
        s = eta sqrt((1 - ab') / (1 - ab)) sqrt(1 - ab / ab')                 (Song et al. 2021, Eq. 12 and 16)

    eta = 0 is deterministic; eta = 1 is DDPM.  Arguments and Steps as in `ddpm`. Raises ValueError for eta outside 0 .. 1.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta} must lie between 0, no fresh noise, and 1, as much as ddpm")
    for t, t_next in _pairs(schedule, steps):
        x0_hat = denoiser(xt, _level(xt, t))
        yield Step(t, xt, x0_hat)
        ab, ab_next = schedule.alpha_bar[t].item(), schedule.alpha_bar[t_next].item()
        eps_hat = (xt - ab**0.5 * x0_hat) / (1 - ab) ** 0.5
        sigma = eta * ((1 - ab_next) / (1 - ab) * (1 - ab / ab_next)) ** 0.5
        xt = ab_next**0.5 * x0_hat + max(0.0, 1 - ab_next - sigma**2) ** 0.5 * eps_hat
        if sigma > 0:
            xt = xt + sigma * _noise_like(xt, generator)
    yield Step(0, xt, xt)


def resampled(denoiser, xt, schedule: NoiseSchedule, steps=25, repeats=4, jump=1, generator=None):
    """RePaint's walk: DDPM, but after every `jump` steps down go back up and come down again, `repeats` times in all.

        up: x_t = sqrt(ab / ab') x_{t'} + sqrt(1 - ab / ab') z,   ab = alpha_bar_t, ab' = alpha_bar_{t'}, t > t'
                                                                            (Lugmayr et al. 2022, Algorithm 1)

    Each repeat lets the new frames settle with the overlap that a method puts in. repeats=1 is `ddpm`. The network is
    asked about steps x repeats times. Arguments and Steps as in `ddpm`. Raises ValueError unless repeats and jump are 1 or more.
    """
    if repeats < 1 or jump < 1:
        raise ValueError(f"repeats={repeats} and jump={jump} must be 1 or more")
    times = [pair[0] for pair in _pairs(schedule, steps)] + [0]
    for i in range(0, len(times) - 1, jump):
        part = times[i:i + jump + 1]
        for repeat in range(repeats):
            for t, t_next in zip(part, part[1:]):
                x0_hat = denoiser(xt, _level(xt, t))
                yield Step(t, xt, x0_hat)
                xt = _ancestral(schedule, xt, x0_hat, t, t_next, generator)
            if repeat < repeats - 1:
                kept = (schedule.alpha_bar[part[0]] / schedule.alpha_bar[part[-1]]).item()
                xt = kept**0.5 * xt + (1 - kept) ** 0.5 * _noise_like(xt, generator)
    yield Step(0, xt, xt)


def dpmpp_2m(denoiser, xt, schedule: NoiseSchedule, steps=15, generator=None):
    """DPM-Solver++(2M): a second-order step that reuses the last x0_hat. Deterministic.

        x_{t_next} = (s' / s) x_t - a' (exp(-h) - 1) D,   D = (1 + 1/2r) x0_hat - 1/2r x0_hat_last,
        a = sqrt(alpha_bar), s = sqrt(1 - alpha_bar), h = log(a' / s') - log(a / s), r = h_last / h
                                                                            (Lu et al. 2022, Algorithm 2)

    The first step, the step after pure noise (where h is infinite) and the last are of first order.
    Arguments and Steps as in `ddpm`.
    """
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    half_log_snr = signal.log() - noise.log()
    last, h_last = None, None
    for t, t_next in _pairs(schedule, steps):
        x0_hat = denoiser(xt, _level(xt, t))
        yield Step(t, xt, x0_hat)
        h = half_log_snr[t_next] - half_log_snr[t]
        first_order = last is None or t_next == 0
        d = x0_hat if first_order else x0_hat + (h / (2 * h_last)).item() * (x0_hat - last)
        xt = (noise[t_next] / noise[t]).item() * xt - (signal[t_next] * torch.expm1(-h)).item() * d
        last, h_last = x0_hat, h
    yield Step(0, xt, xt)


SAMPLERS = {"ddpm": ddpm, "resampled": resampled, "ddim": ddim, "dpmpp_2m": dpmpp_2m}


def finish(steps):
    """Run a sampler to its end. Returns the clip (b, c, f, h, w)."""
    for step in steps:
        pass
    return step.xt


def sample(denoiser, clips=1, num_frames=16, sampler=ddim, steps=25, generator=None, **options):
    """Clips from noise, with a Denoiser (whose network gives the frame size and whose schedule is used).

    Returns (clips, c, num_frames, h, w), about in [-1, 1], on the denoiser's device. Raises ValueError for less than one clip or frame.
    """
    if clips < 1 or num_frames < 1:
        raise ValueError(f"clips={clips} and num_frames={num_frames} must be 1 or more")
    config = denoiser.net.config
    xt = torch.randn(clips, config.in_channels, num_frames, config.size, config.size, generator=generator)
    with torch.no_grad():
        return finish(sampler(denoiser, xt.to(denoiser.device), denoiser.schedule, steps, generator=generator, **options))


def clipped(denoiser):
    """The same denoiser with x0_hat held in [-1, 1]."""
    return lambda xt, t, **features: denoiser(xt, t, **features).clamp(-1, 1)


EARLY = 600  # of 1000: above this noise level most of the shape is decided


def autoguided(denoiser, weak, weight=1.5):
    """A denoiser guided away from a worse version of itself.

        x0_hat = x0_weak + w (x0_good - x0_weak)                  (Karras et al. 2024, "autoguidance")

    denoiser, weak: (xt, t) -> x0_hat; the weak one should err in the same way, only more: the same network trained for less long, or on
    less of the task.  weight: w, 1 is `denoiser` alone and asks nobody else, more exaggerates what it does better; or a pair, w above noise
    level `EARLY` and w from there down (Kynkaanniemi et al. 2024 let guidance depend on the level, too).
    Returns denoiser(xt, t) -> x0_hat. Raises ValueError for a weight that is not finite, or neither one nor two.
    """
    weights = weight if isinstance(weight, (tuple, list)) else (weight, weight)
    if len(weights) != 2:
        raise ValueError(f"weight={weight} must be a number or a pair, above and below noise level {EARLY}")
    early, late = weights
    for each in (early, late):
        check_weight("weight", each, "the denoiser alone")
    if early == late == 1:
        return denoiser

    def guided(xt, t, **features):
        x0_weak = weak(xt, t, **features)
        w = torch.where(t > EARLY, early, late).to(xt)
        w = w.view(len(t), 1, *(t.shape[1:] or (1,)), 1, 1)  # as a clip: (b, 1, f or 1, 1, 1)
        return x0_weak + w * (denoiser(xt, t, **features) - x0_weak)

    return guided


def check_weight(name, weight, one="the conditional model"):
    """Raise ValueError unless a guidance weight is a finite number;  one: what a weight of 1 means."""
    if isinstance(weight, str) or not math.isfinite(weight):
        raise ValueError(f"{name}={weight} must be finite; 1 is {one}, 1.5 a usual guidance weight")


def _pairs(schedule, steps):
    times = trailing_times(schedule.num_timesteps, steps) if isinstance(steps, int) else list(steps)
    falling = all(a > b for a, b in zip(times, times[1:]))
    if len(times) < 2 or not falling or times[-1] != 0 or times[0] > schedule.num_timesteps:
        raise ValueError(f"steps={times} must fall from at most {schedule.num_timesteps} to 0")
    return zip(times, times[1:])


def _ancestral(schedule, xt, x0_hat, t, t_next, generator):
    ab, ab_next = schedule.alpha_bar[t].item(), schedule.alpha_bar[t_next].item()
    a = ab / ab_next
    xt = (ab_next**0.5 * (1 - a) / (1 - ab)) * x0_hat + (a**0.5 * (1 - ab_next) / (1 - ab)) * xt
    return xt if t_next == 0 else xt + ((1 - a) * (1 - ab_next) / (1 - ab)) ** 0.5 * _noise_like(xt, generator)


def _level(xt, t):
    return torch.full((xt.shape[0],), t, dtype=torch.long, device=xt.device)


def _noise_like(x, generator):
    # Drawn where the generator lives, so that a CPU generator gives the same noise on every device.
    device = generator.device if generator is not None else x.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
