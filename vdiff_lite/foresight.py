"""Teaching a network where things go, before it learns what they look like: from trajectories alone, which cost nothing to draw."""

import torch
import torch.nn.functional as F
from einops import rearrange
from tqdm.auto import tqdm

from .blocks import Context
from .optimizer import make_optimizer
from .rotary import clean_mask, rotary_angles
from .training import draw_noise_levels, true_centres

SHARP, BLUR = 0.07, 0.25  # a sighting is off by SHARP + BLUR noise/signal pixels
LONG_AGO = 12  # frames that stand this far before the others or further are, now and then, from another time
MIX = (0.25, 0.1, 0.6, 0.05)  # shares of the kinds of noise levels, see `training.draw_noise_levels`


def sightings(centre, t, schedule, generator=None):
    """What a good eye makes of things in noise: (b, f, 2), (b, f) long -> (b, f, 2).

        seen = (c + s z) var(c) / (var(c) + s^2),   s = 0.07 + 0.25 sqrt(1 - alpha_bar) / sqrt(alpha_bar) pixels,   z ~ N(0, 1)

    The nearer to pure noise, the more a sighting is a guess; the best guess then lies near the mean. (The law is what the trained network's
    soft-argmax measures, chapter 4.)
    """
    snr = schedule.snr(t.clamp(min=1)).to(centre)
    off = (SHARP + BLUR * torch.where(t > 0, snr, torch.inf) ** -0.5).clamp(max=1e4)[..., None]
    spread = centre.var()
    return (centre + off * torch.randn(centre.shape, generator=generator).to(centre)) * spread / (spread + off**2)


def foresee(net, seen, t, positions):
    """The network's foresight alone: sightings (b, f, 2) at levels t (b, f) and positions (f,) -> (b, f, 2) pixels."""
    angles = rotary_angles(positions, net.config.head_channels).to(seen)
    at = Context(len(seen), None, angles, clean_mask(t), level=t / net.config.num_timesteps)
    blocks = net.decoder[0].temporal.foresee
    return rearrange(blocks(rearrange(seen, "b f yx -> (b f) yx"), at, "alone"), "(b f) yx -> b f yx", b=len(seen))


def teach(net, schedule, data, steps=3000, batch=64, frames=16, lr=2e-3, matrix_lr=0.015, time_lapse=(1, 1, 2), seed=0, bar=True):
    """Teach the foresight of a VideoUNet where things go, from the centres of clean clips and made-up sightings of them.

        L = E smooth_l1(foresee(sightings(c, t)) - c)

    Nothing else of the network is used or changed: in minutes it learns here what the diffusion loss would hardly teach it in hours.
    In every third batch the first frames are those of another clip, told to lie `LONG_AGO` or more
    frames back: what is far away in time may be remembered but not continued.
    data: has `with_frames(n).sample(batch, generator).video`, of one thing that moves;  time_lapse: as in TrainConfig.
    Returns the losses, a float a step.
    """
    blocks = net.decoder[0].temporal.foresee.train().requires_grad_(True)
    device = next(net.parameters()).device
    optimizer = make_optimizer(blocks, lr, matrix_lr)
    losses = []
    for step in tqdm(range(steps), disable=not bar, unit="step", desc="foresight"):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        stride = time_lapse[torch.randint(len(time_lapse), (), generator=generator)]
        centre = true_centres(data.with_frames(frames * stride).sample(batch, generator).video[:, :, ::stride])
        positions, t = torch.arange(frames) * stride, draw_noise_levels(batch, frames, schedule.num_timesteps, MIX, 0.4, generator)
        seen = sightings(centre, t, schedule, generator)
        if step % 3 == 0:
            old, gap = (int(torch.randint(n, (), generator=generator)) for n in (5, LONG_AGO))
            foreign = centre[:, :old + 1].roll(1, 0)
            seen, centre, t = torch.cat([foreign, seen], 1), torch.cat([foreign, centre], 1), F.pad(t, (old + 1, 0))
            positions = torch.cat([torch.arange(-old, 1) - LONG_AGO - gap, positions])
        left = 1 - step / steps
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min(1, (step + 1) / 100) * min(1, 2 * left)
        loss = F.smooth_l1_loss(foresee(net, seen.to(device), t.to(device), positions), centre.to(device), beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(blocks.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses
