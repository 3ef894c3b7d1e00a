"""Train the history encoders that chapter 7 compares; score their drafts, and what they cost.

    python book/_tools/histories.py [--steps N] [--num-context K ..] [--checkpoint digits32_fixed]

Resumes with the next encoder where it was cut off. Writes data/checkpoints/history/ (an encoder of these
weights and steps is not trained again) and data/results/histories.csv.gz: one row for each encoder, clip and
new frame of its draft; parameters; memory. What the network makes of each, `vdiff compare` measures
(book/_tools/study.py). On top of another checkpoint than digits32 encoders are trained only (of 64 numbers):
their drafts are the same, since no network is in them.
"""

import argparse
from pathlib import Path

import torch
from tqdm.auto import tqdm

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.device import peak_memory
from vdiff_lite.evaluation.compare import true_clips
from vdiff_lite.evaluation.results import append_rows, read_results, start_results
from vdiff_lite.evaluation.scores import score_clips
from vdiff_lite.methods import load_history, save_history
from vdiff_lite.methods.history_encoder import FORMAT
from vdiff_lite.models.history_encoder import HistoryEncoder
from vdiff_lite.training.history import train_history

TABLE = Path(__file__).resolve().parents[2] / "data" / "results" / "histories.csv.gz"
NEW, CLIPS = 11, 64
SIZES = {5: (8, 64), 10: (64,)}  # numbers in the embedding, by the frames that an encoder reads
READY = """
from vdiff_lite.methods import history_guidance, history_encoder
from vdiff_lite.models.history_encoder import HistoryEncoder
from vdiff_lite.training.history import train_history
base, data, past = vd.load("digits32"), vd.BouncingDigits(), torch.zeros(4, 1, 10, 32, 32)
xt = torch.cat([past, torch.zeros(4, 1, 11, 32, 32)], 2)
encoder = HistoryEncoder(size=64)
draw = lambda method: vd.run_sampler(vd.ddim(method, xt, base.schedule, 3))
"""
TRAIN = """
config = vd.TrainConfig(steps=3, short_steps=0, decay=3, batch=8)
list(vd.Trainer(base.net.requires_grad_(True), base.schedule, data, config).run(bar=False))
"""
MEMORY = {
    ("history_guidance", "training"): TRAIN,
    ("history_encoder", "training"): "train_history(base, encoder, data, steps=3, batch=8, draft_steps=3)",
    ("history_guidance", "sampling"): "draw(history_guidance(base, past, 1.5))",
    ("history_encoder", "sampling"): "draw(history_encoder(base, past, encoder, 1.5))",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--num-context", type=int, nargs="+", default=[5, 10],
                        help="lengths of the past; lengths can run side by side")
    parser.add_argument("--checkpoint", default="digits32", help="the network that is to listen to them")
    steps, lengths, name = vars(parser.parse_args()).values()
    vd.prepare_cpu()
    base = vd.load(name, vd.pick_device())
    paths = {(k, size): checkpoint.folder() / "history" / f"{name}_{k}_{size}"
             for k in lengths for size in (SIZES[k] if name == "digits32" else (64,))}
    for (k, size), path in paths.items():
        if not is_trained(path, base, steps):
            train(base, name, path, k, size, steps)
    if name == "digits32":
        measure(base, paths, lengths, steps)


def measure(base, paths, lengths, steps):
    """Write what the table lacks: drafts of the encoders at `paths`, and memory."""
    header = dict(command=f"python book/_tools/histories.py --steps {steps}", sha256=base.card["sha256"])
    if not TABLE.exists() or read_results(TABLE).attrs["header"] != header:
        start_results(TABLE, header)
    done = set(read_results(TABLE)[["name", "metric"]].itertuples(index=False, name=None))
    for (k, size), path in paths.items():
        setting = f"frames={k} size={size}"
        if (f"draft:{setting}", "parameters") not in done:
            truth = torch.cat([true_clips(first, 16, k + NEW) for first in range(0, CLIPS, 16)])
            append_rows(TABLE, draft_rows(path, setting, truth, k))  # of the clips of `vdiff compare`
    for (method, task), code in MEMORY.items():
        if 10 in lengths and (method, f"memory of {task}") not in done:
            peak = round(peak_memory(code, READY))
            append_rows(TABLE, [(method, "", 0, None, None, f"memory of {task}", peak)])


def is_trained(path, base, steps):
    """Whether the encoder is there, trained for so many steps on top of these very weights."""
    if not path.with_suffix(".json").exists():
        return False
    card = checkpoint.read_card(path, FORMAT)
    return (card["base_sha256"], card["steps"]) == (base.card["sha256"], steps)


def train(base, name, path, k, size, steps):
    torch.manual_seed(0)
    encoder = HistoryEncoder(size=size, frames=k).to(base.device)
    with tqdm(total=1000 + steps, desc=path.name) as bar:
        trained, encoder, losses = train_history(base, encoder, vd.BouncingDigits(), steps, draft_steps=1000,
                                                 new=NEW, on_step=lambda n, loss: bar.update())
    save_history(path, trained, encoder, name, steps=steps, loss=sum(losses[-50:]) / len(losses[-50:]))


def draft_rows(path, setting, truth, k):
    """PSNR and identity of what the embedding alone can draw; the encoder's parameters."""
    _, encoder = load_history(path)
    with torch.no_grad():
        draft = encoder.draft(encoder.embed(truth[:, :, :k]), range(NEW))
    scores = score_clips(torch.cat([truth[:, :, :k], draft], dim=2), truth, k, NEW)
    rows = [("draft", setting, 0, *score) for score in scores if score[2] in ("psnr", "identity")]
    parameters = sum(p.numel() for p in encoder.parameters())
    return [*rows, ("draft", setting, 0, None, None, "parameters", parameters)]


if __name__ == "__main__":
    main()
