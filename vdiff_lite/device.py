"""Where to compute, and how: settings that make a CPU quick; compiling a network that is asked often."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device to compute on: `name`, else CUDA if there is one, else the CPU. MPS only if asked for.

    Raises ValueError for a device that this machine does not have.
    """
    here = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    name = str(name) if name is not None else "cuda" if "cuda" in here else "cpu"
    kind, colon, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in here or (colon and not (index.isdecimal() and int(index) < count)):
        raise ValueError(f"device {name!r} is not available here; choose from {', '.join(here)}")
    return torch.device(name)


def prepare_cpu() -> bool:
    """Two settings with which small networks compute faster on a CPU. Call it before anything else.

    Denormal numbers, nearer to 0 than 1e-38, are taken as 0 (`torch.set_flush_denormal`). A CPU computes with
    them many times slower, and the gradients of a trained network are full of them, wherever attention passes
    something by: a training step took 1.5 times as long. Freed memory is kept for the next step, where there
    is glibc: large blocks are otherwise returned, and zeroed anew each time. Worth 5-25% of a training step
    on two cores. Returns whether both took effect.
    """
    return all([torch.set_flush_denormal(True), _keep_memory()])


def _keep_memory():
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    m_mmap_threshold, m_trim_threshold, m_top_pad = -3, -1, -2
    settings = {m_mmap_threshold: 32 << 20, m_trim_threshold: 2**31 - 1, m_top_pad: 64 << 20}
    return all([mallopt(*setting) for setting in settings.items()])


def compiled(denoiser: Denoiser) -> Denoiser:
    """The same denoiser compiled for a CPU: a pass of one clip takes .65 to .75 of the time.

    Worth it for work of an hour, clip by clip (larger batches gain less; `make bench` measures one): the
    first pass of each new shape takes one or two minutes, in every process anew. Answers are the same up to
    rounding. Passes with a hook or a gradient are not compiled and go through the network as it is; those
    that are know its weights as constants, so do not train it further. Raises ValueError for a denoiser that
    is not on a CPU or that wraps another one (compile first, then wrap), and RuntimeError where there is no
    C++ compiler, or a space in the name of the folder that torch lies in.
    """
    if isinstance(denoiser, DenoiserWrapper):
        raise ValueError(f"{type(denoiser).__name__} wraps another denoiser; compile that one, then wrap it")
    if denoiser.device.type != "cpu":
        raise ValueError(f"the denoiser is on {denoiser.device}; `compiled` is for a CPU, elsewhere use "
                         "torch.compile(denoiser.net)")
    candidates = [os.environ.get("CXX") or "g++", "c++", "clang++", "cl"]
    if not any(map(shutil.which, candidates)):
        raise RuntimeError(f"no C++ compiler found, looked for {', '.join(candidates)}; install one, say g++")
    if " " in torch.__file__:
        raise RuntimeError(f"torch lies in {os.path.dirname(torch.__file__)}; torch.compile calls the "
                           "compiler without quotes, and fails where a folder has a space: install elsewhere")
    return _Compiled(denoiser)


class _Compiled(DenoiserWrapper):
    def __init__(self, inner: Denoiser):
        super().__init__(inner)
        from torch._inductor import config  # takes two seconds, which nobody else should wait for

        # Not as `options` of torch.compile: they come too late for the weights, which then stay inputs.
        self.fast = config.patch(freezing=True, cpp_wrapper=True)(torch.compile(inner.net, dynamic=False))

    def forward(self, xt: Tensor, t: Tensor, hook: Callable | None = None, **model_kwargs) -> Tensor:
        if hook is not None or torch.is_grad_enabled():
            return self.inner(xt, t, **(dict(hook=hook) if hook else {}), **model_kwargs)
        return self.inner.x0_from(self.fast(xt, t, **model_kwargs), xt, t)


_MEASURED = """
import torch, vdiff_lite as vd
from functools import partial

def held(name):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name))

vd.prepare_cpu()
device = vd.pick_device({device!r})
{ready}
on_gpu = device.type == "cuda"
if on_gpu:
    before = torch.cuda.memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
else:
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = held("VmRSS")
{code}
print((torch.cuda.max_memory_allocated() / 2**20 if on_gpu else held("VmHWM")) - before)
"""


def peak_memory(code: str, ready: str = "", device: str | torch.device | None = None) -> float:
    """Peak memory in MB while `code` runs in a fresh process, above what it held once `ready` had run.

    code, ready: lines of Python that may use `torch`, `vd` (this library), `partial`, `device`;  device: as
    in `pick_device`. On a GPU its memory is measured, else the process's own.  Raises OSError where that
    cannot be measured (it takes Linux or CUDA), and RuntimeError with what the lines said when they failed.
    """
    if pick_device(device).type != "cuda" and not sys.platform.startswith("linux"):
        raise OSError(f"peak memory is read from /proc, which {sys.platform} does not have; "
                      "measure on Linux or with CUDA")
    program = _MEASURED.format(ready=ready, code=code, device=device and str(device))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the measured lines failed:\n{run.stderr}")
    return float(run.stdout.split()[-1])
