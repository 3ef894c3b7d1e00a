"""Judge checkpoints of which each began with the weights of the one before, in the same way, for chapter 4.

    python book/_tools/stages.py FIRST SECOND ... digits32        (a minute each on two cores)
"""

import json
import sys
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite import evaluation, foresight, metrics
from vdiff_lite.comparison import extend
from vdiff_lite.training import true_centres

RESULT = Path(__file__).resolve().parents[2] / "data" / "results" / "stages.json"


def judge(name, clips=64, steps=12, given=5, frames=66):
    denoiser = vd.load(name, vd.pick_device())
    scores = evaluation.evaluate(denoiser, clips, steps)
    truth = vd.BouncingDigits(split="test", num_frames=given + frames).sample(clips, torch.Generator().manual_seed(1000)).video
    made, _ = extend(denoiser, "history_cfg", truth[:, :, :given].to(denoiser.device), frames, overlap=given, steps=steps)
    failed = metrics.faults(made.clamp(-1, 1), truth, given)
    walk = foresight.go_on(denoiser.net, true_centres(truth[:, :, :given]).to(denoiser.device), 18).diff(dim=1).norm(dim=-1)
    speed = {w: (walk[:, given - 1 + 11 * (w - 1):][:, :11].mean() / walk[:, :given - 1].mean()).item() for w in (1, 6, 18)}
    taught = denoiser.net.decoder[0].temporal.foresee.taught
    lived = metrics.bootstrap(metrics.horizon(failed, given)[0])
    return dict(sha256=denoiser.card["sha256"], recipe=denoiser.card["recipe"], clips=clips, steps=steps,
                psnr={n: scores["psnr"][n - 1] for n in (1, 5, 11)}, from_noise=scores["from_noise"],
                speed_after=speed if taught else None,
                long=dict(frames=frames, identity=(~failed["identity"][:, given:]).float().mean().item(), horizon=lived))


if __name__ == "__main__":
    vd.keep_memory()
    stages = [judge(name) for name in sys.argv[1:]]
    RESULT.write_text(json.dumps(stages, indent=1) + "\n")
    print(RESULT.read_text())
