"""Train the history encoders that chapter 7 compares; judge their drafts, and what they cost.

    python book/_tools/histories.py [--steps N] [--given K ..]        goes on with the next encoder where it was cut off

Writes data/checkpoints/history/ (an encoder of these weights and steps is not trained again) and data/results/histories.csv: one row for each
encoder, clip and new frame of its draft; parameters; memory. What the network makes of each, `vdiff compare` measures (book/_tools/study.py).
"""

import argparse
from pathlib import Path

import torch
from tqdm.auto import tqdm

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.device import peak_memory
from vdiff_lite.evaluation.compare import true_clips
from vdiff_lite.evaluation.results import add_rows, read_table, start_table
from vdiff_lite.evaluation.scores import score_clips
from vdiff_lite.methods import load_history, save_history
from vdiff_lite.methods.history_encoder import FORMAT
from vdiff_lite.models.history_encoder import HistoryEncoder
from vdiff_lite.training.history import train_history

TABLE = Path(__file__).resolve().parents[2] / "data" / "results" / "histories.csv"
NEW, CLIPS = 11, 64
SIZES = (8, 64)
READY = """
from vdiff_lite.methods import history_guidance, history_encoder
from vdiff_lite.models.history_encoder import HistoryEncoder
from vdiff_lite.training.history import train_history
base, data, (past, xt) = vd.load("digits32"), vd.BouncingDigits(), (torch.zeros(4, 1, f, 32, 32) for f in (10, 10 + 11))
encoder = HistoryEncoder(size=64)
draw = lambda method: vd.finish(vd.ddim(method, torch.cat([past, xt[:, :, 10:]], 2), base.schedule, 3))
"""
TRAIN = "list(vd.Trainer(base.net.requires_grad_(True), base.schedule, data, vd.TrainConfig(steps=3, batch=8)).run(bar=False))"
MEMORY = {
    ("history_guidance", "training"): TRAIN,
    ("history_encoder", "training"): "train_history(base, encoder, data, steps=3, batch=8, draft_steps=3)",
    ("history_guidance", "sampling"): "draw(history_guidance(base, past, 1.5))",
    ("history_encoder", "sampling"): "draw(history_encoder(base, past, encoder, 1.5))",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--given", type=int, nargs="+", default=[1, 5, 10], help="lengths of the past; lengths can run side by side")
    steps, lengths = vars(parser.parse_args()).values()
    vd.prepare_cpu()
    base = vd.load("digits32", vd.pick_device())
    header = dict(command=f"python book/_tools/histories.py --steps {steps}", sha256=base.card["sha256"])
    if not TABLE.exists() or read_table(TABLE)[0] != header:
        start_table(TABLE, header)
    done = TABLE.read_text()
    for k in lengths:
        truth = torch.cat([true_clips(first, 16, k + NEW) for first in range(0, CLIPS, 16)])  # those of `vdiff compare`
        for size in SIZES:
            path, setting = checkpoint.folder() / "history" / f"digits32_{k}_{size}", f"frames={k} size={size}"
            if not is_trained(path, base, steps):
                train(base, path, k, size, steps)
            if f"draft,{setting}," not in done:
                add_rows(TABLE, draft_rows(path, setting, truth, k))
    if 10 in lengths and ",memory of " not in done:
        for (method, of), code in MEMORY.items():
            add_rows(TABLE, [(method, "", 0, "", "", f"memory of {of}", f"{peak_memory(code, READY):.0f}")])


def is_trained(path, base, steps):
    """Whether the encoder is there, trained for so many steps on top of these very weights."""
    if not path.with_suffix(".json").exists():
        return False
    card = checkpoint.read_card(path, FORMAT)
    return (card["base_sha256"], card["steps"]) == (base.card["sha256"], steps)


def train(base, path, k, size, steps):
    torch.manual_seed(0)
    encoder = HistoryEncoder(size=size, frames=k).to(base.device)
    with tqdm(total=1000 + steps, desc=path.name) as bar:
        heard, encoder, losses = train_history(base, encoder, vd.BouncingDigits(), steps=steps, draft_steps=1000, new=NEW,
                                               on_step=lambda n, loss: bar.update())
    save_history(path, heard, encoder, "digits32", steps=steps, loss=sum(losses[-50:]) / len(losses[-50:]))


def draft_rows(path, setting, truth, k):
    """PSNR and identity of what can be drawn from the embedding without the network, and the encoder's parameters."""
    _, encoder = load_history(path)
    with torch.no_grad():
        drawn = encoder.draft(encoder.embed(truth[:, :, :k]), range(NEW))
    found = score_clips(torch.cat([truth[:, :, :k], drawn], dim=2), truth, k, NEW)
    rows = [("draft", setting, 0, b, "" if n is None else n, metric, f"{value:.5g}") for b, n, metric, value in found
            if metric in ("psnr", "identity")]
    return [*rows, ("draft", setting, 0, "", "", "parameters", sum(p.numel() for p in encoder.parameters()))]


if __name__ == "__main__":
    main()
