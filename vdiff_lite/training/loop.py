"""The training loop, once: one learning-rate rule, one optimizer step, for every network of the book."""

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from vdiff_lite.training.optimizer import set_lr


def lr_factor(step: int, steps: int, warmup: int = 100, decay: int | None = None) -> float:
    """What the learning rates are multiplied by: linear warm-up, 1, then a cosine down to 2%.

    decay: over how many last steps they fall; None means all of them.
    """
    up = min(1.0, (step + 1) / max(1, warmup))
    left = min(1.0, max(0.0, (steps - step) / max(1, steps if decay is None else decay)))
    return up * (0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left)))


class DivergedError(FloatingPointError):
    """The loss is not a number any more."""


def check_finite(step: int, loss: float, norm: Tensor | float) -> None:
    """Raise DivergedError when the loss of a step, or the norm of its gradient, is not finite."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise DivergedError(f"step {step}: loss {loss}, gradient norm {float(norm)}")


def update(optimizer: torch.optim.Optimizer, losses: Iterable[Tensor], clip: float = 1.0) -> Tensor:
    """Gradients of the sum of losses, their norm held to `clip`, an optimizer step. Returns that norm before.

    Reads no value of a tensor: a GPU is never waited for, and a CUDA graph can hold it.
    """
    optimizer.zero_grad()
    for loss in losses:
        loss.backward()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(params, clip)
    optimizer.step()
    return norm


def fit(optimizer: torch.optim.Optimizer, loss_of: Callable[[int], Tensor], steps: int, warmup: int = 100,
        decay: int | None = None, clip: float = 1.0, bar: bool = True, name: str = "training",
        on_step: Callable[[int, float], None] | None = None) -> list[float]:
    """Lower loss_of(step) by `steps` optimizer steps. Returns the losses; on_step(n, loss) follows each."""
    losses = []
    with tqdm(range(steps), disable=not bar, unit="step", desc=name) as shown:
        for step in shown:
            loss = loss_of(step)
            set_lr(optimizer, lr_factor(step, steps, warmup, decay))
            norm = update(optimizer, [loss], clip)
            losses.append(loss.item())
            check_finite(step, losses[-1], norm)
            shown.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}")
            if on_step:
                on_step(step + 1, losses[-1])
    return losses


@contextmanager
def interruptible(save_to: str | Path | None) -> Iterator[list]:
    """A list that is empty until Ctrl-C, or a SIGTERM. The first one stops nothing; a second one does."""
    interrupts = []
    if not save_to or threading.current_thread() is not threading.main_thread():  # no signals there
        yield interrupts
        return
    before = {n: signal.getsignal(n) or signal.SIG_DFL for n in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        interrupts.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
