"""vdiff: train, sample, extend, compare, evaluate, and look at the machine, from a shell."""

import argparse
import json
import shlex
import sys
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import torch

from vdiff_lite import checkpoint
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.moving_mnist import MovingMNIST
from vdiff_lite.data.video_files import VideoFolder
from vdiff_lite.device import pick_device, prepare_cpu
from vdiff_lite.diffusion.samplers import SAMPLERS, ddim, sample
from vdiff_lite.evaluation.compare import compare, extend, measure_memory, summary
from vdiff_lite.evaluation.method_text import parse_setting
from vdiff_lite.evaluation.scores import score_clips
from vdiff_lite.methods import METHODS
from vdiff_lite.rollout import generate


def main(argv=None):
    """Run a command; returns the exit status. Errors that a reader can mend, and Ctrl-C, are one line, without a traceback."""
    args = _parser().parse_args(argv)
    prepare_cpu()
    try:
        return args.run(args) or 0
    except (ValueError, OSError, FloatingPointError, KeyboardInterrupt) as error:
        print(f"vdiff {args.command}: {str(error) or 'stopped'}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 2


_METHOD_HELP = ("NAME or NAME:SETTING=VALUE,...: " + ", ".join(METHODS)
                + "; for example reconstruction:weight=10,norm=sum or injection:sites=temporal+joint,fraction=0.8; any method takes start=LEVEL, "
                "to begin with the last frame noised to a level of 1 to 1000, and repeats=N, to take each step N times")


def _parser():
    show = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("vdiff", description="Small video diffusion models: train, sample, go on for ever, compare.",
                                     epilog="example:\n  vdiff sample --out clip.gif", formatter_class=show)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, text, example):
        added = commands.add_parser(name, help=text, description=text, epilog=f"example:\n  {example}", formatter_class=show)
        added.set_defaults(run=run)
        return added

    train = command("train", _train, "Train a network from nothing, or go on where a run was cut off.",
                    "vdiff train --out data/checkpoints/mine --steps 6000 --videos my_clips/")
    train.add_argument("--out", required=True, help="checkpoint to write, without ending; the run's state lies beside it")
    train.add_argument("--preset", default="tiny", help="network: tiny (CPU) or base (64x64, GPU)")
    train.add_argument("--steps", type=int, default=5600)
    train.add_argument("--short-steps", type=int, default=1400, help="first steps, on clips of half the length")
    train.add_argument("--decay", type=int, default=3600, help="last steps, over which the learning rate falls")
    train.add_argument("--batch", type=int, default=8)
    train.add_argument("--digits", type=int, default=1, help="how many digits bounce in a clip")
    train.add_argument("--videos", help="a folder of your own mp4, webm or gif files, instead of digits")
    train.add_argument("--moving-mnist", help="the published mnist_test_seq.npy, instead of digits")
    train.add_argument("--start-from", help="begin with the weights of this checkpoint")
    train.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE",
                       help="other settings of TrainConfig, for example own_steps=3000 mix=0.35,0.1,0.5,0.05")
    train.add_argument("--samples-every", type=int, default=1000, help="draw clips on the way, into OUT.samples/")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", help="cuda, mps or cpu; the default is cuda if there is one, else cpu")

    draw = command("sample", _sample, "Draw clips from noise and write them to a gif or mp4.",
                   "vdiff sample --out clip.gif --clips 4 --sampler dpmpp_2m --steps 15 --seed 1")
    draw.add_argument("--out", required=True, help="file to write: .gif or .mp4")
    draw.add_argument("--clips", type=int, default=4, help="how many, side by side")
    draw.add_argument("--frames", type=int, default=16)
    draw.add_argument("--first", type=int, help="so many frames are drawn first, the rest with these as their past; 0: all at once; "
                      "the default is 2 where another network draws them, else 3")
    draw.add_argument("--sampler", choices=sorted(SAMPLERS), default="ddim")
    draw.add_argument("--eta", type=float, default=0.5, help="fresh noise on the way, for ddim: 0 none, 1 as much as ddpm")
    draw.add_argument("--steps", type=int, default=25, help="of the sampler; another network that begins takes its own, of ddpm")

    longer = command("extend", _extend, "Continue a held-out clip far past the end of the window, and write it to a gif or mp4.",
                     "vdiff extend --method injection --frames 200 --out long.mp4")
    longer.add_argument("--method", default="history_guidance", help=_METHOD_HELP)
    longer.add_argument("--out", required=True, help="file to write: .gif or .mp4")
    longer.add_argument("--frames", type=int, default=200, help="new frames to make")
    longer.add_argument("--seed", type=int, default=0, help="of the clip that is continued and of the noise")
    longer.add_argument("--truth", action="store_true", help="show the true clip beside the made one")

    match = command("compare", _compare, "Run methods on the same clips and seeds; writes one tidy table, and goes on where it was cut off.",
                    "vdiff compare --methods history_guidance history_guidance:weight=1.5 injection --clips 64 --seeds 5 --out data/results/main.csv")
    match.add_argument("--methods", nargs="+", required=True, help=_METHOD_HELP)
    match.add_argument("--out", required=True, help="table to write or to add to (csv)")
    match.add_argument("--clips", type=int, default=64)
    match.add_argument("--seeds", type=int, default=1)
    match.add_argument("--frames", type=int, default=11, help="new frames to make")
    match.add_argument("--split", choices=("test", "train"), default="test", help="train: the split that settings are chosen on")
    match.add_argument("--memory", action="store_true", help="measure each method's peak memory too, in a process of its own")
    match.add_argument("--details", action="store_true",
                       help="write where the digit is on every new frame too, and what reconstruction guidance did at every step")
    match.add_argument("--features", action="store_true", help="write what the clips look like to a small network, for the Frechet distance")
    for parser_of_methods in (longer, match):
        parser_of_methods.add_argument("--checkpoint", default="digits32")
        parser_of_methods.add_argument("--window", type=int, default=16, help="frames the network sees at once")
        parser_of_methods.add_argument("--overlap", type=int, default=5, help="frames that a window shares with the past")
        parser_of_methods.add_argument("--sampler", choices=sorted(SAMPLERS), default="ddim")
        parser_of_methods.add_argument("--steps", type=int, default=25)
        parser_of_methods.add_argument("--device")

    judged = command("evaluate", _evaluate, "Print the table a checkpoint is judged by, on held-out digits.",
                    "vdiff evaluate --checkpoint digits32 --clips 64")
    judged.add_argument("--clips", type=int, default=64)
    judged.add_argument("--steps", type=int, default=25)
    judged.add_argument("--out", help="also write the numbers to this json file")

    near = command("neighbours", _neighbours, "Check that drawn digits are not copies of training ones.", "vdiff neighbours --clips 64")
    near.add_argument("--clips", type=int, default=64)

    for parser_of_beginnings in (draw, judged, near):
        parser_of_beginnings.add_argument("--checkpoint", default="digits32", help="a shipped name or a .safetensors file")
        parser_of_beginnings.add_argument("--begin", metavar="CHECKPOINT", help="what draws the first frames; the default is NAME_begin beside "
                                          "the checkpoint NAME, where there is one; NAME itself: the same network")
        parser_of_beginnings.add_argument("--seed", type=int, default=0)
        parser_of_beginnings.add_argument("--device")

    web = command("export", _export, "Write the model as files that a web page can run (onnx, json).", "vdiff export --out web/digits32")
    web.add_argument("--checkpoint", default="digits32")
    web.add_argument("--out", required=True, help="folder to write model.onnx and model.json into")
    web.add_argument("--window", type=int, default=16, help="frames the network sees at once")
    web.add_argument("--overlap", type=int, default=5, help="frames that a window shares with the past")

    command("doctor", _doctor, "Say what this machine has and whether everything is in place.", "vdiff doctor")
    return parser


def _data(args, size, channels):
    if args.videos:
        return VideoFolder(args.videos, size=size, channels=channels)
    if args.moving_mnist:
        return MovingMNIST(args.moving_mnist, size=size)
    return BouncingDigits(num_digits=args.digits, size=size)


def _train(args):
    from vdiff_lite.diffusion.schedule import NoiseSchedule
    from vdiff_lite.evaluation.evaluate import loss_curve
    from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig
    from vdiff_lite.training import foresight
    from vdiff_lite.training.trainer import Trainer

    device, out = pick_device(args.device), Path(args.out)
    torch.manual_seed(args.seed)
    net = VideoUNet(VideoUNetConfig.preset(args.preset))
    before = []
    if args.start_from:
        start = checkpoint.load(args.start_from)
        if start.net.config != net.config:
            raise ValueError(f"--start-from {args.start_from}: its network is {start.net.config}, and --preset {args.preset} is {net.config}")
        net.load_state_dict(start.net.state_dict())
        before = checkpoint.stages(start.card)
    config = _recipe(args)
    data = _data(args, net.config.size, net.config.in_channels)
    state = out.with_name(out.name + ".state.safetensors")
    if config.foresight and not state.exists():
        foresight.teach(net, NoiseSchedule(), data, config.foresight)
    trainer = Trainer(net, NoiseSchedule(), data, config, device)
    if state.exists():
        trainer.resume(state)
        print(f"going on from step {trainer.step} of {state}")
    print(f"{trainer.parameters / 1e6:.1f} M parameters on {device}; {config.steps - trainer.step} steps of {config.batch} clips")
    for progress in trainer.run(save_to=state):
        if args.samples_every and progress.step % args.samples_every == 0:
            _draw_samples(trainer, out.with_name(out.name + ".samples") / f"{progress.step:06d}.gif")
    net = trainer.ema_denoiser().net
    if config.foresight_after:
        foresight.teach_once_more(net, trainer.schedule, data, config.foresight_after, config.seed)
    path = checkpoint.save(out, net, trainer.schedule, recipe=asdict(config), steps=trainer.step,
                           data=str(data), loss_curve=loss_curve(trainer.losses), before=before)
    print(f"wrote {path} and its card; draw from it with: vdiff sample --checkpoint {path} --out clip.gif")


def _recipe(args):
    from vdiff_lite.training.recipe import TrainConfig

    settings = dict(steps=args.steps, short_steps=args.short_steps, decay=args.decay, batch=args.batch, seed=args.seed,
                    frame_stride=(1,) if args.videos or args.moving_mnist else TrainConfig.frame_stride)
    settings |= dict(map(parse_setting, args.set))
    unknown = set(settings) - {field.name for field in fields(TrainConfig)}
    if unknown:
        raise ValueError(f"--set {', '.join(sorted(unknown))}: TrainConfig has {', '.join(field.name for field in fields(TrainConfig))}")
    try:
        return TrainConfig(**settings)
    except TypeError as error:
        raise ValueError(f"--set {' '.join(args.set)}: a value is of the wrong kind: {error}") from error


def _draw_samples(trainer, path):
    from vdiff_lite.viz.players import save_clip

    path.parent.mkdir(parents=True, exist_ok=True)
    clips = sample(trainer.ema_denoiser(), clips=4, generator=torch.Generator().manual_seed(0))
    save_clip(_side_by_side(clips), path)


def _side_by_side(clips):
    gap = torch.zeros(*clips.shape[1:4], 1, device=clips.device)
    return torch.cat([part for clip in clips for part in (clip, gap)][:-1], dim=-1)


def _sample(args):
    from vdiff_lite.viz.players import check_clip_path, save_clip

    check_clip_path(args.out)
    first_frame_model = args.checkpoint if args.first == 0 else args.first_frame_model  # all at once: nobody begins
    denoiser, first_frame_model = checkpoint.load_with_first_frame_model(args.checkpoint, first_frame_model, pick_device(args.device))
    generator = torch.Generator().manual_seed(args.seed)
    draw = sample if args.first == 0 else partial(generate, first=args.first, first_frame_model=first_frame_model)
    sampler = SAMPLERS[args.sampler]
    sampler = partial(sampler, eta=args.eta) if sampler is ddim else sampler
    clips = draw(denoiser, args.clips, args.frames, sampler, args.steps, generator)
    save_clip(_side_by_side(clips), args.out)
    print(f"wrote {args.out}: {args.clips} clips of {args.frames} frames, {args.sampler} with {args.steps} steps, seed {args.seed}")


def _extend(args):
    from vdiff_lite.viz.players import check_clip_path, save_clip

    check_clip_path(args.out)
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    generator = torch.Generator().manual_seed(args.seed)
    truth = BouncingDigits(split="test", num_frames=args.overlap + args.frames).sample(1, generator).video
    made, cost = extend(denoiser, args.method, truth[:, :, :args.overlap], args.frames, args.window, args.overlap, args.sampler, args.steps,
                        args.seed, bar=True)
    save_clip(_side_by_side(torch.cat([truth, made])) if args.truth else made[0], args.out)
    scores = {metric: value for _, frame, metric, value in score_clips(made, truth, args.overlap, args.window - args.overlap) if frame is None}
    print(f"wrote {args.out}: {args.overlap} frames given, {args.frames} made by {args.method}, {cost['seconds']:.2f} s each")
    lived, fault = int(scores.pop("time_to_first_failure")), next(metric for metric in scores if metric.startswith("failed:"))
    del scores[fault]
    first = fault.removeprefix("failed:")
    print("  ".join(f"{metric} {value:.2f}" for metric, value in scores.items()))
    print(f"first fault: {first}, at new frame {lived + 1}" if first else f"no fault in {lived} new frames")


def _compare(args):
    denoiser = checkpoint.load(args.checkpoint, pick_device(args.device))
    num_context = {name: value for name, value in vars(args).items() if name not in ("command", "run", "methods", "device")}
    words = ["vdiff", "compare", "--methods", *args.methods]
    for name, value in num_context.items():
        words += [f"--{name}"] * value if isinstance(value, bool) else [f"--{name}", str(value)]
    command = shlex.join(words)
    compare(denoiser, args.out, args.methods, args.clips, args.seeds, args.frames, args.window, args.overlap, args.sampler, args.steps,
            args.split, details=args.details, features=args.features,
            about=dict(command=command, checkpoint=args.checkpoint, sha256=denoiser.card["sha256"]))
    if args.memory:
        measure_memory(args.out, args.methods, args.checkpoint, min(4, args.clips), args.window, args.overlap, args.sampler, args.device)
    print(summary(args.out))


def _evaluate(args):
    from vdiff_lite.evaluation.evaluate import evaluate, table

    denoiser, first_frame_model = checkpoint.load_with_first_frame_model(args.checkpoint, args.first_frame_model, pick_device(args.device))
    result = evaluate(denoiser, args.clips, args.steps, args.seed, bar=True, first_frame_model=first_frame_model)
    command = f"vdiff evaluate --checkpoint {args.checkpoint} --clips {args.clips} --steps {args.steps} --seed {args.seed}"
    result |= dict(checkpoint=args.checkpoint, sha256=denoiser.card["sha256"], **(dict(begin_sha256=first_frame_model.card["sha256"]) if first_frame_model else {}),
                   command=command + (f" --begin {args.first_frame_model}" if args.first_frame_model else ""))
    print(table(result))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


def _neighbours(args):
    from vdiff_lite.evaluation.evaluate import neighbors, neighbors_table

    denoiser, first_frame_model = checkpoint.load_with_first_frame_model(args.checkpoint, args.first_frame_model, pick_device(args.device))
    print(neighbors_table(neighbors(denoiser, args.clips, seed=args.seed, first_frame_model=first_frame_model)))


def _export(args):
    from vdiff_lite.export import export

    denoiser = checkpoint.load(args.checkpoint)
    path = export(denoiser, args.out, args.window, args.overlap, checkpoint=args.checkpoint, sha256=denoiser.card["sha256"])
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB) and model.json: windows of {args.window} frames, {args.overlap} of them past")


def _doctor(args):
    from vdiff_lite.viz.players import find_ffmpeg

    device = pick_device()
    lines = [("python", sys.version.split()[0]), ("torch", torch.__version__), ("device", str(device)),
             ("threads", str(torch.get_num_threads())), ("ffmpeg", find_ffmpeg() or "none: clips become gifs, mp4 cannot be read")]
    lines += [("checkpoint " + name, f"{checkpoint.load(name).card['parameters']:,} parameters, sha256 ok") for name in checkpoint.shipped()]
    if not checkpoint.shipped():
        lines.append(("checkpoints", f"none in {checkpoint.folder()}"))
    for name, value in lines:
        print(f"{name:22} {value}")


if __name__ == "__main__":
    sys.exit(main())
