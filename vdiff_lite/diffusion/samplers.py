"""Samplers: generators of Steps, from noise to a clip. They see only denoiser(xt, t) -> x0_hat."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Generator, Tensor

from vdiff_lite.checks import LARGEST_SEED, memory, number, whole
from vdiff_lite.diffusion.denoiser import Denoiser, Sampler, Step
from vdiff_lite.diffusion.schedule import NoiseSchedule


def trailing_times(num_timesteps: int, steps: int) -> list[int]:
    """Noise levels of a run of `steps` evaluations, from pure noise down, and 0 at the end.

        t_i = round(T (1 - i / steps)), i = 0 .. steps       ("trailing" spacing, Lin et al. 2024, Sec. 3.3)

    Returns steps + 1 ints, falling. Raises ValueError unless 1 <= steps <= num_timesteps.
    """
    whole(1, num_timesteps, steps=steps)
    return [round(num_timesteps * (steps - i) / steps) for i in range(steps + 1)]


def ddpm(denoiser: Denoiser, xt: Tensor, schedule: NoiseSchedule,
         steps: int | list = 1000, generator: Generator | None = None) -> Iterator[Step]:
    """Ancestral sampling: draw x_{t_next} from the posterior of the forward process, with x0_hat for x_0.

        mean = sqrt(ab') b / (1 - ab) x0_hat + sqrt(a) (1 - ab') / (1 - ab) x_t,
        variance = b (1 - ab') / (1 - ab)
        with ab = alpha_bar_t, ab' = alpha_bar_{t_next}, a = ab / ab', b = 1 - a  (Ho et al. 2020, Eq. 6, 7)

    xt: (b, c, f, h, w) pure noise;  steps: how many levels (trailing), or the levels, falling to 0.
    Yields Step at each level. Deterministic for one state of the generator.
    """
    for t, t_next in _pairs(schedule, steps):
        x0_hat = denoiser(xt, noise_level(xt, t))
        yield Step(t, xt, x0_hat)
        xt = _ancestral(schedule, xt, x0_hat, t, t_next, generator)
    yield Step(0, xt, xt)


def ddim(denoiser: Denoiser, xt: Tensor, schedule: NoiseSchedule, steps: int | list = 25, eta: float = 0.0,
         generator: Generator | None = None) -> Iterator[Step]:
    """Step towards x0_hat along the same noise; eta mixes in fresh noise.

        x_{t_next} = sqrt(ab') x0_hat + sqrt(1 - ab' - s^2) eps_hat + s z,
        s = eta sqrt((1 - ab') / (1 - ab)) sqrt(1 - ab / ab')             (Song et al. 2021, Eq. 12 and 16)

    eta = 0 is deterministic; eta = 1 is DDPM.  Arguments and Steps as in `ddpm`. Raises ValueError for eta
    outside 0 .. 1.
    """
    number(0, 1, eta=eta)
    for t, t_next in _pairs(schedule, steps):
        x0_hat = denoiser(xt, noise_level(xt, t))
        yield Step(t, xt, x0_hat)
        ab, ab_next = schedule.alpha_bar[t].item(), schedule.alpha_bar[t_next].item()
        eps_hat = (xt - ab**0.5 * x0_hat) / (1 - ab) ** 0.5
        sigma = eta * ((1 - ab_next) / (1 - ab) * (1 - ab / ab_next)) ** 0.5
        xt = ab_next**0.5 * x0_hat + max(0.0, 1 - ab_next - sigma**2) ** 0.5 * eps_hat
        if sigma > 0:
            xt = xt + sigma * noise_like(xt, generator)
    yield Step(0, xt, xt)


def repaint(denoiser: Denoiser, xt: Tensor, schedule: NoiseSchedule, steps: int | list = 25, repeats: int = 4,
            jump: int = 1, generator: Generator | None = None) -> Iterator[Step]:
    """RePaint: DDPM with resampling: each stretch of `jump` steps is taken `repeats` times.

        up: x_t = sqrt(ab / ab') x_{t'} + sqrt(1 - ab / ab') z, ab = alpha_bar_t, ab' = alpha_bar_{t'}, t > t'
                                                                            (Lugmayr et al. 2022, Algorithm 1)

    Each repeat lets the new frames settle with the overlap that a method puts in. repeats=1 is `ddpm`. Takes
    steps x repeats network evaluations. Arguments and Steps as in `ddpm`. Raises ValueError unless repeats
    and jump are 1 or more.
    """
    whole(repeats=repeats, jump=jump)
    times = [pair[0] for pair in _pairs(schedule, steps)] + [0]
    for i in range(0, len(times) - 1, jump):
        part = times[i:i + jump + 1]
        for repeat in range(repeats):
            for t, t_next in zip(part, part[1:]):
                x0_hat = denoiser(xt, noise_level(xt, t))
                yield Step(t, xt, x0_hat)
                xt = _ancestral(schedule, xt, x0_hat, t, t_next, generator)
            if repeat < repeats - 1:
                kept = (schedule.alpha_bar[part[0]] / schedule.alpha_bar[part[-1]]).item()
                xt = kept**0.5 * xt + (1 - kept) ** 0.5 * noise_like(xt, generator)
    yield Step(0, xt, xt)


def dpmpp_2m(denoiser: Denoiser, xt: Tensor, schedule: NoiseSchedule, steps: int | list = 15,
             generator: Generator | None = None) -> Iterator[Step]:
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
        x0_hat = denoiser(xt, noise_level(xt, t))
        yield Step(t, xt, x0_hat)
        h = half_log_snr[t_next] - half_log_snr[t]
        first_order = last is None or t_next == 0
        d = x0_hat if first_order else x0_hat + (h / (2 * h_last)).item() * (x0_hat - last)
        xt = (noise[t_next] / noise[t]).item() * xt - (signal[t_next] * torch.expm1(-h)).item() * d
        last, h_last = x0_hat, h
    yield Step(0, xt, xt)


SAMPLERS = {"ddpm": ddpm, "repaint": repaint, "ddim": ddim, "dpmpp_2m": dpmpp_2m}


def run_sampler(steps: Iterable[Step]) -> Tensor:
    """Run a sampler to its end. Returns the clip (b, c, f, h, w)."""
    for step in steps:
        pass
    return step.xt


def sample(denoiser: Denoiser, clips: int = 1, num_frames: int = 16, sampler: Sampler = ddim,
           steps: int | list = 25, generator: Generator | None = None, **options) -> Tensor:
    """Clips from noise: unconditional sampling, all frames at once.

    sampler, steps, options: as the sampler takes them.  Returns (clips, c, num_frames, h, w), about in [-1,
    1], on the denoiser's device, with its `sample_shape`. Raises ValueError for less than one clip or frame.
    """
    whole(clips=clips, num_frames=num_frames)
    memory(denoiser.net, clips * num_frames, denoiser.device)
    c, h, w = denoiser.sample_shape
    xt = noise_like(torch.empty(clips, c, num_frames, h, w, device=denoiser.device), generator)
    with torch.no_grad():
        return run_sampler(sampler(denoiser, xt, denoiser.schedule, steps, generator=generator, **options))


def sdedit_init(denoiser: Denoiser, past: Tensor, window: int, t: int,
                generator: Generator | None = None) -> Tensor:
    """A start that is not pure noise: the past, then its last frame repeated, all noised to level t.

        x_t = sqrt(alpha_bar_t) [past, last, last, ...] + sqrt(1 - alpha_bar_t) eps         (Meng et al. 2022)

    past: (b, c, k, h, w);  window: F;  t: 1 .. num_timesteps. Returns (b, c, F, h, w), for a sampler whose
    levels begin at t.
    """
    still = torch.cat([past, past[:, :, -1:].expand(-1, -1, window - past.shape[2], -1, -1)], dim=2)
    return denoiser.schedule.add_noise(still, noise_level(past, t), noise_like(still, generator))


def noise_level(clip: Tensor, t: int) -> Tensor:
    """One noise level for every clip of a batch: (b, ...) -> (b,) long, filled with t."""
    return torch.full((clip.shape[0],), t, dtype=torch.long, device=clip.device)


def seeded(seed: int, clips: int = 1) -> list[Generator]:
    """A generator per clip: clip i draws by seed + i, so that it is the same among 3 clips and among 300."""
    whole(0, LARGEST_SEED, seed=seed)
    return [Generator().manual_seed(seed + i) for i in range(clips)]


def noise_like(x: Tensor, generator: Generator | Sequence[Generator] | None = None) -> Tensor:
    """Noise N(0, 1) shaped as x, drawn where the generator lives: one seed, one noise, on any device.

    generator: one for all clips, or one per clip (`seeded`).
    """
    if isinstance(generator, Sequence):
        return torch.cat([noise_like(clip, one) for clip, one in zip(x.split(1), generator, strict=True)])
    device = generator.device if generator is not None else "cpu"
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


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
    return xt if t_next == 0 else xt + ((1 - a) * (1 - ab_next) / (1 - ab)) ** 0.5 * noise_like(xt, generator)
