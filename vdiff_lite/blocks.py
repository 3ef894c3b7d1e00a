"""The blocks of VideoUNet: convolutions within frames, attention along time and over everything, rotary positions."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from .follow import Follow, Foresee
from .rotary import space_time_angles, turn_by, turned


class Context:
    """What every block needs beside its input: noise levels, positions, who may look at whom, and the tap.

    b: clips in the batch;  time: (b f, e) embedded noise levels;  angles: (f, d/2) rotary angles of the frames;
    mask: (b, f, f), True where a frame may look at another, None where all may;  tap(site, feature) -> feature, or None;
    level: (b, f) noise levels in [0, 1], which `Foresee` alone wants.
    """

    def __init__(self, b, time, angles, mask=None, tap=None, level=None):
        self.b, self.time, self.angles, self.mask, self.level = b, time, angles, mask, level
        self.tap = tap
        self.turn = turn_by(angles)
        self._joint = {}

    def joint_turn(self, h, w):
        """Cosines and sines for joint attention on h x w places; once for all blocks, since they cost more than the rotation."""
        if (h, w) not in self._joint:
            self._joint[h, w] = turn_by(space_time_angles(self.angles, h, w))
        return self._joint[h, w]

    def offer_keys(self, site, k, v):
        """Show keys and values to the tap as they are."""
        return self.tap(site, (k, v)) if self.tap else (k, v)

    def offer(self, site, x):
        """Show a stage's output to the tap as (b, c, f, h, w)."""
        if not self.tap:
            return x
        return rearrange(self.tap(site, rearrange(x, "(b f) c h w -> b c f h w", b=self.b)), "b c f h w -> (b f) c h w")

    def offer_centre(self, site, centre):
        """Show where a stage thinks the moving thing is to the tap, as (b, 2, f)."""
        if not self.tap:
            return centre
        return rearrange(self.tap(site, rearrange(centre, "(b f) two -> b two f", b=self.b)), "b two f -> (b f) two")

    @staticmethod
    def wider(mask, q, k):
        """The mask with a column for every key that a tap put in front of the window's own; all may look at those."""
        return mask if mask is None else F.pad(mask, (k.shape[2] - q.shape[2], 0), value=True)


class EncoderStage(nn.Module):
    """One level of the encoder: convolutions within each frame, then attention along time at each place."""

    def __init__(self, c, e, d):
        super().__init__()
        self.frames = ResBlock(c, e)
        self.temporal = TemporalAttention(c, d)

    def forward(self, x, at, site):
        x = self.frames(x, at.time)
        x = self.temporal(x, at, site + ".temporal")
        return at.offer(site, x)


class DecoderStage(nn.Module):
    """One level of the decoder: attention along time, at places counted from what moves where `cell` is given; then convolutions."""

    def __init__(self, c, e, d, cell=None, foresee=0):
        super().__init__()
        self.temporal = TemporalAttention(c, d, cell, foresee)
        self.frames = ResBlock(c, e)

    def forward(self, x, at, site):
        x = self.temporal(x, at, site + ".temporal")
        x = self.frames(x, at.time)
        return at.offer(site, x)


class ResBlock(nn.Module):
    """Norm, scale and shift by the noise level, SiLU, convolution; twice; added to the input. Frame by frame."""

    def __init__(self, c, e):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, c), nn.GroupNorm(8, c, affine=False)
        self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.modulation = nn.Linear(e, 2 * c)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x, time):
        scale, shift = rearrange(self.modulation(time), "n (two c) -> two n c 1 1", two=2)
        y = self.conv1(F.silu(self.norm1(x)))
        y = torch.addcmul(shift, self.norm2(y), 1 + scale)
        return x + self.conv2(F.silu(y))


def spread(layer, x):
    """`layer(x)` for a transposed convolution whose patches do not overlap, as the one matrix product that it is: quicker on a CPU.

    layer: ConvTranspose2d with kernel_size equal to its stride k;  x: (n, c, h, w). Returns (n, o, h k, w k).
    """
    k = layer.stride[0]
    weight = rearrange(layer.weight, "c o p q -> (p q o) c")
    y = F.linear(rearrange(x, "n c h w -> n h w c"), weight, layer.bias.repeat(k * k))
    return rearrange(rearrange(y, "n h w (p q o) -> n (h p) (w q) o", p=k, q=k), "n h w o -> n o h w")


class TemporalAttention(nn.Module):
    """Each place looks along time at itself in the other frames; rotary positions make it relative.

    Where things move, the same place of two frames shows different things. With `cell`, the pixels to a side of a place,
    places are therefore counted from what moves (Follow): from where it is seen or, with some blocks to `foresee`, from where it must be.
    """

    def __init__(self, c, d, cell=None, foresee=0):
        super().__init__()
        self.d = d
        self.norm = nn.LayerNorm(c)
        self.follow = Follow(c, cell) if cell else None
        self.foresee = Foresee(d, foresee) if foresee else None
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        nn.init.zeros_(self.out.weight)

    def forward(self, x, at, site):
        b, h = at.b, x.shape[2]
        y = self.norm(rearrange(x, "n c h w -> n h w c"))
        if self.follow:
            centre = self.follow.find(y)
            if self.foresee:
                centre = self.foresee(at.offer_centre(site + ".seen", centre), at, site)
            centre = at.offer_centre(site + ".centre", centre)
            y = self.follow.shift(y, centre)
        # Every (place, head) is one head of the attention kernel: a view, no copy.
        q, k, v = (rearrange(proj(y), "(b f) h w (n d) -> b (h w n) f d", b=b, d=self.d) for proj in (self.q, self.k, self.v))
        q, k = turned(q, *at.turn), turned(k, *at.turn)
        k, v = at.offer_keys(site, k, v)
        mask = None if at.mask is None else at.mask[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=at.wider(mask, q, k))
        y = self.out(rearrange(y, "b (h w n) f d -> (b f) h w (n d)", h=h, w=x.shape[3]))
        if self.follow:
            y = self.follow.shift(y, -centre)
        return x + rearrange(y, "n h w c -> n c h w")


class SpaceTimeBlock(nn.Module):
    """A transformer block in which every place of every frame looks at every other, so that a stroke can be followed to where it went."""

    def __init__(self, c, e, d):
        super().__init__()
        self.d = d
        self.norm1, self.norm2 = nn.LayerNorm(c, elementwise_affine=False), nn.LayerNorm(c, elementwise_affine=False)
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))
        self.modulation = nn.Linear(e, 4 * c)
        # Born to look for what is like itself: the same stroke on another frame.
        nn.init.orthogonal_(self.q.weight, gain=1.2)
        self.k.weight.data.copy_(self.q.weight)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.mlp[-1].weight)

    def forward(self, x, at, site):
        b, (h, w) = at.b, x.shape[2:]
        scale1, shift1, scale2, shift2 = rearrange(self.modulation(at.time), "(b f) (four c) -> four b f 1 c", b=b, four=4)
        x = rearrange(x, "(b f) c h w -> b f (h w) c", b=b)
        y = torch.addcmul(shift1, self.norm1(x), 1 + scale1)
        q, k, v = (rearrange(proj(y), "b f p (n d) -> b n (f p) d", d=self.d) for proj in (self.q, self.k, self.v))
        turn = at.joint_turn(h, w)
        q, k = turned(q, *turn), turned(k, *turn)
        k, v = at.offer_keys(site, k, v)
        mask = None if at.mask is None else repeat(at.mask, "b i j -> b 1 (i p) (j q)", p=h * w, q=h * w)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=at.wider(mask, q, k))
        x = x + rearrange(self.out(rearrange(y, "b n s d -> b s (n d)")), "b (f p) c -> b f p c", p=h * w)
        x = x + self.mlp(torch.addcmul(shift2, self.norm2(x), 1 + scale2))
        return rearrange(x, "b f (h w) c -> (b f) c h w", h=h, w=w)


class NoiseLevelEmbedding(nn.Module):
    """Noise level (b, f) -> (b f, e): sines and cosines of t, then two layers."""

    def __init__(self, e, num_timesteps):
        super().__init__()
        self.num_timesteps = num_timesteps
        frequencies = torch.exp(torch.linspace(0, math.log(1000.0), e // 2)) * math.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(e, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())

    def forward(self, t):
        u = rearrange(t, "b f -> (b f) 1").to(self.frequencies) / self.num_timesteps * self.frequencies
        return self.mlp(torch.cat([u.sin(), u.cos()], dim=-1))
