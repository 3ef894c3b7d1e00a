"""A training step as one CUDA graph: hundreds of kernels started at once."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

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
