"""What moves: where it is seen, where it will be, and every frame as seen from there."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vdiff_lite.models.rotary import apply_rotary_emb


def tent(size, width, offset):
    """As in data/bouncing_digits.py, since networks import nothing from data."""
    position = torch.arange(size, device=offset.device)[:, None] - torch.arange(width, device=offset.device)
    return (1 - (position - offset[..., None, None]).abs()).clamp(min=0)


class Follow(nn.Module):
    """Finds where the thing that moves is, and shows every frame as seen from there.

        centre = sum_p softmax(conv(y))_p p              spatial soft-argmax (Finn et al. 2016)
        shift(y)[i] = sum_j max(0, 1 - |i + centre - j|) y[j]  along each axis (Jaderberg et al. 2015, Eq. 5)

    y: (n, h, w, c), a place being cell x cell pixels. Its channels are laid out as pixels, c / cell^2 to
    each, so that a shift by a fraction of a place blurs by less than a pixel. What leaves the frame is gone;
    what comes in is zero.
    """

    def __init__(self, c, cell):
        super().__init__()
        self.cell = cell
        self.score = nn.Conv2d(c, 1, 3, padding=1)

    def find(self, y):
        """The centre of each frame, in pixels from the frame's middle: (n, h, w, c) -> (n, 2) as (y, x)."""
        p = self.score(rearrange(y, "n h w c -> n c h w")).flatten(1).softmax(-1).view(y.shape[:3])
        along = lambda size: self.cell * (torch.arange(size, device=y.device, dtype=y.dtype) - (size - 1) / 2)
        return torch.stack([p.sum(2) @ along(y.shape[1]), p.sum(1) @ along(y.shape[2])], dim=-1)

    def shift(self, y, centre):
        """Move the content of each frame by -centre pixels: (n, h, w, c), (n, 2) -> (n, h, w, c)."""
        (h, w), cell = y.shape[1:3], self.cell
        rows, columns = (tent(size * cell, size * cell, -centre[:, axis]) for axis, size in enumerate((h, w)))
        y = rearrange(y, "n h w (p q c) -> n (h p) (w q c)", p=cell, q=cell)
        y = y.mT @ rows.mT
        y = columns @ rearrange(y, "n (w c) h -> n w (c h)", w=w * cell)
        return rearrange(y, "n (w q) (c h p) -> n h w (p q c)", p=cell, q=cell, h=h)


class Foresee(nn.Module):
    """Where the thing that moves is on every frame, from where it was seen: a small transformer over centres.

    A frame of pure noise shows nothing to follow, but the frames around it tell where the thing must be. Each
    axis of the picture is a sequence of its own, a token a frame: the number seen, and the noise level, which
    says how far to trust it. Born to change nothing, and as good as absent until it is taught from
    trajectories (`foresight.teach`).

    forward(centre, at, site): (b f, 2) -> (b f, 2), in pixels from the middle of the frame.
    """

    UNIT = 8.0  # pixels

    def __init__(self, d, num_blocks):
        super().__init__()
        self.register_buffer("frequencies", math.pi / 2 * torch.arange(1, 9), persistent=False)
        self.enter, self.leave = nn.Linear(1 + 16, 2 * d), nn.Linear(2 * d, 1)
        self.blocks = nn.ModuleList(MotionBlock(2 * d, d) for _ in range(num_blocks))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    @property
    def taught(self):
        return bool(self.leave.weight.any())

    def forward(self, centre, at, site):
        seen = rearrange(centre, "(b f) yx -> (yx b) f 1", b=at.b) / self.UNIT
        level = at.level[..., None] * self.frequencies
        level = torch.cat([level.cos(), level.sin()], dim=-1).repeat(2, 1, 1)
        mask = None if at.mask is None else at.mask.repeat(2, 1, 1)[:, None]
        x = self.enter(torch.cat([seen, level.to(seen)], dim=-1))
        for i, block in enumerate(self.blocks):
            x = block(x, at, mask, f"{site}.{i}.motion")
        return centre + self.UNIT * rearrange(self.leave(x), "(yx b) f 1 -> (b f) yx", yx=2)


class MotionBlock(nn.Module):
    """A transformer block along time whose values turn, too.

        y_i = sum_j a_ij R(p_j - p_i) v_j

    Rotary positions tell attention how far away a frame is, but what it brings from there does not say so; to
    go on along a straight line, position plus distance times velocity, it must. So values are turned by their
    frame's angle, and turned back by that of the frame that asks.
    """

    def __init__(self, c, d):
        super().__init__()
        self.d = d
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.mlp[-1].weight)

    def forward(self, x, at, mask, site):
        y = self.norm1(x)
        qkv = torch.stack([proj(y) for proj in (self.q, self.k, self.v)])  # one rotation of all is quicker
        q, k, v = apply_rotary_emb(rearrange(qkv, "three b f (n d) -> three b n f d", d=self.d), *at.rope)
        k, v = at.call_kv_hook(site, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=at.widened(mask, q, k))
        x = x + self.out(rearrange(apply_rotary_emb(y, at.rope[0], -at.rope[1]), "b n f d -> b f (n d)"))
        return x + self.mlp(self.norm2(x))
