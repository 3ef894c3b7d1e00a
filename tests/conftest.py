import os
import signal

import matplotlib
import pytest
import torch

from vdiff_lite import BouncingDigits, Denoiser, NoiseSchedule, VideoUNet, VideoUNetConfig

SMALL = VideoUNetConfig(size=16, channels=(32, 64), num_middle=1, noise_channels=32)
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.fixture(autouse=True, scope="session")
def frames_are_cached_elsewhere(tmp_path_factory):
    """Videos that are read leave nothing in the home folder."""
    os.environ.setdefault("MPLCONFIGDIR", matplotlib.get_cachedir())  # its list of fonts takes long to make
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def small_net():
    """A network small enough for a test, with weights that are not zero anywhere."""
    torch.manual_seed(0)
    net = VideoUNet(SMALL)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net.eval()


def rounded(net):
    """The network with its weights rounded to bfloat16, as a file holds them. Changes and returns it."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.bfloat16())
    return net


@pytest.fixture
def small_denoiser(small_net):
    return Denoiser(small_net.requires_grad_(False), NoiseSchedule())


@pytest.fixture
def default_sigint():
    """Ctrl-C as in a terminal: where a shell starts the tests in the background, it has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_data():
    return BouncingDigits(size=16, digit_size=6, num_frames=4)


def gaussian_denoiser(schedule, mean=0.3, std=0.5):
    """The exact denoiser of pixels that are independent and N(mean, std^2): E[x_0 | x_t]."""

    def denoise(xt, t):
        signal, noise = schedule.signal_and_noise(t, xt)
        return mean + signal * std**2 / (signal**2 * std**2 + noise**2) * (xt - signal * mean)

    return Denoiser.from_function(denoise, schedule, (1, 4, 4))
