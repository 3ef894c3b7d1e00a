"""How fast? Our network beside others of its size, in turns, so that the ratios hold on a noisy machine.

Writes data/results/bench_cpu.json and .txt (on a GPU bench_cuda), in about six minutes and 12 GB of memory.

    python tests/bench.py [--quick]       (--quick: one round, nothing compiled, nothing written)
    python tests/bench.py --memory        (only the peak memory of `vdiff sample` and `vdiff extend`, anew)
    python tests/bench.py --videos        (only what concerns videos of one's own, anew)
"""

import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import av
import torch
from numpy import ascontiguousarray, median, quantile
from peers import DiT, UNet2D, UViT
from torch import nn

import vdiff_lite as vd
from vdiff_lite.device import peak_memory
from vdiff_lite.diffusion.samplers import ddim
from vdiff_lite.methods import METHODS
from vdiff_lite.rollout import rollout

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"
THREADS, MINUTES, CLIPS = 2, 3, 16  # of a CPU;  of rounds;  at once, in a training step too
CALLS = {"forward": 0.3, "forward_batch": 1.0, "step": 1.5}  # seconds that a turn takes at least


class FromDiffusers(nn.Module):
    """One of diffusers' networks, called as ours. Its one noise level per clip is that of the last frame."""

    def __init__(self, net, text):
        super().__init__()
        self.net, self.text = net, text  # width of the text that it wants to be told

    def forward(self, xt, t):
        text = xt.new_zeros(len(xt), 1, self.text)
        return self.net(xt, timestep=t.view(len(t), -1)[:, -1], encoder_hidden_states=text).sample


def latte():
    from diffusers import LatteTransformer3DModel

    return FromDiffusers(LatteTransformer3DModel(
        sample_size=32, patch_size=4, in_channels=1, num_layers=3, num_attention_heads=5,
        attention_head_dim=32, norm_type="ada_norm_single", norm_elementwise_affine=False,
        activation_fn="gelu-approximate", caption_channels=1, video_length=16), 1)


def unet3d():
    from diffusers import UNet3DConditionModel

    return FromDiffusers(UNet3DConditionModel(
        sample_size=32, in_channels=1, out_channels=1, block_out_channels=(24, 48, 64), layers_per_block=1,
        norm_num_groups=8, cross_attention_dim=32, attention_head_dim=16,
        down_block_types=("CrossAttnDownBlock3D",) * 2 + ("DownBlock3D",),
        up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 2), 32)


def compiled():
    return vd.compiled(vd.Denoiser(vd.VideoUNet().eval().requires_grad_(False), vd.NoiseSchedule()))


OURS, COMPILED = "VideoUNet (ours)", "VideoUNet, compiled"
NETWORKS = {OURS: vd.VideoUNet, "2-D UNet": UNet2D, "U-ViT": UViT,
            "U-ViT, lowest level": partial(UViT, convolutional=2), "DiT": DiT, "diffusers Latte": latte,
            "diffusers UNet3D": unet3d}
FEWER_CLIPS = {"diffusers UNet3D": 2}  # about its quickest per clip
WRITTEN = {f"vdiff {command} --{name} {number}": [command, f"--{name}", str(number), "--out", f"x{ending}"]
           for command, name, numbers, ending in (("sample", "clips", (16, 1024), ".gif"),
                                                  ("extend", "frames", (200, 20_000), ".mp4"))
           for number in numbers}
SMALLEST = """
from vdiff_lite import checkpoint, commands
from vdiff_lite.cli import main
torch.set_num_threads(1)
torch.manual_seed(0)
net = vd.VideoUNet(vd.VideoUNetConfig(channels=(16, 16), head_channels=16, num_middle=1, noise_channels=16))
checkpoint.save("small", net, vd.NoiseSchedule(), data=str(vd.BouncingDigits()))
run = lambda *command: main([*command, "--checkpoint", "small.safetensors", "--steps", "1"])
assert run("extend", "--frames", "3", "--out", "x.gif") == 0
"""


class InOwnProcess:
    """make(*args) in a process of its own; its methods are called as if it were here.

    Beside others in one process, a forward pass took up to a third longer.
    """

    def __init__(self, make, *args):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, child_end = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(child_end, make, args), daemon=True)
        self.process.start()
        child_end.close()  # so that the end of the process is seen here

    def __getattr__(self, method):
        return partial(self._ask, method)

    def _ask(self, method, *args):
        try:
            self.pipe.send((method, args))
            return self.pipe.recv()
        except (EOFError, BrokenPipeError):
            self.process.join()
            raise RuntimeError(f"{method}{args}: the process ended with {self.process.exitcode}") from None


def _serve(pipe, make, args):
    served = make(*args)
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        pipe.send(getattr(served, method)(*args))


def prepare(device):
    """As every process here begins."""
    vd.prepare_cpu()
    if device.type == "cpu":
        torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    torch.manual_seed(0)


def shortest(call, seconds, device, at_least=1):
    """Shortest time of a call, in seconds, called for so long: other work on the machine only ever adds."""
    times, wait = [], torch.cuda.synchronize if device.type == "cuda" else lambda: None
    while len(times) < at_least or sum(times) < seconds:
        wait()
        started = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)


class Timed:
    """A network whose forward passes and training step are timed."""

    def __init__(self, make, device, clips=CLIPS):
        prepare(device)
        self.net, self.device = make().to(device), device
        self.x = torch.randn(clips, 1, 16, 32, 32, device=device)
        self.t = torch.full((clips,), 500, device=device)

    def parameters(self):
        return sum(p.numel() for p in self.net.parameters())

    @torch.no_grad()
    def forward(self):
        self.net(self.x[:1], self.t[:1])

    @torch.no_grad()
    def forward_batch(self):
        self.net(self.x, self.t)

    def step(self):
        self.trainer.train_step()

    @cached_property
    def trainer(self):
        # The rates are so low that the weights stay what they are.
        config = vd.TrainConfig(batch=len(self.x), short_steps=0, lr=1e-7, matrix_lr=1e-7)
        return vd.Trainer(self.net, vd.NoiseSchedule(), vd.BouncingDigits(), config, self.device)

    def shortest(self, call, seconds):
        """Shortest time of a call, called for so many seconds, once at least: other work only ever adds."""
        self.net.train(call == "step")
        return shortest(getattr(self, call), seconds, self.device)


def time_in_rounds(timed, minutes):
    """Shortest times per round: [{call: {name: seconds}}]. Slow spells of the machine meet all alike.

    timed: {name: `Timed`};  minutes: 0 means one round, of one call each.
    """
    calls_of = lambda name: ["forward"] if name == COMPILED else CALLS
    one_round = lambda seconds: {call: {name: each.shortest(call, seconds[call])
                                        for name, each in timed.items() if call in calls_of(name)}
                                 for call in CALLS}
    once = dict.fromkeys(CALLS, 0.0)
    one_round(once)  # ready, and compiled
    started, rounds = time.perf_counter(), []
    while not rounds or time.perf_counter() - started < 60 * minutes:
        rounds.append(one_round(CALLS if minutes else once))
    return rounds


def summary(timed, rounds):
    """Per network: parameters, the shortest time of each call, its time per clip in units of ours."""
    rows = []
    for name, each in timed.items():
        clips = FEWER_CLIPS.get(name, CLIPS)
        row = dict(name=name, parameters=each.parameters(), clips=clips, seconds={}, times_ours={})
        for call in CALLS:
            times = [times[call] for times in rounds if name in times[call]]
            if times:
                per = 1 if call == "forward" else CLIPS / clips
                row["seconds"][call] = min(time[name] for time in times)
                ratios = [per * time[name] / time[OURS] for time in times]
                row["times_ours"][call] = dict(zip(("low", "median", "high"),
                                                   quantile(ratios, (0.25, 0.5, 0.75)).tolist()))
        rows.append(row)
    return rows


def measure(names, device, minutes):
    """The networks of these names, ours first, each in a process of its own: (rows, number of rounds)."""
    timed = {name: InOwnProcess(Timed, NETWORKS[name], device, FEWER_CLIPS.get(name, CLIPS))
             for name in names}
    if minutes and device.type == "cpu":
        timed[COMPILED] = InOwnProcess(Timed, compiled, device, 1)
    rounds = time_in_rounds(timed, minutes)
    return summary(timed, rounds), len(rounds)


def measure_written(device=None):
    """Peak memory in MB of commands that write many clips or frames, by the smallest network, untrained."""
    peaks, here = {}, os.getcwd()
    for name, command in WRITTEN.items():
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            peaks[name] = round(peak_memory(f"assert run(*{command}) == 0", SMALLEST, device))
            os.chdir(here)
    return peaks


class Constant:
    """Clips that are there already: what a trainer can do that never waits for data."""

    def __init__(self, data, batch):
        self.data, self.drawn = data, data.sample(batch, torch.Generator().manual_seed(0))

    def with_frames(self, num_frames):
        return self if num_frames > 1 else self.data.with_frames(1)

    def sample(self, batch, generator=None):
        return self.drawn


def write_hour(path, seconds=10, times=360):
    """An hour of 1080p: ten seconds of moving noise, encoded once, their packets repeated."""
    noise = torch.randint(256, (1088, 2000, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 24, options=dict(preset="ultrafast", bf="0", g="240"))
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        smooth = noise[::8, ::8].repeat_interleave(8, 0).repeat_interleave(8, 1).numpy()
        pictures = (smooth[:1080, n % 80:n % 80 + 1920] for n in range(24 * seconds))
        frames = (av.VideoFrame.from_ndarray(ascontiguousarray(x), "rgb24") for x in pictures)
        packets = [bytes_of for frame in frames for bytes_of in map(bytes, stream.encode(frame))]
        packets += map(bytes, stream.encode())
        for n in range(times * len(packets)):
            packet = av.Packet(packets[n % len(packets)])
            packet.pts = packet.dts = n
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 24), n % 240 == 0
            container.mux(packet)


def measure_videos(device):
    """Reading: an hour of 1080p.  Training: from files beside from memory.  64x64 in color: window, step."""
    clips, rounds = 8, 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.mp4"
        write_hour(path)
        reads = f"data = vd.VideoFolder({str(path)!r}, 16, 32, 3, cache={folder!r})"
        result = dict(index_mb=round(peak_memory(reads)), hours=1)
        started = time.perf_counter()
        data = vd.VideoFolder(path, 16, 32, 3, cache=folder)
        result["index_seconds"] = time.perf_counter() - started
        result["decode_mb"] = round(peak_memory("data.sample(4, torch.Generator().manual_seed(1))", reads))
        short = Path(folder) / "short"
        short.mkdir()
        write_hour(short / "minute.mp4", times=6)
        config = vd.TrainConfig(batch=clips, short_steps=0, lr=1e-7, matrix_lr=1e-7)
        net = vd.VideoUNet(replace(vd.VideoUNetConfig.preset("tiny"), in_channels=3))
        data = vd.VideoFolder(short, 16, 32, 3, cache=folder)
        started = time.perf_counter()
        data.decode_all(bar=False)
        result["decoded_frames_per_second"] = data.num_frames_of(0) / (time.perf_counter() - started)
        sources = data, Constant(data, clips)
        trainers = [vd.Trainer(net, vd.NoiseSchedule(), source, config, device) for source in sources]
        times = [[shortest(trainer.train_step, 2.0, device) for trainer in trainers] for _ in range(rounds)]
        result["steps_from_files"] = float(median([files / memory for files, memory in times]))
        ready = f"""
from dataclasses import replace
data = vd.VideoFolder({str(short)!r}, 16, 64, 3, cache={folder!r})
data.decode_all(bar=False)
net = vd.VideoUNet(replace(vd.VideoUNetConfig.preset("base"), in_channels=3))
config = vd.TrainConfig(batch={clips}, short_steps=0)
trainer = vd.Trainer(net, vd.NoiseSchedule(), data, config, device)"""
        result["step_64_mb"] = round(peak_memory("trainer.train_step()", ready))
    wide = vd.VideoUNet(replace(vd.VideoUNetConfig.preset("base"), in_channels=3))
    wide.eval().requires_grad_(False).to(device)
    denoiser = vd.Denoiser(wide, vd.NoiseSchedule())
    past, xt = torch.zeros(1, 3, 5, 64, 64, device=device), torch.randn(1, 3, 16, 64, 64, device=device)
    t = torch.full((1,), 500, device=device)

    def window():
        list(rollout(denoiser, past, 11, 16, 5, METHODS["injection"], partial(ddim, steps=8)))

    with torch.no_grad():
        result["window_64_seconds"] = shortest(window, 5.0, device)
        result["forward_64_seconds"] = shortest(lambda: wide(xt, t), 3.0, device)
    return result | dict(window_64_parameters=sum(p.numel() for p in wide.parameters()))


def videos_table(v):
    return [
        "", "Videos of one's own",
        f"{'one hour of 1080p, indexed':42}{v['index_mb']:6} MB{v['index_seconds']:8.1f} s",
        f"{'decoded and shrunk to 32x32':42}{v['decode_mb']:6} MB"
        f"{v['decoded_frames_per_second']:8.0f} frames/s",
        f"{'training step, clips from files / in memory':42}{v['steps_from_files']:9.2f}",
        f"{'64x64 in color: forward pass, 16 frames':42}{v['forward_64_seconds']:9.3f} s, "
        f"{v['window_64_parameters'] / 1e6:.2f} M parameters",
        f"{'the same: window by injection, 8 steps':42}{v['window_64_seconds']:9.2f} s",
        f"{'the same: training step, 8 clips at once':42}{v['step_64_mb']:6} MB"]


def table(result):
    machine, rounds = result["machine"], result["rounds"]
    where = machine["gpu"] or f"{machine['threads']} threads of a CPU ({machine['processor']})"
    short = lambda value: f"{value:.{1 if value >= 10 else 2}f}"
    lines = [f"{where}, torch {machine['torch']}; clips of 16 x 32 x 32; {rounds} round{'s' * (rounds > 1)}",
             "Times are the shortest of all. Times ours: time per clip in units of ours, within a round;",
             "median over the rounds, with quartiles.",
             f"{'':22}{'M':>7}{'forward, 1 clip':>30}{f'forward, {CLIPS} clips':>30}{'training step':>30}",
             f"{'':22}{'params':>7}" + "".join(f"{unit:>10}{'times ours':>20}"
                                             for unit in ("ms", "ms/clip", "clips/s"))]
    for row in result["networks"]:
        seconds, clips = row["seconds"], row["clips"]
        values = [1e3 * seconds["forward"]]
        if "step" in seconds:
            values += [1e3 * seconds["forward_batch"] / clips, clips / seconds["step"]]
        line = f"{row['name']:22}{row['parameters'] / 1e6:7.2f}"
        for value, ratio in zip(values, row["times_ours"].values()):
            low, median, high = map(short, ratio.values())
            line += f"{short(value):>10}" + f"{'' if row['name'] == OURS else f'{median} ({low}-{high})':>20}"
        lines.append(line.rstrip())
    lines += [f"{name}: {clips} clips at once" for name, clips in FEWER_CLIPS.items()]
    lines += ["", "Peak memory of commands, above that of the loaded network (a very small one, untrained)"]
    lines += [f"{name:30}{peak:6} MB" for name, peak in result["memory_mb"].items()]
    return "\n".join(lines + videos_table(result["videos"]) if result["videos"] else lines)


def main():
    quick, device = "--quick" in sys.argv, vd.pick_device()
    path = RESULTS / f"bench_{device.type}.json"
    prepare(device)
    print("measuring ...", flush=True)
    if "--memory" in sys.argv:
        return write(json.loads(path.read_text()) | dict(memory_mb=measure_written()), path)
    if "--videos" in sys.argv:
        return write(json.loads(path.read_text()) | dict(videos=measure_videos(device)), path)
    rows, rounds = measure(NETWORKS, device, 0 if quick else MINUTES)
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else None
    machine = dict(device=device.type, processor=platform.machine(), threads=torch.get_num_threads(),
                   torch=torch.__version__, gpu=gpu)
    result = dict(machine=machine, rounds=rounds, networks=rows, memory_mb={} if quick else measure_written(),
                  videos={} if quick else measure_videos(device))
    if quick:
        print(table(result))
    else:
        write(result, path)


def write(result, path):
    print(table(result))
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".txt").write_text(table(result) + "\n")
    print(f"wrote {path.relative_to(RESULTS.parents[1])} and .txt")


if __name__ == "__main__":
    main()
