"""Train the history encoders that chapter 7 compares, and measure what each loses.

    python book/_tools/histories.py [--steps N] [--given K ..]        goes on with the next encoder where it was cut off

Writes data/checkpoints/history/ (those in KEPT) and data/results/histories.csv: one row for each encoder,
clip and new frame.
"""

import argparse
import csv
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from tqdm.auto import tqdm

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.device import peak_memory
from vdiff_lite.evaluation import continuation
from vdiff_lite.judging import judge
from vdiff_lite.methods import HistoryEncoder, history_cfg, history_encoder, save_history, train_history
from vdiff_lite.tables import read_table, start_table

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "data" / "results" / "histories.csv"
NEW = 11
SIZES = (8, 64)
KEPT = ((5, 8), (10, 8), (10, 64))  # given frames and size of those that are shipped
READY = """
from vdiff_lite.methods import HistoryEncoder, history_cfg, history_encoder, train_history
base, data, (past, xt) = vd.load("digits32"), vd.BouncingDigits(), (torch.zeros(4, 1, f, 32, 32) for f in (10, 10 + 11))
encoder = HistoryEncoder(size=64)
draw = lambda method: vd.finish(vd.ddim(method, torch.cat([past, xt[:, :, 10:]], 2), base.schedule, 3))
"""
TRAIN = "list(vd.Trainer(base.net.requires_grad_(True), base.schedule, data, vd.TrainConfig(steps=3, batch=8)).run(bar=False))"
MEMORY = {
    ("history_cfg", "training"): TRAIN,
    ("history_encoder", "training"): "train_history(base, encoder, data, steps=3, batch=8, draft_steps=3)",
    ("history_cfg", "sampling"): "draw(history_cfg(base, past, 1.5))",
    ("history_encoder", "sampling"): "draw(history_encoder(base, past, encoder, 1.5))",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--given", type=int, nargs="+", default=[1, 5, 10], help="lengths of the past; lengths can run side by side")
    steps, lengths = vars(parser.parse_args()).values()
    vd.keep_memory()
    base = vd.load("digits32", vd.pick_device())
    header = dict(command=f"python book/_tools/histories.py --steps {steps}", sha256=base.card["sha256"])
    if not TABLE.exists() or read_table(TABLE)[0] != header:
        start_table(TABLE, header)
    done = TABLE.read_text()

    def add(rows):
        with open(TABLE, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    def judged(method, setting, made, truth, k):
        rows = [(method, setting, 0, b, "" if n is None else n, metric, value) for b, n, metric, value in judge(made, truth, k, NEW)]
        mean = lambda metric, n="": fmean(row[-1] for row in rows if row[4:6] == (n, metric))
        print(f"{method}:{setting}", [round(mean("psnr", n), 1) for n in (1, 5, NEW)], f"{mean('identity'):.2f}", flush=True)
        return [(*row, f"{value:.5g}") for *row, value in rows if row[-1] in ("psnr", "identity")]

    for k in lengths:
        continued = lambda denoiser, method, k=k: continuation(denoiser, given=k, frames=k + NEW, method=method)
        if f"history_cfg,frames={k}," not in done:
            add(judged("history_cfg", f"frames={k}", *continued(base, history_cfg), k))
        for size in SIZES:
            setting = f"frames={k} size={size}"
            if f"history_encoder,{setting}," in done:
                continue
            torch.manual_seed(0)
            encoder = HistoryEncoder(size=size, frames=k).to(base.device)
            with tqdm(total=1000 + steps, desc=setting) as bar:
                heard, encoder, losses = train_history(base, encoder, vd.BouncingDigits(), steps=steps, draft_steps=1000, new=NEW,
                                                       on_step=lambda n, loss, bar=bar: bar.update())
            made, truth = continued(heard, partial(history_encoder, encoder=encoder))
            rows = judged("history_encoder", setting, made, truth, k)
            with torch.no_grad():
                drawn = encoder.draft(encoder.embed(truth[:, :, :k].to(base.device)), range(NEW)).cpu()
            rows += judged("draft", setting, torch.cat([truth[:, :, :k], drawn], dim=2), truth, k)
            add([*rows, ("history_encoder", setting, 0, "", "", "parameters", sum(p.numel() for p in encoder.parameters()))])
            if (k, size) in KEPT:
                save_history(checkpoint.folder() / "history" / f"digits32_{k}_{size}", heard, encoder, "digits32", steps=steps,
                             loss=sum(losses[-50:]) / len(losses[-50:]))

    if 10 in lengths and ",memory of " not in done:
        add((method, "", 0, "", "", f"memory of {of}", f"{peak_memory(code, READY):.0f}") for (method, of), code in MEMORY.items())


if __name__ == "__main__":
    main()
