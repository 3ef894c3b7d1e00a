"""VideoUNet: a space-time UNet that predicts v, one noise level per frame, with hooks on its features."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vdiff_lite.checks import whole
from vdiff_lite.diffusion.denoiser import per_frame
from vdiff_lite.models.layers import (
    Context,
    DecoderStage,
    EncoderStage,
    NoiseLevelEmbedding,
    SpaceTimeBlock,
    nonoverlapping_conv_transpose,
)
from vdiff_lite.models.rotary import clean_mask, rotary_angles


@dataclass(frozen=True)
class VideoUNetConfig:
    """The shape of a VideoUNet; `VideoUNetConfig.preset` has the two that the book uses."""

    in_channels: int = 1
    size: tuple = (32, 32)  # height and width of a frame in pixels; a number means a square
    patch: int = 2  # pixels to a side of a patch; the network works at size / patch
    channels: tuple = (32, 64, 128)  # one entry per level; each level halves the resolution
    num_middle: int = 3  # joint space-time transformer blocks at the lowest resolution
    head_channels: int = 32  # below 16 a CPU is more than ten times slower
    noise_channels: int = 128  # width of the noise-level embedding
    num_timesteps: int = 1000  # the noise level that means pure noise
    condition: int = 0  # numbers that the network is told beside each frame, such as actions

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "channels", tuple(self.channels))
        whole(in_channels=self.in_channels, patch=self.patch, head_channels=self.head_channels,
              noise_channels=self.noise_channels, num_timesteps=self.num_timesteps)
        whole(0, 256, num_middle=self.num_middle)
        for name in ("size", "channels"):
            whole(1, 2**16, **{f"{name}[{i}]": n for i, n in enumerate(getattr(self, name))})
        lowest = self.patch * 2 ** (len(self.channels) - 1)
        if len(size) != 2 or any(n < 1 or n % lowest for n in size):
            raise ValueError(f"size={size} does not divide into {len(self.channels)} levels of "
                             f"patch={self.patch}; choose (height, width), multiples of {lowest}")
        if any(c % self.head_channels for c in self.channels):
            raise ValueError(f"channels={self.channels} must be multiples of head_channels="
                             f"{self.head_channels}")

    @classmethod
    def preset(cls, name: str) -> "VideoUNetConfig":
        """`tiny`: 2 M parameters, 32x32 frames, for a CPU.  `base`: 8.3 M, 64x64 frames, for a GPU."""
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
        return cls(**PRESETS[name])

    def to_dict(self) -> dict:
        return asdict(self) | {"size": list(self.size), "channels": list(self.channels)}


PRESETS = {
    "tiny": {},
    "base": dict(size=64, patch=4, channels=(96, 224), num_middle=6, noise_channels=256),
}


class VideoUNet(nn.Module):
    """A UNet over frames, joined in time by attention.

    forward(xt, t) -> v_hat: both (b, c, f, h, w); t is (b,) or (b, f) long, one noise level per frame. Any
    number of frames. Frames at t = 0 are known, not made: they attend only to each other, so what the network
    computes for them never changes while the other frames are denoised.
    """

    def __init__(self, config: VideoUNetConfig | None = None):
        super().__init__()
        self.config = config = config or VideoUNetConfig()
        widths, e, d = config.channels, config.noise_channels, config.head_channels
        self.noise_embedding = NoiseLevelEmbedding(e, config.num_timesteps)
        self.condition = nn.Linear(config.condition, e, bias=False) if config.condition else nn.Identity()
        self.patchify = nn.Conv2d(config.in_channels, widths[0], config.patch, stride=config.patch)
        self.encoder = nn.ModuleList(EncoderStage(c, e, d) for c in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.middle = nn.ModuleList(SpaceTimeBlock(widths[-1], e, d) for _ in range(config.num_middle))
        self.decoder = nn.ModuleList(DecoderStage(c, e, d) for c in widths)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.norm_out = nn.GroupNorm(8, widths[0])
        self.unpatchify = nn.ConvTranspose2d(widths[0], config.in_channels, config.patch, stride=config.patch)
        nn.init.zeros_(self.unpatchify.weight)
        self.recompute = False  # in training: compute the inside of each stage again in the backward pass
        self.to(memory_format=torch.channels_last)

    def forward(self, xt: Tensor, t: Tensor, hook: Callable | None = None, positions: Tensor | None = None,
                condition: Tensor | None = None) -> Tensor:
        """Predict v for a noisy clip.

        xt: (b, c, f, h, w);  t: (b,) or (b, f) long;  positions: (f,) long, where the frames stand in time
        (default 0 .. f-1; only differences matter);  condition: what the network is told, by clip (b, n) or
        by frame (b, f, n), 0 meaning nothing, n = config.condition; embedded, and added to the noise
        embedding. Where config.condition is 0 it is an embedding, n = noise_channels.  hook: a function
        (site, feature) -> feature that sees and may change
          "encoder.i", "middle", "decoder.i"   the output of a stage, (b, c, f, h, w)
          "encoder.i.temporal", "decoder.i.temporal"   the (keys, values) of attention along time, each
                                               (b, h w heads, f, d)
          "middle.j.joint"                     (keys, values) of joint attention, each (b, heads, f h w, d)
        A hook may prepend further keys and values to the ones it gets.
        Returns v_hat (b, c, f, h, w). Raises ValueError when a shape does not fit.
        """
        b, f = self._check(xt)
        t = per_frame(t, b, f).to(xt.device)
        positions = torch.arange(f, device=xt.device) if positions is None else torch.as_tensor(positions)
        angles = rotary_angles(positions.to(xt.device), self.config.head_channels).to(xt)
        noise = self.noise_embedding(t)
        if condition is not None:
            noise = noise + self._embedded(condition, b, f)
        context = Context(b, noise, angles, clean_mask(t), hook)

        x = rearrange(xt, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        x = self.patchify(x)
        skips, run = [], self._run
        for i, stage in enumerate(self.encoder):
            x = run(stage, x, context, f"encoder.{i}")
            skips.append(x)
            x = self.down[i](x) if i < len(self.down) else x
        for i, block in enumerate(self.middle):
            x = run(block, x, context, f"middle.{i}.joint")
        x = context.call_hook("middle", x)
        for i in reversed(range(len(self.decoder))):
            x = run(self.decoder[i], x + skips[i], context, f"decoder.{i}")
            x = nonoverlapping_conv_transpose(self.up[i - 1], x) if i > 0 else x
        x = nonoverlapping_conv_transpose(self.unpatchify, F.silu(self.norm_out(x)))
        return rearrange(x, "(b f) c h w -> b c f h w", b=b)

    def _embedded(self, condition: Tensor, b: int, f: int) -> Tensor:
        n = self.config.condition or self.config.noise_channels
        if tuple(condition.shape) not in ((b, n), (b, f, n)):
            raise ValueError(f"condition has shape {tuple(condition.shape)}; {b} clips of {f} frames want "
                             f"({b}, {n}) or ({b}, {f}, {n})")
        per_clip = condition[:, None] if condition.ndim == 2 else condition
        return self.condition(per_clip.to(self.patchify.weight)).expand(b, f, -1).flatten(0, 1)

    def _run(self, stage: nn.Module, *args) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(stage, *args, use_reentrant=False)
        return stage(*args)

    def _check(self, xt: Tensor) -> tuple[int, int]:
        c, (h, w) = self.config.in_channels, self.config.size
        if xt.ndim != 5 or (xt.shape[1], *xt.shape[3:]) != (c, h, w):
            raise ValueError(f"xt has shape {tuple(xt.shape)}; this takes (b, {c}, f, {h}, {w})")
        return xt.shape[0], xt.shape[2]
