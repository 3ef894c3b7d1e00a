"""The gradient of a batch on several threads, each with clips of its own."""

from concurrent.futures import ThreadPoolExecutor

import torch

CLIPS = 4  # a worker's, at least: with fewer, what each operation costs apart from computing outweighs what is gained


class Workers:
    """Threads that share the clips of a batch out and take each its part's gradient from end to end (data parallelism in one process).

    The usual way, all threads at each operation, has them wait for each other after each of the thousands of operations of a training step,
    and many of those are too small to be shared. Here they wait once a step.

    number: workers; 1 computes in the calling thread, as torch does. torch's threads are shared out among them.
    """

    def __init__(self, number=1):
        self.number = number
        self.pool = None
        if number > 1:
            self.pool = ThreadPoolExecutor(number, "vdiff-worker", torch.set_num_threads, (max(1, torch.get_num_threads() // number),))

    @classmethod
    def of(cls, batch, device):
        """As many as a batch of so many clips wants: one a thread of torch, but `CLIPS` clips to each; a single one on a GPU."""
        on_cpu = torch.device(device).type == "cpu"
        return cls(max(1, min(torch.get_num_threads(), batch // CLIPS)) if on_cpu else 1)

    def gradient(self, loss, parameters, *batch):
        """The gradient of a loss that is a sum over clips.

            grad L = sum over parts of grad L_part

        loss(*part) -> (L_part, ...): what to differentiate, a scalar, and further scalars to report;  parameters: a list of tensors;
        batch: tensors with as many clips (b, ...) each, of which every part has some.
        Returns the gradients, a list with None for a parameter that no part depends on, and the scalars, each summed over the parts.
        """
        def alone(part):
            scalars = loss(*part)
            return torch.autograd.grad(scalars[0], parameters, allow_unused=True), [scalar.detach() for scalar in scalars]

        parts = list(zip(*(tensor.chunk(self.number) for tensor in batch)))
        gradients, scalars = zip(*(self.pool.map if self.pool else map)(alone, parts))
        return list(map(_sum, zip(*gradients))), list(map(sum, zip(*scalars)))


def _sum(gradients):
    """Always in the same order, so that the same batch gives the same bytes."""
    known = [gradient for gradient in gradients if gradient is not None]
    return sum(known[1:], known[0]) if known else None
