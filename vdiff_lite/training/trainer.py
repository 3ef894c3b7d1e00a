"""Training: one loss, four kinds of noise levels, an average of the weights, exact resume; CPU and GPU."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from vdiff_lite.checks import clips, memory, number
from vdiff_lite.data.batch import ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.rooms import Rooms
from vdiff_lite.diffusion.denoiser import Denoiser, condition_width, frame_shape
from vdiff_lite.diffusion.losses import draw_noise_levels, errors_by_level, mean_error, v_errors
from vdiff_lite.diffusion.samplers import noise_like
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.training import state
from vdiff_lite.training.compute import CapturedStep, Compute
from vdiff_lite.training.loop import DivergedError, check_finite, interruptible, lr_factor, update
from vdiff_lite.training.optimizer import make_optimizer, set_lr
from vdiff_lite.training.recipe import TrainConfig

READ_EVERY = 25  # steps after which losses are fetched from a GPU
LEVELS = 5  # bins of noise levels that a loss is told by

@dataclass(frozen=True)
class Progress:
    """What training reports after each step."""

    step: int  # steps taken so far
    loss: float  # the latest that has been read; nan before that
    clips_per_second: float
    seconds_left: float


class Trainer:
    """Trains a network to predict v; everything that it needs to go on is in `save` and `resume`.

    net: any nn.Module called as net(xt, t) that predicts v, and net(xt, t, condition=) where its config has a
    condition;  schedule: NoiseSchedule;  data: ClipSource;
    config: TrainConfig;  compute: precision, parts, processes. The random numbers of step n depend on the
    seed and n alone, so a run that was cut off and resumed from its last save ends with the same bytes as one
    that was not, on the same kind of device.

    On a GPU nothing waits for it: digits are drawn there, the step is one CUDA graph (`CapturedStep`, for one
    process), and losses are read every `READ_EVERY` steps. Raises ValueError for a batch that does not divide
    among processes and parts.
    """

    def __init__(self, net: nn.Module, schedule: NoiseSchedule, data: ClipSource,
                 config: TrainConfig | None = None, device: str | torch.device = "cpu",
                 compute: Compute | None = None):
        self.config, self.compute = config or TrainConfig(), compute or Compute()
        accelerator, (_, processes) = self.compute.accelerator, self.compute.process
        self.device = self.compute.device_or(device)
        if self.config.batch % (processes * self.compute.accumulate):
            raise ValueError(f"batch={self.config.batch} does not divide into {processes} processes with "
                             f"accumulate={self.compute.accumulate} parts each")
        if not self.compute.recompute:
            frames = self.config.batch * self.config.frames // (processes * self.compute.accumulate)
            memory(net, frames, self.device, training=True)
        self.net, self.schedule, self.data = net.to(self.device).train(), schedule, data
        if self.compute.recompute:
            net.recompute = True
        on_gpu, compiled = self.device.type == "cuda", self.compute.compiled
        self.precision = self.compute.precision or ("bf16" if on_gpu else "float32")
        self.forward = torch.compile(net, dynamic=False) if compiled or (compiled is None and on_gpu) else net
        if processes > 1:
            self.forward = accelerator.prepare_model(self.forward)
        self.run_update = CapturedStep(self.update) if on_gpu and processes == 1 else self.update
        first = data.with_frames(1).sample(1, Generator().manual_seed(0))
        self.sample_shape = (first.video.shape[1], *first.video.shape[3:])
        clips(frame_shape(net) or self.sample_shape, data=first.video)
        width = condition_width(net)
        self.is_told = width > 0
        if self.is_told and (first.condition is None or first.condition.shape[2] != width):
            brings = "none" if first.condition is None else f"one of {first.condition.shape[2]} numbers"
            raise ValueError(f"condition={width} numbers per frame are what the network is told, the data "
                             f"brings {brings}; build the network to fit, condition=0 for none")
        self.ema = AveragedModel(net, multi_avg_fn=partial(_ema, self.config.ema_decay))
        self.ema.n_averaged += 1  # the average begins with the weights before the first step
        self.optimizer = make_optimizer(net, self.config.lr, self.config.matrix_lr, self.config.betas,
                                        self.config.weight_decay)
        self.step, self._losses, self._unread = 0, [], []
        self._diverged = ""
        self.by_level = torch.zeros(2, LEVELS)  # errors by noise level, sums and counts, since it was emptied
        self.before = []  # training stages that the first weights have behind them: `checkpoint.stages`

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.net.parameters())

    @property
    def losses(self) -> list[float]:
        """The loss of every step so far. Raises DivergedError when one was not finite."""
        self._read()
        return self._losses

    def train_step(self) -> None:
        """One optimizer step. Raises DivergedError when a loss is not finite, on a GPU some steps later."""
        config = self.config
        set_lr(self.optimizer, lr_factor(self.step, config.steps, config.warmup, config.decay))
        self._unread.append(self.run_update(*self._batch(self.step)))
        self.ema.update_parameters(self.net)
        self.step += 1
        if self.device.type != "cuda" or len(self._unread) == READ_EVERY:
            self._read()

    def update(self, x0: Tensor, t: Tensor, eps: Tensor, count: Tensor,
               condition: Tensor | None = None) -> Tensor:
        """What a step computes: loss, gradients, new weights.

        count: noisy frames to divide the loss by;  condition: what the network is told. Returns loss, norm of
        the gradient, and `errors_by_level`, as one vector.
        """
        errors, losses = [], []

        def parts():
            chunked = lambda x: x.chunk(self.compute.accumulate)
            told = [{}] * self.compute.accumulate if condition is None else \
                [dict(condition=part) for part in chunked(condition)]
            for *part, kwargs in zip(*map(chunked, (x0, t, eps)), told):
                errors.append(v_errors(self._predict, self.schedule, *part, **kwargs))
                losses.append(mean_error(errors[-1], self.schedule, part[1], self.config.weighting, count))
                yield losses[-1]

        norm = update(self.optimizer, parts(), self.config.clip)
        by_level = errors_by_level(torch.cat(errors).detach(), t, self.schedule.num_timesteps, LEVELS)
        return torch.cat([torch.stack([sum(losses).detach(), norm]), by_level.flatten()])

    def _predict(self, xt: Tensor, t: Tensor, **kwargs) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.forward(xt, t, **kwargs)

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        if unread:
            rows = torch.stack(unread)
            if self.compute.process[1] > 1:
                rows = self.compute.accelerator.reduce(rows, "mean")
            for loss, norm, *by_level in rows.tolist() if not self._diverged else []:
                try:
                    check_finite(len(self._losses), loss, norm)
                except DivergedError as error:
                    self._diverged = f"{error}; resume from the last save with a lower matrix_lr than " \
                                     f"{self.config.matrix_lr}"
                    break
                self._losses.append(loss)
                self.by_level += torch.tensor(by_level).view(2, LEVELS)
        if self._diverged:  # from here on, always: such weights are never saved
            raise DivergedError(self._diverged)

    def _batch(self, step: int) -> tuple[Tensor, ...]:
        config, seed = self.config, self.config.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed)
        short = 2 if step < config.short_steps else 1
        batch, frames = config.batch * short, config.frames // short
        on_device = generator
        if self.device.type == "cuda" and isinstance(self.data, (BouncingDigits, Rooms)):
            on_device = torch.Generator(self.device).manual_seed(seed)
        drawn = self.data.with_frames(frames).sample(batch, on_device)
        x0, told = drawn.video, []
        noise_mix = config.noise_mix if frames > 1 else (1, 0, 0, 0)
        t = draw_noise_levels(batch, frames, self.schedule.num_timesteps, noise_mix,
                              config.high_noise_fraction, generator)
        eps = noise_like(x0, on_device)
        process, processes = self.compute.process  # each draws the whole batch, and keeps its part
        count = (t > 0).sum().clamp(min=1) / processes
        if self.is_told:
            keep = torch.rand(batch, 1, 1, generator=generator) >= config.condition_dropout
            told.append((drawn.condition * keep.to(drawn.condition))[process::processes])
        return tuple(x.to(self.device, non_blocking=True)
                     for x in (*(x[process::processes] for x in (x0, t, eps)), count, *told))

    def run(self, save_to: str | Path | None = None, save_every: float = 5,
            bar: bool = True) -> Iterator[Progress]:
        """Take the steps that are left; yields Progress after each. Saves to save_to on the way and at last.

        save_every: minutes between two saves.  With save_to, Ctrl-C or SIGTERM ends a run between two steps:
        it saves, and raises KeyboardInterrupt that says so. A second one does not wait.
        """
        number(0, save_every=save_every)
        saved = time.monotonic()
        started, first, steps = time.perf_counter(), self.step, self.config.steps
        bar = tqdm(total=steps, initial=first, disable=not (bar and self.compute.is_main), unit="step")
        with bar, interruptible(save_to) as interrupts:
            while self.step < steps:
                self.train_step()
                per_step = (time.perf_counter() - started) / (self.step - first)
                speed = self.config.batch / per_step
                bar.update()
                recent = self._losses[-50:] or [math.nan]  # what has been read: nobody waits for the rest
                bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", clips_s=f"{speed:.1f}")
                if save_to and (self.step == steps or self._is_due(saved + 60 * save_every)):
                    self.save(save_to)
                    saved = time.monotonic()
                yield Progress(self.step, recent[-1], speed, per_step * (steps - self.step))
                if interrupts:
                    self.save(save_to)
                    raise KeyboardInterrupt(f"stopped after step {self.step}, saved in {save_to}; "
                                            "the same command, or Trainer.resume, goes on")

    def _is_due(self, when: float) -> bool:
        """Whether that time has come; of several processes, all say the same, every READ_EVERY steps."""
        due = time.monotonic() >= when
        if self.compute.process[1] == 1:
            return due
        if self.step % READ_EVERY:
            return False
        vote = torch.tensor(float(due), device=self.device)
        return self.compute.accelerator.reduce(vote, "sum").item() > 0

    def ema_denoiser(self) -> Denoiser:
        """A Denoiser with the averaged weights (the ones to sample with), detached from training."""
        net = copy.deepcopy(self.ema.module).eval().requires_grad_(False)
        return Denoiser(net, self.schedule, self.sample_shape)

    def save(self, path: str | Path) -> None:
        """Write all that training needs to go on: weights, average, optimizer, step, losses, identity."""
        losses = self.losses  # read by all processes together, and checked before anything is written
        if self.compute.is_main:
            state.write(path, self, losses)

    def resume(self, path: str | Path, anyway: bool = False) -> "Trainer":
        """Go on from a file that `save` wrote. Returns self.

        Where the file is damaged, the save before it is taken, with a warning. Raises CheckpointError when
        the file is of another run, and names each difference: network, schedule, each setting of the recipe,
        data; and when it has more steps behind it than are asked for. anyway: go on under this run's recipe
        and data all the same; the network must fit.
        """
        state.take_up(path, self, anyway)
        return self


def _ema(decay: float, averages: list, params: list, num_averaged: Tensor) -> None:
    """Exponential moving average; its decay is ramped up over the first steps: min(decay, n / (9 + n))."""
    n = int(num_averaged)
    torch._foreach_lerp_(averages, params, 1 - min(decay, n / (9 + n)))
