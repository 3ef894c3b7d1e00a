"""Training: one loss, four kinds of noise levels, an average of the weights, exact resume."""

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from vdiff_lite import checkpoint
from vdiff_lite.data.batch import ClipSource
from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.losses import draw_noise_levels, v_loss
from vdiff_lite.diffusion.samplers import noise_like
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.training.loop import DivergedError, interruptible, lr_factor, optimizer_step
from vdiff_lite.training.optimizer import make_optimizer
from vdiff_lite.training.recipe import TrainConfig


@dataclass(frozen=True)
class Progress:
    """What training reports after each step."""

    step: int  # steps taken so far
    loss: float
    clips_per_second: float
    seconds_left: float


class Trainer:
    """Trains a network to predict v; everything that it needs to go on is in `save` and `resume`.

    net: any nn.Module called as net(xt, t) that predicts v;  schedule: NoiseSchedule;  data: ClipSource;
    config: TrainConfig.  The random numbers of step n depend on the seed and n alone, so a run that was cut
    off and resumed from its last save ends with the same bytes as one that was not.
    """

    def __init__(self, net: nn.Module, schedule: NoiseSchedule, data: ClipSource,
                 config: TrainConfig | None = None, device: str | torch.device = "cpu"):
        self.config = config or TrainConfig()
        self.net, self.schedule, self.data, self.device = net.to(device).train(), schedule, data, device
        _, c, _, h, w = data.with_frames(1).sample(1, Generator().manual_seed(0)).video.shape
        self.sample_shape = (c, h, w)
        self.ema = AveragedModel(net, multi_avg_fn=partial(_ema, self.config.ema_decay))
        self.ema.n_averaged += 1  # the average begins with the weights before the first step
        self.optimizer = make_optimizer(net, self.config.lr, self.config.matrix_lr, self.config.betas,
                                        self.config.weight_decay)
        self.step, self.losses = 0, []
        self.before = []  # training stages that the first weights have behind them: `checkpoint.stages`

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    def train_step(self) -> float:
        """One optimizer step. Returns the loss. Raises DivergedError when it is not finite."""
        config, step = self.config, self.step
        x0, t, eps = self._batch(step)
        loss = v_loss(self.net, self.schedule, x0, t, eps, config.weighting)
        try:
            factor = lr_factor(step, config.steps, config.warmup, config.decay)
            optimizer_step(self.optimizer, loss, factor, config.clip)
        except DivergedError as error:
            raise DivergedError(f"step {step}: {error}; resume from the last save with a lower matrix_lr "
                                f"than {config.matrix_lr}") from None
        self.ema.update_parameters(self.net)
        self.step += 1
        self.losses.append(loss.item())
        return self.losses[-1]

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        short = 2 if step < config.short_steps else 1
        batch, frames = config.batch * short, config.frames // short
        x0 = self.data.with_frames(frames).sample(batch, generator).video
        noise_mix = config.noise_mix if frames > 1 else (1, 0, 0, 0)
        t = draw_noise_levels(batch, frames, self.schedule.num_timesteps, noise_mix,
                              config.high_noise_fraction, generator)
        return x0.to(self.device), t.to(self.device), noise_like(x0, generator).to(self.device)

    def run(self, save_to: str | Path | None = None, save_every: int = 500,
            bar: bool = True) -> Iterator[Progress]:
        """Take the steps that are left; yields Progress after each. Saves to save_to on the way and at last.

        With save_to, Ctrl-C ends a run between two steps: it saves, and raises KeyboardInterrupt that says
        so. A second one does not wait.
        """
        started, first, steps = time.perf_counter(), self.step, self.config.steps
        bar = tqdm(total=steps, initial=first, disable=not bar, unit="step")
        with bar, interruptible(save_to) as interrupts:
            while self.step < steps:
                loss = self.train_step()
                per_step = (time.perf_counter() - started) / (self.step - first)
                speed = self.config.batch / per_step
                bar.update()
                recent = self.losses[-50:]
                bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", clips_s=f"{speed:.1f}")
                if save_to and (self.step % save_every == 0 or self.step == steps):
                    self.save(save_to)
                yield Progress(self.step, loss, speed, per_step * (steps - self.step))
                if interrupts:
                    self.save(save_to)
                    raise KeyboardInterrupt(f"stopped after step {self.step}, saved in {save_to}; "
                                            "the same command, or Trainer.resume, goes on")

    def ema_denoiser(self) -> Denoiser:
        """A Denoiser with the averaged weights (the ones to sample with), detached from training."""
        net = copy.deepcopy(self.ema.module).eval().requires_grad_(False)
        return Denoiser(net, self.schedule, self.sample_shape)

    def save(self, path: str | Path) -> None:
        """Write all that training needs to go on: weights, average, optimizer, step, losses, identity."""
        tensors = {f"ema.{name}": value for name, value in self.ema.module.state_dict().items()}
        tensors |= {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        checkpoint.write_tensors(path, tensors, run=self.identity(), step=self.step,
                                 losses=self.losses, before=self.before)

    def identity(self) -> dict:
        """Which run this is: network, recipe with its seed, data. A run is resumed under the same ones."""
        config = getattr(self.net, "config", None)
        return dict(network=config.to_dict() if hasattr(config, "to_dict") else type(self.net).__name__,
                    recipe=json.loads(json.dumps(asdict(self.config))), data=str(self.data))

    def resume(self, path: str | Path, anyway: bool = False) -> "Trainer":
        """Go on from a file that `save` wrote. Returns self.

        Raises CheckpointError when the file is of another run, and names each difference: network, each
        setting of the recipe, data. anyway: go on under this run's recipe and data all the same; the network
        must fit.
        """
        tensors, about = checkpoint.read_tensors(path)
        differences = differing(about.get("run", {}), self.identity())
        if differences and (not anyway or any(name.startswith("network") for name in differences)):
            listed = "; ".join(f"{k}: {old!r} there, {new!r} here" for k, (old, new) in differences.items())
            raise checkpoint.CheckpointError(f"{path} was written by another run ({listed}); choose another "
                                             "place, or insist with anyway=True (--anyway), network apart")
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        self.net.load_state_dict(part("net."))
        self.ema.module.load_state_dict(part("ema."))
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, value in part("optimizer.").items():
            i, key = name.split(".")
            state["state"].setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict(state)
        self.step, self.losses, self.before = about["step"], about["losses"], about.get("before", [])
        self.ema.n_averaged.fill_(self.step + 1)
        return self


def differing(old: dict, new: dict, prefix: str = "") -> dict:
    """What two nested dicts do not share: {"recipe.steps": (old, new), ...}."""
    differences = {}
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences |= differing(a, b, f"{prefix}{key}.")
        elif a != b:
            differences[prefix + key] = (a, b)
    return differences


def _ema(decay: float, averages: list, params: list, num_averaged: Tensor) -> None:
    """Exponential moving average; its decay is ramped up over the first steps: min(decay, n / (9 + n))."""
    n = int(num_averaged)
    torch._foreach_lerp_(averages, params, 1 - min(decay, n / (9 + n)))
