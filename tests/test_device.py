import shutil
import subprocess
import sys

import pytest
import torch

from vdiff_lite.device import compiled
from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig

XT = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
LEVELS = torch.tensor([[0, 0, 700, 700]]).repeat(2, 1)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler")
@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile fails in a folder with a space")
def test_compiled_agrees_with_the_network():
    torch.manual_seed(0)
    config = VideoUNetConfig(size=8, channels=(32,), num_middle=1)
    net = VideoUNet(config).eval().requires_grad_(False)
    for weights in net.parameters():
        weights.data += 0.1 * torch.randn_like(weights)  # some start at zero and would hide their branch
    denoiser = Denoiser(net, NoiseSchedule())
    fast, xt = compiled(denoiser), XT[..., :8, :8]
    assert isinstance(fast, Denoiser)
    assert fast.schedule is denoiser.schedule and fast.net.config is net.config
    with torch.no_grad():
        torch.testing.assert_close(fast(xt, LEVELS), denoiser(xt, LEVELS), rtol=1e-3, atol=1e-4)


def test_a_hook_and_a_gradient_go_through_the_network_as_it_is(small_denoiser, monkeypatch):
    monkeypatch.setattr(torch, "__file__", "torch.py")
    fast, sites, xt = compiled(small_denoiser), [], XT.clone().requires_grad_()
    fast.fast = None  # would be an error
    with torch.no_grad():
        fast(XT, LEVELS, hook=lambda site, x: sites.append(site) or x)
    (grad,) = torch.autograd.grad(fast(xt, LEVELS).sum(), xt)
    assert "middle" in sites and grad.abs().amax() > 0


def test_compiled_names_what_it_needs(small_denoiser, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler found, looked for"):
        compiled(small_denoiser)
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__file__", "my files/torch.py")
    with pytest.raises(RuntimeError, match=r"torch lies in my files; .* a space"):
        compiled(small_denoiser)
    small_denoiser.net.to("meta")
    with pytest.raises(ValueError, match="on meta"):
        compiled(small_denoiser)


def test_prepare_cpu_flushes_denormals_on_every_thread():
    code = """
import torch, vdiff_lite as vd
torch.set_num_threads(2)
vd.prepare_cpu()
small = torch.full((4_000_000,), 1e-30)
print((small * 1e-10).count_nonzero().item(), (small * 1e-7).count_nonzero().item())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "4000000"]  # 1e-40 is denormal, 1e-37 is not


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' wheels bring another OpenMP")
@pytest.mark.parametrize("chosen, spins", [("", "1000"), ("active", "30000000000")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(chosen, spins, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")  # OpenMP prints its settings when it is loaded
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    command = [sys.executable, "-c", "import vdiff_lite"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch computes without GNU's OpenMP")
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
