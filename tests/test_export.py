import sys

import pytest
import torch

from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.export import Window, export
from vdiff_lite.methods import injection


@pytest.fixture
def window(small_net):
    return Window(small_net, frames=5, overlap=2).eval()


def clip(f, seed=0):
    return torch.randn(1, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_without_blend_it_is_the_network_bit_for_bit(window, small_net):
    t = torch.full((1, 5), 400)
    with torch.no_grad():
        v, *kept = window(clip(5), t, torch.zeros(()), *(torch.randn(shape) for shape in window.shapes))
        assert torch.equal(v, small_net(clip(5), t))
    assert [tuple(x.shape) for x in kept] == window.shapes and len(set(window.names)) == len(window.names)


def test_kept_and_handed_back_it_is_injection(window, small_net):
    # What the page does: one pass for the past's keys and values, then every step with them.
    denoiser, past, xt, t = Denoiser(small_net, NoiseSchedule()), clip(2, 1), clip(5, 2), torch.full((1, 5), 400)
    with torch.no_grad():
        shown = torch.cat([past, clip(3, 3)], dim=2)
        held = window(shown, torch.tensor([[0, 0, 1000, 1000, 1000]]), torch.zeros(()), *(torch.zeros(s) for s in window.shapes))[1:]
        v = window(xt, t, torch.tensor(0.6), *held)[0]
        want = injection(denoiser, past, append=False, blend=0.6)(xt, t[:, 0])
    torch.testing.assert_close(denoiser.schedule.x0_from_v(xt, t, v), want, rtol=1e-3, atol=1e-4)


def test_missing_packages_are_named(small_net, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"onnx and onnxscript: pip install 'vdiff-lite\[book\]'"):
        export(Denoiser(small_net, NoiseSchedule()), tmp_path)
