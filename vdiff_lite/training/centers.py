"""How far off the places are that a tracking network follows."""

from einops import rearrange, reduce

from vdiff_lite.data.bouncing_digits import centroid


def true_centres(x0):
    """The centre of mass of each frame's brightness, in pixels from the middle, (y, x): (b, f, 2)."""
    return centroid((reduce(x0, "b c f h w -> b f h w", "mean") + 1) / 2) - (x0.shape[-1] - 1) / 2


def centre_loss(centres, x0):
    """How far the places that the network follows are from the centres of the clean frames.

        L = sum over blocks of E | centre - centroid |^2 / size^2

    centres: a list of (b, 2, f) in pixels from the middle, what a hook saw at "...centre" and "...seen";  x0:
    (b, c, f, h, w) in [-1, 1]. Returns a scalar.
    """
    truth = true_centres(x0)
    errors = [(rearrange(centre, "b yx f -> b f yx") - truth) / x0.shape[-1] for centre in centres]
    return sum(error.square().sum(-1).mean() for error in errors)
