"""Positions in time and space as rotations; and which frames may attend to which."""

import torch
from einops import repeat
from torch import Tensor


def rotary_angles(positions: Tensor, d: int, base: float = 100.0) -> Tensor:
    """Angles positions x base^(-2i/d): (f,) -> (f, d/2), for rotary embedding (Su et al. 2021, Eq. 15).

    base is 100, not the 10,000 of text: a window has tens of frames, not thousands of words.
    """
    frequencies = base ** (-torch.arange(0, d, 2, dtype=torch.float32, device=positions.device) / d)
    return positions.float()[:, None] * frequencies


def space_time_angles(temporal: Tensor, h: int, w: int) -> Tensor:
    """(f, d/2) angles of time -> (f h w, d/2): half of the pairs turn with time, a quarter with y, x each."""
    f, pairs = temporal.shape
    y = rotary_angles(torch.arange(h, device=temporal.device), pairs // 2, base=10.0)
    x = rotary_angles(torch.arange(w, device=temporal.device), pairs // 2, base=10.0)
    return torch.cat([repeat(temporal[:, ::2], "f d -> (f h w) d", h=h, w=w),
                      repeat(y, "h d -> (f h w) d", f=f, w=w),
                      repeat(x, "w d -> (f h w) d", f=f, h=h)], dim=-1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate each pair (x_i, x_{i + d/2}) by its angle. x: (..., f, d);  angles: (f, d/2)."""
    return apply_rotary_emb(x, *rope_cos_sin(angles))


def rope_cos_sin(angles: Tensor) -> tuple[Tensor, Tensor]:
    """(f, d/2) angles -> for `apply_rotary_emb`: cosines for both halves of x (f, d), sines (f, d/2)."""
    return angles.cos().repeat(1, 2), angles.sin()


def apply_rotary_emb(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotate` with the cosines and sines at hand."""
    if torch.compiler.is_compiling():  # an export writes down what it sees, and does not see into _Rotate
        x1, x2 = x.chunk(2, -1)
        return x * cos + torch.cat([-x2 * sin, x1 * sin], dim=-1)
    learning = torch.is_grad_enabled() and x.requires_grad
    return _Rotate.apply(x, cos, sin) if learning else _rotated(x, cos, sin)


def _rotated(x, cos, sin):
    y = x * cos
    (x1, x2), (y1, y2) = x.chunk(2, -1), y.chunk(2, -1)
    y1.addcmul_(x2, sin, value=-1)
    y2.addcmul_(x1, sin)
    return y


class _Rotate(torch.autograd.Function):
    """A rotation's gradient is the rotation back: two passes over memory where autograd takes seven."""

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        return apply_rotary_emb(grad, cos, -sin), None, None


def clean_mask(t: Tensor) -> Tensor | None:
    """Which frames may attend to which: (b, f) noise levels -> (b, f, f) bool, or None when all may.

    A frame at t = 0 is known: it does not attend to frames that are still being made. On a GPU, whose values
    would have to be waited for, there is always a mask.
    """
    clean = t == 0
    if not (t.is_cuda or torch.compiler.is_compiling()) and (not clean.any() or clean.all()):
        return None
    return ~(clean[:, :, None] & ~clean[:, None, :])
