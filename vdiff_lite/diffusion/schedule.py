"""The noise schedule: how much of a clip is left at each noise level; moving between x0, eps and v."""

import math

import torch
from torch import Tensor

from vdiff_lite.checks import number, one_of, whole

SHAPES = ("linear", "cosine", "sigmoid")


def _linear(u):
    # Ho et al. 2020: beta from 1e-4 to 0.02 over 1000 steps, written for any number of steps.
    n = len(u) - 1
    beta = torch.linspace(1e-4, 0.02, n, dtype=torch.float64) * (1000 / n)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta.clamp(max=0.999), 0)])


def _cosine(u, s=0.008):
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


def _sigmoid(u, start=-3.0, end=3.0, tau=1.0):
    low, high = torch.sigmoid(torch.tensor([start / tau, end / tau], dtype=torch.float64))
    f = (high - torch.sigmoid((u * (end - start) + start) / tau)) / (high - low)
    return f.clamp(min=1e-9)


class NoiseSchedule:
    """How much signal and noise a clip holds at each noise level t.

        x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

    alpha_bar: (num_timesteps + 1,) float64, falling; alpha_bar[0] == 1 is a clean clip. With
    `zero_terminal_snr`, alpha_bar[num_timesteps] == 0 exactly: the last level is pure noise (Lin et al. 2024,
    Algorithm 1).

    shape: "linear" (Ho et al. 2020), "cosine" (Nichol and Dhariwal 2021, Eq. 17) or "sigmoid" (Jabri et al.
    2023).  shift: > 1 moves every level towards noise, snr -> snr / shift^2, for larger frames (Hoogeboom et
    al. 2023).
    Raises ValueError for an unknown shape, fewer than 2 steps or a shift that is not positive.
    """

    def __init__(self, num_timesteps: int = 1000, shape: str = "cosine", zero_terminal_snr: bool = True,
                 shift: float = 1.0):
        one_of(SHAPES, shape=shape)
        one_of((True, False), zero_terminal_snr=zero_terminal_snr)
        whole(2, 10**6, num_timesteps=num_timesteps)
        number(above=0, shift=shift)
        self.num_timesteps, self.shape = num_timesteps, shape
        self.zero_terminal_snr, self.shift = zero_terminal_snr, shift
        u = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
        alpha_bar = {"linear": _linear, "cosine": _cosine, "sigmoid": _sigmoid}[shape](u)
        alpha_bar = alpha_bar / (alpha_bar + shift**2 * (1 - alpha_bar))
        self.alpha_bar = rescale_zero_terminal_snr(alpha_bar) if zero_terminal_snr else alpha_bar
        self._copies = {}

    def config(self) -> dict:
        """The arguments that make this schedule again, as a dict."""
        return dict(num_timesteps=self.num_timesteps, shape=self.shape,
                    zero_terminal_snr=self.zero_terminal_snr, shift=self.shift)

    def snr(self, t: int | Tensor) -> Tensor:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), shaped as t: infinite at t = 0."""
        alpha_bar = self._alpha_bar_at(t)
        return alpha_bar / (1 - alpha_bar)

    def signal_and_noise(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), shaped to multiply clips.

        t: int, (b,) or (b, f) long, 0 <= t <= num_timesteps;  like: a clip (b, c, f, h, w). Returns two
        tensors (b or 1, 1, f or 1, 1, 1) of like's dtype and device. Raises ValueError out of range.
        """
        alpha_bar = self._alpha_bar_at(t).to(like.device)
        if alpha_bar.ndim == 0:
            alpha_bar = alpha_bar[None]
        if alpha_bar.ndim == 1:
            alpha_bar = alpha_bar[:, None]
        if alpha_bar.shape[0] not in (1, like.shape[0]) or alpha_bar.shape[1] not in (1, like.shape[2]):
            b, f = like.shape[0], like.shape[2]
            raise ValueError(f"t has shape {tuple(alpha_bar.shape)}; {b} clips of {f} frames want ({b},) or "
                             f"({b}, {f})")
        alpha_bar = alpha_bar[:, None, :, None, None]
        return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Jump to noise level t in one step.

        x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps        (Ho et al. 2020, Eq. 4)

        x0, eps: (b, c, f, h, w) in [-1, 1] and N(0, 1);  t: (b,) or (b, f) long, 0 <= t <= num_timesteps.
        Returns xt, shaped as x0. Raises ValueError when t is out of range.
        """
        signal, noise = self.signal_and_noise(t, x0)
        return signal * x0 + noise * eps

    def v(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The target: v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0        (Salimans and Ho 2022)."""
        signal, noise = self.signal_and_noise(t, x0)
        return signal * eps - noise * x0

    def x0_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """x_0 = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v: finite at both ends."""
        signal, noise = self.signal_and_noise(t, xt)
        return signal * xt - noise * v

    def eps_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """eps = sqrt(1 - alpha_bar_t) x_t + sqrt(alpha_bar_t) v: finite at both ends."""
        signal, noise = self.signal_and_noise(t, xt)
        return noise * xt + signal * v

    def eps_from_x0(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t), and 0 at t = 0: no noise there."""
        signal, noise = self.signal_and_noise(t, xt)
        return torch.where(noise > 0, (xt - signal * x0) / noise.clamp(min=torch.finfo(xt.dtype).tiny), 0.0)

    def x0_from_eps(self, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t).

        Raises ValueError where alpha_bar_t is 0: pure noise and its noise say nothing about the clip.
        """
        signal, noise = self.signal_and_noise(t, xt)
        if (signal == 0).any():
            raise ValueError(f"t={self.num_timesteps} has alpha_bar 0: eps says nothing about x0; use v")
        return (xt - noise * eps) / signal

    def _alpha_bar_at(self, t):
        t = torch.as_tensor(t)
        if t.dtype.is_floating_point:
            raise ValueError(f"t has dtype {t.dtype}; noise levels are whole numbers to {self.num_timesteps}")
        # On a GPU the check would have to wait for it; there, the lookup itself refuses a level too high.
        unseen = t.is_cuda or torch.compiler.is_compiling()
        if t.numel() and not unseen and (t.min() < 0 or t.max() > self.num_timesteps):
            raise ValueError(f"t runs from {t.min().item()} to {t.max().item()}; "
                             f"noise levels lie between 0 and {self.num_timesteps}")
        if t.device not in self._copies:  # once per device, not in every step
            kind = torch.float32 if t.device.type == "mps" else torch.float64  # MPS has no float64
            self._copies[t.device] = self.alpha_bar.to(t.device, kind)
        return self._copies[t.device][t]

    def __repr__(self):
        return "NoiseSchedule(" + ", ".join(f"{k}={v!r}" for k, v in self.config().items()) + ")"


def rescale_zero_terminal_snr(alpha_bar: Tensor) -> Tensor:
    """Shift and scale sqrt(alpha_bar) so that the last level is pure noise.

    s_t -> (s_t - s_T) s_0 / (s_0 - s_T) with s = sqrt(alpha_bar)      (Lin et al. 2024, Algorithm 1)

    alpha_bar: (n,) falling from alpha_bar[0]. Returns the same shape, with [0] kept and [-1] == 0 exactly.
    """
    signal = alpha_bar.sqrt()
    rescaled = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return rescaled**2
