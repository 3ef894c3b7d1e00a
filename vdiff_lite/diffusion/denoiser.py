"""Denoiser: the one interface, (xt, t) -> x0_hat. What wraps a denoiser is a denoiser, too."""

import inspect
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vdiff_lite.checks import one_of
from vdiff_lite.diffusion.schedule import NoiseSchedule

PREDICTIONS = ("v", "eps", "x0")


class Denoiser(nn.Module):
    """A network as a function from a noisy clip to a clean one.

        v:    x0_hat = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v_hat          (Salimans and Ho 2022)
        eps:  x0_hat = (x_t - sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_bar_t)    (Ho et al. 2020, Eq. 15)
        x0:   x0_hat = what the network returns

    net: any nn.Module called as net(xt, t, **model_kwargs); schedule: NoiseSchedule; sample_shape: (c, h, w)
    of a frame, taken from the network's config where it has one;  predicts: "v", "eps" or "x0".
    denoiser(xt, t) -> x0_hat: clips (b, c, f, h, w); t (b,) or (b, f) long. Samplers see nothing else.
    `model_kwargs` (`hook`, `positions`) go to the network, where it takes them (`takes_hooks`, ...).
    Raises ValueError for another prediction, where the shape of a frame is not known, and for "eps"
    with a schedule that ends at alpha_bar = 0: there the noise says nothing about the clip.
    """

    def __init__(self, net: nn.Module, schedule: NoiseSchedule, sample_shape: tuple | None = None,
                 predicts: str = "v"):
        super().__init__()
        one_of(PREDICTIONS, predicts=predicts)
        if predicts == "eps" and schedule.alpha_bar[-1] == 0:
            raise ValueError("predicts='eps' wants a schedule with zero_terminal_snr=False: at alpha_bar = 0 "
                             "the noise says nothing about the clip; or train the network to predict 'v'")
        sample_shape = frame_shape(net) if sample_shape is None else sample_shape
        if sample_shape is None or len(sample_shape) != 3:
            raise ValueError(f"sample_shape={sample_shape} must be (c, h, w), the shape of one frame")
        top = getattr(getattr(net, "config", None), "num_timesteps", schedule.num_timesteps)
        if top != schedule.num_timesteps:
            raise ValueError(f"num_timesteps={schedule.num_timesteps} here is {top} by the network")
        self.net, self.schedule, self.predicts = net, schedule, predicts
        self.sample_shape = tuple(sample_shape)
        self.takes_hooks, self.takes_positions = (_accepts(net.forward, name) or _accepts(self.forward, name)
                                                  for name in ("hook", "positions"))

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        dtype = next((p.dtype for p in self.net.parameters()), xt.dtype)  # of a bf16 network, say
        return self.x0_from(self.net(xt.to(dtype), t, **model_kwargs).to(xt.dtype), xt, t)

    def x0_from(self, prediction: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """What the network predicted, as x0_hat."""
        if self.predicts == "x0":
            return prediction
        x0_from = self.schedule.x0_from_v if self.predicts == "v" else self.schedule.x0_from_eps
        return x0_from(xt, t, prediction)

    @property
    def device(self) -> torch.device:
        """Where it computes: the device of its first parameter or buffer; the CPU where it has neither."""
        return next((x.device for x in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @classmethod
    def from_function(cls, f: Callable, schedule: NoiseSchedule, sample_shape: tuple,
                      predicts: str = "x0") -> "Denoiser":
        """A bare function f(xt, t) as a denoiser, for every sampler and every method that needs no hooks."""
        return cls(_Function(f), schedule, sample_shape, predicts)


class _Function(nn.Module):
    def __init__(self, f: Callable):
        super().__init__()
        self.f = f
        self.forward = f


class DenoiserWrapper(Denoiser):
    """A denoiser made of another: same schedule, frame shape and device. Subclasses say what `forward` does.

    inner: the denoiser that is asked. What it offers (`net`, `card`, `takes_hooks`) is offered here too, so
    wrappers compose.
    """

    def __init__(self, inner: Denoiser):
        nn.Module.__init__(self)
        self.inner = inner
        self.schedule, self.sample_shape = inner.schedule, inner.sample_shape
        self.takes_hooks, self.takes_positions = inner.takes_hooks, inner.takes_positions

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        return self.inner(xt, t, **model_kwargs)

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def net(self) -> nn.Module:
        """The network at the bottom."""
        return self.inner.net

    @property
    def card(self) -> dict:
        """The card of the checkpoint at the bottom."""
        return self.inner.card


class NFECounter(DenoiserWrapper):
    """Counts the frames that went through a denoiser, over all clips: `frames`. NFE = frames / window."""

    def __init__(self, inner: Denoiser):
        super().__init__(inner)
        self.frames = 0

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        self.frames += xt.shape[0] * xt.shape[2]
        return self.inner(xt, t, **model_kwargs)


class Step(NamedTuple):
    """Where a sampler stands: the noisy clip at level t, and the estimate of the clean one. t = 0 ends."""

    t: int
    xt: Tensor
    x0_hat: Tensor


class Sampler(Protocol):
    """What turns noise into a clip: yields a Step per network evaluation, and a last one with the clip."""

    def __call__(self, denoiser: Denoiser, xt: Tensor, schedule: NoiseSchedule, steps: int | list = ...,
                 generator: torch.Generator | None = None) -> Iterator[Step]: ...


class Method(Protocol):
    """What continues a clip: binds a denoiser to the past (b, c, k, h, w), the window's first frames."""

    def __call__(self, denoiser: Denoiser, past: Tensor) -> Denoiser: ...


def frame_shape(net: nn.Module) -> tuple | None:
    """(c, h, w) of a network's frames, by its `config`; None where that does not say."""
    config = getattr(net, "config", None)
    known = hasattr(config, "in_channels") and hasattr(config, "size")
    return (config.in_channels, *config.size) if known else None


def condition_width(net: nn.Module) -> int:
    """How many numbers a network is told beside each frame, by its `config`; 0 where that does not say."""
    return getattr(getattr(net, "config", None), "condition", 0)


def require_hooks(denoiser: Denoiser, what: str) -> None:
    """Raise ValueError unless the denoiser's network accepts a hook."""
    if not denoiser.takes_hooks:
        raise ValueError(f"{what} reads and changes features inside the network, and "
                         f"{type(denoiser).__name__} offers no hooks: give its network's forward a parameter "
                         "`hook` (see VideoUNet.forward), or take a method that needs none, for example "
                         "history_guidance or reconstruction")


def require_positions(denoiser: Denoiser, what: str) -> None:
    """Raise ValueError unless the denoiser's network accepts the positions of its frames."""
    if not denoiser.takes_positions:
        raise ValueError(f"{what} tells the network where its frames stand in time, and "
                         f"{type(denoiser).__name__} cannot be told: give its network's forward a parameter "
                         "`positions` (see VideoUNet.forward), or take a method that needs none, for example "
                         "history_guidance")


def per_frame(t: Tensor, b: int, f: int) -> Tensor:
    """Noise levels (b,), (1,), (b, f) or (1, f) -> (b, f), one per frame. Raises ValueError for others."""
    t = t[:, None] if t.ndim == 1 else t
    if t.ndim != 2 or t.shape[0] not in (1, b) or t.shape[1] not in (1, f):
        raise ValueError(f"t has shape {tuple(t.shape)}; {b} clips of {f} frames want ({b},) or ({b}, {f})")
    return t.expand(b, f)


def _accepts(function: Callable, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
