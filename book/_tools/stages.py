"""Judge checkpoints of which each started from the weights of the one before, in the same way, for chapter 4.

    python book/_tools/stages.py FIRST SECOND ... digits32

Some minutes each on two cores; what was judged before is kept.
"""

import json
import sys
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.compare import extend
from vdiff_lite.evaluation.evaluate import evaluate
from vdiff_lite.training import foresight
from vdiff_lite.training.centers import true_centres

RESULT = Path(__file__).resolve().parents[2] / "data" / "results" / "stages.json"


def score_stage(denoiser, clips=64, steps=12, num_context=5, frames=66):
    scores = evaluate(denoiser, clips, steps)
    truth = _clips(num_context + frames, clips)
    context = truth[:, :, :num_context]
    made, _ = extend(denoiser, "history_guidance", context, frames, overlap=num_context, steps=steps)
    failed = digit_metrics.failures(made.clamp(-1, 1), truth, num_context)
    first_failure = video_metrics.bootstrap(digit_metrics.time_to_first_failure(failed, num_context)[0])
    identity = (~failed["identity"][:, num_context:]).float().mean().item()
    return dict(sha256=denoiser.card["sha256"], recipe=denoiser.card["recipe"], clips=clips, steps=steps,
                psnr={n: scores["psnr"][n - 1] for n in (1, 5, 11)}, from_noise=scores["from_noise"],
                long=dict(frames=frames, identity=identity, time_to_first_failure=first_failure))


def speed_after(denoiser, windows=18, clips=256, num_context=5):
    """The mean speed in the last window that foresight alone goes on to, relative to the context frames' own.

    None where it was not taught.
    """
    foresee = denoiser.net.decoder[0].temporal.foresee
    if not (foresee and foresee.taught):
        return None
    path = foresight.go_on(denoiser.net.cpu(), true_centres(_clips(num_context, clips)), windows)
    speed = path.diff(dim=1).norm(dim=-1)
    return (speed[:, -11:].mean() / speed[:, :num_context - 1].mean()).item()


def _clips(frames, clips):
    data = vd.BouncingDigits(split="test", num_frames=frames)
    return data.sample(clips, torch.Generator().manual_seed(1000)).video


if __name__ == "__main__":
    vd.prepare_cpu()
    known = {row["sha256"]: row for row in json.loads(RESULT.read_text())} if RESULT.exists() else {}
    rows = []
    for name in sys.argv[1:]:
        denoiser = vd.load(name, vd.pick_device())
        scores = known.get(denoiser.card["sha256"]) or score_stage(denoiser)
        rows.append(scores | dict(speed_after_18=speed_after(denoiser)))
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(RESULT.read_text())
