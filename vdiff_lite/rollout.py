"""Rollout: slide a window along time and yield frames as they are made. Generate: the same from noise."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from vdiff_lite.diffusion.denoiser import Denoiser, Method, Sampler
from vdiff_lite.diffusion.guidance import condition_on_past
from vdiff_lite.diffusion.samplers import ddim, noise_like, run_sampler, sample, sdedit_init

DDIM_25, DDIM_NOISY = partial(ddim, steps=25), partial(ddim, eta=0.5)


def rollout(denoiser: Denoiser, past: Tensor, num_frames: int | None = None, window: int = 16,
            overlap: int = 5, method: Method = condition_on_past, sampler: Sampler = DDIM_25,
            generator: Generator | None = None, bar: bool = False,
            start: int | None = None) -> Iterator[Tensor]:
    """Continue a clip window by window; each window shares `overlap` frames with what came before.

    past: (b, c, k, h, w) in [-1, 1] with k >= overlap;  num_frames: how many new frames, None for no
    end;  window: F frames the network sees at once;  overlap: K, so that a window adds F - K new
    frames;  method: by default the past stands in the window, clean (`history_guidance` with weight 1);  bar:
    show progress. start: None - a window begins with pure noise - or a level t: it begins with `sdedit_init`
    at t, and so must the sampler's levels. Yields frames (b, c, h, w). Memory does not grow with num_frames:
    only the overlap is kept. To go on later, start again with the last frames as the past. Raises ValueError
    before any work when window, overlap and past do not fit together, and what the method has to say about
    its settings.
    """
    if not 1 <= overlap < window:
        raise ValueError(f"overlap={overlap} does not fit a window of {window}: it needs at least one known "
                         "frame and one new frame, 1 <= overlap < window")
    if past.ndim != 5 or past.shape[2] < overlap:
        raise ValueError(f"past has shape {tuple(past.shape)}; overlap={overlap} wants (b, c, k, h, w) with "
                         f"k >= {overlap}")
    if num_frames is not None and num_frames < 0:
        raise ValueError(f"num_frames={num_frames} must be 0 or more, or None for no end")
    past = past[:, :, -overlap:].to(denoiser.device)
    bound = method(denoiser, past)  # says now what is wrong with its settings
    frames = _frames(denoiser, past, num_frames, window, overlap, method, sampler, generator, start, bound)
    return tqdm(frames, total=num_frames, unit="frame", desc=f"{past.shape[0]} clips") if bar else frames


def _frames(denoiser, past, num_frames, window, overlap, method, sampler, generator, start, bound):
    made = 0
    for _ in count():
        if num_frames is not None and made >= num_frames:
            return
        with torch.no_grad():
            if start:
                xt = sdedit_init(denoiser, past, window, start, generator)
            else:
                xt = noise_like(past.new_empty(*past.shape[:2], window, *past.shape[3:]), generator)
            bound = bound or method(denoiser, past)
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
    (chapter 5). sampler, steps: as in `sample`; some fresh noise on the way, eta, mends small
    errors;  window, overlap: as in `rollout`. Returns (clips, c, num_frames, h, w). Raises ValueError unless
    1 <= first < window and num_frames >= 1, and as `rollout` does.
    """
    if not 1 <= first < window or num_frames < 1:
        raise ValueError(f"first={first} must lie between 1 and {window - 1}, fewer frames than the window; "
                         f"num_frames={num_frames}, 1 or more")
    clip = sample(denoiser, clips, min(first, num_frames), sampler, steps, generator)
    sampler = partial(sampler, steps=steps)
    go_on = partial(rollout, denoiser, window=window, sampler=sampler, generator=generator)
    for until, known in ((min(window, num_frames), first), (num_frames, overlap)):
        if clip.shape[2] < until:
            frames = go_on(clip, until - clip.shape[2], overlap=known)
            clip = torch.cat([clip, torch.stack(list(frames), dim=2)], dim=2)
    return clip
