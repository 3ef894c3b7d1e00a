"""Several processes by accelerate: two of them on the CPU have the losses of one, its weights and tables."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vdiff_lite import checkpoint
from vdiff_lite.evaluation.results import read_results

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """
[data]
digit_size = 12
[[stages]]
steps = 4
batch = 4
frames = 2
short_steps = 0
warmup = 1
decay = 2
"""


def call(folder, *command):
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    run = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def train(folder, launcher, *options, steps=4):
    (folder / "small.toml").write_text(RECIPE)
    said = call(folder, *launcher, "train", "--recipe", str(folder / "small.toml"), "--out",
                str(folder / "made"), "--samples-every", "0", *options)
    with open(folder / "made.log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return said, rows, checkpoint.load(folder / "made")


ONE = [sys.executable, "-m", "vdiff_lite"]
# On a CPU, `accelerate launch --cpu --num_processes 2` starts one process in silence; torchrun starts two.
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
       "vdiff_lite"]


def test_two_processes_have_the_losses_and_weights_of_one(tmp_path):
    pytest.importorskip("accelerate")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    said_one, one, alone = train(tmp_path / "one", ONE)
    said_two, two, shared = train(tmp_path / "two", TWO, "--accumulate", "2")
    assert "1 x cpu" in said_one and "2 x cpu" in said_two
    assert said_two.count("stage 1 of 1") == 1  # one process speaks
    assert [row["step"] for row in one] == [row["step"] for row in two] == ["4"]
    assert float(two[0]["loss"]) == pytest.approx(float(one[0]["loss"]), rel=1e-4)
    curve = lambda denoiser: torch.tensor(denoiser.card["loss_curve"])
    torch.testing.assert_close(curve(shared), curve(alone), rtol=1e-4, atol=1e-5)
    levels = [f"loss_level_{n}" for n in range(1, 6)]
    assert [float(two[0][n] or 0) for n in levels] == pytest.approx([float(one[0][n] or 0) for n in levels],
                                                                     rel=1e-3)
    for a, b in zip(alone.net.parameters(), shared.net.parameters()):
        torch.testing.assert_close(a, b, rtol=0.02, atol=1e-3)  # as stored, in bfloat16


def test_two_processes_make_the_table_of_one(tmp_path):
    pytest.importorskip("accelerate")
    settings = ["compare", "--methods", "copy_last", "history_guidance", "--clips", "17", "--frames", "3",
                "--window", "6", "--overlap", "3", "--steps", "2"]
    said = {}
    for name, launcher in dict(one=ONE, two=TWO).items():
        said[name] = call(tmp_path, *launcher, *settings, "--out", f"{name}.csv.gz")
    assert said["two"].count("history_guidance") == said["one"].count("history_guidance")  # one speaks
    one, two = (read_results(tmp_path / f"{name}.csv.gz") for name in said)
    keys = ["name", "seed", "clip", "frame", "metric"]
    scores = [table[table.metric != "seconds"].set_index(keys).value.sort_index() for table in (one, two)]
    assert len(one) == len(two) and scores[0].index.equals(scores[1].index)
    assert (scores[0] - scores[1]).abs().max() < 1e-4


def test_a_tracker_gets_the_numbers_of_the_log(tmp_path):
    pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, rows, _ = train(tmp_path, ONE, "--log", "tensorboard")
    events = EventAccumulator(str(next(tmp_path.rglob("events.out*")).parent)).Reload()
    last = events.Scalars("loss")[-1]
    assert last.step == 4 and last.value == pytest.approx(float(rows[-1]["loss"]), rel=1e-4)
