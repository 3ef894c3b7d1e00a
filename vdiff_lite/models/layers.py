"""The layers of VideoUNet: convolutions within frames, attention along time and over everything."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from vdiff_lite.models.rotary import apply_rotary_emb, rope_cos_sin, space_time_angles


class Context:
    """What every block needs beside its input: noise embedding, positions, the attention mask, and the hook.

    b: clips in the batch;  noise: (b f, e) embedded noise levels;  angles: (f, d/2) rotary angles of the
    frames; mask: (b, f, f), True where a frame may attend to another, None where all may;  hook(site,
    feature) -> feature, or None.
    """

    def __init__(self, b: int, noise: Tensor | None, angles: Tensor, mask: Tensor | None = None,
                 hook: Callable | None = None):
        self.b, self.noise, self.angles, self.mask, self.hook = b, noise, angles, mask, hook
        self.rope = rope_cos_sin(angles)
        self._joint = {}

    def joint_rope(self, h: int, w: int) -> tuple:
        """Cosines and sines for joint attention over h x w positions, computed once for all blocks."""
        if (h, w) not in self._joint:
            self._joint[h, w] = rope_cos_sin(space_time_angles(self.angles, h, w))
        return self._joint[h, w]

    def call_kv_hook(self, site: str, k: Tensor, v: Tensor) -> tuple:
        """Keys and values through the hook, as they are."""
        return self.hook(site, (k, v)) if self.hook else (k, v)

    def call_hook(self, site: str, x: Tensor) -> Tensor:
        """A stage's output through the hook, as (b, c, f, h, w)."""
        if not self.hook:
            return x
        x = self.hook(site, rearrange(x, "(b f) c h w -> b c f h w", b=self.b))
        return rearrange(x, "b c f h w -> (b f) c h w")

    @staticmethod
    def widened(mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """The mask with a column for every key that a hook has prepended; all may attend to those."""
        return mask if mask is None else F.pad(mask, (k.shape[2] - q.shape[2], 0), value=True)


class EncoderStage(nn.Module):
    """One level of the encoder: convolutions within frames, then attention along time."""

    def __init__(self, c: int, e: int, d: int):
        super().__init__()
        self.frames = ResBlock(c, e)
        self.temporal = TemporalAttention(c, d)

    def forward(self, x: Tensor, context: Context, site: str) -> Tensor:
        x = self.frames(x, context.noise)
        x = self.temporal(x, context, site + ".temporal")
        return context.call_hook(site, x)


class DecoderStage(nn.Module):
    """One level of the decoder: attention along time, then convolutions within frames."""

    def __init__(self, c: int, e: int, d: int):
        super().__init__()
        self.temporal = TemporalAttention(c, d)
        self.frames = ResBlock(c, e)

    def forward(self, x: Tensor, context: Context, site: str) -> Tensor:
        x = self.temporal(x, context, site + ".temporal")
        x = self.frames(x, context.noise)
        return context.call_hook(site, x)


class ResBlock(nn.Module):
    """Norm, FiLM by the noise level, SiLU, convolution; twice; added to the input. Frame by frame.

        y = conv((1 + scale_t) * norm(h) + shift_t)                       (Perez et al. 2018, "FiLM")
    """

    def __init__(self, c: int, e: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, c), nn.GroupNorm(8, c, affine=False)
        self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.modulation = nn.Linear(e, 2 * c)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        scale, shift = rearrange(self.modulation(noise), "n (two c) -> two n c 1 1", two=2)
        y = self.conv1(F.silu(self.norm1(x)))
        y = torch.addcmul(shift, self.norm2(y), 1 + scale)
        return x + self.conv2(F.silu(y))


def nonoverlapping_conv_transpose(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """`layer(x)` for a transposed convolution with kernel_size == stride, as one matrix product.

    Faster on a CPU.  layer: ConvTranspose2d with kernel_size equal to its stride k;  x: (n, c, h, w). Returns
    (n, o, h k, w k).
    """
    k = layer.stride[0]
    weight = rearrange(layer.weight, "c o p q -> (p q o) c")
    y = F.linear(rearrange(x, "n c h w -> n h w c"), weight, layer.bias.repeat(k * k))
    y = rearrange(y, "n h w (p q o) -> n (h p) (w q) o", p=k, q=k)
    return rearrange(y, "n h w o -> n o h w")


class Attention(nn.Module):
    """Multi-head attention with rotary positions, an optional mask, and a hook on keys and values.

    split: how tokens become heads, an einops pattern from the layer's layout to (batch, heads, tokens, d),
    such as "(b f) h w (n d) -> b (h w n) f d" for attention along time. forward(y, context, site, rope, mask,
    **sizes): y in the layer's layout, already normalized;  sizes: the axes that einops cannot infer.  Returns
    the same layout.
    """

    def __init__(self, c: int, d: int, split: str):
        super().__init__()
        self.d, (self.tokens, self.heads) = d, split.split(" -> ")
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        nn.init.zeros_(self.out.weight)

    def forward(self, y: Tensor, context: Context, site: str, rope: tuple, mask: Tensor | None,
                **sizes) -> Tensor:
        names = lambda pattern: {name: n for name, n in sizes.items() if name in pattern}
        split = lambda x: rearrange(x, f"{self.tokens} -> {self.heads}", d=self.d, **names(self.tokens))
        q, k, v = (split(proj(y)) for proj in (self.q, self.k, self.v))
        q, k = (apply_rotary_emb(x, *rope).to(v.dtype) for x in (q, k))
        k, v = context.call_kv_hook(site, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=context.widened(mask, q, k))
        return self.out(rearrange(y, f"{self.heads} -> {self.tokens}", d=self.d, **names(self.heads)))


class TemporalAttention(nn.Module):
    """Each position attends along time to itself in the other frames; rotary positions make it relative."""

    def __init__(self, c: int, d: int):
        super().__init__()
        self.norm = nn.LayerNorm(c)
        # Every (position, head) is one head of the attention kernel: a view, no copy.
        self.attention = Attention(c, d, "(b f) h w (n d) -> b (h w n) f d")

    def forward(self, x: Tensor, context: Context, site: str) -> Tensor:
        y = self.norm(rearrange(x, "n c h w -> n h w c"))
        mask = None if context.mask is None else context.mask[:, None]
        y = self.attention(y, context, site, context.rope, mask, b=context.b, h=x.shape[2], w=x.shape[3])
        return x + rearrange(y, "n h w c -> n c h w")


class SpaceTimeBlock(nn.Module):
    """A transformer block with joint attention: every position of every frame attends to every other.

    Adaptive norm by the noise level (Peebles and Xie 2023).
    """

    def __init__(self, c: int, e: int, d: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(c, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(c, d, "b f p (n d) -> b n (f p) d")
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))
        self.modulation = nn.Linear(e, 4 * c)
        # Initialized to attend to what is like itself: the same stroke on another frame.
        nn.init.orthogonal_(self.attention.q.weight, gain=1.2)
        self.attention.k.weight.data.copy_(self.attention.q.weight)
        nn.init.zeros_(self.mlp[-1].weight)

    def forward(self, x: Tensor, context: Context, site: str) -> Tensor:
        b, (h, w) = context.b, x.shape[2:]
        modulation = rearrange(self.modulation(context.noise), "(b f) (four c) -> four b f 1 c", b=b, four=4)
        scale1, shift1, scale2, shift2 = modulation
        x = rearrange(x, "(b f) c h w -> b f (h w) c", b=b)
        mask = context.mask
        mask = None if mask is None else repeat(mask, "b i j -> b 1 (i p) (j q)", p=h * w, q=h * w)
        y = torch.addcmul(shift1, self.norm1(x), 1 + scale1)
        x = x + self.attention(y, context, site, context.joint_rope(h, w), mask, p=h * w)
        x = x + self.mlp(torch.addcmul(shift2, self.norm2(x), 1 + scale2))
        return rearrange(x, "b f (h w) c -> (b f) c h w", h=h, w=w)


class NoiseLevelEmbedding(nn.Module):
    """Noise level (b, f) -> (b f, e): sines and cosines of t, then two layers."""

    def __init__(self, e: int, num_timesteps: int):
        super().__init__()
        self.num_timesteps = num_timesteps
        frequencies = torch.exp(torch.linspace(0, math.log(1000.0), e // 2)) * math.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(e, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        u = rearrange(t, "b f -> (b f) 1").to(self.frequencies) / self.num_timesteps * self.frequencies
        return self.mlp(torch.cat([u.sin(), u.cos()], dim=-1))
