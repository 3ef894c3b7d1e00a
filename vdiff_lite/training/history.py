"""Training an encoder of the past, and the network to listen to it."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F

from vdiff_lite.data.batch import ClipSource
from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.losses import draw_noise_levels, v_loss
from vdiff_lite.diffusion.samplers import noise_like
from vdiff_lite.models.history_encoder import HistoryEncoder, encoder_kwargs, trained_parts
from vdiff_lite.training.loop import fit


def train_history(denoiser: Denoiser, encoder: HistoryEncoder, data: ClipSource, steps: int = 400,
                  batch: int = 8, new: int = 11, lr: float = 1e-3, dropout: float = 0.1,
                  high_noise_fraction: float = 0.5, seed: int = 0, draft_steps: int = 1000,
                  draft_batch: int = 64, on_step: Callable | None = None) -> tuple:
    """Train an encoder to predict `new` frames from past ones, and the network to listen to it.

    First the embedding and the draft, by the squared error of the draft (`draft_steps`): cheap, since no
    network is in it. Then, with these fixed, what is told, and the network's modulation, by the squared error
    of x_0 (`steps`). In half of all steps the past has all `encoder.frames`: few frames do not show motion,
    and an encoder that sees mostly such learns none. The network is copied; everything but its modulation
    stays as it is. The past is dropped in a fraction `dropout` of the clips, so that the unconditional branch
    of guidance stays. Returns (denoiser, encoder, losses of the second part); on_step(n, loss) is called
    after each step of both.
    """
    net = copy.deepcopy(denoiser.net).train().requires_grad_(False)
    parts = trained_parts(net)
    told = {name: p for name, p in encoder.named_parameters() if name.startswith(("tell", "show"))}
    drafting = [p for name, p in encoder.named_parameters() if name not in told]
    for p in parts.values():
        p.requires_grad_(True)

    def draw(n, clips):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + n)
        k = encoder.frames
        if n % 4 < 2:
            k = int(torch.randint(1, k + 1, (), generator=generator))
        clip = data.with_frames(k + new).sample(clips, generator).video.to(denoiser.device)
        return clip[:, :, :k], clip[:, :, k:], generator

    def draft_loss(n):
        past, future, generator = draw(n, draft_batch)
        some = torch.randperm(new, generator=generator)[:4].tolist()
        return F.mse_loss(encoder.draft(encoder.embed(past), some), future[:, :, some])

    def diffusion_loss(n):
        past, future, generator = draw(draft_steps + n, batch)
        t = draw_noise_levels(batch, new, denoiser.schedule.num_timesteps, (1, 0, 0, 0), high_noise_fraction,
                              generator)
        keep = torch.rand(batch, generator=generator) >= dropout
        eps = noise_like(future, generator)
        kwargs = encoder_kwargs(encoder(past, new, keep.to(future.device)))
        return v_loss(net, denoiser.schedule, future, t.to(future.device), eps, "x0", **kwargs)

    adamw = lambda *groups: torch.optim.AdamW([dict(params=list(params), lr=lr) for params, lr in groups],
                                              weight_decay=0.01)
    fit(adamw((drafting, 2 * lr)), draft_loss, draft_steps, warmup=50, bar=False, on_step=on_step)
    encoder.requires_grad_(False)
    for p in told.values():
        p.requires_grad_(True)
    after = on_step and (lambda n, loss: on_step(draft_steps + n, loss))
    optimizer = adamw((told.values(), 5 * lr), (parts.values(), lr))
    losses = fit(optimizer, diffusion_loss, steps, warmup=50, bar=False, on_step=after)
    heard = Denoiser(net.eval().requires_grad_(False), denoiser.schedule)
    return heard, encoder.eval().requires_grad_(False), losses
