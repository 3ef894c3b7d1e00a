"""vdiff_lite: small video diffusion models, built step by step in the book and ready to import here."""

from .checkpoint import load
from .data import BouncingDigits, MovingMNIST, VideoFolder
from .denoiser import Denoiser
from .device import compiled, keep_memory, pick_device
from .rollout import grow, rollout
from .samplers import ddim, ddpm, dpmpp_2m, finish, resampled, sample
from .schedule import NoiseSchedule
from .training import TrainConfig, Trainer
from .unet import VideoUNet, VideoUNetConfig

__version__ = "0.2.0"
__all__ = ["BouncingDigits", "Denoiser", "MovingMNIST", "NoiseSchedule", "TrainConfig", "Trainer", "VideoFolder", "VideoUNet",
           "VideoUNetConfig", "compiled", "ddim", "ddpm", "dpmpp_2m", "finish", "grow", "keep_memory", "load", "pick_device",
           "resampled", "rollout", "sample"]
