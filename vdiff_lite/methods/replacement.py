"""The past, noised to the sampler's level, is put into the window: the oldest method, without training."""

import torch
from torch import Generator, Tensor

from vdiff_lite.checks import one_of
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, per_frame
from vdiff_lite.diffusion.samplers import noise_like


class replacement(DenoiserWrapper):
    """Overwrite the overlap with the noised past at every level; the network denoises the window as one clip.

        z_past ~ q(x_t | past);   x0_hat = [past, x0_hat_new(z)]
                                                     (Song et al. 2021, App. I.2; Ho et al. 2022, Sec. 3.1)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  fresh: draw new noise for the past at
    every level from `generator`. Otherwise the sampler's own noise is kept: since x0_hat is the past there,
    every sampler of this library carries z_past along by itself.  With the sampler `repaint` it is RePaint.
    The first k frames of x0_hat are `past` exactly.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor, fresh: bool = False,
                 generator: Generator | None = None):
        super().__init__(denoiser)
        one_of((True, False), fresh=fresh)
        self.past, self.fresh, self.generator, self.takes_hooks = past, fresh, generator, False

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        known, k = self.past.to(xt), self.past.shape[2]
        if self.fresh:
            levels = per_frame(t, xt.shape[0], xt.shape[2])[:, :k]
            noised = self.schedule.add_noise(known, levels, noise_like(known, self.generator))
            xt = torch.cat([noised, xt[:, :, k:]], dim=2)
        return torch.cat([known, self.inner(xt, t, **model_kwargs)[:, :, k:]], dim=2)
