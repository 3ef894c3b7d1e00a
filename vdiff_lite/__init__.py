"""vdiff_lite: small video diffusion models, built step by step in the book and ready to import here."""

import os

# While other programs keep the cores busy, OpenMP's threads had better sleep than spin when they wait: a
# forward pass is several times faster, some thirty times at worst. A thousand turns, some microseconds, cost
# nothing when all is quiet. GNU's OpenMP reads this when torch is imported for the first time.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

from vdiff_lite.checkpoint import load
from vdiff_lite.data import Batch, BouncingDigits, ClipSource, MovingMNIST, Rooms, VideoFolder
from vdiff_lite.device import compiled, pick_device, prepare_cpu
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, Method, Sampler
from vdiff_lite.diffusion.guidance import autoguided, clip_denoised, condition_on_past, conditioned
from vdiff_lite.diffusion.samplers import ddim, ddpm, dpmpp_2m, repaint, run_sampler, sample
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig
from vdiff_lite.rollout import generate, rollout
from vdiff_lite.training.recipe import TrainConfig
from vdiff_lite.training.trainer import Trainer

__version__ = "0.2.0"
__all__ = ["Batch", "BouncingDigits", "ClipSource", "Denoiser", "DenoiserWrapper", "Method", "MovingMNIST",
           "NoiseSchedule", "Rooms", "Sampler", "TrainConfig", "Trainer", "VideoFolder", "VideoUNet",
           "VideoUNetConfig", "autoguided", "clip_denoised", "compiled", "condition_on_past", "conditioned",
           "ddim", "ddpm", "dpmpp_2m", "generate", "load", "pick_device", "prepare_cpu", "repaint", "rollout",
           "run_sampler", "sample"]
