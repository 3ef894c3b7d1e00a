"""Rollout: slide a window along time and yield frames as they are made, for ever if asked. Grow: the same from nothing."""

from functools import partial
from itertools import count

import torch
from tqdm.auto import tqdm

from .methods import history_cfg, noised_start
from .samplers import autoguided, ddim, ddpm, finish, sample


def rollout(denoiser, past, num_frames=None, window=16, overlap=5, method=history_cfg, sampler=partial(ddim, steps=25),  # noqa: B008 - a constant
            generator=None, bar=False, start=None):
    """Continue a clip window by window; each window shares `overlap` frames with what came before.

    denoiser: a Denoiser;  past: (b, c, k, h, w) in [-1, 1] with k >= overlap;  num_frames: how many new frames, None
    for no end;  window: F frames the network sees at once;  overlap: K, so that a window adds F - K new frames;
    method(denoiser, past) -> denoiser;  sampler(denoiser, xt, schedule, generator=...) -> Steps;  bar: show progress.
    start: None - a window begins with pure noise - or a level t: it begins with `noised_start` at t, and so must the sampler's levels.
    Yields frames (b, c, h, w). Memory does not grow with num_frames: only the overlap is kept. To go on later, start again with the
    last frames as the past.
    Raises ValueError before any work when window, overlap and past do not fit together, and what the method has to say about its settings.
    """
    if not 1 <= overlap < window:
        raise ValueError(f"overlap={overlap} does not fit a window of {window}: it needs at least one given frame and one new frame, "
                         "1 <= overlap < window")
    if past.ndim != 5 or past.shape[2] < overlap:
        raise ValueError(f"past has shape {tuple(past.shape)}; overlap={overlap} wants (b, c, k, h, w) with k >= {overlap}")
    if num_frames is not None and num_frames < 0:
        raise ValueError(f"num_frames={num_frames} must be 0 or more, or None for no end")
    past = past[:, :, -overlap:].to(denoiser.device)
    frames = _frames(denoiser, past, num_frames, window, overlap, method, sampler, generator, start, guided=method(denoiser, past))
    return tqdm(frames, total=num_frames, unit="frame", desc=f"{past.shape[0]} clips") if bar else frames


def _frames(denoiser, past, num_frames, window, overlap, method, sampler, generator, start, guided):
    made = 0
    for _ in count():
        if num_frames is not None and made >= num_frames:
            return
        shape = (*past.shape[:2], window, *past.shape[3:])
        with torch.no_grad():
            xt = noised_start(denoiser, past, window, start, generator) if start else torch.randn(shape, generator=generator).to(past)
            clip = finish(sampler(guided or method(denoiser, past), xt, denoiser.schedule, generator=generator))
        for frame in clip[:, :, overlap:].unbind(2):
            if num_frames is None or made < num_frames:
                made += 1
                yield frame
        past, guided = clip[:, :, -overlap:], None


def grow(denoiser, clips=1, num_frames=16, sampler=partial(ddim, eta=0.5), steps=25, generator=None, first=None, window=16,  # noqa: B008
         overlap=5, begin=None, begin_steps=50, begin_weight=(3, 1.5)):
    """Clips from noise, the beginning first: `first` frames by themselves, then a window with these as its past, then `rollout`.

    A network that draws sixteen frames at once too faintly may draw three as they should be, and carry them on (chapter 5).
    sampler, steps: as in `sample`; some fresh noise on the way, eta, mends small errors;  window, overlap: as in `rollout`.
    begin: a Denoiser that draws the first frames, `vd.load("digits32_begin")` for example, by `ddpm` with `begin_steps`: a few frames cost
    little, and what is wrong in them is wrong to the end. It is `autoguided` by `begin_weight` away from `denoiser`, which has not learned to
    begin, by more while the shape is decided; 1 leaves it alone. None: the same one, by the same sampler.
    first: None means 3, or 2 with `begin`, which has learned clips of two.
    Returns (clips, c, num_frames, h, w). Raises ValueError unless 1 <= first < window and num_frames >= 1, and as `rollout` does.
    """
    first = (2 if begin else 3) if first is None else first
    if not 1 <= first < window or num_frames < 1:
        raise ValueError(f"first={first} must lie between 1 and {window - 1}, fewer frames than the window; num_frames={num_frames}, 1 or more")
    guided = lambda begin, *rest, **more: ddpm(autoguided(begin, denoiser, begin_weight), *rest, **more)
    how = (guided, begin_steps) if begin else (sampler, steps)
    clip = sample(begin or denoiser, clips, min(first, num_frames), *how, generator)
    go_on = partial(rollout, denoiser, window=window, sampler=partial(sampler, steps=steps), generator=generator)
    for until, given in ((min(window, num_frames), first), (num_frames, overlap)):
        if clip.shape[2] < until:
            clip = torch.cat([clip, torch.stack(list(go_on(clip, until - clip.shape[2], overlap=given)), dim=2)], dim=2)
    return clip
