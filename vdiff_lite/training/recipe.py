"""Recipes: what a training run is made of, as one dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from vdiff_lite.diffusion.losses import NOISE_KINDS, WEIGHTINGS

SELF_ROLLOUT_FRAMES = (4, 8)  # from which frame to which the network draws the past itself
SELF_ROLLOUT_EVERY = 3  # in how many batches one has such a past


@dataclass(frozen=True)
class TrainConfig:
    """One training stage. Steps are optimizer steps; the learning rate is warmed up, held, and at the end brought down."""

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
    ema_decay: float = 0.999
    noise_mix: tuple = (0.2, 0.1, 0.65, 0.05)  # fractions of NOISE_KINDS in a batch
    high_noise_fraction: float = 0.5  # fraction of clips with noise levels near the top
    frame_stride: tuple = (1, 1, 2)  # frames from one frame of a clip to the next, one drawn per batch
    image_every: int = 0  # one step in so many trains on single frames, as many as a batch of clips has; 0: none
    self_rollout_steps: int = 0  # last steps in which one batch in three has a past drawn by the network
    foresight: int = 0  # steps of `foresight.teach` before the first step
    foresight_after: tuple = ()  # steps of each stage of `foresight.teach_once_more` after the last step
    centre: float = 1.0  # weight of `centre_loss` beside `v_loss`
    weighting: str = "v"  # what the squared error is of: one of WEIGHTINGS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "frames", "lr", "matrix_lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if len(self.noise_mix) != len(NOISE_KINDS) or min(self.noise_mix) < 0 or sum(self.noise_mix) <= 0:
            raise ValueError(f"noise_mix={self.noise_mix} must be {len(NOISE_KINDS)} fractions, for {', '.join(NOISE_KINDS)}")
        object.__setattr__(self, "frame_stride", tuple(self.frame_stride))
        object.__setattr__(self, "foresight_after", tuple(self.foresight_after))
        if not self.frame_stride or any(stride != int(stride) or stride < 1 for stride in self.frame_stride):
            raise ValueError(f"frame_stride={self.frame_stride} must be whole numbers of 1 or more, at least one")
        if self.self_rollout_steps and self.frames < SELF_ROLLOUT_FRAMES[-1] + 1:
            raise ValueError(f"self_rollout_steps={self.self_rollout_steps} wants clips of {SELF_ROLLOUT_FRAMES[-1] + 1} "
                             f"frames or more, not frames={self.frames}")
        if self.self_rollout_steps > max(0, self.steps - self.short_steps):
            raise ValueError(f"self_rollout_steps={self.self_rollout_steps} and short_steps={self.short_steps} overlap in "
                             f"steps={self.steps}")
        if not self.centre >= 0:
            raise ValueError(f"centre={self.centre} must be 0 or more")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting={self.weighting!r} is unknown; choose one of {', '.join(WEIGHTINGS)}")
