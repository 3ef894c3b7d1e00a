"""The past, squeezed into a few numbers that the network is told: the compressed form of guidance on history."""

import copy
import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .. import checkpoint
from ..denoiser import Denoiser
from ..losses import v_loss
from ..samplers import check_weight
from ..training import draw_noise_levels

FORMAT = "vdiff_lite-history-2"


class HistoryEncoder(nn.Module):
    """Some past frames -> one embedding of `size` numbers -> what the network is told about the frames to come.

    Convolutions over the past frames, one upon the other as channels (black where there are fewer than `frames`), are squeezed to `size`
    numbers: `embed`. From these alone it tells two things: a vector, added to the noise-level embedding of every block, so that it scales
    and shifts their channels; and a `draft` of each new frame, which a convolution turns into features, added after the first stage of the
    UNet. (Scales and shifts are the same at every place of a frame; where something is can hardly be said with them.)

    encoder(past, f, keep=None) -> (vector (b, time_channels), features (b, channels, f, h, w)): past (b, c, n, h, w) with
    1 <= n <= frames, the latest frame last; f <= ahead new frames; keep (b,) bool, False where the past is dropped (training). Born
    silent: both last layers are zero.
    """

    def __init__(self, size=64, frames=10, in_channels=1, image=32, time_channels=128, channels=32, patch=2, width=128, ahead=32):
        super().__init__()
        self.config = dict(size=size, frames=frames, in_channels=in_channels, image=image, time_channels=time_channels, channels=channels,
                           patch=patch, width=width, ahead=ahead)
        self.frames, self.ahead = frames, ahead
        down = lambda a, b: (nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU())
        self.look = nn.Sequential(*down(frames * in_channels, 32), *down(32, 64), *down(64, 64), nn.Flatten(),
                                  nn.Linear(64 * (image // 8) ** 2, 2 * width), nn.SiLU(), nn.Linear(2 * width, size))
        self.tell = nn.Linear(size, time_channels)
        self.unsqueeze, self.when, self.think = nn.Linear(size, 2 * width), nn.Embedding(ahead, 2 * width), nn.Linear(2 * width, 2 * width)
        self.draw = nn.Sequential(nn.Linear(2 * width, 16 * (image // 4) ** 2), nn.Unflatten(-1, (16, image // 4, image // 4)), nn.SiLU(),
                                  nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1), nn.SiLU(),
                                  nn.Conv2d(16, 4 * in_channels, 3, padding=1), nn.PixelShuffle(2))
        self.show = nn.Conv2d(in_channels, channels, patch, stride=patch, bias=False)
        for weight in (self.tell.weight, self.tell.bias, self.show.weight):
            nn.init.zeros_(weight)

    def embed(self, past):
        """The embedding itself: (b, size)."""
        if not 1 <= past.shape[2] <= self.frames:
            raise ValueError(f"past has {past.shape[2]} frames; this encoder reads 1 to {self.frames}")
        missing = self.frames - past.shape[2]
        return self.look(rearrange(F.pad(past, (0, 0, 0, 0, missing, 0), value=-1.0), "b c f h w -> b (f c) h w"))

    def draft(self, embedding, frames):
        """New frames as they can be drawn from the embedding alone: (b, c, len(frames), h, w); frames: which ones, 0 the first."""
        if max(frames) >= self.ahead:
            raise ValueError(f"new frame {max(frames) + 1} lies too far ahead; this encoder drafts the first {self.ahead}")
        when = self.when(torch.as_tensor(frames, device=embedding.device))
        x = F.silu(self.unsqueeze(embedding)[:, None] + when)
        x = self.draw(rearrange(x + F.silu(self.think(x)), "b f d -> (b f) d"))
        return rearrange(x, "(b f) c h w -> b c f h w", b=len(embedding)) - 1

    def forward(self, past, f, keep=None):
        embedding = self.embed(past)
        shown = self.show(rearrange(self.draft(embedding, range(f)), "b c f h w -> (b f) c h w"))
        told = self.tell(embedding), rearrange(shown, "(b f) c h w -> b c f h w", b=len(past))
        return told if keep is None else tuple(x * keep.to(x).view(-1, *[1] * (x.ndim - 1)) for x in told)


def history_encoder(denoiser, past, encoder, weight=1.0):
    """Condition on an embedding of the past, and guide towards it.

        x0_hat = u + w (c - u),   c = x0_hat(x_t | encoder(past)),   u = x0_hat(x_t)              (Ho and Salimans 2022, Eq. 6)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window; the encoder reads the last `encoder.frames` of them, and only the
    F - k new frames pass through the network;  weight: w;  encoder: a HistoryEncoder trained with this denoiser (`load_history`).
    Returns denoiser(xt, t) -> x0_hat whose first k frames are `past`. Raises ValueError for a weight that is not finite.
    """
    check_weight("weight", weight)
    k = past.shape[2]
    told = {}  # by the number of new frames

    def guided(xt, t, **features):
        new, level = xt[:, :, k:], t if t.ndim == 1 else t[:, k:]
        f = new.shape[2]
        if f not in told:
            with torch.no_grad():
                told[f] = encoder(past[:, :, -encoder.frames:].to(xt), f)
        c = denoiser(new, level, **hearing(told[f], features))
        if weight != 1:
            u = denoiser(new, level, **features)
            c = u + weight * (c - u)
        return torch.cat([past.to(xt), c], dim=2)

    return guided


def hearing(told, features=None):
    """What an encoder told, as keywords for a network: its vector as `condition`; its features through a tap, after the first stage."""
    vector, shown = told
    outer = (features or {}).get("tap") or (lambda site, x: x)
    return (features or {}) | dict(condition=vector, tap=lambda site, x: outer(site, x + shown if site == "encoder.0" else x))


def trained_parts(net):
    """The parts of a network that learn to listen to an encoder: what turns the noise-level embedding into scales and shifts."""
    return {name: p for name, p in net.named_parameters() if "modulation" in name}


def train_history(denoiser, encoder, data, steps=400, batch=8, new=11, lr=1e-3, dropout=0.1, high=0.5, seed=0,
                  draft_steps=1000, draft_batch=64, on_step=None):
    """Train an encoder to foresee `new` frames from 1 to `encoder.frames` past ones, and the network to listen to it.

    First the embedding and the draft, by the squared error of the draft (`draft_steps`): cheap, since no network is in it. Then, with these
    fixed, what is told, and the network's modulation, by the squared error of x_0 (`steps`). In half of all steps the past has all
    `encoder.frames`: few frames do not show motion, and an encoder that sees mostly such learns none. The network is copied; everything
    but its modulation stays as it is. The past is dropped in a share `dropout` of the clips, so that the unconditional branch of guidance
    stays.
    Returns (denoiser, encoder, losses of the second part); on_step(n, loss) is called after each step of both.
    """
    net = copy.deepcopy(denoiser.net).train().requires_grad_(False)
    parts = trained_parts(net)
    told = {name: p for name, p in encoder.named_parameters() if name.startswith(("tell", "show"))}
    foreseen = [p for name, p in encoder.named_parameters() if name not in told]
    for p in parts.values():
        p.requires_grad_(True)

    def draw(n, clips):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + n)
        k = int(torch.randint(1, encoder.frames + 1, (), generator=generator)) if n % 4 < 2 else encoder.frames
        clip = data.with_frames(k + new).sample(clips, generator).video.to(denoiser.device)
        return clip[:, :, :k], clip[:, :, k:], generator

    def draft_loss(n):
        past, future, generator = draw(n, draft_batch)
        some = torch.randperm(new, generator=generator)[:4].tolist()
        return F.mse_loss(encoder.draft(encoder.embed(past), some), future[:, :, some])

    def diffusion_loss(n):
        past, future, generator = draw(n, batch)
        t = draw_noise_levels(batch, new, denoiser.schedule.num_timesteps, (1, 0, 0, 0), high, generator).to(future.device)
        keep = torch.rand(batch, generator=generator) >= dropout
        eps = torch.randn(future.shape, generator=generator).to(future)
        return v_loss(net, denoiser.schedule, future, t, eps, "x0", **hearing(encoder(past, new, keep.to(future.device))))

    _descend([dict(params=foreseen, lr=2 * lr)], draft_loss, draft_steps, 0, on_step)
    encoder.requires_grad_(False)
    for p in told.values():
        p.requires_grad_(True)
    groups = [dict(params=list(told.values()), lr=5 * lr), dict(params=list(parts.values()), lr=lr)]
    losses = _descend(groups, diffusion_loss, steps, draft_steps, on_step)
    return Denoiser(net.eval().requires_grad_(False), denoiser.schedule), encoder.eval().requires_grad_(False), losses


def _descend(groups, loss_of, steps, first, on_step):
    """AdamW over parameter groups, the rate first raised and then brought down. Returns the losses."""
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    shape = lambda n: min(1.0, (n + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * n / max(steps, 1))))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    losses = []
    for n in range(first, first + steps):
        loss = loss_of(n)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if on_step:
            on_step(n + 1, losses[-1])
    return losses


def save_history(path, denoiser, encoder, base, **about):
    """Write an encoder and the modulation trained with it; `base`: the name of the checkpoint that the rest is taken from."""
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"net.{name}": value for name, value in trained_parts(denoiser.net).items()}
    return checkpoint.write(path, tensors, FORMAT, base=base, base_sha256=checkpoint.read_card(base)["sha256"], encoder=encoder.config,
                            parameters=sum(p.numel() for p in encoder.parameters()), **about)


def load_history(path, device="cpu"):
    """An encoder and the denoiser that listens to it: (denoiser, encoder). Raises CheckpointError when they do not fit together."""
    path, card = checkpoint.verified(path, FORMAT)
    denoiser = checkpoint.load(card["base"], device)
    if denoiser.card["sha256"] != card["base_sha256"]:
        raise checkpoint.CheckpointError(f"{path} was trained with another {card['base']}; train it again with that one")
    tensors, _ = checkpoint.read_tensors(path)
    part = lambda prefix: {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    encoder = HistoryEncoder(**card["encoder"])
    encoder.load_state_dict(part("encoder."))
    denoiser.net.load_state_dict(denoiser.net.state_dict() | part("net."))
    return denoiser, encoder.to(device).eval().requires_grad_(False)
