"""Train the history encoders that chapter 7 compares, and measure what each loses.

    python book/_tools/histories.py [--steps N]        goes on with the next encoder where it was cut off

Writes data/checkpoints/history/ (the two that read ten frames) and data/results/histories.csv: one row for each encoder, clip and new frame.
"""

import argparse
import csv
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.comparison import read_table, start_table
from vdiff_lite.device import peak_memory
from vdiff_lite.evaluation import prediction
from vdiff_lite.methods import HistoryEncoder, history_cfg, history_encoder, save_history, train_history

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "data" / "results" / "histories.csv"
NEW = 11
SIZES = (8, 64)
READY = """
from vdiff_lite.methods import HistoryEncoder, history_cfg, history_encoder, train_history
base, data, (past, xt) = vd.load("digits32"), vd.BouncingDigits(), (torch.zeros(4, 1, f, 32, 32) for f in (10, 10 + 11))
encoder = HistoryEncoder(size=64)
draw = lambda method: vd.finish(vd.ddim(method, torch.cat([past, xt[:, :, 10:]], 2), base.schedule, 3))
"""
TRAIN = "list(vd.Trainer(base.net.requires_grad_(True), base.schedule, data, vd.TrainConfig(steps=3, batch=8)).run(bar=False))"
MEMORY = {
    ("history_cfg", "training"): TRAIN,
    ("history_encoder", "training"): "train_history(base, encoder, data, steps=3, batch=8)",
    ("history_cfg", "sampling"): "draw(history_cfg(base, past, 1.5))",
    ("history_encoder", "sampling"): "draw(history_encoder(base, past, encoder, 1.5))",
}


def predicted(denoiser, method, k):
    return prediction(denoiser, given=k, frames=k + NEW, method=method)[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    steps = parser.parse_args().steps
    vd.keep_memory()
    base = vd.load("digits32", vd.pick_device())
    header = dict(command=f"python book/_tools/histories.py --steps {steps}", sha256=base.card["sha256"])
    if not TABLE.exists() or read_table(TABLE)[0] != header:
        start_table(TABLE, header)
    done = TABLE.read_text()

    def add(method, setting, scores, parameters):
        rows = [(method, setting, 0, b, n, "psnr", f"{value:.5g}") for b, row in enumerate(scores.tolist()) for n, value in enumerate(row, 1)]
        with open(TABLE, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([*rows, (method, setting, 0, "", "", "parameters", parameters)])
        print(f"{method}:{setting}", [round(scores[:, n - 1].mean().item(), 1) for n in (1, 5, NEW)], flush=True)

    for k in (1, 5, 10):
        if f"history_cfg,frames={k}," not in done:
            add("history_cfg", f"frames={k}", predicted(base, history_cfg, k), 0)
        for size in SIZES:
            setting = f"frames={k} size={size}"
            if f"history_encoder,{setting}," in done:
                continue
            torch.manual_seed(0)
            encoder = HistoryEncoder(size=size, frames=k).to(base.device)
            with tqdm(total=steps, desc=setting) as bar:
                heard, encoder, losses = train_history(base, encoder, vd.BouncingDigits(), steps=steps, new=NEW,
                                                       on_step=lambda n, loss, bar=bar: bar.update())
            parameters = sum(p.numel() for p in encoder.parameters())
            add("history_encoder", setting, predicted(heard, partial(history_encoder, encoder=encoder), k), parameters)
            if k == 10:
                save_history(checkpoint.folder() / "history" / f"digits32_{size}", heard, encoder, "digits32", steps=steps,
                             loss=sum(losses[-50:]) / len(losses[-50:]))

    if ",memory of " not in done:
        with open(TABLE, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                (method, "", 0, "", "", f"memory of {of}", f"{peak_memory(code, READY):.0f}") for (method, of), code in MEMORY.items())


if __name__ == "__main__":
    main()
