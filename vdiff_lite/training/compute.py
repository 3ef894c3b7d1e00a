"""How a training run is computed: device, precision, parts, processes; a step as one CUDA graph."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdiff_lite.checks import one_of, whole

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Compute:
    """How a training run is computed. Its losses are the same up to rounding, however that is.

    precision: "float32" or "bf16", which computes the network in bfloat16 by autocast, weights and their
    average staying float32;  compiled: whether by torch.compile. None for either: yes on a GPU.
    accumulate: the batch is taken in so many parts, one after the other, for less memory;  recompute: the
    backward pass computes the inside of each stage again instead of keeping it, for still less.
    accelerator: an `accelerate.Accelerator`; the batch is shared among its processes. Raises ValueError for
    another precision.
    """

    precision: str | None = None
    compiled: bool | None = None
    accumulate: int = 1
    recompute: bool = False
    accelerator: Any = None

    def __post_init__(self) -> None:
        one_of((None, *PRECISIONS), precision=self.precision)
        whole(accumulate=self.accumulate)

    @property
    def process(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        one = self.accelerator
        return (one.process_index, one.num_processes) if one else (0, 1)

    @property
    def is_main(self) -> bool:
        return self.process[0] == 0

    def device_or(self, device: str | torch.device) -> torch.device:
        """The device of this process, where a launcher gave it one, or else `device`."""
        return torch.device(self.accelerator.device if self.accelerator else device)

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.accelerator:
            self.accelerator.wait_for_everyone()


def launched(log: str | None = None, out: Path = Path("run")) -> Any:
    """The accelerate.Accelerator of this process, where a launcher started several or `log` names a tracker.

    log: "tensorboard", written into a folder beside `out`. None where neither is so. Raises ValueError when
    the package accelerate is missing.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 and not log:
        return None
    try:
        from accelerate import Accelerator
    except ImportError:
        raise ValueError("several processes and trackers want the package accelerate: "
                         "pip install 'vdiff-lite[accelerate]'") from None
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), log_with=log, project_dir=str(out.parent))
    if log:
        accelerator.init_trackers(out.name + ".tensorboard")
    return accelerator


WARM_UP = 3  # steps that run as they are: they compile, and make what the optimizer remembers


class CapturedStep:
    """step(*tensors) -> tensor, captured as a CUDA graph once per shape of its input, then replayed.

    A step of a small network is hundreds of short kernels, and starting them one by one takes longer than
    they do. step: reads no value of a tensor, and computes on one GPU. The first `WARM_UP` steps of each
    shape run as they are, on a stream of their own, as torch.cuda.graph asks.
    """

    def __init__(self, step: Callable[..., Tensor]):
        self.step, self.seen, self.graphs = step, Counter(), {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        shape = tensors[0].shape
        self.seen[shape] += 1
        if self.seen[shape] <= WARM_UP:
            return self._on_a_stream_of_its_own(*tensors)
        if shape not in self.graphs:
            inputs = [x.clone() for x in tensors]
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                output = self.step(*inputs)
            self.graphs[shape] = graph, inputs, output
        graph, inputs, output = self.graphs[shape]
        for held, x in zip(inputs, tensors):
            held.copy_(x, non_blocking=True)
        graph.replay()
        return output.clone()

    def _on_a_stream_of_its_own(self, *tensors):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self.step(*tensors)
        torch.cuda.current_stream().wait_stream(stream)
        return output
