"""Rollout: slide a window along time and yield frames as they are made. Generate: the same from noise."""

import warnings
from collections.abc import Iterator
from functools import partial
from itertools import count

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from vdiff_lite import checks
from vdiff_lite.checks import whole
from vdiff_lite.diffusion.denoiser import Denoiser, Method, Sampler
from vdiff_lite.diffusion.guidance import condition_on_past, conditioned
from vdiff_lite.diffusion.samplers import ddim, noise_like, run_sampler, sample, sdedit_init

DDIM_25, DDIM_NOISY = partial(ddim, steps=25), partial(ddim, eta=0.5)


def rollout(denoiser: Denoiser, past: Tensor, num_frames: int | None = None, window: int = 16,
            overlap: int = 5, method: Method = condition_on_past, sampler: Sampler = DDIM_25,
            generator: Generator | None = None, bar: bool = False, start: int | None = None,
            condition: Tensor | None = None, condition_weight: float = 1.0) -> Iterator[Tensor]:
    """Continue a clip window by window; each window shares `overlap` frames with what came before.

    past: (b, c, k, h, w) in [-1, 1] with k >= overlap;  num_frames: how many new frames, None for no
    end;  window: F frames the network sees at once;  overlap: K, so that a window adds F - K new
    frames;  method: by default the past stands in the window, clean (`history_guidance` with weight 1);  bar:
    show progress.  start: None - a window begins with pure noise - or a level t: it begins with `sdedit_init`
    at t, and so must the sampler's levels.  generator: one, or one per clip, as in `noise_like`.
    condition: (b, n, width), what the network is told of the last `overlap` frames of the past and of those
    to come, its last row for ever;  condition_weight: as in `conditioned`. Yields frames (b, c, h, w). Memory
    does not grow with num_frames: only the overlap is kept. To go on later, start again with the last frames
    as the past. Raises ValueError before any work when window, overlap and past do
    not fit together, for a past that is not float, not finite or far out of [-1, 1], and what the method has
    to say about its settings.
    """
    whole(window=window, overlap=overlap)
    if overlap >= window:
        raise ValueError(f"overlap={overlap} does not fit a window of {window}: it needs at least one known "
                         "frame and one new frame, 1 <= overlap < window")
    checks.clips(denoiser.sample_shape, past=past)
    if past.shape[2] < overlap:
        raise ValueError(f"past has {past.shape[2]} frames; overlap={overlap} wants {overlap} or more")
    if past.min() >= 0 and past.max() > 0:
        warnings.warn("past has no pixel below 0; if they lie in [0, 1], give 2 * past - 1", stacklevel=2)
    if num_frames is not None:
        whole(0, num_frames=num_frames)
    if start is not None:
        whole(1, denoiser.schedule.num_timesteps, start=start)
    checks.memory(denoiser.net, past.shape[0] * window, denoiser.device)
    if condition is not None and (condition.ndim != 3 or condition.shape[1] <= overlap):
        raise ValueError(f"condition has shape {tuple(condition.shape)}; it must be (b, {overlap + 1} or more"
                         f", n), of overlap={overlap} frames of the past and those to come")

    def bind(past, made):
        if condition is None:
            return method(denoiser, past)
        index = torch.arange(made, made + window).clamp(max=condition.shape[1] - 1)
        return method(conditioned(denoiser, condition[:, index], condition_weight), past)

    past = past[:, :, -overlap:].to(denoiser.device)
    bound = bind(past, 0)  # says now what is wrong with its settings
    frames = _frames(denoiser, past, num_frames, window, overlap, bind, sampler, generator, start, bound)
    return tqdm(frames, total=num_frames, unit="frame", desc=f"{past.shape[0]} clips") if bar else frames


def _frames(denoiser, past, num_frames, window, overlap, bind, sampler, generator, start, bound):
    made = 0
    for _ in count():
        if num_frames is not None and made >= num_frames:
            return
        with torch.no_grad():
            if start:
                xt = sdedit_init(denoiser, past, window, start, generator)
            else:
                xt = noise_like(past.new_empty(*past.shape[:2], window, *past.shape[3:]), generator)
            bound = bound or bind(past, made)
            clip = run_sampler(sampler(bound, xt, denoiser.schedule, generator=generator))
        for frame in clip[:, :, overlap:].unbind(2):
            if num_frames is None or made < num_frames:
                made += 1
                yield frame
        past, bound = clip[:, :, -overlap:], None


def generate(denoiser: Denoiser, clips: int = 1, num_frames: int = 16, sampler: Sampler = DDIM_NOISY,
             steps: int = 25, generator: Generator | None = None, first: int = 1, window: int = 16,
             overlap: int = 5) -> Tensor:
    """Clips from noise: `first` frames alone, then a window with these as its past, then `rollout`.

    A network that draws sixteen frames at once too faintly may draw one as it should be, and carry it on
    (chapter 5). sampler, steps: as in `sample`; some fresh noise on the way, eta, mends small errors;
    generator: one, or one per clip;  window, overlap: as in `rollout`. Returns (clips, c, num_frames, h, w).
    Raises ValueError unless 1 <= first < window and num_frames >= 1, and as `rollout` does.
    """
    return torch.stack([*generated_frames(denoiser, clips, num_frames, sampler, steps, generator, first,
                                          window, overlap)], dim=2)


def generated_frames(denoiser: Denoiser, clips: int = 1, num_frames: int = 16,
                     sampler: Sampler = DDIM_NOISY, steps: int = 25, generator: Generator | None = None,
                     first: int = 1, window: int = 16, overlap: int = 5) -> Iterator[Tensor]:
    """What `generate` returns, frame by frame, (clips, c, h, w): memory does not grow with num_frames."""
    whole(window=window, num_frames=num_frames)
    for name, value in dict(first=first, overlap=overlap).items():
        whole(1, window - 1, **{name: value})
    clip = sample(denoiser, clips, min(first, num_frames), sampler, steps, generator)
    yield from clip.unbind(2)
    go_on = partial(rollout, denoiser, window=window, sampler=partial(sampler, steps=steps),
                    generator=generator)
    until = min(window, num_frames)
    if first < until:
        frames = list(go_on(clip, until - first, overlap=first))
        yield from frames
        clip = torch.cat([clip, torch.stack(frames, dim=2)], dim=2)
    if until < num_frames:
        yield from go_on(clip, num_frames - until, overlap=overlap)
