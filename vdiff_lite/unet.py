"""VideoUNet: a space-time UNet that predicts v, one noise level per frame, with named taps on its features."""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn


@dataclass(frozen=True)
class VideoUNetConfig:
    """The shape of a VideoUNet. `VideoUNetConfig.preset("tiny")` and `("base")` are the two that the book uses."""

    in_channels: int = 1
    size: int = 32  # height and width of a frame in pixels
    patch: int = 2  # pixels to a side of a patch; the network works at size / patch
    channels: tuple = (32, 64, 128)  # one entry a level; each level halves the resolution
    joint: tuple = (False, True, False)  # which decoder levels have a joint space-time block of their own
    num_middle: int = 3  # joint space-time transformer blocks at the lowest resolution
    head_channels: int = 32  # below 16 a CPU is more than ten times slower
    time_channels: int = 128  # width of the noise-level embedding
    num_timesteps: int = 1000  # the noise level that means pure noise

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "joint", tuple(self.joint))
        lowest = self.patch * 2 ** (len(self.channels) - 1)
        if self.size % lowest:
            raise ValueError(f"size={self.size} does not divide into {len(self.channels)} levels of patch={self.patch}; "
                             f"choose a multiple of {lowest}")
        if len(self.joint) != len(self.channels):
            raise ValueError(f"joint={self.joint} must say yes or no for each of {len(self.channels)} levels")
        if any(c % self.head_channels for c in self.channels):
            raise ValueError(f"channels={self.channels} must be multiples of head_channels={self.head_channels}")

    @classmethod
    def preset(cls, name):
        """`tiny`: about 2 M parameters, for a CPU.  `base`: about 27 M, 64x64 frames, for a GPU of 11 GB."""
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
        return cls(**PRESETS[name])

    def to_dict(self):
        return asdict(self) | {"channels": list(self.channels), "joint": list(self.joint)}


PRESETS = {
    "tiny": {},
    "base": dict(size=64, channels=(96, 192, 384), num_middle=6, head_channels=48, time_channels=384),
}


class VideoUNet(nn.Module):
    """A UNet over frames, joined in time by attention.

    forward(xt, t) -> v_hat: both (b, c, f, h, w); t is (b,) or (b, f) long, one noise level a frame. Any number of
    frames. Frames at t = 0 are given, not made: they look only at each other, so what the network computes for
    them never changes while the other frames are denoised.
    """

    def __init__(self, config=None):
        super().__init__()
        self.config = config = config or VideoUNetConfig()
        widths, e, d = config.channels, config.time_channels, config.head_channels
        self.time_embedding = NoiseLevelEmbedding(e, config.num_timesteps)
        self.patchify = nn.Conv2d(config.in_channels, widths[0], config.patch, stride=config.patch)
        self.encoder = nn.ModuleList(Stage(c, e, d) for c in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.summary = Summary(widths[-1], e, d)
        self.middle = nn.ModuleList(SpaceTimeBlock(widths[-1], e, d) for _ in range(config.num_middle))
        self.decoder = nn.ModuleList(Stage(c, e, d, joint) for c, joint in zip(widths, config.joint))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.norm_out = nn.GroupNorm(8, widths[0])
        self.unpatchify = nn.ConvTranspose2d(widths[0], config.in_channels, config.patch, stride=config.patch)
        nn.init.zeros_(self.unpatchify.weight)
        self.to(memory_format=torch.channels_last)

    def forward(self, xt, t, tap=None, positions=None):
        """Predict v for a noisy clip.

        xt: (b, c, f, h, w);  t: (b,) or (b, f) long;  positions: (f,) long, where the frames stand in time
        (default 0 .. f-1; only differences matter).  tap(site, feature) -> feature sees and may change
          "encoder.i", "middle", "decoder.i"   the output of a stage, (b, c, f, h, w)
          "encoder.i.temporal", "decoder.i.temporal"   the (keys, values) of attention along time, each
                                               (b, h w heads, f, d)
          "middle.j.joint", "decoder.i.joint"  the (keys, values) of joint attention, each (b, heads, f h w, d)
          "middle.summary"                     the (keys, values) of the frames' summaries, each (b, heads, f, d).
          A tap may put further keys and values in front of the ones it was given.
        Returns v_hat (b, c, f, h, w). Raises ValueError when a shape does not fit.
        """
        b, f = self._check(xt)
        t = self._per_frame(t, b, f)
        positions = torch.arange(f) if positions is None else torch.as_tensor(positions)
        angles = rotary_angles(positions, self.config.head_channels).to(xt)
        at = Context(b, self.time_embedding(t), angles, clean_mask(t), tap)

        x = rearrange(xt, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        x = self.patchify(x)
        skips = []
        for i, stage in enumerate(self.encoder):
            x = stage(x, at, f"encoder.{i}")
            skips.append(x)
            x = self.down[i](x) if i < len(self.down) else x
        at.time = at.time + self.summary(x, at, "middle.summary")
        for i, block in enumerate(self.middle):
            x = block(x, at, f"middle.{i}.joint")
        x = at.offer("middle", x)
        for i in reversed(range(len(self.decoder))):
            x = self.decoder[i](x + skips[i], at, f"decoder.{i}")
            x = self.up[i - 1](x) if i > 0 else x
        x = self.unpatchify(F.silu(self.norm_out(x)))
        return rearrange(x, "(b f) c h w -> b c f h w", b=b)

    def _check(self, xt):
        want = (self.config.in_channels, self.config.size, self.config.size)
        if xt.ndim != 5 or (xt.shape[1], *xt.shape[3:]) != want:
            raise ValueError(f"xt has shape {tuple(xt.shape)}; this network wants (b, {want[0]}, f, {want[1]}, {want[2]})")
        return xt.shape[0], xt.shape[2]

    @staticmethod
    def _per_frame(t, b, f):
        t = t[:, None].expand(-1, f) if t.ndim == 1 else t
        if t.shape != (b, f):
            raise ValueError(f"t has shape {tuple(t.shape)}; {b} clips of {f} frames want ({b},) or ({b}, {f})")
        return t


class Context:
    """What every block needs beside its input: noise levels, positions, who may look at whom, and the tap.

    b: clips in the batch;  time: (b f, e) embedded noise levels;  angles: (f, d/2) rotary angles of the frames;
    mask: (b, f, f), True where a frame may look at another, None where all may;  tap(site, feature) -> feature.
    """

    def __init__(self, b, time, angles, mask=None, tap=None):
        self.b, self.time, self.angles, self.mask = b, time, angles, mask
        self.tap = tap or (lambda site, feature: feature)
        self.turn = angles.cos(), angles.sin()
        self._joint = {}

    def joint_turn(self, h, w):
        """Cosines and sines for joint attention on h x w places; once for all blocks, since they cost more than the rotation."""
        if (h, w) not in self._joint:
            angles = space_time_angles(self.angles, h, w)
            self._joint[h, w] = angles.cos(), angles.sin()
        return self._joint[h, w]

    def offer(self, site, x):
        """Show a stage's output to the tap as (b, c, f, h, w)."""
        return rearrange(self.tap(site, rearrange(x, "(b f) c h w -> b c f h w", b=self.b)), "b c f h w -> (b f) c h w")

    @staticmethod
    def wider(mask, q, k):
        """The mask with a column for every key that a tap put in front of the window's own; all may look at those."""
        return mask if mask is None else F.pad(mask, (k.shape[2] - q.shape[2], 0), value=True)


class Stage(nn.Module):
    """One level: convolutions within each frame, attention along time at each place, perhaps a joint block."""

    def __init__(self, c, e, d, joint=False):
        super().__init__()
        self.frames = ResBlock(c, e)
        self.temporal = TemporalAttention(c, d)
        self.joint = SpaceTimeBlock(c, e, d) if joint else None

    def forward(self, x, at, site):
        x = self.frames(x, at.time)
        x = self.temporal(x, at, site + ".temporal")
        if self.joint is not None:
            x = self.joint(x, at, site + ".joint")
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


class TemporalAttention(nn.Module):
    """Each place looks along time at itself in the other frames; rotary positions make it relative."""

    def __init__(self, c, d):
        super().__init__()
        self.d = d
        self.norm = nn.LayerNorm(c)
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        nn.init.zeros_(self.out.weight)

    def forward(self, x, at, site):
        b, h = at.b, x.shape[2]
        y = self.norm(rearrange(x, "n c h w -> n h w c"))
        # Every (place, head) is one head of the attention kernel: a view, no copy.
        q, k, v = (rearrange(proj(y), "(b f) h w (n d) -> b (h w n) f d", b=b, d=self.d) for proj in (self.q, self.k, self.v))
        q, k = _Rotate.apply(q, *at.turn), _Rotate.apply(k, *at.turn)
        k, v = at.tap(site, (k, v))
        mask = None if at.mask is None else at.mask[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=at.wider(mask, q, k))
        y = self.out(rearrange(y, "b (h w n) f d -> (b f) h w (n d)", h=h, w=h))
        return x + rearrange(y, "n h w c -> n c h w")


class SpaceTimeBlock(nn.Module):
    """A transformer block in which every place of every frame looks at every other: this is how a stroke is followed to where it went."""

    def __init__(self, c, e, d):
        super().__init__()
        self.d = d
        self.norm1, self.norm2 = nn.LayerNorm(c, elementwise_affine=False), nn.LayerNorm(c, elementwise_affine=False)
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))
        self.modulation = nn.Linear(e, 4 * c)
        # Born to look for what is like itself: the same stroke on another frame. From random queries and keys this takes long.
        nn.init.orthogonal_(self.q.weight, gain=1.2)
        self.k.weight.data.copy_(self.q.weight)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.mlp[-1].weight)

    def forward(self, x, at, site):
        b, (h, w) = at.b, x.shape[2:]
        scale1, shift1, scale2, shift2 = rearrange(self.modulation(at.time), "(b f) (four c) -> four b f 1 c", b=b, four=4)
        x = rearrange(x, "(b f) c h w -> b f (h w) c", b=b)
        y = self.norm1(x) * (1 + scale1) + shift1
        q, k, v = (rearrange(proj(y), "b f p (n d) -> b n (f p) d", d=self.d) for proj in (self.q, self.k, self.v))
        turn = at.joint_turn(h, w)
        q, k = _Rotate.apply(q, *turn), _Rotate.apply(k, *turn)
        k, v = at.tap(site, (k, v))
        mask = None if at.mask is None else repeat(at.mask, "b i j -> b 1 (i p) (j q)", p=h * w, q=h * w)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=at.wider(mask, q, k))
        x = x + rearrange(self.out(rearrange(y, "b n s d -> b s (n d)")), "b (f p) c -> b f p c", p=h * w)
        x = x + self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return rearrange(x, "b f (h w) c -> (b f) c h w", h=h, w=w)


class Summary(nn.Module):
    """What is on all frames, wherever it is: each frame is pooled into one token, tokens look at each other, and the
    answer joins the noise level as what scales and shifts the blocks that follow. It carries identity along a clip."""

    def __init__(self, c, e, d):
        super().__init__()
        self.d = d
        self.norm = nn.LayerNorm(c)
        self.pool = nn.Sequential(nn.Linear(c, 2 * c), nn.SiLU())
        self.q, self.k, self.v = (nn.Linear(2 * c, c, bias=False) for _ in range(3))
        self.out = nn.Sequential(nn.Linear(c, 2 * c), nn.SiLU(), nn.Linear(2 * c, e))
        nn.init.zeros_(self.out[-1].weight)

    def forward(self, x, at, site):
        y = self.pool(self.norm(rearrange(x, "(b f) c h w -> b f (h w) c", b=at.b))).mean(dim=2)
        q, k, v = (rearrange(proj(y), "b f (n d) -> b n f d", d=self.d) for proj in (self.q, self.k, self.v))
        k, v = at.tap(site, (k, v))
        mask = None if at.mask is None else at.mask[:, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=at.wider(mask, q, k))
        return self.out(rearrange(y, "b n f d -> (b f) (n d)"))


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


def rotary_angles(positions, d, base=100.0):
    """Angles positions x base^(-2i/d): (f,) -> (f, d/2), for rotary embedding (Su et al. 2021, Eq. 15).

    base is 100, not the 10,000 of text: a window has tens of frames, not thousands of words.
    """
    frequencies = base ** (-torch.arange(0, d, 2, dtype=torch.float32, device=positions.device) / d)
    return positions.float()[:, None] * frequencies


def space_time_angles(temporal, h, w):
    """(f, d/2) angles of time -> (f h w, d/2): half of the pairs turn with time, a quarter each with y and x."""
    f, pairs = temporal.shape
    y = rotary_angles(torch.arange(h, device=temporal.device), pairs // 2, base=10.0)
    x = rotary_angles(torch.arange(w, device=temporal.device), pairs // 2, base=10.0)
    return torch.cat([repeat(temporal[:, ::2], "f d -> (f h w) d", h=h, w=w),
                      repeat(y, "h d -> (f h w) d", f=f, w=w), repeat(x, "w d -> (f h w) d", f=f, h=h)], dim=-1)


def rotate(x, angles):
    """Turn each pair (x_i, x_{i + d/2}) by its angle. x: (..., f, d);  angles: (f, d/2)."""
    return _Rotate.apply(x, angles.cos(), angles.sin())


class _Rotate(torch.autograd.Function):
    """A rotation's gradient is the rotation back: two passes over memory where autograd's own record takes seven."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        turned = torch.empty_like(x)
        (x1, x2), (y1, y2) = x.chunk(2, -1), turned.chunk(2, -1)
        torch.mul(x1, cos, out=y1).addcmul_(x2, sin, value=-1)
        torch.mul(x2, cos, out=y2).addcmul_(x1, sin)
        return turned

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        return _Rotate.apply(grad, cos, -sin), None, None


def clean_mask(t):
    """Who may look at whom: (b, f) noise levels -> (b, f, f) bool, or None when all may.

    A frame at t = 0 is given: it does not look at frames that are still being made.
    """
    clean = t == 0
    if not clean.any() or clean.all():
        return None
    return ~(clean[:, :, None] & ~clean[:, None, :])
