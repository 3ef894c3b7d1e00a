import json
import re
import signal
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image
from reading import read_frames

from vdiff_lite import BouncingDigits, NoiseSchedule, TrainConfig, VideoUNetConfig, checkpoint, cli, commands
from vdiff_lite.cli import main
from vdiff_lite.diffusion.samplers import SAMPLERS
from vdiff_lite.evaluation.evaluate import WAYS
from vdiff_lite.methods import METHODS
from vdiff_lite.training.recipe import load_recipe, recipe_names
from vdiff_lite.training.run import recipe_data
from vdiff_lite.viz import save_clip

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--set", "short_steps=0", "decay=1", "batch=1"]


def help_of(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_an_example(command, capsys):
    assert f"example:\n  vdiff {command}" in help_of(command, capsys)


def test_help_shows_defaults_and_lists_what_there_is(capsys):
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert "example:\n  vdiff " in overview and all(f"  {name} " in overview for name in cli.COMMANDS)
    assert main([]) == 2 and capsys.readouterr().out == overview
    assert "(default: 25)" in help_of("sample", capsys)
    said = help_of("extend", capsys)
    assert all(method in said for method in METHODS)
    assert set(get_args(cli.SamplerName)) == set(SAMPLERS)
    said = help_of("train", capsys)
    assert all(name in said for name in recipe_names())


def test_sample_writes_a_gif(tmp_path, capsys):
    out = tmp_path / "clip.gif"
    assert main(["sample", "--out", str(out), "--clips", "2", "--frames", "4", "--steps", "2"]) == 0
    assert Image.open(out).size == ((32 * 2 + 1) * 4, 32 * 4)
    assert "2 clips of 4 frames" in capsys.readouterr().out


def test_sample_writes_an_mp4(tmp_path):
    out = tmp_path / "clip.mp4"
    command = ["sample", "--out", str(out), "--clips", "1", "--frames", "4", "--steps", "2"]
    assert main([*command, "--sampler", "dpmpp_2m"]) == 0
    assert read_frames(out).shape == (4, 128, 128, 3)


def test_same_seed_same_file(tmp_path):
    for name in "ab":
        command = ["sample", "--out", str(tmp_path / f"{name}.gif"), "--clips", "1", "--frames", "2"]
        assert main([*command, "--steps", "2", "--seed", "3"]) == 0
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_without_a_recipe_there_is_one_set_of_defaults():
    assert load_recipe().stages == (TrainConfig(),) == load_recipe("tiny").stages
    assert cli.Train(out="x").recipe == "tiny" and load_recipe().network == "tiny" and not load_recipe().data


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_a_shipped_card_has_the_recipe_of_its_name(name):
    card, recipe = checkpoint.read_card(name), load_recipe(name)
    assert [TrainConfig(**stage["recipe"]) for stage in checkpoint.stages(card)] == list(recipe.stages)
    data, network = recipe_data(recipe)
    assert VideoUNetConfig(**card["unet"]) == network
    assert card["data"] == str(data)
    assert card["schedule"] == NoiseSchedule(**recipe.schedule).config()
    assert card["steps"] == pytest.approx(recipe.stages[-1].steps, rel=0.01)


def test_make_trains_by_recipes_that_ship():
    trained = set(re.findall(r"vdiff train --recipe (\w+)", (ROOT / "Makefile").read_text()))
    assert {"digits32"} <= trained <= set(recipe_names())


def test_train_writes_a_checkpoint_that_samples(tmp_path, capsys):
    out = tmp_path / "mine"
    command = ["train", "--out", str(out), *QUICK, "steps=2", "--samples-every", "2"]
    assert main(command) == 0
    card = checkpoint.load(out).card
    assert card["steps"] == 2 and len(card["loss_curve"]) == 2 and card["recipe"]["steps"] == 2
    assert (tmp_path / "mine.samples" / "000002.gif").exists()
    assert main(command) == 0
    assert "going on from step 2" in capsys.readouterr().out
    draw = ["sample", "--checkpoint", str(out), "--out", str(tmp_path / "x.gif")]
    assert main([*draw, "--clips", "1", "--frames", "2", "--steps", "1"]) == 0


def test_train_stops_at_ctrl_c_and_goes_on(tmp_path, capsys, monkeypatch, default_sigint):
    command = ["train", "--out", str(tmp_path / "mine"), *QUICK, "steps=3"]
    press = lambda trainer, *_, **__: trainer.step == 2 and signal.raise_signal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "draw_samples", press)
        assert main(command) == 130
    error = capsys.readouterr().err
    assert f"vdiff train: stopped after step 2, saved in {tmp_path / 'mine.state.safetensors'};" in error
    assert main(command) == 0
    assert "going on from step 2" in capsys.readouterr().out


TWO_STAGES = """
[data]
speed = [1.0, 2.0]

[[stages]]
steps = 2
short_steps = 0
decay = 1
batch = 1

[[stages]]
steps = 2
short_steps = 0
decay = 1
batch = 1
noise_mix = [1, 0, 0, 0]
seed = 1
"""


def test_a_run_of_two_stages_goes_on_where_it_was_cut_off(tmp_path, capsys, monkeypatch, default_sigint):
    (tmp_path / "two.toml").write_text(TWO_STAGES)
    train = lambda out: main(["train", "--recipe", str(tmp_path / "two.toml"), "--out", str(tmp_path / out)])
    press = lambda trainer, path, **_: ((path.name, trainer.step) == ("cut", 1)
                                        and signal.raise_signal(signal.SIGINT))
    assert train("straight") == 0
    with monkeypatch.context() as patch:
        patch.setattr(commands, "draw_samples", press)
        assert train("cut") == 130
    written = (tmp_path / "cut_stage1.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert train("cut") == 0
    said = capsys.readouterr().out
    assert "going on from step 2 of" in said and f"going on from step 1 of {tmp_path / 'cut.state'}" in said
    assert (tmp_path / "cut_stage1.safetensors").stat().st_mtime_ns == written
    straight, cut = (checkpoint.load(tmp_path / name) for name in ("straight", "cut"))
    for a, b in zip(straight.net.parameters(), cut.net.parameters()):
        assert torch.equal(a, b)
    assert straight.card == cut.card
    stages = checkpoint.stages(cut.card)
    assert [stage["recipe"]["seed"] for stage in stages] == [0, 1]
    assert stages[1]["recipe"]["noise_mix"] == [1, 0, 0, 0]
    assert stages[:1] == checkpoint.stages(checkpoint.read_card(tmp_path / "cut_stage1"))
    assert all("speed=(1.0, 2.0)" in stage["data"] for stage in stages)


def test_a_run_knows_its_recipe_and_data(tmp_path, capsys):
    train = lambda *more: main(["train", "--out", str(tmp_path / "mine"), *QUICK, "steps=1", *more])
    assert train() == 0
    capsys.readouterr()
    assert train("seed=3", "num_digits=2") == 2
    error = capsys.readouterr().err
    assert "recipe.seed: 0 there, 3 here" in error and "num_digits=2" in error and "--anyway" in error
    assert train("seed=3", "steps=2", "--anyway") == 0
    card = checkpoint.read_card(tmp_path / "mine")
    assert card["steps"] == 2 and card["recipe"]["seed"] == 3


def test_a_state_wins_over_start_from_and_says_so(tmp_path, capsys):
    train = lambda out, *more: main(["train", "--out", str(tmp_path / out), *QUICK, "steps=1", *more])
    assert train("first") == 0 and train("other", "seed=1") == 0
    assert train("second", "--start-from", str(tmp_path / "first")) == 0
    first, second = (checkpoint.read_card(tmp_path / name) for name in ("first", "second"))
    assert checkpoint.stages(second)[:1] == checkpoint.stages(first) and len(checkpoint.stages(second)) == 2
    capsys.readouterr()
    assert train("second", "steps=2", "--anyway", "--start-from", str(tmp_path / "other")) == 0
    state, other = tmp_path / "second.state.safetensors", tmp_path / "other"
    assert f"going on from step 1 of {state}, not from {other}\n" in capsys.readouterr().out
    again = checkpoint.read_card(tmp_path / "second")
    assert again["before"] == second["before"] and again["steps"] == 2


@pytest.mark.parametrize("setting, says", [
    ("turbo=3", "turbo is unknown; choose from batch,"), ("noise_mix", "'noise_mix' is no setting"),
    ("betas=2", "betas=2 must be several numbers"), ("noise_mix=1,2", "noise_mix=(1, 2)"),
    ("steps=many", "steps='many' must be a whole number"),
    ("steps=100", "short_steps=1400 and decay=3600 do not fit"),
    ("network=huge", "preset 'huge'"), ("mix=1,0,0,0", "mix is called noise_mix now"),
    ("high=0.4", "high is called high_noise_fraction now"), ("ema=0.9", "ema is called ema_decay now"),
    ("digits=2", "digits is called num_digits now"), ("frame_stride=1,2", "frame_stride is unknown")])
def test_train_names_a_setting_that_does_not_fit(tmp_path, capsys, setting, says):
    assert main(["train", "--out", str(tmp_path / "x"), "--set", setting]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("text, says", [
    ("steps = ", "is not a toml file"), ("[[stages]]\nmix = [1, 0, 0, 0]", "mix is called noise_mix now"),
    ("[data]\nspeed = [9, 99]", "speed=(9, 99) must be"), ("colour = 1", "colour is unknown")])
def test_a_recipe_that_does_not_fit_names_its_file(tmp_path, capsys, text, says):
    (tmp_path / "bad.toml").write_text(text)
    assert main(["train", "--out", str(tmp_path / "x"), "--recipe", str(tmp_path / "bad.toml")]) == 2
    assert says in capsys.readouterr().err


def test_train_on_a_folder_of_videos(tmp_path, capsys):
    save_clip(BouncingDigits().sample(1).video[0], tmp_path / "a.gif", enlarge=1)
    train = lambda *more: main(["train", "--out", str(tmp_path / "mine"), *QUICK, "steps=1", *more])
    assert train("--data", f"videos:{tmp_path}") == 0
    assert checkpoint.read_card(tmp_path / "mine")["data"].startswith("VideoFolder(")
    assert train("--data", f"videos:{tmp_path}") == 0 and "going on from step 1" in capsys.readouterr().out
    assert train() == 2 and "data: \"VideoFolder(" in capsys.readouterr().err


@pytest.mark.parametrize("method, says", [("history_guidance", "no failure in 11 new frames"),
                                          ("copy_last", "first failure: motion, at new frame ")])
def test_extend_says_what_failed_first(tmp_path, capsys, method, says):
    out = tmp_path / "x.gif"
    assert main(["extend", "--method", method, "--frames", "11", "--steps", "6", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert says in said and "identity 1.00" in said and out.stat().st_size > 1000


def test_of_a_long_clip_the_first_frames_are_scored(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "TRUE_FRAMES", 6)
    out = tmp_path / "x.gif"
    command = ["extend", "--frames", "11", "--steps", "6", "--out", str(out)]
    assert main([*command, "--truth"]) == 2
    assert "shown beside 6 new frames at most, and frames=11" in capsys.readouterr().err and not out.exists()
    assert main(command) == 0 and Image.open(out).n_frames == 16
    assert "scores of the first 6 new frames:" in (said := capsys.readouterr().out)
    assert "no failure in 6 new frames" in said


def test_a_walk_is_told_to_the_end(tmp_path, monkeypatch):
    def walked(frames):
        monkeypatch.setattr(commands, "TRUE_FRAMES", frames)
        command = ["extend", "--checkpoint", "rooms32", "--frames", "22", "--steps", "1", "--out"]
        assert main([*command, str(tmp_path / "x.gif")]) == 0
        return (tmp_path / "x.gif").read_bytes()

    assert walked(3) == walked(1000)


@pytest.mark.parametrize("command, says", [
    (["sample", "--out", "x.avi", "--clips", "1", "--frames", "1", "--steps", "1"], "unknown ending"),
    (["sample", "--out", "x.gif", "--checkpoint", "nothing"], "no checkpoint at"),
    (["sample", "--out", "x.gif", "--steps", "0"], "steps=0"),
    (["sample", "--out", "x.gif", "--clips", "0"], "clips=0"),
    (["sample", "--out", "x.gif", "--eta", "nan"], "eta=nan"),
    (["sample", "--out", "no/x.gif"], "there is no folder no"),
    (["sample", "--out", "x.gif", "--device", "abacus"], "device 'abacus' is not available here;"),
    (["sample", "--out", "x.gif", "--first", "16"], "first=16 must be a whole number from 0 to 15"),
    (["evaluate", "--clips", "0"], "clips=0"),
    (["extend", "--out", "x.avi"], "unknown ending"),
    (["extend", "--out", "x.gif", "--frames", "0"], "frames=0"),
    (["extend", "--out", "x.gif", "--window", "1"], "overlap=5 does not fit a window of 1"),
    (["extend", "--out", "x.gif", "--method", "history_guidance:weight=nan"], "weight=nan"),
    (["extend", "--out", "x.gif", "--method", "history_guidance:weight=big"], "weight='big' must be a"),
    (["extend", "--out", "x.gif", "--method", "injection:sites=encoder.9,prepend=False"], "encoder.9"),
    (["extend", "--out", "x.gif", "--method", "reconstruction:weight=100000", "--steps", "25"],
     "at t=960 with weight=100000"),
    (["compare", "--out", "x.csv", "--methods", "injection", "history_guidance:weight=nan"], "weight=nan"),
    (["compare", "--out", "x.csv", "--methods", "history_guidance", "--seeds", "0"], "seeds=0"),
    (["compare", "--out", "x.csv", "--methods", "history_guidance", "--overlap", "-1"], "overlap=-1"),
    (["export", "--out", "x", "--overlap", "16"], "overlap=16"),
    (["results", "nothing"], "nothing"),
    (["neighbors", "--clips", "0"], "clips=0"),
    (["neighbours"], "neighbours is called neighbors now"),
    (["sing"], "there is no such command; choose from train,"),
    (["train", "--out", "x", "--data", "videos:nowhere"], "nowhere is not a folder"),
    (["train", "--out", "x.json"], "without an ending"),
    (["train", "--out", "x", "--recipe", "cake"], "choose from digits32, digits32_fixed, digits64x2,"),
    (["train", "--out", "x", "--set", "network=base", "--start-from", "digits32"],
     "start_from='digits32': its network is"),
    (["train", "--out", "x", "--steps", "100"], "--steps is called --set steps=N now"),
    (["train", "--out", "x", "--short-steps=2"], "--short-steps is called --set short_steps=N now")])
def test_errors_are_one_line(command, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line and "frame/s" not in line]  # but for a progress bar
    assert [says in line for line in lines] == [True]
    assert not list(tmp_path.iterdir())


def test_doctor_finds_checkpoints_and_recipes(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert all(f"checkpoint {name} " in out for name in checkpoint.shipped())
    assert out.count("sha256 ok") == len(checkpoint.shipped()) and ", ".join(recipe_names()) in out


def test_evaluate_prints_a_table(tmp_path, capsys):
    out = tmp_path / "x.json"
    assert main(["evaluate", "--clips", "2", "--steps", "2", "--out", str(out)]) == 0
    table, result = capsys.readouterr().out, json.loads(out.read_text())
    assert "PSNR in dB" in table and all(heading in table for heading in (*WAYS.values(), "real clips"))
    assert result["command"] == "vdiff evaluate --checkpoint digits32 --clips 2 --steps 2 --seed 0"
    assert result["sha256"] == checkpoint.read_card("digits32")["sha256"] and len(result["psnr"]) == 11
    assert len({result[way]["intensity"] for way in WAYS}) == 3, "three ways, three kinds of clips"


def test_sample_draws_the_first_frames_alone_or_all_at_once(tmp_path):
    def draw(*options):
        command = ["sample", "--out", str(tmp_path / "x.gif"), "--clips", "1", "--frames", "4"]
        assert main([*command, "--steps", "2", *options]) == 0
        return (tmp_path / "x.gif").read_bytes()

    assert draw() == draw("--first", "1", "--eta", "0.5")
    assert len({draw("--first", "0"), draw("--first", "1"), draw("--first", "2"), draw("--eta", "0")}) == 4


def test_extend_draws_the_digits_of_the_checkpoint(tmp_path, capsys):
    out = tmp_path / "two.gif"
    assert main(["extend", "--checkpoint", "digits64x2", "--frames", "1", "--steps", "1", "--window", "3",
                 "--overlap", "2", "--out", str(out)]) == 0
    assert Image.open(out).n_frames == 3 and "scores are left out" in capsys.readouterr().out


@pytest.fixture
def my_clip(tmp_path):
    """A file of 24 frames at 8 a second."""
    save_clip(BouncingDigits(num_frames=24).sample(1, torch.Generator().manual_seed(0)).video[0],
              tmp_path / "my.gif", enlarge=1)
    return tmp_path / "my.gif"


def test_a_video_of_ones_own_is_continued(my_clip, tmp_path, capsys, monkeypatch):
    given = []
    prepare = commands.prepare
    monkeypatch.setattr(commands, "prepare", lambda d, m, past, *rest, **more: (
        given.append(past) or prepare(d, m, past, *rest, **more)))
    run = lambda *more: main(["extend", "--video", str(my_clip), "--frames", "3", "--steps", "1",
                              "--out", str(tmp_path / "long.gif"), *more])
    assert run() == 0
    assert "5 frames given, 3 made" in capsys.readouterr().out
    assert run("--at", "1.5", "--truth") == 0
    assert len(given) == 2 and not torch.equal(*given)
    assert run("--at", "9") == 2
    assert "at=9.0" in capsys.readouterr().err
    assert run("--at", "0.2") == 2 and "choose from 0.6" in capsys.readouterr().err


def test_train_on_color_videos_of_another_size_and_go_on_from_them(my_clip, tmp_path, capsys):
    out = str(tmp_path / "mine")
    assert main(["train", "--out", out, "--data", f"videos:{my_clip}", "--size", "24x32", "--channels", "3",
                 *QUICK, "steps=1", "frames=8"]) == 0
    card = checkpoint.read_card(out)
    assert (card["unet"]["size"], card["unet"]["in_channels"]) == ([24, 32], 3)
    long = str(tmp_path / "long.gif")
    assert main(["extend", "--checkpoint", out, "--video", str(my_clip), "--frames", "2", "--steps", "1",
                 "--out", long]) == 0
    capsys.readouterr()
    assert main(["neighbors", "--checkpoint", out]) == 2  # no digit is drawn in silence
    assert "my.gif, split='test': num_frames=16 needs as many" in capsys.readouterr().err
    assert main(["export", "--checkpoint", out, "--out", str(tmp_path / "web")]) == 0
    model = json.loads((tmp_path / "web" / "model.json").read_text())
    assert (model["channels"], model["size"]) == (3, [24, 32])


def test_start_from_keeps_what_fits_and_names_what_is_new(my_clip, tmp_path, capsys):
    out = str(tmp_path / "mine")
    command = ["train", "--data", f"videos:{my_clip}", "--channels", "3", "--start-from", "digits32", "--out"]
    assert main([*command, out, *QUICK, "steps=1", "lr=1e-9", "matrix_lr=1e-9"]) == 0
    said = capsys.readouterr().out
    assert ("starting from digits32: 1,970,496 parameters kept, 771 new (patchify.weight, unpatchify.bias, "
            "unpatchify.weight)") in said
    made, shipped = checkpoint.load(out).net.state_dict(), checkpoint.load("digits32").net.state_dict()
    differ = {name for name, x in shipped.items() if made[name].shape != x.shape
              or (made[name] - x).abs().max() > 0.01 * x.abs().max()}
    assert differ == {"patchify.weight", "unpatchify.bias", "unpatchify.weight"}
    assert main([*command, str(tmp_path / "other"), *QUICK, "steps=1", "network=base"]) == 2
    assert "only in_channels, size, patch, condition may differ" in capsys.readouterr().err


def test_train_on_rooms_tells_the_network(tmp_path, capsys):
    out = str(tmp_path / "walk")
    assert main(["train", "--out", out, "--data", "rooms", *QUICK, "steps=1"]) == 0
    card = checkpoint.read_card(out)
    assert card["unet"]["condition"] == 3 and card["unet"]["in_channels"] == 3
    capsys.readouterr()
    assert main(["evaluate", "--checkpoint", out, "--clips", "1", "--steps", "1"]) == 0
    assert "not told" in capsys.readouterr().out
    assert main(["extend", "--checkpoint", out, "--frames", "2", "--steps", "1", "--truth",
                 "--out", str(tmp_path / "walk.gif")]) == 0
