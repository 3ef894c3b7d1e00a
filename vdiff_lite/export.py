"""A checkpoint as files that a browser can run, with the past's keys and values as a cache."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from vdiff_lite.checkpoint import write_json
from vdiff_lite.checks import memory, whole
from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.files import check_writable, write_whole
from vdiff_lite.models.video_unet import VideoUNet


class Window(nn.Module):
    """VideoUNet on one window, with the keys and values of its first `overlap` frames as inputs and outputs.

    forward(xt, t, blend, *cache_in) -> (v_hat, *cache_out): xt (1, c, f, h, w);  t (1, f) long;  blend: lam;
    cache_in: one tensor for each of `names`, blended into the window's own at the overlap,
    k <- (1 - lam) k + lam k_cached, values likewise; lam = 0 leaves them alone, bit for bit.  cache_out: the
    window's own, before blending: ask once with a clean past, and pass them to later calls as cache_in.
    """

    def __init__(self, net: VideoUNet, frames: int, overlap: int):
        super().__init__()
        self.net, self.names, self.shapes = net, [], []

        def record(site, feature):
            if isinstance(feature, tuple):
                for name, x in zip(("k", "v"), feature):
                    self.names.append(f"{site}.{name}")
                    self.shapes.append((*x.shape[:2], x.shape[2] // frames * overlap, x.shape[3]))
            return feature

        with torch.no_grad():
            net(torch.zeros(_input_shape(net, frames)), torch.ones(1, frames, dtype=torch.long), hook=record)

    def forward(self, xt: Tensor, t: Tensor, blend: Tensor, *cache_in: Tensor) -> tuple[Tensor, ...]:
        cache_out, remaining = [], list(cache_in)

        def blended(own):
            cached = remaining.pop(0)
            n = cached.shape[2]
            cache_out.append(own[:, :, :n])
            return torch.cat([own[:, :, :n] + blend * (cached - own[:, :, :n]), own[:, :, n:]], dim=2)

        def hook(site, feature):
            return tuple(blended(own) for own in feature) if isinstance(feature, tuple) else feature

        return self.net(xt, t, hook=hook), *cache_out


def _input_shape(net: VideoUNet, frames: int) -> tuple[int, ...]:
    return 1, net.config.in_channels, frames, *net.config.size


def export(denoiser: Denoiser, folder: str | Path, frames: int = 16, overlap: int = 5, **about) -> Path:
    """Write `model.onnx` and `model.json` into a folder: the network of `Window`, and what a sampler needs.

    Returns the path of model.onnx. Raises ImportError when the packages onnx and onnxscript are missing
    (pip install 'vdiff-lite[book]'), and ValueError unless 1 <= overlap < frames.
    """
    whole(overlap=overlap, window=frames)
    if overlap >= frames:
        remedy = f"choose 1 to {frames - 1}" if frames > 1 else "choose a window of 2 or more"
        raise ValueError(f"overlap={overlap} does not fit a window of {frames}; {remedy}")
    memory(denoiser.net, frames, denoiser.device)
    check_writable(Path(folder) / "model.onnx" if str(folder) else "")
    try:
        import onnxscript  # noqa: F401 - torch.onnx asks for it in the middle of its work
    except ImportError as error:
        raise ImportError("exporting wants the packages onnx and onnxscript: "
                          "pip install 'vdiff-lite[book]'") from error
    folder = Path(folder)
    net, schedule = denoiser.net.cpu().eval(), denoiser.schedule
    window = Window(net, frames, overlap).eval()
    # Levels with a clean past, so that nothing about the mask is settled while the graph is written down.
    t = torch.where(torch.arange(frames) < overlap, 0, 500)[None]
    inputs = (torch.randn(_input_shape(net, frames)), t, torch.zeros(()), *map(torch.zeros, window.shapes))
    names_in = ["xt", "t", "blend", *(f"{name}.cache_in" for name in window.names)]
    names_out = ["v_hat", *(f"{name}.cache_out" for name in window.names)]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names packages that it can do without
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of torch's own code
        program = torch.onnx.export(window, inputs, dynamo=True, opset_version=18, verbose=False,
                                    input_names=names_in, output_names=names_out)

    def save(file: Path) -> None:
        program.save(file, external_data=False)
        (folder / "model.json").unlink(missing_ok=True)  # a run that is cut off here leaves no wrong pair

    write_whole(folder / "model.onnx", save)
    card = dict(frames=frames, overlap=overlap, size=list(net.config.size), channels=net.config.in_channels,
                cache=[dict(name=name, shape=shape) for name, shape in zip(window.names, window.shapes)],
                num_timesteps=schedule.num_timesteps, alpha_bar=schedule.alpha_bar.double().tolist(), **about)
    write_json(folder / "model.json", card)
    return folder / "model.onnx"
