"""A checkpoint as files that a browser can run: one window in, v_hat out, and the past's keys and values let out and in."""

from pathlib import Path

import torch
from torch import nn

from vdiff_lite import checkpoint


class Window(nn.Module):
    """VideoUNet on one window, with the keys and values of its first `overlap` frames as inputs and outputs.

    forward(xt, t, blend, *held) -> (v_hat, *kept): xt (1, c, f, h, w);  t (1, f) long;  blend: lam, a number;  held: one tensor for
    each of `names`, mixed into the window's own at the overlap, k <- (1 - lam) k + lam k_held, values likewise; lam = 0 leaves
    them alone, bit for bit.  kept: the window's own, before mixing: ask once with a clean past, and hand them to later calls.
    """

    def __init__(self, net, frames, overlap):
        super().__init__()
        self.net = net
        self.names, self.shapes = [], []

        def look(site, feature):
            if isinstance(feature, tuple):
                for name, x in zip(("k", "v"), feature):
                    self.names.append(f"{site}.{name}")
                    self.shapes.append((*x.shape[:2], x.shape[2] // frames * overlap, x.shape[3]))
            return feature

        config = net.config
        with torch.no_grad():
            net(torch.zeros(1, config.in_channels, frames, config.size, config.size), torch.ones(1, frames, dtype=torch.long), hook=look)

    def forward(self, xt, t, blend, *held):
        kept, given = [], iter(held)

        def mix(own):
            old = next(given)
            n = old.shape[2]
            kept.append(own[:, :, :n])
            return torch.cat([own[:, :, :n] + blend * (old - own[:, :, :n]), own[:, :, n:]], dim=2)

        def hook(site, feature):
            return tuple(mix(own) for own in feature) if isinstance(feature, tuple) else feature

        return self.net(xt, t, hook=hook), *kept


def export(denoiser, folder, frames=16, overlap=5, **about):
    """Write `model.onnx` and `model.json` into a folder: the network of `Window`, and what a sampler has to know.

    Returns the path of model.onnx. Wants the packages onnx and onnxscript (pip install 'vdiff-lite[book]'); raises ImportError
    with that line when they are missing, and ValueError unless 1 <= overlap < frames.
    """
    if not 1 <= overlap < frames:
        raise ValueError(f"overlap={overlap} does not fit a window of {frames}: 1 <= overlap < window")
    try:
        import onnxscript  # noqa: F401 - torch.onnx asks for it in the middle of its work
    except ImportError as error:
        raise ImportError("exporting wants the packages onnx and onnxscript: pip install 'vdiff-lite[book]'") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    net, config = denoiser.net.cpu().eval(), denoiser.net.config
    window = Window(net, frames, overlap).eval()
    # Levels with a clean past, so that nothing about the mask is settled while the graph is written down.
    t = torch.where(torch.arange(frames) < overlap, 0, 500)[None]
    inputs = (torch.randn(1, config.in_channels, frames, config.size, config.size), t, torch.zeros(()),
              *(torch.zeros(shape) for shape in window.shapes))
    path = folder / "model.onnx"
    program = torch.onnx.export(window, inputs, dynamo=True, opset_version=18, verbose=False,
                                input_names=["xt", "t", "blend", *(f"{name}.held" for name in window.names)],
                                output_names=["v_hat", *(f"{name}.kept" for name in window.names)])
    program.save(path, external_data=False)
    card = dict(frames=frames, overlap=overlap, size=config.size, channels=config.in_channels,
                held=[dict(name=name, shape=shape) for name, shape in zip(window.names, window.shapes)],
                num_timesteps=denoiser.schedule.num_timesteps, alpha_bar=denoiser.schedule.alpha_bar.double().tolist(), **about)
    checkpoint.write_json(folder / "model.json", card)
    return path
