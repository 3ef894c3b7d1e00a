"""vdiff_lite: small video diffusion models, built step by step in the book and ready to import here."""

from .checkpoint import load
from .data import BouncingDigits, MovingMNIST, VideoFolder
from .denoiser import Denoiser
from .device import compiled, pick_device, prepare_cpu
from .rollout import grow, rollout
from .samplers import autoguided, ddim, ddpm, dpmpp_2m, finish, resampled, sample
from .schedule import NoiseSchedule
from .training import TrainConfig, Trainer
from .unet import VideoUNet, VideoUNetConfig

__version__ = "0.2.0"
__all__ = ["BouncingDigits", "Denoiser", "MovingMNIST", "NoiseSchedule", "TrainConfig", "Trainer", "VideoFolder", "VideoUNet",
           "VideoUNetConfig", "autoguided", "compiled", "ddim", "ddpm", "dpmpp_2m", "finish", "grow", "load", "pick_device",
           "prepare_cpu", "resampled", "rollout", "sample"]
