"""Which network learns most in equal minutes? Ours and others of its size, same data, same trainer.

    python book/_tools/architectures.py --minutes 60

First all are timed (`tests/bench.py`), which says how many steps each takes in so many minutes. Then they
train in turns, so that slow spells of the machine meet all alike. Then they are judged. Cut off, it goes on
where it was, from data/checkpoints/retrained/architectures. Writes data/results/architectures.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

import vdiff_lite as vd
from vdiff_lite.evaluation.evaluate import continue_clips, from_noise
from vdiff_lite.evaluation.video_metrics import psnr

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from bench import CLIPS, NETWORKS, OURS, RESULTS, InOwnProcess, measure, prepare

STATE = RESULTS.parent / "checkpoints" / "retrained" / "architectures"
PEERS = ["2-D UNet", "U-ViT", "DiT"]
TURN = 10  # seconds that one network trains before it is the next one's turn, about
SAVE_EVERY = 12  # turns


class Training:
    """A network in training."""

    def __init__(self, name, steps, state, device):
        prepare(device)
        # All clips have 16 frames: one of the networks takes no others.
        config = vd.TrainConfig(steps=steps, batch=CLIPS, short_steps=0, warmup=min(100, steps // 4),
                                decay=round(0.6 * steps))
        self.trainer = vd.Trainer(NETWORKS[name](), vd.NoiseSchedule(), vd.BouncingDigits(), config, device)
        self.state = state
        if state.exists():
            self.trainer.resume(state)

    def train_until(self, fraction):
        """Seconds that it took to train until so large a fraction of the steps is taken."""
        started, trainer = time.perf_counter(), self.trainer
        while trainer.step < fraction * trainer.config.steps:
            trainer.train_step()
        return time.perf_counter() - started

    def save(self):
        self.trainer.save(self.state)

    def judge(self, clips):
        """PSNR (dB) at new frames 1, 5, 11 with its standard error, and what clips from noise are like."""
        denoiser, losses = self.trainer.ema_denoiser(), self.trainer.losses
        past, noise = 5, from_noise(denoiser, clips)
        made, true = continue_clips(denoiser, vd.BouncingDigits(split="test"), clips, past)
        still = true.video[:, :, past - 1:past].expand_as(true.video)
        model, copied = psnr(made, true.video), psnr(still, true.video)
        at = lambda values: {str(frame): values[past + frame - 1].item() for frame in (1, 5, 11)}
        kept = ("frechet", "real_frechet", "intensity", "same_digit")
        last = losses[-max(1, len(losses) // 10):]
        return dict(steps=self.trainer.step, loss=sum(last) / len(last), psnr=at(model.mean(0)),
                    psnr_standard_error=at(model.std(0) / clips**0.5), psnr_of_copying=at(copied.mean(0)),
                    from_noise={name: noise[name] for name in kept})


def make_plan(names, minutes, device, timing):
    """Times of the networks, and how many steps each takes in so many minutes."""
    rows, rounds = measure(names, device, timing)
    rows = [row for row in rows if row["name"] in names]
    step = {row["name"]: rows[0]["seconds"]["step"] * row["times_ours"]["step"]["median"] for row in rows}
    return dict(minutes=minutes, clips_per_step=CLIPS, rounds=rounds, networks=rows,
                steps={name: max(8, round(60 * minutes / step[name])) for name in names},
                seconds_trained=dict.fromkeys(names, 0.0))


def train(trainings, plan, path):
    """All of them, in turns, each turn the same fraction of the steps."""
    turns = max(1, round(60 * plan["minutes"] / TURN))
    for turn in range(1, turns + 1):
        seconds = {name: each.train_until(turn / turns) for name, each in trainings.items()}
        print(f"{turn / turns:6.1%} " + ", ".join(f"{name} {s:.1f} s" for name, s in seconds.items()),
              flush=True)
        for name in seconds:
            plan["seconds_trained"][name] += seconds[name]
        if turn % SAVE_EVERY == 0 or turn == turns:
            for each in trainings.values():
                each.save()
            path.write_text(json.dumps(plan))


def table(result):
    lines = [f"{'':22}{'M':>6}{'step, ms':>10}{'clips seen':>12}{'PSNR at 1':>11}{'5':>7}{'11':>7}"
             f"{'Frechet':>9}"]
    for row in result["networks"]:
        first, middle, last = row["psnr"].values()
        lines.append(f"{row['name']:22}{row['parameters'] / 1e6:6.2f}{1e3 * row['seconds']['step']:10.0f}"
                     f"{row['steps'] * result['clips_per_step']:12}{first:11.1f}{middle:7.1f}{last:7.1f}"
                     f"{row['from_noise']['frechet']:9.1f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="of training, per network")
    parser.add_argument("--timing", type=float, default=4, help="minutes in which all are timed before")
    parser.add_argument("--clips", type=int, default=32, help="by which each is judged")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=list(NETWORKS)[1:], metavar="NAME",
                        help=f"networks beside ours, of {', '.join(list(NETWORKS)[1:])}")
    parser.add_argument("--state", type=Path, default=STATE, help="a folder to go on from")
    args, device = parser.parse_args(), vd.pick_device()
    names = [OURS, *args.peers]
    prepare(device)
    args.state.mkdir(parents=True, exist_ok=True)
    path = args.state / "plan.json"
    if not path.exists():
        path.write_text(json.dumps(make_plan(names, args.minutes, device, args.timing)))
    plan = json.loads(path.read_text())
    if (plan["minutes"], list(plan["steps"])) != (args.minutes, names):
        parser.error(f"{args.state} holds another run, {plan['minutes']} minutes of "
                     f"{', '.join(plan['steps'])}; choose another --state, or delete that one")
    trainings = {name: InOwnProcess(Training, name, steps, args.state / f"{i}.state.safetensors", device)
                 for i, (name, steps) in enumerate(plan["steps"].items())}
    train(trainings, plan, path)
    for row in plan["networks"]:
        row |= trainings[row["name"]].judge(args.clips)
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else None
    result = dict(threads=torch.get_num_threads(), gpu=gpu, torch=torch.__version__, clips=args.clips) | plan
    (RESULTS / "architectures.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
