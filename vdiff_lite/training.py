"""Training: one loss, three kinds of noise levels, an averaged copy of the weights, exact resume."""

import math
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import torch
from tqdm.auto import tqdm

from . import checkpoint
from .denoiser import Denoiser
from .follow import Foresee
from .losses import WEIGHTINGS, centre_loss, v_loss
from .optimizer import make_optimizer
from .samplers import ddim, finish
from .unet import VideoUNet
from .workers import Workers

KINDS = ("same", "per_frame", "prefix", "dropped")
OWN_PAST = (4, 8)  # from which frame to which the network draws the past itself
OWN_EVERY = 3  # in how many batches one has such a past


@dataclass(frozen=True)
class TrainConfig:
    """A recipe. Steps are optimiser steps; the learning rate is warmed up, held, and at the end brought down."""

    steps: int = 10_000
    batch: int = 16
    frames: int = 16
    short_steps: int = 0  # the first steps train on clips of half the length, twice as many of them
    lr: float = 1e-3  # AdamW's: biases, norms, embeddings
    matrix_lr: float = 0.015  # Muon's: everything else
    warmup: int = 100
    decay: int = 2_000  # the last steps, over which the learning rates fall to 2% of themselves
    betas: tuple = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999
    mix: tuple = (0.2, 0.1, 0.65, 0.05)  # shares of KINDS in a batch
    high: float = 0.5  # share of clips whose noise levels crowd towards pure noise
    time_lapse: tuple = (1, 1, 2)  # frames from one frame of a clip to the next, one drawn a batch; 2 is a time lapse
    image_every: int = 0  # one step in so many trains on single frames, as many as a batch of clips has; 0: none
    own_steps: int = 0  # in the last steps a batch in three has a past that the network drew itself, see `Trainer.own_past`
    foresight: int = 0  # before the first step: steps that teach the network where things go, see `foresight.teach`
    foresight_after: tuple = ()  # after the last step: courses of so many steps each, with what the network sees, see `foresight.watch`
    centre: float = 1.0  # weight of `centre_loss` beside `v_loss`
    weighting: str = "v"  # what the squared error is of: one of WEIGHTINGS
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch", "frames", "lr", "matrix_lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if len(self.mix) != len(KINDS) or min(self.mix) < 0 or sum(self.mix) <= 0:
            raise ValueError(f"mix={self.mix} must be {len(KINDS)} shares, for {', '.join(KINDS)}")
        object.__setattr__(self, "time_lapse", tuple(self.time_lapse))
        object.__setattr__(self, "foresight_after", tuple(self.foresight_after))
        if not self.time_lapse or any(stride != int(stride) or stride < 1 for stride in self.time_lapse):
            raise ValueError(f"time_lapse={self.time_lapse} must be whole numbers of 1 or more, at least one")
        if self.own_steps and self.frames < OWN_PAST[-1] + 1:
            raise ValueError(f"own_steps={self.own_steps} wants clips of {OWN_PAST[-1] + 1} frames or more, not frames={self.frames}")
        if self.own_steps > max(0, self.steps - self.short_steps):
            raise ValueError(f"own_steps={self.own_steps} and short_steps={self.short_steps} overlap in steps={self.steps}")
        if not self.centre >= 0:
            raise ValueError(f"centre={self.centre} must be 0 or more")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting={self.weighting!r} is unknown; choose one of {', '.join(WEIGHTINGS)}")

    def lr_factor(self, step):
        """What the learning rates are multiplied by: linear warm-up, 1, then a cosine down over the last `decay` steps."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        left = min(1.0, max(0.0, (self.steps - step) / max(1, self.decay)))
        return up * (0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left)))


def draw_noise_levels(batch, frames, num_timesteps, mix, high=0.0, generator=None):
    """Noise levels of a training batch: (b, f) long.

    Each clip is of one kind, drawn with the shares `mix` = (same, per_frame, prefix, dropped):
      same       all frames at one level: clips from noise
      per_frame  every frame at its own level (Chen et al. 2024)
      prefix     the first K frames clean (t = 0), the rest at one level: continuing a past
      dropped    the first K frames pure noise (t = num_timesteps): the unconditional branch of guidance
    Levels are uniform on 1 .. num_timesteps = T, spread evenly over the batch (Kingma et al. 2021, App. I.1); in a share
    `high` of the clips they crowd towards pure noise, as T (1 - u^3) with u uniform on [0, 1): there the past is all
    there is to go by. K lies between 1 and frames - 1, small ones more often: K - 1 is (frames - 1) u^1.5 rounded down.
    """
    kind = torch.multinomial(torch.tensor(mix, dtype=torch.float32), batch, replacement=True, generator=generator)[:, None]
    u = torch.rand(1, generator=generator) + (torch.randperm(batch, generator=generator) / batch)
    u = torch.remainder(u, 1)
    u = torch.where(torch.rand(batch, generator=generator) < high, 1 - u**3, u)
    level = 1 + (u * num_timesteps).long().clamp(max=num_timesteps - 1)
    each = torch.randint(1, num_timesteps + 1, (batch, frames), generator=generator)
    past = torch.arange(frames) < 1 + ((frames - 1) * torch.rand(batch, 1, generator=generator) ** 1.5).floor()
    t = torch.where(kind == 1, each, level[:, None])
    t = torch.where((kind == 2) & past, 0, t)
    return torch.where((kind == 3) & past, num_timesteps, t)


class DivergedError(RuntimeError):
    """The loss is not a number any more."""


@dataclass(frozen=True)
class Progress:
    """What training says after each step."""

    step: int  # steps taken so far
    loss: float
    clips_per_second: float
    seconds_left: float


class Trainer:
    """Trains a network to predict v; everything that it needs to go on is in `save` and `resume`.

    net: VideoUNet;  schedule: NoiseSchedule;  data: has `with_frames(n).sample(batch, generator).video`;
    config: TrainConfig.  The random numbers of step n depend on the seed and n alone, so a run that was cut off
    and resumed from its last save ends with the same bytes as one that was not.
    """

    def __init__(self, net, schedule, data, config=None, device="cpu"):
        self.config = config or TrainConfig()
        self.net, self.schedule, self.data, self.device = net.to(device).train(), schedule, data, device
        self.average = [p.detach().clone() for p in net.parameters()]
        self.optimizer = make_optimizer(net, self.config.lr, self.config.matrix_lr, self.config.betas, self.config.weight_decay)
        self.workers = Workers.of(self.config.batch, device)
        self.step, self.losses = 0, []
        self._rest_untaught()

    def _rest_untaught(self):
        """A foresight that was not taught stays as it was born."""
        for module in self.net.modules():
            if isinstance(module, Foresee):
                module.requires_grad_(module.taught)

    @property
    def parameters(self):
        return sum(p.numel() for p in self.net.parameters())

    def take_step(self):
        """One optimiser step. Returns the loss. Raises DivergedError when it is not finite."""
        config = self.config
        x0, t, eps, positions = self._batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * config.lr_factor(self.step)
        learning = [p for p in self.net.parameters() if p.requires_grad]
        share = partial(self._share_of_loss, positions=positions, clips=len(x0), noisy=(t > 0).sum())
        gradients, (_, loss) = self.workers.gradient(share, learning, x0, t, eps)
        for p, gradient in zip(learning, gradients):
            p.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            raise DivergedError(f"step {self.step}: loss {loss.item()}, gradient norm {norm.item()}; "
                                f"resume from the last save with a lower matrix_lr than {config.matrix_lr}")
        self.optimizer.step()
        keep = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.net.parameters()), 1 - keep)
        self.step += 1
        self.losses.append(loss.item())
        return loss.item()

    def _share_of_loss(self, x0, t, eps, positions, clips, noisy):
        """Of some of a batch's clips, with its number of clips and of noisy frames: what to differentiate, and its part that is v_loss."""
        seen = {}
        loss = v_loss(self.net, self.schedule, x0, t, eps, self.config.weighting, tap=seen.setdefault, positions=positions)
        centres = [centre for site, centre in seen.items() if site.endswith((".centre", ".seen"))]
        loss = loss * (t > 0).sum() / noisy
        return loss + self.config.centre * centre_loss(centres, x0) * len(x0) / clips, loss

    def _batch(self, step):
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        short = 2 if step < config.short_steps else 1
        batch, frames = config.batch * short, config.frames // short
        if config.image_every and step % config.image_every == 1:
            batch, frames = batch * frames, 1
        stride = config.time_lapse[torch.randint(len(config.time_lapse), (), generator=generator)]
        x0 = self.data.with_frames(frames * stride).sample(batch, generator).video[:, :, ::stride]
        mix = config.mix if frames > 1 else (1, 0, 0, 0)
        t = draw_noise_levels(batch, frames, self.schedule.num_timesteps, mix, config.high, generator)
        eps = torch.randn(x0.shape, generator=generator)
        x0, t, eps, positions = x0.to(self.device), t.to(self.device), eps.to(self.device), torch.arange(frames) * stride
        if step >= config.steps - config.own_steps and step % OWN_EVERY == 0 and frames > 1:
            return self.own_past(x0, eps, positions, generator)
        return x0, t, eps, positions

    def own_past(self, x0, eps, positions, generator):
        """A batch as a rollout meets it: the past is what the averaged network drew, in four steps, after true frames.

        The frames after it are the data's. A network that has seen true pasts alone takes its own small errors for the digit and
        adds to them, window after window; here it learns to make the right next frames of a past that is slightly wrong.
        (Errors that a model meets only in its own output: Bengio et al. 2015, "Scheduled sampling".)
        In every second such batch the true first frames go; else they stay, further back than they are, as `anchored_history` puts them.

        x0, eps: (b, c, f, h, w);  positions: (f,). Returns x0, t, eps and positions, of all frames or of those from the fourth on.
        """
        from .methods.history_cfg import history_cfg  # the methods import this module

        first, last = OWN_PAST
        levels = draw_noise_levels(*x0[:, 0, :, 0, 0].shape, self.schedule.num_timesteps, (1, 0, 0, 0), self.config.high, generator)
        keep, gap = torch.randint(2, (), generator=generator), torch.randint(13, (), generator=generator)
        with torch.no_grad():
            continued = history_cfg(self.averaged(), x0[:, :, :first])
            noise = torch.randn(x0[:, :, :last].shape, generator=generator).to(x0)
            drawn = finish(ddim(partial(continued, positions=positions[:last]), noise, self.schedule, steps=4))
        x0 = torch.cat([drawn.clamp(-1, 1), x0[:, :, last:]], dim=2)
        t = levels.to(x0.device).index_fill(1, torch.arange(last, device=x0.device), 0)
        if not keep:
            return x0[:, :, first:], t[:, first:], eps[:, :, first:], positions[first:]
        return x0, t, eps, torch.cat([positions[:first] - gap, positions[first:]])

    def run(self, save_to=None, save_every=500, bar=True):
        """Take the steps that are left; yields Progress after each. Saves to the file save_to on the way and at the end.

        With save_to, Ctrl-C ends a run between two steps: it saves, and raises KeyboardInterrupt that says so. A second one does not wait.
        """
        started, first = time.perf_counter(), self.step
        with tqdm(total=self.config.steps, initial=first, disable=not bar, unit="step") as shown, _asked_to_stop(save_to) as asked:
            while self.step < self.config.steps:
                loss = self.take_step()
                per_step = (time.perf_counter() - started) / (self.step - first)
                shown.update()
                shown.set_postfix(loss=f"{sum(self.losses[-50:]) / len(self.losses[-50:]):.4f}",
                                  clips_s=f"{self.config.batch / per_step:.1f}")
                if save_to and (self.step % save_every == 0 or self.step == self.config.steps):
                    self.save(save_to)
                yield Progress(self.step, loss, self.config.batch / per_step, per_step * (self.config.steps - self.step))
                if asked:
                    self.save(save_to)
                    raise KeyboardInterrupt(f"stopped after step {self.step}, saved in {save_to}; the same command, or Trainer.resume, goes on")

    def averaged(self):
        """A Denoiser with the averaged weights (the ones to sample with), detached from training."""
        net = VideoUNet(self.net.config).to(self.device)
        with torch.no_grad():
            for p, value in zip(net.parameters(), self.average):
                p.copy_(value)
        return Denoiser(net.eval().requires_grad_(False), self.schedule)

    def save(self, path):
        """Write everything that training needs to go on: weights, average, optimiser, step, losses, config."""
        tensors = {f"average.{i}": value for i, value in enumerate(self.average)}
        tensors |= {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        checkpoint.write_tensors(path, tensors, config=asdict(self.config), step=self.step, losses=self.losses,
                                 unet=self.net.config.to_dict())

    def resume(self, path):
        """Go on from a file that `save` wrote. Returns self. Raises CheckpointError when it fits another network."""
        tensors, about = checkpoint.read_tensors(path)
        if about.get("unet") != self.net.config.to_dict():
            raise checkpoint.CheckpointError(f"{path} holds a network with {about.get('unet')}; this one has "
                                             f"{self.net.config.to_dict()}")
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        self.net.load_state_dict(part("net."))
        self.average = [tensors[f"average.{i}"].to(self.device) for i in range(len(self.average))]
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, value in part("optimizer.").items():
            i, key = name.split(".")
            state["state"].setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict(state)
        self.step, self.losses = about["step"], about["losses"]
        self._rest_untaught()
        return self


@contextmanager
def _asked_to_stop(wanted):
    """A list that is empty until somebody presses Ctrl-C, which does nothing else meanwhile; the second time it is as ever."""
    asked = []
    if not wanted or threading.current_thread() is not threading.main_thread():  # only there are signals heard
        yield asked
        return
    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def ask(number, frame):
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
