"""Guidance on a compressed past: an encoder squeezes it to a few numbers, and the network is told those."""

from pathlib import Path

import torch
from torch import Tensor

from vdiff_lite import checkpoint
from vdiff_lite.checks import number
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, per_frame, require_hooks
from vdiff_lite.models.history_encoder import HistoryEncoder, encoder_kwargs, trained_parts

FORMAT = "vdiff_lite-history-2"


class history_encoder(DenoiserWrapper):
    """Condition on an embedding of the past, and guide towards it.

        x0_hat = u + w (c - u),  c = x0_hat(x_t | encoder(past)),  u = x0_hat(x_t)   (Ho and Salimans 2022)

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window; the encoder reads the last
    `encoder.frames` of them, and only the F - k new frames pass through the network;  weight: w;  encoder: a
    HistoryEncoder trained with this denoiser (`load_history`).  The first k frames of x0_hat are `past`.
    Raises ValueError for a weight that is not finite and a denoiser without hooks.
    """

    def __init__(self, denoiser: Denoiser, past: Tensor, encoder: HistoryEncoder, weight: float = 1.0):
        super().__init__(denoiser)
        number(weight=weight)
        require_hooks(denoiser, "history_encoder")
        self.past, self.encoder, self.weight, self.takes_hooks = past, encoder, weight, False
        self._outputs = {}  # of the encoder, by the number of new frames

    def forward(self, xt: Tensor, t: Tensor, **model_kwargs) -> Tensor:
        k = self.past.shape[2]
        new, levels = xt[:, :, k:], per_frame(t, xt.shape[0], xt.shape[2])[:, k:]
        f = new.shape[2]
        if f not in self._outputs:
            dtype = next(self.net.parameters()).dtype  # of a bf16 network, say
            with torch.no_grad():
                outputs = self.encoder(self.past[:, :, -self.encoder.frames:].to(xt), f)
            self._outputs[f] = tuple(x.to(dtype) for x in outputs)
        c = self.inner(new, levels, **encoder_kwargs(self._outputs[f], model_kwargs))
        if self.weight != 1:
            u = self.inner(new, levels, **model_kwargs)
            c = u + self.weight * (c - u)
        return torch.cat([self.past.to(xt), c], dim=2)


def save_history(path: str | Path, denoiser: Denoiser, encoder: HistoryEncoder, base: str, **about) -> Path:
    """Write an encoder and the modulation trained with it;  base: the checkpoint they go with."""
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"net.{name}": value for name, value in trained_parts(denoiser.net).items()}
    about |= dict(base=base, base_sha256=checkpoint.read_card(base)["sha256"], encoder=encoder.config,
                  parameters=sum(p.numel() for p in encoder.parameters()))
    return checkpoint.write(path, tensors, FORMAT, **about)


def load_history(path: str | Path, device: str | torch.device = "cpu") -> tuple[Denoiser, HistoryEncoder]:
    """An encoder and the denoiser that listens to it. Raises CheckpointError when they do not fit."""
    path, card = checkpoint.verified(path, FORMAT)
    denoiser = checkpoint.load(str(card.get("base")), device)
    if denoiser.card["sha256"] != card.get("base_sha256"):
        raise checkpoint.CheckpointError(f"{path} was trained with another {card['base']}; "
                                         "train it again with this one")
    try:
        encoder = HistoryEncoder(**checkpoint.current_config(card["encoder"]))
        parts = {f"encoder.{name}": x for name, x in encoder.state_dict().items()}
        parts |= {f"net.{name}": x for name, x in trained_parts(denoiser.net).items()}
        tensors = checkpoint.fitting(checkpoint.read_tensors(path)[0], parts)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise checkpoint.CheckpointError(f"{path} does not hold the encoder that its card describes: {error}"
                                         "; get both files again") from error
    part = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    encoder.load_state_dict(part("encoder."))
    denoiser.net.load_state_dict(denoiser.net.state_dict() | part("net."))
    return denoiser, encoder.to(device).eval().requires_grad_(False)
