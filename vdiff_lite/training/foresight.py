"""Teaching a network where things go: from trajectories alone, and later from what it sees itself."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from tqdm.auto import tqdm

from vdiff_lite.diffusion.losses import draw_noise_levels
from vdiff_lite.models.layers import Context
from vdiff_lite.models.rotary import clean_mask, rotary_angles
from vdiff_lite.training.centers import true_centres
from vdiff_lite.training.loop import fit
from vdiff_lite.training.optimizer import make_optimizer

SHARP, BLUR = 0.07, 0.25  # a sighting is off by SHARP + BLUR noise/signal pixels
LONG_AGO = 12  # frames that stand this far before the others or further are, now and then, from another time
MIX = (0.25, 0.1, 0.6, 0.05)  # shares of the kinds of noise levels, see `training.draw_noise_levels`


def sightings(centre, t, schedule, generator=None):
    """What a good eye makes of things in noise: (b, f, 2), (b, f) long -> (b, f, 2).

        seen = (c + s z) var(c) / (var(c) + s^2),   z ~ N(0, 1)
        s = 0.07 + 0.25 sqrt(1 - alpha_bar) / sqrt(alpha_bar) pixels

    The nearer to pure noise, the more a sighting is a guess; the best guess then lies near the mean. (The law
    is what the trained network's soft-argmax measures, chapter 4.)
    """
    snr = schedule.snr(t.clamp(min=1)).to(centre)
    off = (SHARP + BLUR * torch.where(t > 0, snr, torch.inf) ** -0.5).clamp(max=1e4)[..., None]
    spread = centre.var()
    noise = torch.randn(centre.shape, generator=generator).to(centre)
    return (centre + off * noise) * spread / (spread + off**2)


def foresee(net, seen, t, positions):
    """The network's foresight alone: sightings (b, f, 2), levels t (b, f), positions (f,) -> (b, f, 2)."""
    angles = rotary_angles(positions, net.config.head_channels).to(seen)
    at = Context(len(seen), None, angles, clean_mask(t), level=t / net.config.num_timesteps)
    blocks = net.decoder[0].temporal.foresee
    told = blocks(rearrange(seen, "b f yx -> (b f) yx"), at, "alone")
    return rearrange(told, "(b f) yx -> b f yx", b=len(seen))


def go_on(net, past, windows, window=16):
    """The path that foresight alone would take, window after window, with no picture drawn.

    past: (b, k, 2) centres in pixels, fewer than window.  Returns (b, k + windows (window - k), 2), the past
    first.
    """
    b, k, _ = past.shape
    t = torch.full((b, window), net.config.num_timesteps).index_fill(1, torch.arange(k), 0)
    parts = [past]
    for _ in range(windows):
        seen = torch.cat([parts[-1][:, -k:], past.new_zeros(b, window - k, 2)], dim=1)
        with torch.no_grad():
            parts.append(foresee(net, seen, t.to(past.device), torch.arange(window))[:, k:])
    return torch.cat(parts, dim=1)


def watch(net, schedule, data, clips=8192, batch=16, frames=16, frame_stride=(1, 1, 2), seed=0, bar=True):
    """What the network itself sees in noisy clips, to teach its foresight once more.

    What it sees does not depend on its foresight, so it can be collected beforehand. data, time_lapse: as in
    `teach`. Returns {stride: (seen (n, frames, 2), t (n, frames), centre (n, frames, 2))}.
    """
    device, site = next(net.parameters()).device, "decoder.0.temporal.seen"
    batches = {stride: [] for stride in frame_stride}

    def hook(name, value):
        if name == site:
            raise _Seen(value)
        return value

    for n in tqdm(range(math.ceil(clips / batch)), disable=not bar, unit="batch", desc="watching"):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + n)
        stride = frame_stride[torch.randint(len(frame_stride), (), generator=generator)]
        x0 = data.with_frames(frames * stride).sample(batch, generator).video[:, :, ::stride]
        t = draw_noise_levels(batch, frames, schedule.num_timesteps, MIX, 0.4, generator)
        xt = schedule.add_noise(x0, t, torch.randn(x0.shape, generator=generator))
        try:
            with torch.no_grad():
                net(xt.to(device), t.to(device), hook=hook, positions=torch.arange(frames) * stride)
        except _Seen as found:
            batches[stride].append((found.centre.mT.cpu(), t, true_centres(x0)))
    return {stride: tuple(map(torch.cat, zip(*parts))) for stride, parts in batches.items() if parts}


class _Seen(Exception):
    """The rest of the network need not run."""

    def __init__(self, centre):
        self.centre = centre


def foresight_loss(told, centre):
    """How far the places told are off, and the steps between them.

        L = E smooth_l1(told - c; 0.05) + 5 E smooth_l1(told_{f+1} - told_f - c_{f+1} + c_f; 0.02)

    Half a pixel too far in one window is soon forgotten; a step that is a hundredth too short in every window
    brings the thing to rest. The second term, and the small beta of both (the squared error is all about
    bounces that nobody can foresee), make that hundredth count. told, centre: (b, f, 2) in pixels. Returns a
    scalar.
    """
    steps = F.smooth_l1_loss(told.diff(dim=1), centre.diff(dim=1), beta=0.02)
    return F.smooth_l1_loss(told, centre, beta=0.05) + 5 * steps


def teach(net, schedule, data, steps=3000, batch=64, frames=32, lr=2e-3, matrix_lr=0.015,
          frame_stride=(1, 1, 2), watched=None, seed=0, bar=True):
    """Teach the foresight of a VideoUNet where things go, from centres and made-up sightings of them.

        L = foresight_loss(foresee(sightings(c, t)), c)

    Nothing else of the network is used or changed: in minutes it learns here what the diffusion loss would
    hardly teach it in hours. In every fifth batch the first frames are those of another clip, told to lie
    `LONG_AGO` or more frames back: what is far away in time may be remembered but not continued. Paths are
    mirrored at random, and every other batch runs backwards: a thing that bounces without loss may, and a
    foresight that shortened each step would lengthen it on the way back. data: has
    `with_frames(n).sample(batch, generator).video`, of one thing that moves;  time_lapse: as in TrainConfig;
    watched: what `watch` returned; then every other batch of the rest is of that. Returns the losses, a float
    a step.
    """
    blocks, watched = net.decoder[0].temporal.foresee.train().requires_grad_(True), watched or {}
    device = next(net.parameters()).device
    optimizer = make_optimizer(blocks, lr, matrix_lr)
    paths = _trajectories(data, min(64, steps), batch, frames * max(frame_stride), seed, bar)

    def loss_of(step):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        stride = frame_stride[torch.randint(len(frame_stride), (), generator=generator)]
        if stride in watched and step % 5 in (1, 3):
            some = torch.randint(len(watched[stride][0]), (batch,), generator=generator)
            seen, t, centre = (part[some] for part in watched[stride])
            positions = torch.arange(seen.shape[1]) * stride
        else:
            way = paths.flip(1) if step % 2 else paths
            seen, t, centre, positions = _made_up(way, batch, frames, stride, schedule, step % 5 == 0,
                                                  generator)
        mirror = 1 - 2 * torch.randint(2, (batch, 1, 2), generator=generator)
        seen, centre = (seen * mirror).to(device), (centre * mirror).to(device)
        return foresight_loss(foresee(net, seen, t.to(device), positions), centre)

    return fit(optimizer, loss_of, steps, decay=steps // 2, bar=bar, name="foresight")


def teach_once_more(net, schedule, data, courses, seed=0, bar=True):
    """The last training of foresight: stages of so many steps each, with what the network sees (`watch`).

    Course n = 1, 2, .. takes the rates 1e-3 / n and, for matrices, 0.008 / n.  The rest as in `teach`.
    """
    watched = watch(net, schedule, data, clips=clips_to_watch(courses), bar=bar)
    for n, steps in enumerate(courses, 1):
        teach(net, schedule, data, steps, lr=1e-3 / n, matrix_lr=0.008 / n, watched=watched,
              seed=seed + n - 1, bar=bar)


def clips_to_watch(courses):
    """In how many clips `teach_once_more` looks at what the network sees."""
    return min(8192, 64 * sum(courses))


def _made_up(paths, batch, frames, stride, schedule, with_foreign, generator):
    """Sightings (b, f, 2), levels, centres, positions; with_foreign: the first frames are another clip's."""
    draw = lambda n, *shape: torch.randint(n, shape, generator=generator)
    start = int(draw(paths.shape[1] - frames * stride + 1))
    centre = paths[draw(len(paths), batch), start:start + frames * stride:stride]
    positions = torch.arange(frames) * stride
    t = draw_noise_levels(batch, frames, schedule.num_timesteps, MIX, 0.4, generator)
    seen = sightings(centre, t, schedule, generator)
    if with_foreign:
        old, gap = int(draw(5)), int(draw(LONG_AGO))
        foreign = centre[:, :old + 1].roll(1, 0)
        seen, centre = torch.cat([foreign, seen], 1), torch.cat([foreign, centre], 1)
        t = F.pad(t, (old + 1, 0))
        positions = torch.cat([torch.arange(-old, 1) - LONG_AGO - gap, positions])
    return seen, t, centre, positions


def _trajectories(data, batches, batch, frames, seed, bar):
    """The centres of many clips, drawn once: (batches * batch, frames, 2)."""
    data, draw = data.with_frames(frames), torch.Generator().manual_seed(seed)
    return torch.cat([true_centres(data.sample(batch, draw).video)
                      for _ in tqdm(range(batches), disable=not bar, unit="batch", desc="trajectories")])
