"""What training lowers: the error of v, and how far off the places are that the network follows."""

import torch
from einops import rearrange, reduce

from .data import centroid

WEIGHTINGS = {
    "v": torch.ones_like,
    "x0": lambda snr: 1 / (snr + 1),
    "min_snr": lambda snr: snr.clamp(max=5) / (snr + 1),
}


def v_loss(net, schedule, x0, t, eps, weighting="v", **more):
    """Mean squared error of v over the frames that are noisy.

        L = E || v_hat(x_t, t) - v ||^2                                      (Salimans and Ho 2022, App. D)

    Given frames (t = 0) hold no noise and teach nothing: they do not count. An error of v is an error of x_0 times
    sqrt(snr + 1), so a frame's weight says what is asked for:
      "v"        1: as it stands; low noise counts most
      "x0"       1 / (snr + 1): the squared error of x_0; high noise, where motion and identity are decided, counts most
      "min_snr"  min(snr, 5) / (snr + 1)                                          (Hang et al. 2023, Sec. 3.4)
    x0, eps: (b, c, f, h, w);  t: (b, f) long;  more: what else the network is told, by name. Returns a scalar.
    """
    error = (net(schedule.add_noise(x0, t, eps), t, **more) - schedule.v(x0, t, eps)) ** 2
    error = reduce(error, "b c f h w -> b f", "mean")
    noisy = t > 0
    snr = schedule.snr(torch.where(noisy, t, 1)).to(error)
    return (noisy * WEIGHTINGS[weighting](snr) * error).sum() / noisy.sum().clamp(min=1)


def true_centres(x0):
    """The centre of mass of each frame's brightness, in pixels from the middle: (b, c, f, h, w) in [-1, 1] -> (b, f, 2) as (y, x)."""
    return centroid((reduce(x0, "b c f h w -> b f h w", "mean") + 1) / 2) - (x0.shape[-1] - 1) / 2


def centre_loss(centres, x0):
    """How far the places that the network follows are from the centre of mass of the clean frames' brightness.

        L = sum over blocks of E | centre - centroid |^2 / size^2

    centres: a list of (b, 2, f) in pixels from the middle, what a tap saw at "...centre" and "...seen";  x0: (b, c, f, h, w) in [-1, 1].
    Returns a scalar.
    """
    want = true_centres(x0)
    return sum(((rearrange(centre, "b yx f -> b f yx") - want) / x0.shape[-1]).square().sum(-1).mean() for centre in centres)
