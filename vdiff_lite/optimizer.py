"""Muon for the network's matrices, AdamW for the rest, as one optimiser."""

import torch
from torch import nn

# The polynomial that pushes singular values towards 1 (Jordan et al. 2024).
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrix, steps=5):
    """The nearest matrix with singular values of about 1, by Newton-Schulz iteration (Jordan et al. 2024).

        X <- a X + (b X X^T + c (X X^T)^2) X

    matrix: (m, n), or (k, m, n) for a stack of them. Returns the same shape; singular values land in 0.7 .. 1.2.
    torch.optim.Muon does this in bfloat16, which a CPU without bfloat16 units computes 20 times slower.
    """
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for weights with two or more dimensions (Jordan et al. 2024; a convolution counts as
    a matrix (out, in h w)). Groups with `matrices=False` take AdamW steps instead (Loshchilov and Hutter 2019).

    Updates of an (m, n) matrix are scaled by sqrt(max(1, m / n)), so that every matrix turns its input by about lr a step,
    whatever its shape. (With Adam's size of update, convolutions, which have more inputs, take larger
    steps than attention does.)
    """

    def __init__(self, groups, momentum=0.95, betas=(0.9, 0.99), weight_decay=0.01):
        super().__init__(groups, dict(lr=1e-3, momentum=momentum, betas=tuple(betas), weight_decay=weight_decay, matrices=True))
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (self._step_matrices if group["matrices"] else self._step_adamw)(group)

    def _step_matrices(self, group):
        by_shape = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.mul_(group["momentum"]).add_(p.grad)
            update = p.grad.add(momentum, alpha=group["momentum"]).flatten(1)
            by_shape.setdefault(update.shape, []).append((p, update))
        for shape, pairs in by_shape.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            for (p, _), update in zip(pairs, updates):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-group["lr"] * max(1, shape[0] / shape[1]) ** 0.5)

    def _step_adamw(self, group):
        beta1, beta2 = group["betas"]
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state.update(step=torch.zeros(()), mean=torch.zeros_like(p), square=torch.zeros_like(p))
            state["step"] += 1
            state["mean"].lerp_(p.grad, 1 - beta1)
            state["square"].lerp_(p.grad.square(), 1 - beta2)
            n = state["step"].item()
            scale = (state["square"] / (1 - beta2**n)).sqrt_().add_(1e-8)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1**n))


def make_optimizer(net: nn.Module, lr, matrix_lr, betas=(0.9, 0.99), weight_decay=0.01):
    """Muon at `matrix_lr` on the matrices inside the network; AdamW at `lr` on biases, norms, the noise-level
    embedding and its uses, the first and last layer, and the foresight, which comes taught and wants small steps."""
    outside = ("patchify", "unpatchify", "time_embedding", "decoder.0.temporal.foresee")
    is_matrix = lambda name, p: p.ndim >= 2 and not name.startswith(outside) and "modulation" not in name
    named = list(net.named_parameters())
    return Muon([dict(params=[p for name, p in named if is_matrix(name, p)], lr=matrix_lr, matrices=True),
                 dict(params=[p for name, p in named if not is_matrix(name, p)], lr=lr, matrices=False)],
                betas=betas, weight_decay=weight_decay)
