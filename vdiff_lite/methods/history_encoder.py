"""The past, squeezed into a few numbers that scale and shift the network's blocks: the compressed form of guidance on history."""

import copy
import math
from pathlib import Path

import torch
from einops import rearrange
from torch import nn

from .. import checkpoint
from ..denoiser import Denoiser
from ..training import draw_noise_levels, v_loss
from .history_cfg import check_weight

FORMAT = "vdiff_lite-history-1"


class HistoryEncoder(nn.Module):
    """Some past frames -> one embedding of `size` numbers -> what is added to the noise-level embedding of every block.

    Convolutions turn each frame into a token, the tokens look at each other once, their mean is squeezed to `size` numbers.
    encoder(past, keep=None) -> (b, time_channels): past (b, c, n, h, w) with 1 <= n <= frames, the latest frame last; keep (b,) bool,
    False where the past is dropped (training). Born silent: the last layer is zero.
    """

    def __init__(self, size=64, frames=10, in_channels=1, image=32, time_channels=128, width=128):
        super().__init__()
        self.config = dict(size=size, frames=frames, in_channels=in_channels, image=image, time_channels=time_channels, width=width)
        self.frames = frames
        down = lambda a, b: (nn.Conv2d(a, b, 4, stride=2, padding=1), nn.SiLU())
        self.look = nn.Sequential(*down(in_channels, 32), *down(32, 64), *down(64, 64), nn.Flatten(), nn.Linear(64 * (image // 8) ** 2, width))
        self.age = nn.Parameter(0.02 * torch.randn(frames, width))
        self.mix = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.squeeze, self.tell = nn.Linear(width, size), nn.Linear(size, time_channels)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def embed(self, past):
        """The embedding itself: (b, size)."""
        if not 1 <= past.shape[2] <= self.frames:
            raise ValueError(f"past has {past.shape[2]} frames; this encoder reads 1 to {self.frames}")
        tokens = rearrange(self.look(rearrange(past, "b c f h w -> (b f) c h w")), "(b f) d -> b f d", b=past.shape[0])
        return self.squeeze(self.mix(tokens + self.age[-past.shape[2]:]).mean(1))

    def forward(self, past, keep=None):
        told = self.tell(self.embed(past))
        return told if keep is None else told * keep[:, None]


def history_encoder(denoiser, past, encoder, weight=1.0):
    """Condition on an embedding of the past, and guide towards it.

        x0_hat = u + w (c - u),   c = x0_hat(x_t | encoder(past)),   u = x0_hat(x_t)              (Ho and Salimans 2022, Eq. 6)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window; the encoder reads the last `encoder.frames` of them, and only the
    F - k new frames pass through the network;  weight: w;  encoder: a HistoryEncoder trained with this denoiser (`load_history`).
    Returns denoiser(xt, t) -> x0_hat whose first k frames are `past`. Raises ValueError for a weight that is not finite.
    """
    check_weight("weight", weight)
    k = past.shape[2]
    with torch.no_grad():
        told = encoder(past[:, :, -encoder.frames:])

    def guided(xt, t, **features):
        new, level = xt[:, :, k:], t if t.ndim == 1 else t[:, k:]
        c = denoiser(new, level, condition=told.to(xt), **features)
        if weight != 1:
            u = denoiser(new, level, **features)
            c = u + weight * (c - u)
        return torch.cat([past.to(xt), c], dim=2)

    return guided


def trained_parts(net):
    """The parts of a network that learn to listen to an encoder: what turns the noise-level embedding into scales and shifts."""
    return {name: p for name, p in net.named_parameters() if "modulation" in name}


def train_history(denoiser, encoder, data, steps=600, batch=8, new=11, lr=1e-3, dropout=0.1, high=0.5, seed=0, on_step=None):
    """Train an encoder, and the network's modulation, to denoise `new` frames that follow 1 to `encoder.frames` unseen ones.

    The network is copied; everything but its modulation stays as it is. The past is dropped in a share `dropout` of the clips, so that
    the unconditional branch of guidance stays. Returns (denoiser, encoder, losses); on_step(n, loss) is called after each step.
    """
    net = copy.deepcopy(denoiser.net).train().requires_grad_(False)
    parts = trained_parts(net)
    for p in parts.values():
        p.requires_grad_(True)
    groups = [dict(params=list(encoder.parameters())), dict(params=list(parts.values()), lr=0.3 * lr)]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.01)
    shape = lambda n: min(1.0, (n + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * n / steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    losses = []
    for n in range(steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + n)
        k = int(torch.randint(1, encoder.frames + 1, (), generator=generator))
        clip = data.with_frames(k + new).sample(batch, generator).video.to(denoiser.device)
        t = draw_noise_levels(batch, new, denoiser.schedule.num_timesteps, (1, 0, 0, 0), high, generator).to(clip.device)
        keep = torch.rand(batch, generator=generator) >= dropout
        told = encoder(clip[:, :, :k], keep.to(clip))
        loss = v_loss(lambda xt, t, told=told: net(xt, t, condition=told), denoiser.schedule, clip[:, :, k:], t,
                      torch.randn(clip[:, :, k:].shape, generator=generator).to(clip))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *parts.values()], 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if on_step:
            on_step(n + 1, losses[-1])
    return Denoiser(net.eval().requires_grad_(False), denoiser.schedule), encoder.eval().requires_grad_(False), losses


def save_history(path, denoiser, encoder, base, **about):
    """Write an encoder and the modulation trained with it; `base`: the name of the checkpoint that the rest is taken from."""
    path = Path(path).with_suffix(".safetensors")
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"net.{name}": value for name, value in trained_parts(denoiser.net).items()}
    checkpoint.write_tensors(path, {name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    card = dict(format=FORMAT, base=base, base_sha256=checkpoint.read_card(base)["sha256"], encoder=encoder.config,
                parameters=sum(p.numel() for p in encoder.parameters()), sha256=checkpoint.sha256(path), **about)
    checkpoint.write_json(path.with_suffix(".json"), card)
    return path


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
