"""Three other networks of about 2 M parameters, for `make bench` and `book/_tools/architectures.py`.

Small versions of what the field uses, on clips of 32 x 32 pixels. They are made of the layers of `VideoUNet`
where these fit, so what differs is the arrangement. All are called as net(xt, t) and predict v: xt
(b, c, f, h, w); t (b,) or (b, f). None hides noisy frames from clean ones, as `VideoUNet` does.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from vdiff_lite.diffusion.denoiser import per_frame
from vdiff_lite.models.layers import (
    Attention,
    Context,
    NoiseLevelEmbedding,
    ResBlock,
    SpaceTimeBlock,
    nonoverlapping_conv_transpose,
)
from vdiff_lite.models.rotary import rope_cos_sin, rotary_angles

HEAD = 32  # channels of an attention head


class UViT(nn.Module):
    """U-ViT as in DFoT (Hoogeboom et al. 2023; Song et al. 2025).

    2x2 patches; residual convolutions, frame by frame, at the first resolutions; transformer blocks with
    joint space-time attention at the others. Frames meet in these alone.

    convolutional: how many levels have convolutions;  depth: blocks of a level, on the way down and on the
    way up;  num_middle: transformer blocks of the lowest level.
    """

    def __init__(self, in_channels=1, channels=(48, 96, 128), convolutional=1, depth=1, num_middle=5, e=128):
        super().__init__()
        self.noise_embedding = NoiseLevelEmbedding(e, 1000)
        self.patchify = nn.Conv2d(in_channels, channels[0], 2, stride=2)

        def stage(i):
            if i < convolutional:
                return nn.ModuleList(ResBlock(channels[i], e) for _ in range(depth))
            return nn.ModuleList(SpaceTimeBlock(channels[i], e, HEAD) for _ in range(depth))

        pairs = list(zip(channels, channels[1:]))
        self.encoder = nn.ModuleList(stage(i) for i in range(len(pairs)))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.middle = nn.ModuleList(SpaceTimeBlock(channels[-1], e, HEAD) for _ in range(num_middle))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.decoder = nn.ModuleList(stage(i) for i in range(len(pairs)))
        self.norm_out = nn.GroupNorm(8, channels[0])
        self.unpatchify = nn.ConvTranspose2d(channels[0], in_channels, 2, stride=2)
        nn.init.zeros_(self.unpatchify.weight)
        self.to(memory_format=torch.channels_last)

    def forward(self, xt, t):
        b, _, f = xt.shape[:3]
        noise = self.noise_embedding(per_frame(t, b, f))
        context = Context(b, noise, rotary_angles(torch.arange(f, device=xt.device), HEAD))
        x = rearrange(xt, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        x, skips = self.patchify(x), []
        for stage, down in zip(self.encoder, self.down):
            x = through(stage, x, context)
            skips.append(x)
            x = down(x)
        x = through(self.middle, x, context)
        for stage, up in reversed(list(zip(self.decoder, self.up))):
            x = through(stage, nonoverlapping_conv_transpose(up, x) + skips.pop(), context)
        x = nonoverlapping_conv_transpose(self.unpatchify, F.silu(self.norm_out(x)))
        return rearrange(x, "(b f) c h w -> b c f h w", b=b)


class DiT(nn.Module):
    """Diffusion transformer, factorized (Peebles and Xie 2023; Ma et al. 2024, "Latte", variant 1).

    4x4 patches; blocks of attention within a frame and along time in turn.  pairs: so many of each.
    """

    def __init__(self, in_channels=1, width=128, pairs=3, patch=4, e=192):
        super().__init__()
        self.noise_embedding = NoiseLevelEmbedding(e, 1000)
        self.patchify = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.space = nn.ModuleList(FactorizedBlock(width, e, "(b f) n p d") for _ in range(pairs))
        self.time = nn.ModuleList(FactorizedBlock(width, e, "b (p n) f d") for _ in range(pairs))
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(e, 2 * width)
        self.unpatchify = nn.Linear(width, in_channels * patch**2)
        nn.init.zeros_(self.unpatchify.weight)

    def forward(self, xt, t):
        b, _, f = xt.shape[:3]
        noise = self.noise_embedding(per_frame(t, b, f))
        context = Context(b, noise, rotary_angles(torch.arange(f, device=xt.device), HEAD))
        x = self.patchify(rearrange(xt, "b c f h w -> (b f) c h w"))
        h, w = x.shape[2:]
        angles = plane_angles(h, w, x.shape[1], x.device)
        x = rearrange(x, "(b f) c h w -> b f (h w) c", b=b) + torch.cat([angles.sin(), angles.cos()], dim=-1)
        plane = rope_cos_sin(plane_angles(h, w, HEAD, x.device))
        for space, time in zip(self.space, self.time):
            x = time(space(x, context, plane), context, context.rope)
        x = self.unpatchify(modulated(self.norm_out(x), *modulation(self.modulation, context, 2)))
        k = self.patchify.stride[0]
        return rearrange(x, "b f (h w) (c p q) -> b c f (h p) (w q)", h=h, p=k, q=k)


class FactorizedBlock(nn.Module):
    """A transformer block whose tokens attend within a frame, or along time.

    Adaptive norm by the noise level; both branches are 0 at first.  heads: the tokens as einops writes them.
    """

    def __init__(self, c, e, heads):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(c, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(c, HEAD, f"b f p (n d) -> {heads}")
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))
        self.modulation = nn.Linear(e, 4 * c)
        nn.init.zeros_(self.mlp[-1].weight)

    def forward(self, x, context, rope):
        b, f, p = x.shape[:3]
        scale1, shift1, scale2, shift2 = modulation(self.modulation, context, 4)
        y = modulated(self.norm1(x), scale1, shift1)
        x = x + self.attention(y, context, "", rope, None, b=b, f=f, p=p)
        return x + self.mlp(modulated(self.norm2(x), scale2, shift2))


class UNet2D(nn.Module):
    """A UNet on one picture with the frames as its channels, as DIAMOND's (Alonso et al. 2024).

    Works at full resolution, with attention at the lowest one only. The noise levels of all frames enter as
    one embedding. Of fixed length: it takes clips of `frames` frames and no others.

    depth: residual blocks of a level, on the way down and on the way up.
    """

    def __init__(self, in_channels=1, frames=16, channels=(64, 96, 128), depth=1, num_middle=2, e=128):
        super().__init__()
        self.frames = frames
        self.noise_embedding = nn.ModuleList([NoiseLevelEmbedding(32, 1000), nn.Linear(32 * frames, e)])
        self.patchify = nn.Conv2d(in_channels * frames, channels[0], 3, padding=1)
        stage = lambda c: nn.ModuleList(ResBlock(c, e) for _ in range(depth))
        pairs = list(zip(channels, channels[1:]))
        self.encoder = nn.ModuleList(map(stage, channels))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.middle = nn.ModuleList(SpaceTimeBlock(channels[-1], e, HEAD) for _ in range(num_middle))
        self.decoder = nn.ModuleList(map(stage, channels))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.norm_out = nn.GroupNorm(8, channels[0])
        self.unpatchify = nn.Conv2d(channels[0], in_channels * frames, 3, padding=1)
        nn.init.zeros_(self.unpatchify.weight)
        self.to(memory_format=torch.channels_last)

    def forward(self, xt, t):
        b, c, f = xt.shape[:3]
        if f != self.frames:
            raise ValueError(f"xt has {f} frames; this network takes clips of {self.frames}")
        each, together = self.noise_embedding
        noise = F.silu(together(rearrange(each(per_frame(t, b, f)), "(b f) e -> b (f e)", b=b)))
        context = Context(b, noise, rotary_angles(torch.zeros(1, device=xt.device), HEAD))
        x = rearrange(xt, "b c f h w -> b (c f) h w").contiguous(memory_format=torch.channels_last)
        x, skips = self.patchify(x), []
        for i, stage in enumerate(self.encoder):
            x = through(stage, x, context)
            skips.append(x)
            x = self.down[i](x) if i < len(self.down) else x
        x = through(self.middle, x, context)
        for i in reversed(range(len(self.decoder))):
            x = through(self.decoder[i], x + skips[i], context)
            x = nonoverlapping_conv_transpose(self.up[i - 1], x) if i > 0 else x
        x = self.unpatchify(F.silu(self.norm_out(x)))
        return rearrange(x, "b (c f) h w -> b c f h w", c=c)


def through(blocks, x, context):
    """x (n, c, h, w) through residual blocks or joint attention."""
    for block in blocks:
        x = block(x, context.noise) if isinstance(block, ResBlock) else block(x, context, "")
    return x


def modulation(linear, context, number):
    """Scales and shifts from the noise embedding: `number` tensors (b, f, 1, c)."""
    return rearrange(linear(context.noise), "(b f) (k c) -> k b f 1 c", b=context.b, k=number)


def modulated(x, scale, shift):
    return torch.addcmul(shift, x, 1 + scale)


def plane_angles(h, w, d, device):
    """Rotary angles of h x w positions, half of them for y, half for x: (h w, d/2)."""
    y, x = (rotary_angles(torch.arange(n, device=device), d // 2, base=10.0) for n in (h, w))
    return torch.cat([repeat(y, "h d -> (h w) d", w=w), repeat(x, "w d -> (h w) d", h=h)], dim=-1)
