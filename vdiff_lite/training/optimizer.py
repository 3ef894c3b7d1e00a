"""Muon for the network's matrices, AdamW for the rest, as one optimizer."""

import torch
from torch import Tensor, nn

# The polynomial that pushes singular values towards 1 (Jordan et al. 2024).
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrix with singular values of about 1, by Newton-Schulz iteration (Jordan et al. 2024).

        X <- a X + (b X X^T + c (X X^T)^2) X

    matrix: (m, n), or (k, m, n) for a stack of them. Returns the same shape; singular values land in 0.7 ..
    1.2. Computed in bfloat16 on a GPU, as torch.optim.Muon does everywhere; a CPU without bfloat16 units
    takes 20 times as long with that.
    """
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized, for weights with two or more dimensions (Jordan et al. 2024).

    A convolution counts as a matrix (out, in h w). Groups with `matrices=False` take AdamW steps (Loshchilov
    and Hutter 2019).

    Updates of an (m, n) matrix are scaled by sqrt(max(1, m / n)), so that every matrix turns its input by
    about lr a step, whatever its shape. (With Adam's size of update, convolutions, which have more inputs,
    take larger steps than attention does.)

    A step reads no value of a tensor, so a GPU never waits, and a CUDA graph can hold it: each group's `lr`
    is a tensor beside its weights (`set_lr`).
    """

    def __init__(self, groups: list[dict], momentum: float = 0.95, betas: tuple = (0.9, 0.99),
                 weight_decay: float = 0.01):
        super().__init__(groups, dict(lr=1e-3, momentum=momentum, betas=tuple(betas), matrices=True,
                                      weight_decay=weight_decay))
        for group in self.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
            group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (self._step_matrices if group["matrices"] else self._step_adamw)(group)

    def _step_matrices(self, group):
        params, grads, states = self._learning(group, "momentum")
        momenta = [state["momentum"] for state in states]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, grads)
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        by_shape = {}
        for p, update in zip(params, torch._foreach_add(grads, momenta, alpha=group["momentum"])):
            by_shape.setdefault((len(p), p[0].numel()), []).append((p, update.flatten(1)))
        for (m, n), pairs in by_shape.items():
            updates = orthogonalize(torch.stack([update for _, update in pairs]))
            updates *= -group["lr"] * max(1, m / n) ** 0.5
            torch._foreach_add_([p for p, _ in pairs],
                                [update.view_as(p) for (p, _), update in zip(pairs, updates)])

    def _step_adamw(self, group):
        (beta1, beta2), lr = group["betas"], group["lr"]
        params, grads, states = self._learning(group, "mean", "square", "step")
        means, squares, steps = ([state[name] for state in states] for name in ("mean", "square", "step"))
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_lerp_(squares, torch._foreach_mul(grads, grads), 1 - beta2)
        n = steps[0]  # all parameters of a group have learned equally long
        scales = torch._foreach_div(squares, 1 - beta2**n)
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, 1e-8)
        updates = torch._foreach_div(means, scales)
        torch._foreach_mul_(updates, -lr / (1 - beta1**n))
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, updates)

    def _learning(self, group, *names):
        """Parameters of a group with a gradient, the gradients, and their states, `names` zero at first."""
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            for name in set(names) - set(self.state[p]):
                self.state[p][name] = p.new_zeros(()) if name == "step" else torch.zeros_like(p)
        return params, [p.grad for p in params], [self.state[p] for p in params]


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times the first one, in place where it is a tensor."""
    for group in optimizer.param_groups:
        lr = group.setdefault("initial_lr", group["lr"]) * factor
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def make_optimizer(net: nn.Module, lr: float, matrix_lr: float, betas: tuple = (0.9, 0.99),
                   weight_decay: float = 0.01) -> Muon:
    """Muon at `matrix_lr` on the matrices inside the network, AdamW at `lr` on the rest.

    The rest: biases, norms, the embeddings of noise level and condition and their uses, the first and last
    layer.
    """
    outside = ("patchify", "unpatchify", "noise_embedding", "condition")
    is_matrix = lambda name, p: p.ndim >= 2 and not name.startswith(outside) and "modulation" not in name
    named = list(net.named_parameters())
    return Muon([dict(params=[p for name, p in named if is_matrix(name, p)], lr=matrix_lr, matrices=True),
                 dict(params=[p for name, p in named if not is_matrix(name, p)], lr=lr, matrices=False)],
                betas=betas, weight_decay=weight_decay)
