"""Faults done for real: processes killed while they write, full disks, two runs at once, damaged files."""

import os
import re
import signal
import subprocess
import sys
import time  # noqa: F401 - for the subprocesses, as what else is not used here
from pathlib import Path

import pytest
import torch
from conftest import SMALL

from vdiff_lite import BouncingDigits, Denoiser, NoiseSchedule, TrainConfig, Trainer, VideoUNet, checkpoint
from vdiff_lite.evaluation.compare import compare
from vdiff_lite.evaluation.results import read_results
from vdiff_lite.export import export  # noqa: F401
from vdiff_lite.files import only_writer
from vdiff_lite.training.loop import DivergedError
from vdiff_lite.training.recipe import Recipe
from vdiff_lite.training.run import run_recipe

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of a process are those of POSIX")

# What each subprocess knows: a run of a small network, and a table of a small comparison.
READY = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_faults import *
torch.set_num_threads(1)
out = Path(sys.argv[1])
def limit(size):  # a disk that is full after `size` bytes more of one file
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
"""


def small_run(**changes):
    torch.manual_seed(0)
    config = dict(steps=6, batch=2, frames=4, warmup=2, decay=2, short_steps=0) | changes
    data = BouncingDigits(size=16, digit_size=6, num_frames=4)
    return Trainer(VideoUNet(SMALL), NoiseSchedule(), data, TrainConfig(**config))


def small_table(path, **changes):
    torch.manual_seed(0)
    net = VideoUNet(type(SMALL)(channels=(32, 32), num_middle=1, noise_channels=32)).eval()
    settings = dict(clips=6, frames=3, window=5, overlap=2, steps=1, batch=1, bar=False)
    compare(Denoiser(net.requires_grad_(False), NoiseSchedule()), path, ["copy_last"], **(settings | changes))


def python(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", READY + code, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def said_by(process, status=0):
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, error[-1000:]
    return out + error


@posix
def test_killed_while_saving_a_whole_state_is_there_and_the_run_ends_the_same(tmp_path):
    code = """
run = small_run()
if out.exists():
    run.resume(out)
print("from", run.step, flush=True)
for progress in run.run(save_to=out, save_every=0, bar=False):
    if progress.step == 3 and len(sys.argv) > 2:  # killed in the middle of a file
        import safetensors.torch
        write = checkpoint.save_file
        def torn(tensors, path, metadata):
            write(tensors, path, metadata)
            Path(path).write_bytes(Path(path).read_bytes()[:1000])
            os.kill(os.getpid(), signal.SIGKILL)
        checkpoint.save_file = torn
"""
    cut, straight = tmp_path / "cut.safetensors", tmp_path / "straight.safetensors"
    said_by(python(code, cut, "kill"), -signal.SIGKILL)
    code += """
list(small_run().run(save_to=out.with_name("straight.safetensors"), save_every=0, bar=False))"""
    assert "from 3" in said_by(python(code, cut))
    (one, _), (two, _) = map(checkpoint.read_tensors, (cut, straight))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@posix
def test_a_request_to_end_saves_as_ctrl_c_does(tmp_path):
    state = tmp_path / "state.safetensors"
    process = python("""
try:
    for progress in small_run(steps=100_000).run(save_to=out, bar=False):
        print(progress.step, flush=True)
except KeyboardInterrupt as stop:
    print(stop)""", state)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    step = int(re.search(r"stopped after step (\d+), saved in", said_by(process)).group(1))
    assert small_run(steps=100_000).resume(state).step == step


@posix
@pytest.mark.parametrize("after, calls", [("os.replace", 1), ("gzip.compress", 4)])
def test_compare_killed_while_it_writes_goes_on(tmp_path, after, calls):
    code = f"""
import gzip
real, count = {after}, [0]
def fatal(*a, **k):
    count[0] += 1
    if count[0] == {calls}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*a, **k)
{after} = fatal
for clips in (2, 4, 6, 8):
    small_table(out, clips=clips)
"""
    path = tmp_path / "t.csv.gz"
    said_by(python(code, path), -signal.SIGKILL)
    small_table(path, clips=8)
    table = read_results(path)
    assert (table.metric == "done").sum() == 8 and set(table["clip"].dropna()) == set(range(8))
    assert os.listdir(tmp_path) == ["t.csv.gz"]


@posix
def test_export_killed_while_it_writes_leaves_no_wrong_pair(tmp_path):
    pytest.importorskip("onnxscript")
    code = """
real, count = os.replace, [0]
def fatal(*paths):
    count[0] += 1
    if count[0] == 2:  # model.onnx is there, model.json is not
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*paths)
os.replace = fatal
export(Denoiser(VideoUNet(SMALL).eval(), NoiseSchedule()), out, 4, 2)
"""
    (tmp_path / "model.json").write_text("of an older model.onnx")
    said_by(python(code, tmp_path), -signal.SIGKILL)
    assert "model.onnx" in os.listdir(tmp_path) and "model.json" not in os.listdir(tmp_path)


FULL = {
    "state": "run = small_run(); run.train_step(); limit(200_000); run.save(out)",
    "checkpoint": "limit(50_000); checkpoint.save(out, VideoUNet(SMALL), NoiseSchedule())",
    "table": "limit(300); small_table(out)",
    "export": "d = Denoiser(VideoUNet(SMALL).eval(), NoiseSchedule()); limit(50_000); "
              "export(d, out.parent, 4, 2)",
    "json": "limit(10); checkpoint.write_json(out, dict(text='x' * 100))",
}


@posix
@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_one_error_and_leaves_the_old_file(tmp_path, what):
    if what == "export":
        pytest.importorskip("onnxscript")
    names = {"table": "x.csv.gz", "export": "model.onnx", "json": "x.json"}
    path = tmp_path / names.get(what, "x.safetensors")
    if what == "table":
        small_table(path, clips=2)
    else:
        path.write_text("old")
    before = read_results(path) if what == "table" else None
    said = said_by(python(f"""
try:
    {FULL[what].replace('; ', chr(10) + '    ')}
except OSError as error:
    print("OSError:", error)
""", path))
    assert "OSError: " in said and "Traceback" not in said
    kept = [checkpoint.previous(path).name] if what == "state" else []  # the save before is copied first
    assert [name for name in os.listdir(tmp_path) if name != path.name] == kept
    if what == "table":
        assert read_results(path).equals(before)
        small_table(path)
        assert (read_results(path).metric == "done").sum() == 6
    else:
        assert path.read_text() == "old"


@posix
def test_two_runs_on_one_name_and_a_lock_left_by_a_kill(tmp_path):
    hold = "with only_writer(out):\n    print('held', flush=True)\n    time.sleep(60)"
    out = tmp_path / "mine"
    first = python(hold, out)
    assert first.stdout.readline() == "held\n"
    recipe = Recipe(stages=(TrainConfig(steps=1, batch=1, short_steps=0, decay=1),))
    with pytest.raises(ValueError, match=rf"another run \(process {first.pid}\)"):
        run_recipe(recipe, out)
    first.kill()
    first.communicate()
    assert out.with_name("mine.lock").exists(), "left by the kill"
    with only_writer(out):
        pass
    assert list(tmp_path.iterdir()) == []


def flip(path, place=-5):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_damaged_state_is_noticed_and_the_save_before_it_is_taken(tmp_path):
    state, run = tmp_path / "state.safetensors", small_run()
    for progress in run.run(save_to=state, save_every=0, bar=False):
        if progress.step == 3:
            break
    flip(state)
    with pytest.warns(UserWarning, match=r"is damaged.*going on from the save before, .*state.previous"):
        assert small_run().resume(state).step == 2
    flip(checkpoint.previous(state))
    with pytest.warns(UserWarning), pytest.raises(checkpoint.CheckpointError, match=r"previous.* is damaged"):
        small_run().resume(state)
    state.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(checkpoint.CheckpointError):
        small_run().resume(state)


def test_weights_that_are_not_finite_never_replace_good_ones(tmp_path):
    state, run = tmp_path / "state.safetensors", small_run()
    run.save(state)
    before = state.read_bytes()
    with torch.no_grad():
        run.ema.module.patchify.weight.fill_(float("inf"))
    with pytest.raises(DivergedError, match=r"ema\.patchify\.weight holds numbers that are not finite"):
        run.save(state)
    assert state.read_bytes() == before


def test_names_with_dots_are_names(tmp_path):
    for number, name in enumerate(("lr0.01", "lr0.02")):
        torch.manual_seed(number)
        checkpoint.save(tmp_path / name, VideoUNet(SMALL), NoiseSchedule(), number=number)
    assert [checkpoint.load(tmp_path / f"lr0.0{n}").card["number"] for n in (1, 2)] == [0, 1]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_run_is_not_resumed_with_fewer_steps_or_another_schedule(tmp_path):
    state, run = tmp_path / "state.safetensors", small_run(steps=3)
    for _ in run.run(save_to=state, bar=False):
        pass
    with pytest.raises(checkpoint.CheckpointError, match="has 3 steps behind it, and steps=2 asks for fewer"):
        small_run(steps=2, decay=1).resume(state, anyway=True)
    other = small_run(steps=3)
    other.schedule = NoiseSchedule(shape="linear")
    with pytest.raises(checkpoint.CheckpointError, match=r"schedule: .*cosine.* there, .*linear.* here"):
        other.resume(state)


def test_data_without_a_name_are_told_by_their_type(tmp_path):
    class Mine:
        def with_frames(self, num_frames):
            return self

        def sample(self, batch, generator=None):
            return BouncingDigits(num_frames=4).sample(batch, generator)

    recipe = Recipe(stages=(TrainConfig(steps=1, batch=1, frames=4, short_steps=0, decay=1),))
    for _ in range(2):  # the second time it is the same run
        path = run_recipe(recipe, tmp_path / "mine", Mine())
    assert checkpoint.read_card(path)["data"].endswith("Mine")


def test_a_damaged_checkpoint_of_a_finished_run_is_written_again(tmp_path):
    recipe = Recipe(stages=(TrainConfig(steps=1, batch=1, frames=4, short_steps=0, decay=1),))
    path = run_recipe(recipe, tmp_path / "mine")
    whole = path.read_bytes()
    flip(path)
    assert run_recipe(recipe, tmp_path / "mine") == path and path.read_bytes() == whole


def test_nothing_is_ever_executed_from_a_file():
    forbidden = re.compile(r"(?:import|from) pickle|\bpickle\.\w|(?<![.\w])eval\(|(?<![.\w])exec\(|"
                           r"torch\.load\(|allow_pickle=True|yaml\.load\(|joblib")
    root, here = Path(__file__).parents[1], Path(__file__).name
    files = [path for folder in ("vdiff_lite", "book", "notebooks", "tests") for path in
             (root / folder).rglob("*.py") if "_build" not in path.parts and path.name != here]
    found = {path.name: forbidden.findall(path.read_text(encoding="utf-8")) for path in files}
    found = {name: words for name, words in found.items() if words}
    assert found == {"test_bad_input.py": ["allow_pickle=True"],  # files that must be refused
                     "test_checkpoint.py": ["import pickle", "pickle.d"],
                     "test_repository.py": ["exec(", "exec("]}  # a cell of a notebook of ours
