"""The past, noised to the level of the day, is put into the window: the oldest way to continue, and no training."""

import torch


def replacement(denoiser, past, fresh=False, generator=None):
    """Overwrite the overlap with the noised past at every level; the network denoises the window as one clip.

        z_past ~ q(x_t | past);   x0_hat = [past, x0_hat_new(z)]       (Song et al. 2021, App. I.2; Ho et al. 2022, Sec. 3.1)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  fresh: draw new noise for the past at every
    level from `generator`. Otherwise the sampler's own noise is kept: since x0_hat *is* the past there, every sampler
    of this library carries z_past along by itself.  `samplers.resampled` around it is RePaint.
    Returns denoiser(xt, t) -> x0_hat whose first k frames are `past` exactly.
    """
    k = past.shape[2]

    def replaced(xt, t, **features):
        known = past.to(xt)
        if fresh:
            noise = torch.randn(known.shape, generator=generator, device=generator.device if generator else xt.device).to(xt)
            levels = t if t.ndim == 1 else t[:, :k]
            xt = torch.cat([denoiser.schedule.add_noise(known, levels, noise), xt[:, :, k:]], dim=2)
        return torch.cat([known, denoiser(xt, t, **features)[:, :, k:]], dim=2)

    return replaced
