"""The last given frame, repeated: the trivial baseline that every method must beat."""

import torch


def copy_last(denoiser, past):
    """Predict that nothing moves. past: (b, c, k, h, w), the first k frames of the window; the network is not asked.

    Returns denoiser(xt, t) -> x0_hat: `past`, then its last frame for the rest of the window.
    """

    def still(xt, t, **features):
        known = past.to(xt)
        return torch.cat([known, known[:, :, -1:].expand(-1, -1, xt.shape[2] - known.shape[2], -1, -1)], dim=2)

    return still
