import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vdiff_lite import checkpoint
from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.export import Window, export
from vdiff_lite.methods import injection
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def window(small_net):
    return Window(small_net, frames=5, overlap=2).eval()


def clip(f, seed=0):
    return torch.randn(1, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_without_blend_it_is_the_network_bit_for_bit(window, small_net):
    t = torch.full((1, 5), 400)
    with torch.no_grad():
        v, *cache = window(clip(5), t, torch.zeros(()), *(torch.randn(shape) for shape in window.shapes))
        assert torch.equal(v, small_net(clip(5), t))
    assert [tuple(x.shape) for x in cache] == window.shapes and len(set(window.names)) == len(window.names)


def test_a_window_of_wide_frames_in_color():
    net = VideoUNet(VideoUNetConfig(size=(8, 16), in_channels=3, channels=(32,), num_middle=1)).eval()
    window, xt = Window(net, frames=4, overlap=1), torch.randn(1, 3, 4, 8, 16)
    with torch.no_grad():
        v, *cache = window(xt, torch.full((1, 4), 400), torch.zeros(()), *map(torch.zeros, window.shapes))
    assert v.shape == xt.shape and [tuple(x.shape) for x in cache] == window.shapes


def test_with_its_own_cache_it_is_injection(window, small_net):
    # What the page does: one evaluation for the past's keys and values, then every step with them.
    denoiser, past = Denoiser(small_net, NoiseSchedule()), clip(2, 1)
    xt, t = clip(5, 2), torch.full((1, 5), 400)
    with torch.no_grad():
        clean_past = torch.cat([past, clip(3, 3)], dim=2)
        levels, nothing = torch.tensor([[0, 0, 1000, 1000, 1000]]), map(torch.zeros, window.shapes)
        cache = window(clean_past, levels, torch.zeros(()), *nothing)[1:]
        v = window(xt, t, torch.tensor(0.6), *cache)[0]
        expected = injection(denoiser, past, prepend=False, blend=0.6)(xt, t[:, 0])
    torch.testing.assert_close(denoiser.schedule.x0_from_v(xt, t, v), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("overlap, message", [(0, "overlap=0 must be a whole number"),
                                              (16, "overlap=16 does not fit a window of 16; choose 1 to 15")])
def test_an_overlap_that_does_not_fit_is_refused(small_denoiser, tmp_path, overlap, message):
    with pytest.raises(ValueError, match=message):
        export(small_denoiser, tmp_path, overlap=overlap)


def test_missing_packages_are_named(small_net, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnx and onnxscript: pip install 'vdiff-lite\[book\]'"):
        export(Denoiser(small_net, NoiseSchedule()), tmp_path)


def test_nothing_is_printed_about_other_packages(small_net, tmp_path):
    pytest.importorskip("onnxscript")
    path = checkpoint.save(tmp_path / "small", small_net, NoiseSchedule())
    command = [sys.executable, "-m", "vdiff_lite", "export", "--checkpoint", str(path), "--out", "web",
               "--window", "4", "--overlap", "2"]
    run = subprocess.run(command, cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(ROOT)),
                         capture_output=True, text=True)
    assert run.stderr == "" and run.stdout.startswith("wrote web/model.onnx"), run.stderr
