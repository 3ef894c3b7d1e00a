import json
import shlex
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from vdiff_lite import checkpoint, cli
from vdiff_lite.cli import main
from vdiff_lite.data.video_files import read_frames
from vdiff_lite.viz.players import find_ffmpeg

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("command", [[], ["train"], ["sample"], ["evaluate"], ["neighbours"], ["doctor"], ["extend"], ["compare"]])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command + ["--help"])
    assert stop.value.code == 0
    assert "example:\n  vdiff " in capsys.readouterr().out


def test_sample_writes_a_gif(tmp_path, capsys):
    out = tmp_path / "clip.gif"
    assert main(["sample", "--out", str(out), "--clips", "2", "--frames", "4", "--steps", "2"]) == 0
    assert Image.open(out).size == ((32 * 2 + 1) * 4, 32 * 4)
    assert "2 clips of 4 frames" in capsys.readouterr().out


def test_sample_writes_an_mp4(tmp_path):
    if not find_ffmpeg():
        pytest.skip("no ffmpeg")
    out = tmp_path / "clip.mp4"
    assert main(["sample", "--out", str(out), "--clips", "1", "--frames", "4", "--steps", "2", "--sampler", "dpmpp_2m"]) == 0
    assert read_frames(out).shape == (4, 128, 128, 3)


def test_same_seed_same_file(tmp_path):
    for name in "ab":
        main(["sample", "--out", str(tmp_path / f"{name}.gif"), "--clips", "1", "--frames", "2", "--steps", "2", "--seed", "3"])
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_train_writes_a_checkpoint_that_samples(tmp_path, capsys):
    out = tmp_path / "mine"
    command = ["train", "--out", str(out), "--steps", "2", "--short-steps", "1", "--decay", "1", "--batch", "1", "--samples-every", "2"]
    assert main(command) == 0
    assert checkpoint.load(out).card["steps"] == 2 and len(checkpoint.load(out).card["loss_curve"]) == 2
    assert (tmp_path / "mine.samples" / "000002.gif").exists()
    assert main(command) == 0
    assert "going on from step 2" in capsys.readouterr().out
    assert main(["sample", "--checkpoint", str(out), "--out", str(tmp_path / "x.gif"), "--clips", "1", "--frames", "2", "--steps", "1"]) == 0


def test_train_stops_at_ctrl_c_and_goes_on(tmp_path, capsys, monkeypatch):
    command = ["train", "--out", str(tmp_path / "mine"), "--steps", "3", "--short-steps", "1", "--decay", "1", "--batch", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(cli, "_draw_samples", lambda *_: signal.raise_signal(signal.SIGINT))  # while step 2 is looked at
        assert main([*command, "--samples-every", "2"]) == 130
    assert f"vdiff train: stopped after step 2, saved in {tmp_path / 'mine.state.safetensors'};" in capsys.readouterr().err
    assert main(command) == 0
    assert "going on from step 2" in capsys.readouterr().out


def test_a_second_stage_keeps_the_first_in_its_card(tmp_path):
    train = lambda out, *more: main(["train", "--out", str(tmp_path / out), "--steps", "1", "--short-steps", "0", "--batch", "1", *more])
    assert train("first") == 0
    assert train("second", "--start-from", str(tmp_path / "first"), "--seed", "1", "--set", "mix=1,0,0,0", "time_lapse=1,") == 0
    first, second = (checkpoint.load(tmp_path / name).card for name in ("first", "second"))
    assert checkpoint.stages(first) == [{key: first[key] for key in ("recipe", "steps", "data", "loss_curve", "sha256")}]
    assert checkpoint.stages(second)[:1] == checkpoint.stages(first) and len(checkpoint.stages(second)) == 2
    assert second["recipe"]["mix"] == [1, 0, 0, 0] and second["recipe"]["seed"] == 1


def test_a_run_can_begin_and_end_with_foresight(tmp_path):
    out = tmp_path / "mine"
    short = ["--steps", "1", "--short-steps", "0", "--batch", "1"]
    assert main(["train", "--out", str(out), *short, "--set", "foresight=2", "foresight_after=1,1"]) == 0
    assert checkpoint.load(out).net.decoder[0].temporal.foresee.taught
    assert checkpoint.load(out).card["recipe"]["foresight"] == 2


def test_make_train_runs_the_recipes_of_the_shipped_cards():
    said = subprocess.run(["make", "-n", "train", "beginner"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in said.splitlines() if "vdiff train" in line]
    recipes = [json.loads(json.dumps(asdict(cli._recipe(cli._parser().parse_args(command))))) for command in commands]
    shipped = [stage["recipe"] for stage in checkpoint.stages(checkpoint.read_card("digits32_begin"))]  # those of digits32 come before
    newer = dict(self_rollout_steps=0, image_every=0, foresight=0, foresight_after=[])  # settings that came after the card
    assert recipes == [newer | recipe for recipe in shipped]


@pytest.mark.parametrize("setting, says", [("speed=3", "--set speed: TrainConfig has"), ("mix", "'mix' is no setting"),
                                           ("time_lapse=2", "--set time_lapse=2"), ("mix=1,2", "mix=(1, 2)")])
def test_train_names_a_setting_that_does_not_fit(tmp_path, capsys, setting, says):
    assert main(["train", "--out", str(tmp_path / "x"), "--steps", "1", "--set", setting]) == 2
    assert says in capsys.readouterr().err


def test_train_on_a_folder_of_videos(tmp_path):
    from vdiff_lite import BouncingDigits
    from vdiff_lite.viz.players import save_clip

    save_clip(BouncingDigits().sample(1).video[0], tmp_path / "a.gif", enlarge=1)
    out = tmp_path / "mine"
    assert main(["train", "--out", str(out), "--steps", "1", "--batch", "1", "--videos", str(tmp_path)]) == 0


@pytest.mark.parametrize("method, says", [("history_guidance", "no fault in 11 new frames"), ("copy_last", "first fault: motion, at new frame ")])
def test_extend_says_what_failed_first(tmp_path, capsys, method, says):
    assert main(["extend", "--method", method, "--frames", "11", "--steps", "6", "--out", str(tmp_path / "x.gif")]) == 0
    said = capsys.readouterr().out
    assert says in said and "identity 1.00" in said and (tmp_path / "x.gif").stat().st_size > 1000


@pytest.mark.parametrize("command, says", [
    (["sample", "--out", "x.avi", "--clips", "1", "--frames", "1", "--steps", "1"], "unknown ending"),
    (["sample", "--out", "x.gif", "--checkpoint", "nothing"], "no checkpoint at"),
    (["sample", "--out", "x.gif", "--steps", "0"], "steps=0"),
    (["sample", "--out", "x.gif", "--clips", "0"], "clips=0"),
    (["sample", "--out", "x.gif", "--eta", "nan"], "eta=nan"),
    (["sample", "--out", "no/x.gif"], "there is no folder no"),
    (["sample", "--out", "x.gif", "--device", "abacus"], "device 'abacus' is not available here; choose from"),
    (["evaluate", "--clips", "0"], "batch=0"),
    (["extend", "--out", "x.avi"], "unknown ending"),
    (["extend", "--out", "x.gif", "--frames", "0"], "frames=0"),
    (["extend", "--out", "x.gif", "--window", "1"], "overlap=5 does not fit a window of 1"),
    (["extend", "--out", "x.gif", "--method", "history_guidance:weight=nan"], "weight=nan"),
    (["extend", "--out", "x.gif", "--method", "history_guidance:weight=big"], "weight='big' must be a number"),
    (["extend", "--out", "x.gif", "--method", "injection:sites=encoder.9,prepend=False"], "encoder.9"),
    (["extend", "--out", "x.gif", "--method", "reconstruction:weight=100000", "--steps", "25"], "at t=960 with weight=100000"),
    (["compare", "--out", "x.csv", "--methods", "history_guidance", "history_guidance:weight=nan"], "weight=nan"),
    (["compare", "--out", "x.csv", "--methods", "history_guidance", "--seeds", "0"], "seeds=0"),
    (["compare", "--out", "x.csv", "--methods", "history_guidance", "--overlap", "-1"], "overlap=-1"),
    (["export", "--out", "x", "--overlap", "16"], "overlap=16"),
    (["train", "--out", "x", "--videos", "nowhere"], "nowhere is not a folder"),
    (["train", "--out", "x", "--preset", "base", "--start-from", "digits32"], "--start-from digits32: its network is"),
    (["neighbours", "--clips", "0"], "batch=0"),
    (["train", "--out", "x", "--preset", "huge"], "preset 'huge'")])
def test_errors_are_one_line(command, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert [says in line for line in error.splitlines() if line and "frame/s" not in line] == [True]  # but for a progress bar
    assert not list(tmp_path.iterdir())


def test_doctor_finds_the_checkpoints(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "checkpoint digits32" in out and "sha256 ok" in out


def test_evaluate_prints_a_table(tmp_path, capsys):
    command = ["evaluate", "--clips", "2", "--steps", "2", "--out", str(tmp_path / "x.json")]
    tables, results = [], []
    for more in ([], ["--begin", "digits32"]):  # with the network for beginnings, and by itself
        assert main([*command, *more]) == 0
        tables.append(capsys.readouterr().out)
        results.append(json.loads((tmp_path / "x.json").read_text()))
    assert all("PSNR in dB" in table and "two true" in table for table in tables)
    assert "a second" in tables[0] and "a second" not in tables[1]
    assert results[0]["begin_sha256"] == checkpoint.read_card("digits32_begin")["sha256"] and "begin_sha256" not in results[1]
    begun = results[0].pop("begun")
    assert all(results[0][way] == results[1][way] for way in ("from_noise", "grown", "from_truth")) and begun != results[0]["grown"]


def test_sample_begins_with_the_network_for_beginnings(tmp_path):
    def draw(*options):
        assert main(["sample", "--out", str(tmp_path / "x.gif"), "--clips", "1", "--frames", "4", "--steps", "2", *options]) == 0
        return (tmp_path / "x.gif").read_bytes()

    assert draw() == draw("--begin", "digits32_begin", "--first", "2")
    assert draw("--begin", "digits32") != draw()
