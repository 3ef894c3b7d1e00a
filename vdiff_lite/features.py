"""Features of a clip from a small video network trained on the labels: what the Fréchet distance between clips is taken on."""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from . import checkpoint
from .data import BouncingDigits

FORMAT = "vdiff_lite-features-1"


class ClipFeatures(nn.Module):
    """A clip -> 64 numbers that say which digit it shows and how that moves, from the pixels alone.

    Convolutions within frames; of the result the largest value of each channel (which strokes there are) and where some channels are
    strongest (a soft-argmax: where they are); two convolutions along time; the mean over time. (b, 1, f, 32, 32) -> (b, 64).
    `digit` and `velocity` are the heads it was trained by.
    """

    def __init__(self, width=64, points=8):
        super().__init__()
        block = lambda a, b, stride: (nn.Conv2d(a, b, 3, stride, 1), nn.GroupNorm(8, b), nn.ReLU())
        self.frames = nn.Sequential(*block(1, 16, 2), *block(16, 32, 1), *block(32, 64, 2), *block(64, 64, 1))
        self.points = nn.Conv2d(64, points, 1)
        self.time = nn.Sequential(nn.Conv1d(64 + 2 * points, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU())
        self.digit, self.velocity = nn.Linear(width, 10), nn.Linear(width, 2)

    def forward(self, clip):
        y = self.frames(rearrange(clip, "b c f h w -> (b f) c h w"))
        p = self.points(y).flatten(2).softmax(-1).unflatten(2, y.shape[2:])
        along = torch.linspace(-1, 1, y.shape[-1], device=y.device)
        y = torch.cat([y.amax(dim=(2, 3)), p.sum(3) @ along, p.sum(2) @ along], dim=1)
        return self.time(rearrange(y, "(b f) c -> b c f", b=clip.shape[0])).mean(dim=2)


def train_features(steps=1500, batch=32, frames=16, lr=2e-3, seed=0, on_step=None):
    """Train on labelled clips: which digit (cross entropy), and the mean speed along each axis (squared error, in pixels a frame).

    Returns a ClipFeatures in eval mode. on_step(n, loss) is called after each step.
    """
    torch.manual_seed(seed)
    net, data = ClipFeatures().train(), BouncingDigits(num_frames=frames)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for n in range(steps):
        clip = data.sample(batch, torch.Generator().manual_seed(seed * 1_000_003 + n))
        features = net(clip.video)
        pace = clip.positions[:, 0].diff(dim=1).abs().mean(dim=1)
        loss = F.cross_entropy(net.digit(features), clip.labels[:, 0]) + F.mse_loss(net.velocity(features), pace)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(n + 1, loss.item())
    return net.eval().requires_grad_(False)


def save_features(path, net, **about):
    """Write the network and its card beside it. Returns the path of the weights."""
    path = Path(path).with_suffix(".safetensors")
    checkpoint.write_tensors(path, {name: value.contiguous() for name, value in net.state_dict().items()})
    checkpoint.write_json(path.with_suffix(".json"), dict(format=FORMAT, sha256=checkpoint.sha256(path), **about))
    return path


@functools.cache
def load_features():
    """The shipped ClipFeatures. Raises CheckpointError when it is missing or damaged."""
    path, _ = checkpoint.verified(checkpoint.folder() / "features" / "clips32", FORMAT)
    net = ClipFeatures()
    net.load_state_dict(checkpoint.read_tensors(path)[0])
    return net.eval().requires_grad_(False)
