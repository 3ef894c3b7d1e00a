"""Bad input, row by row (bad_input.txt): one line that names it, before any work, and no file is left."""

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from safetensors.torch import load_file, save_file

import vdiff_lite as vd
from vdiff_lite import BouncingDigits, NoiseSchedule, TrainConfig, Trainer, VideoUNet, checkpoint, methods
from vdiff_lite.cli import main
from vdiff_lite.diffusion import samplers
from vdiff_lite.evaluation.compare import compare, extend
from vdiff_lite.evaluation.results import append_rows, start_results
from vdiff_lite.training.compute import Compute
from vdiff_lite.viz import ClipWriter, save_clip

TABLE = Path(__file__).with_name("bad_input.txt").read_text().splitlines()
ROWS = [line.rsplit(" => ", 1) for line in TABLE if not line.startswith("#")]
SHORT = {"GIF": "--out x.gif", "CSV": "--out t.csv.gz", "MINE": "--checkpoint mine.safetensors",
         "SET": "train --out x --set", "METHOD": "extend --out x.gif --checkpoint mine.safetensors --method"}
UNET = dict(huge=dict(channels=[32, 3200000]), hugemid=dict(num_middle=10**7), unkkey=dict(colour=3),
            wrongtype=dict(channels="many"), wrongtype2=dict(size="big"), wrongtype3=dict(patch=None),
            wrongtype4=dict(head_channels=0))
CARD = dict(nounet=dict(unet=None), listunet=dict(unet=[1]), noschedule=dict(schedule=None),
            badschedule=dict(schedule=dict(num_timesteps=2)), nosha=dict(sha256=None), numsha=dict(sha256=3),
            badschedule2=dict(schedule=dict(num_timesteps="a")), badschedule3=dict(schedule=dict(shape=3)),
            bigschedule=dict(schedule=dict(num_timesteps=10**12)), baddata3=dict(data=3),
            baddata=dict(data="BouncingDigits(size=(16, 16), digit_size=open('left', 'w'))"),
            baddata2=dict(data="BouncingDigits(num_digits="), baddata4=dict(data="BouncingDigits(colour=3)"))
RECIPES = dict(
    steps="[[stages]]\nsteps = 'x'", stages="stages = 3", data="data = 3", sched="schedule = []",
    stagelist="stages = [3]", empty="stages = []", net="network = 3", sf="start_from = 3",
    digits="[data]\nnum_digits = 'x'", shift="[schedule]\nshift = 'x'",
    zero="[schedule]\nzero_terminal_snr = 3", big="[[stages]]\nbatch = 100000000000000000000000",
    float="[[stages]]\nsteps = 3.5", nan="[[stages]]\nlr = nan",
    speed="[data]\nspeed = 3", speed2="[data]\nspeed = [1]", speed3="[data]\nspeed = ['a', 'b']",
    ds="[data]\ndigit_size = 99", nd="[data]\nnum_digits = 0", mix="[[stages]]\nnoise_mix = ['a', 1, 1, 1]",
    beta="[[stages]]\nbetas = [2, 3]", beta3="[[stages]]\nbetas = [0.9]")


def write_checkpoints():
    torch.manual_seed(0)
    net = VideoUNet(SMALL)
    checkpoint.save("mine", net, NoiseSchedule(), data=str(BouncingDigits(size=16, digit_size=6)))
    card, tensors = json.loads(Path("mine.json").read_text()), load_file("mine.safetensors")
    cards = {name: card | dict(unet=card["unet"] | changed) for name, changed in UNET.items()}
    cards |= {name: card | changed for name, changed in CARD.items()}
    without = lambda key: {k: v for k, v in card.items() if k != key}
    cards |= {f"no_{key}": without(key) for key in ("unet", "schedule", "sha256")}
    cards["missing"] = card | dict(unet={k: v for k, v in card["unet"].items() if k != "channels"})
    for name in [*cards, "short"]:
        shutil.copy("mine.safetensors", f"{name}.safetensors")
    for name, change in dict(nan=lambda x: x * float("nan"), int8=lambda x: x.to(torch.int8)).items():
        save_file({key: change(x) for key, x in tensors.items()}, f"{name}.safetensors")
        cards[name] = card | dict(sha256=checkpoint.sha256(f"{name}.safetensors"))
    for name, changed in (cards | dict(short=card)).items():
        Path(f"{name}.json").write_text(json.dumps(changed))
    Path("short.safetensors").write_bytes(Path("mine.safetensors").read_bytes()[:1000])


def write_tables():
    start_results("good.csv.gz", dict(frames=3, window=5, overlap=2, sampler="ddim", steps=2, split="test"))
    append_rows("good.csv.gz", [("copy_last", "", 0, 0, None, "done", 3.0)])
    text = gzip.decompress(Path("good.csv.gz").read_bytes())
    packed = dict(bom=b"\xef\xbb\xbf" + text, semi=text.replace(b",", b";"), half=text[:-5],
                  nohead=b"a,b\n1,2\n", binin=bytes(range(256)),
                  badhead=b"# a\n" + text, badjson=b"# a: {\n" + text,
                  words=text.replace(b"3\n", b"three\n"), headonly=b"# frames: 3\n")
    plain = dict(plain=text, binary=bytes(range(256)), empty=b"")
    for name, content in (plain | {name: gzip.compress(x) for name, x in packed.items()}).items():
        Path(f"{name}.csv.gz").write_bytes(content)
    Image.new("RGB", (8, 8)).save("p.png")
    shutil.copy("p.png", "picture.csv.gz")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder full of damaged things, in which no work is done: no sampler steps, no training steps."""
    monkeypatch.chdir(tmp_path)
    write_checkpoints()
    write_tables()
    for folder in ("adir", "empty", "vids", "d.gif"):
        Path(folder).mkdir()
    Path("afile").write_text("x")
    Path("vids/a.mp4").write_text("no video")
    Path("bin.toml").write_bytes(bytes(range(256)))
    Path("own.py").write_text("number = 3\ndef broken(size, channels, split):\n    return size / 0\n")
    Path("syntax.py").write_text("def (:\n")
    save_clip(torch.zeros(1, 10, 16, 16), "good.gif", enlarge=1)
    np.save("pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save("shape.npy", np.zeros((3, 3)))
    for name, text in RECIPES.items():
        Path(f"t_{name}.toml").write_text(text)

    kept, load = checkpoint.load("mine.safetensors"), checkpoint.load  # built once: the table is quicker
    monkeypatch.setattr(checkpoint, "load", lambda name, device="cpu": kept if name == "mine.safetensors"
                        else load(name, device))

    def work(*_, **__):
        raise AssertionError("work began")

    monkeypatch.setattr(samplers, "Step", work)
    monkeypatch.setattr(Trainer, "train_step", work)
    monkeypatch.setattr(torch.onnx, "export", work)
    return tmp_path


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def answer(row, capsys):
    """What a command line is answered with: its status and what stands in stderr, or how it failed."""
    argv = shlex.split(re.sub(r"^(SET|METHOD)|\b(GIF|CSV|MINE)\b", lambda m: SHORT[m.group()], row))
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:
        return "TRACEBACK", f"{type(error).__name__}: {error}"
    return status, capsys.readouterr().err


def test_every_bad_command_line_is_answered_with_one_line_before_any_work(here, capsys):
    assert len(ROWS) >= 400 and len({row for row, _ in ROWS}) == len(ROWS)
    before, wrong = files_in(here), {}
    for row, says in ROWS:
        status, said = answer(row, capsys)
        lines = [line for line in said.splitlines() if line.strip()]
        if status != 2 or len(lines) != 1 or says not in lines[0] or files_in(here) != before:
            wrong[row] = status, said[-300:], sorted(map(str, set(files_in(here)) - set(before)))
    assert wrong == {}


@pytest.mark.parametrize("row", ["sample GIF MINE --clips many", "sample MINE",
                                 "sample GIF MINE --sampler euler", "extend GIF MINE --truth 3",
                                 "compare CSV --methods copy_last --split valid",
                                 "train", "train --out x --precision float16", "results", "doctor 3"])
def test_what_the_parser_refuses_leaves_no_file_either(row, here, capsys):
    before = files_in(here)
    status, said = answer(row, capsys)
    assert status == 2 and said.strip() and "Traceback" not in said and files_in(here) == before


def calls(d, past):
    """API calls, each with what its error names."""
    go_on = lambda past=past, **options: list(vd.rollout(d, past, **(dict(num_frames=2) | options)))
    data, method = BouncingDigits(size=16, digit_size=6), methods.METHODS
    return [
        (lambda: go_on(past.double()), "past is torch.float64"),
        (lambda: go_on((127.5 * past + 127.5).byte()), "past is torch.uint8"),
        (lambda: go_on(127.5 * past + 127.5), "past runs from 0 to "),
        (lambda: go_on(past * float("nan")), "past runs from nan to nan"),
        (lambda: go_on(past.numpy()), "past is float32"),
        (lambda: go_on(past[0]), "past has shape (1, 5, 16, 16)"),
        (lambda: go_on(past[..., 1:]), "past has shape (2, 1, 5, 16, 15)"),
        (lambda: go_on(past[:0]), "past has shape (0, 1, 5, 16, 16)"),
        (lambda: go_on(past[:, :, :3]), "past has 3 frames; overlap=5"),
        (lambda: go_on(num_frames=2.5), "num_frames=2.5"),
        (lambda: go_on(num_frames=-1), "num_frames=-1"),
        (lambda: go_on(window="16"), "window='16'"),
        (lambda: go_on(window=2**30), "frames at once take about"),
        (lambda: go_on(start=0), "start=0"),
        (lambda: go_on(overlap=True), "overlap=True"),
        (lambda: vd.sample(d, clips=1.5), "clips=1.5"),
        (lambda: vd.sample(d, num_frames="3"), "num_frames='3'"),
        (lambda: vd.sample(d, steps=0), "steps=0"),
        (lambda: vd.sample(d, steps=[5, 7, 0]), "steps=[5, 7, 0]"),
        (lambda: vd.sample(d, clips=10**9), "frames at once take about"),
        (lambda: vd.sample(d, eta="much"), "eta='much'"),
        (lambda: vd.generate(d, num_frames=None), "num_frames=None"),
        (lambda: vd.generate(d, first=16), "first=16"),
        (lambda: extend(d, "copy_last", past, 2.5), "frames=2.5"),
        (lambda: extend(d, "copy_last", past, 2, seed=-1), "seed=-1"),
        (lambda: extend(d, "copy_last", past, 2, seed=[1, "a"]), "seed='a'"),
        (lambda: extend(d, "copy_last", past, 2, sampler="euler"), "sampler='euler'"),
        (lambda: compare(d, "x.csv.gz", []), "methods=[]"),
        (lambda: compare(d, "x.csv.gz", "copy_last"), "methods='copy_last'"),
        (lambda: compare(d, "x.csv.gz", ["copy_last"], split="all"), "split='all'"),
        (lambda: compare(d, "x.csv.gz", ["copy_last"], first_clip=-1), "first_clip=-1"),
        (lambda: method["history_guidance"](d, past, weight=10**400), "weight=1000"),
        (lambda: method["history_guidance"](d, past, weight=None), "weight=None"),
        (lambda: method["temporal_history_guidance"](d, past, weights=[1]), "weights=[1]"),
        (lambda: method["temporal_history_guidance"](d, past, weights={2.5: 1}), "2.5"),
        (lambda: method["replacement"](d, past, fresh="yes"), "fresh='yes'"),
        (lambda: method["reconstruction"](d, past, norm=[1]), "norm=[1]"),
        (lambda: method["injection"](d, past, blend="all"), "blend='all'"),
        (lambda: method["anchored_history"](d, past, past, distance=0.5), "distance=0.5"),
        (lambda: NoiseSchedule("1000"), "num_timesteps='1000'"),
        (lambda: NoiseSchedule(shift=float("inf")), "shift=inf"),
        (lambda: vd.Denoiser(d.net, NoiseSchedule(500)), "num_timesteps=500"),
        (lambda: vd.VideoUNetConfig(channels=(32, 0)), "channels[1]=0"),
        (lambda: vd.VideoUNetConfig(size=(16, 16.5)), "size[1]=16.5"),
        (lambda: BouncingDigits(size="32"), "height='32'"),
        (lambda: BouncingDigits(speed=None), "speed=None"),
        (lambda: TrainConfig(seed=1.5), "seed=1.5"),
        (lambda: Compute(accumulate=0), "accumulate=0"),
        (lambda: Trainer(d.net, NoiseSchedule(), BouncingDigits(size=32)), "data has shape"),
        (lambda: Trainer(d.net, NoiseSchedule(), data, TrainConfig(batch=10**8)), "frames at once take"),
        (lambda: list(Trainer(d.net, NoiseSchedule(), data).run(save_every=-1)), "save_every=-1"),
        (lambda: vd.load(""), "no checkpoint at"),
        (lambda: save_clip(past[0], "x.gif", fps="8"), "fps='8'"),
        (lambda: save_clip(past[0], "x.gif", enlarge=0), "enlarge=0"),
        (lambda: save_clip(past[0], "x.mp4", fps=float("inf")), "fps=inf"),
        (lambda: save_clip(past, "x.gif"), "first frame of shape (1, 5, 16, 16)"),
        (lambda: save_clip([3], "x.gif"), "first frame of shape ()"),
        (lambda: save_clip([], "x.gif"), "clip has no frames"),
        (lambda: ClipWriter("x.gif", (1, 8, 8), 0), "clips=0"),
        (lambda: ClipWriter("x.gif", (1, 8, 8), frames=2.5), "frames=2.5"),
        (lambda: vd.generate(d, num_frames=0), "num_frames=0"),
        (lambda: vd.generate(d, overlap=16), "overlap=16"),
        (lambda: vd.pick_device("cpu:1"), "'cpu:1'"),
    ]


def test_every_bad_call_raises_an_error_that_names_it(here):
    d = vd.load("mine.safetensors")
    past = BouncingDigits(size=16, digit_size=6, num_frames=5).sample(2).video
    before, wrong = files_in(here), []
    for number, (call, says) in enumerate(calls(d, past)):
        try:
            call()
            wrong.append((number, says, "nothing was raised"))
        except Exception as error:
            if not isinstance(error, ValueError) or says not in str(error):
                wrong.append((number, says, repr(error)))
    assert wrong == [] and files_in(here) == before


def test_a_past_without_dark_pixels_is_warned_about(here):
    past = torch.rand(1, 1, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="give 2 \\* past - 1"):
        vd.rollout(vd.load("mine.safetensors"), past)
