"""How fast? Measured in one run, so that the ratios hold on a noisy machine.

Writes data/results/bench_cpu.json (or bench_cuda.json).

    python tests/bench.py [--quick]
"""

import contextlib
import json
import multiprocessing
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import vdiff_lite as vd
from vdiff_lite.device import peak_memory
from vdiff_lite.diffusion.losses import v_loss
from vdiff_lite.methods import history_guidance, reconstruction

sys.path.append(str(Path(__file__).parent / "book"))
from opened import CHROMIUM, DRIVER, SITE, browsing, serving

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"
QUICK = "--quick" in sys.argv
# diffusers has no preset of this size: three layouts, each within 5% of our parameters. The first two are as
# wide as ours at the finest level.
PEERS = ((32, 80), (32, 48, 64), (24, 48, 72))
BATCH, PEER_BATCH = 16, 2  # clips per training step; 2 is about the quickest per clip for every peer
RECIPE_BATCH = 8  # in `make train`


def shortest_time(call, device, seconds=6.0):
    """Shortest of the times of one call, called for `seconds`: other work on the machine only ever adds."""
    times, wait = [], torch.cuda.synchronize if device.type == "cuda" else lambda: None
    while len(times) < 3 or (sum(times) < (seconds / 6 if QUICK else seconds) and len(times) < 200):
        started = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - started)
    return min(times[1:])


class InOwnProcess:
    """Times the calls that `make(*args)` returns, in a process of their own.

    Beside others in one process, a forward pass took up to a third longer.

    prepared: whether the process begins with `vd.prepare_cpu`, as ours do. Other code does not, so a peer is
    timed both ways.
    """

    def __init__(self, make, *args, prepared=True):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, child_end = spawn.Pipe()
        spawn.Process(target=_timed, args=(child_end, make, args, prepared), daemon=True).start()

    def timers(self, number):
        """One timer per call: the shortest time of that call within so many seconds."""
        return [lambda seconds, i=i: self._time(i, seconds) for i in range(number)]

    def _time(self, i, seconds):
        self.pipe.send((i, seconds))
        return self.pipe.recv()


def _timed(pipe, make, args, prepared):
    if prepared:
        vd.prepare_cpu()
    torch.manual_seed(0)
    calls, device = make(*args), args[-1]
    with contextlib.suppress(EOFError):  # the parent has closed its end
        while True:
            i, seconds = pipe.recv()
            pipe.send(shortest_time(calls[i], device, seconds))


def time_in_rounds(timers, turn, minutes):
    """Shortest time per timer and round, each timer in its turn: slow spells of the machine meet all alike.

    turn: seconds, enough for a few calls of the slowest, so that all are timed for as long.
    """
    for timer in timers:
        timer(0.0)  # ready, and compiled
    started, rounds = time.perf_counter(), []
    while not rounds or time.perf_counter() - started < (15 if QUICK else 60 * minutes):
        rounds.append([timer(turn) for timer in timers])
    return rounds


LARGE = ((64, 32, 32), (128, 16, 64), (256, 16, 32))  # channels, side in pixels, images of a 3x3 convolution


def large_convolutions(device):
    """3x3 convolutions. The fastest is the peak of the machine, see `convolution_peak`."""
    last, calls = dict(memory_format=torch.channels_last), []
    for channels, side, images in LARGE:
        x = torch.randn(images, channels, side, side, device=device).contiguous(**last)
        w = torch.randn(channels, channels, 3, 3, device=device).contiguous(**last)
        calls.append(lambda x=x, w=w: F.conv2d(x, w, padding=1))
    return calls


def convolution_peak(times):
    """The convolution peak of a round, in billions of multiplications and additions per second."""
    return max(2 * 9 * channels**2 * side**2 * images / seconds / 1e9
               for (channels, side, images), seconds in zip(LARGE, times))


def gflop_per_forward(net, device):
    """Billions of multiplications and additions of a forward pass of one clip."""
    # torch's counter does not know the CPU's kernel of attention.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    known = {attention: lambda q, k, v, *args, out_shape=None, **more: sdpa_flop_count(q, k, v)}
    with FlopCounterMode(display=False, custom_mapping=known) as counter, torch.no_grad():
        net(torch.zeros(1, 1, 16, 32, 32, device=device), torch.full((1,), 500, device=device))
    return counter.get_total_flops() / 1e9


def peer(widths, device):
    """diffusers' space-time UNet of these widths, one for each level, on the same clips."""
    from diffusers import UNet3DConditionModel

    torch.manual_seed(0)
    above = len(widths) - 1
    net = UNet3DConditionModel(
        sample_size=32, in_channels=1, out_channels=1, block_out_channels=widths, layers_per_block=1,
        norm_num_groups=8, cross_attention_dim=32, attention_head_dim=16,
        down_block_types=("CrossAttnDownBlock3D",) * above + ("DownBlock3D",),
        up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * above).to(device)
    text = torch.zeros(1, 1, 32, device=device)
    return net, lambda x, t: net(x, t if t.ndim == 1 else t[:, 0], text.expand(x.shape[0], -1, -1)).sample


def timed_calls(net, call, device, batch):
    """The calls to time: a forward pass of one clip, and the gradient of a training step of `batch` clips."""
    x, t = torch.randn(1, 1, 16, 32, 32, device=device), torch.full((1,), 500, device=device)
    xs = torch.randn(batch, 1, 16, 32, 32, device=device)
    levels = torch.full((batch, 16), 500, device=device)
    schedule, parameters = vd.NoiseSchedule(), [p for p in net.parameters() if p.requires_grad]

    def forward():
        with torch.no_grad():
            call(x, t)

    def step():
        torch.autograd.grad(v_loss(call, schedule, xs, levels, xs), parameters, allow_unused=True)

    return forward, step


def tiny_calls(device):
    net = vd.VideoUNet().to(device)
    timed = [timed_calls(net, net, device, batch) for batch in (BATCH, RECIPE_BATCH)]
    return *timed[0], timed[1][1]


def peer_calls(widths, device):
    return timed_calls(*peer(widths, device), device, PEER_BATCH)


def compiled_calls(device):
    fast = vd.compiled(vd.Denoiser(vd.VideoUNet().eval().requires_grad_(False), vd.NoiseSchedule()))
    return timed_calls(fast, fast, device, 1)[:1]


def rollout_memory(frames):
    """Peak MB of a rollout of so many frames. One step and a small network: only the frames could pile up."""
    return peak_memory(f"""
net = vd.VideoUNet(vd.VideoUNetConfig(channels=(32, 32), num_middle=1)).eval().requires_grad_(False)
denoiser, past = vd.Denoiser(net, vd.NoiseSchedule()), torch.zeros(1, 1, 5, 32, 32)
for frame in vd.rollout(denoiser, past, {frames}, sampler=partial(vd.ddim, steps=1)):
    pass""")


def base_memory(batch):
    """Peak MB of training steps of the preset for a GPU (64x64 frames) with its optimizer."""
    return peak_memory(f"""
recipe = vd.TrainConfig(steps=2, batch={batch}, short_steps=0, warmup=1, decay=1, frame_stride=(1,))
net = vd.VideoUNet(vd.VideoUNetConfig.preset("base"))
for progress in vd.Trainer(net, vd.NoiseSchedule(), vd.BouncingDigits(size=64), recipe).run(bar=False):
    pass""")


def slider_seconds(denoiser):
    """From slider to clip: a window of 16 frames, 5 of them past, in as many steps as in the chapters."""
    past, xt = (torch.randn(1, 1, f, 32, 32, device=denoiser.device) for f in (5, 16))
    seconds = {}
    for name, method, steps in (("guidance w = 1.5", history_guidance(denoiser, past, 1.5), 8),
                                ("reconstruction w = 10", reconstruction(denoiser, past, 10.0), 12)):
        with torch.no_grad():
            call = lambda m=method, n=steps: vd.run_sampler(vd.ddim(m, xt, denoiser.schedule, n))
            seconds[f"{name}, {steps} steps"] = shortest_time(call, denoiser.device, 4.0)
    return seconds


def try_it_seconds(steps=10):
    """In the built page, on one thread: from load to ready, and a window.

    Empty without a browser or the page.
    """
    if not (CHROMIUM and DRIVER and (SITE / "_static" / "runtime").exists()):
        return {}
    ready, window = zip(*(_open_try_it(steps) for _ in range(3)))  # each in a fresh browser
    return {"until ready": min(ready) / 1e3, f"a window, {steps} steps, w = 1.5": min(window) / 1e3}


def _open_try_it(steps):
    with serving() as address, tempfile.TemporaryDirectory() as profile, browsing(profile) as browser:
        browser.set_script_timeout(300)
        browser.get(address + "try_it.html")
        ready = browser.execute_async_script("""const done = arguments[0], look = () =>
            document.getElementById('tryit').dataset.ready ? done(performance.now()) : setTimeout(look, 10);
            look();""")
        window = browser.execute_async_script("""const [steps, done] = arguments, began = performance.now();
            const noise = new Float32Array(16 * 32 * 32).map(() => 2 * Math.random() - 1);
            const past = noise.slice(0, 5 * 32 * 32);
            const choice = { noise, past, steps, name: 'history', weight: 1.5 };
            tryIt.ask(choice).then(() => done(performance.now() - began));""", steps)
    return ready, window


def main():
    device = vd.pick_device()
    vd.prepare_cpu()
    torch.manual_seed(0)
    net = vd.VideoUNet().to(device)
    print("measuring: convolution peak, our network, its peers, samplers ...", flush=True)
    gflop = gflop_per_forward(net, device)
    large = InOwnProcess(large_convolutions, device).timers(len(LARGE))
    compiled = InOwnProcess(compiled_calls, device).timers(1) if device.type == "cpu" else []
    *ours, recipe = InOwnProcess(tiny_calls, device).timers(3)
    networks = [ours, *(InOwnProcess(peer_calls, widths, device, prepared=prepared).timers(2)
                        for prepared in (False, True) for widths in PEERS)]
    turns = [time_in_rounds([*large, *timers], turn, minutes) for timers, turn, minutes in (
        ([*(forward for forward, _ in networks), *compiled], 1.0, 2),
        ([*(step for _, step in networks), recipe], 6.0, 6))]
    turns = [[(convolution_peak(times), times[len(LARGE):]) for times in rounds] for rounds in turns]
    peaks = [peak for rounds in turns for peak, _ in rounds]
    forwards, steps = ([min(times) for times in zip(*(times for _, times in rounds))] for rounds in turns)
    # Compared within a round: the clock of the machine changed by a fifth from one minute to the next.
    time_ratio = lambda rounds, i: median(times[i] / times[0] for _, times in rounds)
    fraction = lambda rounds, i, gflop: median(gflop / times[i] / peak for peak, times in rounds)
    nets = net, *(peer(widths, device)[0] for widths in PEERS)
    batches = (BATCH, *[PEER_BATCH] * len(PEERS))
    tiny, *peers = (dict(parameters=sum(p.numel() for p in each.parameters()), forward_ms=forward * 1e3,
                         train_clips_per_second=batch / step)
                    for each, batch, forward, step in zip(nets, batches, forwards, steps))
    ratios = lambda i: dict(forward=time_ratio(turns[0], i),
                            train=time_ratio(turns[1], i) * BATCH / PEER_BATCH)
    for i, (widths, each) in enumerate(zip(PEERS, peers), 1):
        each |= dict(name="diffusers.UNet3DConditionModel", widths=widths, ratio=ratios(i),
                     ratio_prepared=ratios(i + len(PEERS)))
    tiny |= dict(gflop_per_forward=gflop, forward_fraction_of_peak=fraction(turns[0], 0, gflop),
                 train_fraction_of_peak=fraction(turns[1], 0, 3 * BATCH * gflop),
                 recipe_clips_per_second=RECIPE_BATCH / steps[-1],
                 recipe_fraction_of_peak=fraction(turns[1], len(networks), 3 * RECIPE_BATCH * gflop))
    for i in range(len(networks), len(forwards)):
        tiny |= dict(compiled_forward_ms=forwards[i] * 1e3,
                     compiled_forward_fraction_of_peak=fraction(turns[0], i, gflop))

    denoiser = vd.Denoiser(net.eval().requires_grad_(False), vd.NoiseSchedule())
    samplers = {}
    for sampler, steps in ((vd.ddim, 25), (vd.dpmpp_2m, 12), (vd.ddpm, 100)):
        seconds = shortest_time(lambda s=sampler, n=steps: vd.sample(denoiser, 4, 16, s, n), device, 2.0)
        samplers[f"{sampler.__name__}, {steps} steps"] = 4 / seconds
    data, generator = vd.BouncingDigits(), torch.Generator().manual_seed(0)
    data_speed = 512 / shortest_time(lambda: data.sample(512, generator), torch.device("cpu"), 3.0)

    linux, gpu = sys.platform == "linux", torch.cuda.get_device_name() if device.type == "cuda" else None
    result = dict(
        machine=dict(device=str(device), processor=platform.machine(), threads=torch.get_num_threads(),
                     torch=torch.__version__, gpu=gpu),
        convolution_peak_gflops=dict(median=median(peaks), best=max(peaks)),
        tiny=tiny, peers=peers,
        samplers_clips_per_second=samplers, slider_seconds=slider_seconds(denoiser),
        try_it_seconds=try_it_seconds(), data_clips_per_second=data_speed,
        rollout_peak_mb={frames: rollout_memory(frames) for frames in (64, 4096) if linux},
        base_train_peak_mb={batch: base_memory(batch) for batch in (1, 4) if linux and not QUICK})
    print(table(result))
    if not QUICK:
        path = RESULTS / f"bench_{device.type}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".txt").write_text(table(result) + "\n")
        print(f"wrote {path.relative_to(RESULTS.parents[1])} and .txt")


def table(r):
    tiny, peers = r["tiny"], r["peers"]
    row = lambda name, *values: f"{name:44}" + "".join(f"{value:>16}" for value in values)
    each = lambda name, key, form, scale=1: row(
        name, *(format(net[key] * scale, form) for net in (tiny, *peers)))
    kinds = (("  times our time", "ratio"), ("  times our time, after prepare_cpu()", "ratio_prepared"))
    ratio = lambda key: [
        row(name, "", *(format(net[kind][key], ".1f") for net in peers)) for name, kind in kinds]
    machine, peak = r["machine"], r["convolution_peak_gflops"]
    rows = [f"{machine['threads']} threads, torch {machine['torch']}; "
            f"convolution peak {peak['median']:.0f} GFLOP/s, at best {peak['best']:.0f}",
            "times are the shortest of all; ratios to a peer or to the peak are medians over rounds",
            f"peers: {peers[0]['name']} of these widths; clips of 16 x 32 x 32, in a training step {BATCH} "
            f"for tiny, {PEER_BATCH} for peers",
            row("", "tiny", *("peer " + "-".join(map(str, net["widths"])) for net in peers)),
            each("parameters (M)", "parameters", ".2f", 1e-6),
            each("forward, one clip (ms)", "forward_ms", ".1f"), *ratio("forward"),
            each("training (clips/s)", "train_clips_per_second", ".2f"), *ratio("train"),
            row("forward, fraction of peak", f"{tiny['forward_fraction_of_peak']:.0%}"),
            row("training, fraction of peak", f"{tiny['train_fraction_of_peak']:.0%}"),
            row(f"training, batch {RECIPE_BATCH} (clips/s)", f"{tiny['recipe_clips_per_second']:.2f}"),
            row("  fraction of peak", f"{tiny['recipe_fraction_of_peak']:.0%}")]
    if "compiled_forward_ms" in tiny:
        rows += [row("forward, one clip, compiled (ms)", f"{tiny['compiled_forward_ms']:.1f}"),
                 row("  fraction of peak", f"{tiny['compiled_forward_fraction_of_peak']:.0%}")]
    rows += [row(f"{name} (clips/s)", f"{value:.2f}")
             for name, value in r["samplers_clips_per_second"].items()]
    rows += [row(f"slider: {name} (s)", f"{value:.2f}") for name, value in r["slider_seconds"].items()]
    rows += [row(f"page Try it: {name} (s)", f"{value:.2f}") for name, value in r["try_it_seconds"].items()]
    rows += [row("new training clips (clips/s)", f"{r['data_clips_per_second']:.0f}")]
    rows += [row(f"rollout of {frames} frames, peak (MB)", f"{value:.0f}")
             for frames, value in r["rollout_peak_mb"].items()]
    rows += [row(f"training base, batch {batch}, peak (MB)", f"{value:.0f}")
             for batch, value in r["base_train_peak_mb"].items()]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
