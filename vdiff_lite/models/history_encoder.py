"""The past, squeezed into a few numbers that the network is told: the encoder of compressed history."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class HistoryEncoder(nn.Module):
    """Past frames -> an embedding of `size` numbers -> what the network is told about the frames to come.

    Convolutions over the past frames, stacked as channels (black where there are fewer than `frames`),
    squeeze them to `size` numbers: `embed`. From these alone come two things: a vector, added to the noise
    embedding of every block, so that it scales and shifts their channels (FiLM); and a `draft` of each new
    frame, which a convolution turns into features, added after the first stage of the UNet. (FiLM is the same
    at every position of a frame: where something is can hardly be expressed with it.)

    encoder(past, f, keep=None) -> (vector (b, noise_channels), features (b, channels, f, h, w)): past (b, c,
    n, h, w) with 1 <= n <= frames, the latest frame last; f <= ahead new frames; keep (b,) bool, False where
    the past is dropped (training). Both last layers are initialized to zero, so that it says nothing at
    first.
    """

    def __init__(self, size: int = 64, frames: int = 10, in_channels: int = 1, image: int = 32,
                 noise_channels: int = 128, channels: int = 32, patch: int = 2, width: int = 128,
                 ahead: int = 32):
        super().__init__()
        self.config = dict(size=size, frames=frames, in_channels=in_channels, image=image, channels=channels,
                           noise_channels=noise_channels, patch=patch, width=width, ahead=ahead)
        self.frames, self.ahead = frames, ahead
        down = lambda a, b: (nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU())
        self.look = nn.Sequential(*down(frames * in_channels, 32), *down(32, 64), *down(64, 64), nn.Flatten(),
                                  nn.Linear(64 * (image // 8) ** 2, 2 * width), nn.SiLU(),
                                  nn.Linear(2 * width, size))
        self.tell = nn.Linear(size, noise_channels)
        self.unsqueeze, self.when = nn.Linear(size, 2 * width), nn.Embedding(ahead, 2 * width)
        self.think = nn.Linear(2 * width, 2 * width)
        side = image // 4
        self.draw = nn.Sequential(nn.Linear(2 * width, 16 * side**2), nn.Unflatten(-1, (16, side, side)),
                                  nn.SiLU(), nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1), nn.SiLU(),
                                  nn.Conv2d(16, 4 * in_channels, 3, padding=1), nn.PixelShuffle(2))
        self.show = nn.Conv2d(in_channels, channels, patch, stride=patch, bias=False)
        for weight in (self.tell.weight, self.tell.bias, self.show.weight):
            nn.init.zeros_(weight)

    def embed(self, past: Tensor) -> Tensor:
        """The embedding itself: (b, size)."""
        if not 1 <= past.shape[2] <= self.frames:
            raise ValueError(f"past has {past.shape[2]} frames; this encoder reads 1 to {self.frames}")
        past = F.pad(past, (0, 0, 0, 0, self.frames - past.shape[2], 0), value=-1.0)
        return self.look(rearrange(past, "b c f h w -> b (f c) h w"))

    def draft(self, embedding: Tensor, frames: Sequence[int]) -> Tensor:
        """New frames drawn from the embedding: (b, c, len(frames), h, w);  frames: which, 0 the first."""
        if max(frames) >= self.ahead:
            raise ValueError(f"new frame {max(frames) + 1} is too far; this encoder drafts {self.ahead}")
        when = self.when(torch.as_tensor(frames, device=embedding.device))
        x = F.silu(self.unsqueeze(embedding)[:, None] + when)
        x = self.draw(rearrange(x + F.silu(self.think(x)), "b f d -> (b f) d"))
        return rearrange(x, "(b f) c h w -> b c f h w", b=len(embedding)) - 1

    def forward(self, past: Tensor, f: int, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        embedding = self.embed(past)
        features = self.show(rearrange(self.draft(embedding, range(f)), "b c f h w -> (b f) c h w"))
        outputs = self.tell(embedding), rearrange(features, "(b f) c h w -> b c f h w", b=len(past))
        if keep is None:
            return outputs
        return tuple(x * keep.to(x).view(-1, *[1] * (x.ndim - 1)) for x in outputs)


def encoder_kwargs(outputs: tuple[Tensor, Tensor], model_kwargs: dict | None = None) -> dict:
    """An encoder's outputs as keywords for a network: `condition`, and features by a hook after stage 1."""
    (vector, features), model_kwargs = outputs, model_kwargs or {}
    outer = model_kwargs.get("hook") or (lambda site, x: x)
    return model_kwargs | dict(condition=vector,
                               hook=lambda site, x: outer(site, x + features if site == "encoder.0" else x))


def trained_parts(net: nn.Module) -> dict:
    """The parts of a network that learn to listen to an encoder: what turns the noise embedding into FiLM."""
    return {name: p for name, p in net.named_parameters() if "modulation" in name}
