import math
import shlex
import sys

import pytest
import torch

from vdiff_lite import Denoiser, NoiseSchedule, VideoUNet, VideoUNetConfig, checkpoint
from vdiff_lite.cli import main
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.device import peak_memory
from vdiff_lite.evaluation.compare import compare, extend, summary, true_clips
from vdiff_lite.evaluation.feature_net import clip_features, load_features
from vdiff_lite.evaluation.method_text import bind, parse_method
from vdiff_lite.evaluation.results import (
    COLUMNS,
    by_clip,
    by_name,
    command_of,
    features_of,
    name_of,
    read_table,
    rows_of,
    values,
)
from vdiff_lite.methods import METHODS

SETTINGS = dict(clips=4, seeds=2, frames=4, window=6, overlap=3, steps=2, batch=2, bar=False)


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    net = VideoUNet(VideoUNetConfig(channels=(32, 32), num_middle=1, noise_channels=32))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return Denoiser(net.eval().requires_grad_(False), NoiseSchedule())


@pytest.fixture(scope="module")
def past():
    return BouncingDigits(num_frames=7, split="test").sample(2, torch.Generator().manual_seed(0)).video[:, :, :3]


def test_methods_are_read_from_text():
    assert parse_method("history_guidance") == ("history_guidance", {})
    assert parse_method("reconstruction:weight=10,norm=sum,replace=False") == ("reconstruction", dict(weight=10, norm="sum", replace=False))
    assert parse_method("injection:sites=temporal+joint,fraction=0.8")[1] == dict(sites=("temporal", "joint"), share=0.8)
    assert parse_method("temporal_history_guidance:weights={3:1.5,1:0.5},start=600")[1] == dict(weights={3: 1.5, 1: 0.5}, start=600)
    assert parse_method("history_guidance:weight=-inf")[1] == dict(weight=-math.inf)


@pytest.mark.parametrize("text, says", [("magic", "method 'magic'"), ("injection:fast", "'fast'"), ("replacement:repeats=0", "repeats=0"),
                                        ("copy_last:start=a", "start=a"), ("reconstruction:record=1", "no setting record"),
                                        ("injection:fraction=much", "share='much' must be a number"),
                                        ("injection:append=1", "append=1 must be True"), ("injection:sites=3", "sites=3 must be a name"),
                                        ("history_guidance:weight=True", "weight=True must be a number"),
                                        ("reconstruction:norm=2", "norm=2 must be text"), ("temporal_history_guidance", "weights={5:1.5,2:0.5}")])
def test_unknown_methods_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        bind(text)


@pytest.mark.parametrize("text, passes", [
    ("history_guidance", 2 * 2 / 4), ("history_guidance:start=600", 2 * 2 / 4), ("history_guidance:repeats=3", 3 * 2 * 2 / 4),
    ("history_guidance:weight=2", 2 * 2 * 2 / 4), ("copy_last", 0.0), ("injection", 2 * (3 + 2 * 3) / 6 / 4)])
def test_cost_counts_the_frames_that_pass_the_network(denoiser, past, text, passes):
    # 4 new frames in windows of 6 with 3 given: two windows of 2 steps each.
    made, cost = extend(denoiser, text, past, 4, window=6, overlap=3, steps=2)
    assert made.shape == (2, 1, 7, 32, 32) and torch.equal(made[:, :, :3], past)
    assert cost["passes"] == pytest.approx(passes) and cost["seconds"] > 0


@pytest.mark.parametrize("text", [*(m for m in METHODS if m not in ("temporal_history_guidance", "history_encoder")), "replacement:fresh=True",
                                  "temporal_history_guidance:weights={3:1.5,1:0.5}",
                                  "injection:sites=decoder,prepend=False,source=same"])
def test_every_method_rolls_out_and_repeats_itself(denoiser, past, text):
    a, b = (extend(denoiser, text, past, 4, window=6, overlap=3, steps=2, seed=5)[0] for _ in range(2))
    assert torch.equal(a, b) and a.isfinite().all()


def test_a_window_may_begin_with_a_noised_still(denoiser, past):
    run = lambda text: extend(denoiser, text, past, 3, window=6, overlap=3, steps=2, seed=5)[0]
    assert not torch.equal(run("history_guidance"), run("history_guidance:start=600"))
    still = past[:, :, -1:].expand(-1, -1, 3, -1, -1)
    near = lambda text: (run(text)[:, :, 3:] - still).square().mean()
    assert near("history_guidance:start=2") < 0.01 < near("history_guidance:start=900")


def test_injection_is_the_window_over_many_windows(denoiser, past):
    a, b = (extend(denoiser, text, past, 8, window=6, overlap=3, steps=2, seed=5)[0] for text in ("injection", "history_guidance"))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_table_holds_every_clip_and_seed(denoiser, tmp_path):
    path = tmp_path / "t.csv"
    compare(denoiser, path, ["copy_last", "history_guidance:weight=2"], **SETTINGS)
    header, rows = read_table(path)
    assert tuple(rows[0]) == COLUMNS and header["frames"] == 4
    for method in ("copy_last", "history_guidance"):
        assert len(values(rows, "psnr", method=method)) == 4 * 2 * 4
        assert len(values(rows, "time_to_first_failure", method=method, seed=1)) == 4
        assert [len(values(rows, "right", method=method, frame=n)) for n in range(1, 5)] == [0, 0, 8, 8]  # joins at 3; the end
    still = values(rows, "psnr", method="copy_last", seed=0)
    torch.testing.assert_close(still, values(rows, "psnr", method="copy_last", seed=1))
    assert "history_guidance:weight=2" in summary(path)


def test_details_are_places_and_the_steps_of_guidance(denoiser, tmp_path):
    compare(denoiser, tmp_path / "t.csv", ["copy_last", "reconstruction:weight=0.1"], details=True, **SETTINGS)
    header, rows = read_table(tmp_path / "t.csv")
    assert header["details"] is True
    x = [values(rows, "x", method="copy_last", seed=0, frame=n) for n in range(1, 5)]
    assert all(torch.equal(x[0], later) for later in x) and x[0].min() > 0 and x[0].max() < 32
    off = values(rows, "off", method="copy_last", seed=0, frame=4)
    assert values(rows, "saturation", method="copy_last").eq(0).all() and len(values(rows, "saturation")) == 2 * 2 * 4
    assert (off > values(rows, "off", method="copy_last", seed=0, frame=1)).float().mean() > 0.5, "it stands, the truth goes on"
    two_windows = {level: values(rows, f"loss at {level}", method="reconstruction") for level in (1000, 500)}
    assert all(len(loss) == 2 * 4 * 2 and (loss > 0).all() for loss in two_windows.values())
    assert len(values(rows, "cosine at 500")) == 16 and len(values(rows, "loss at 1000", method="copy_last")) == 0


def test_features_are_those_of_whole_windows(denoiser, tmp_path):
    path = tmp_path / "t.csv"
    compare(denoiser, path, ["copy_last", "history_guidance:weight=2"], features=True, **(SETTINGS | dict(frames=7)))
    header, rows = read_table(path)
    assert header["features"] == load_features().card["sha256"]
    assert {int(row["frame"]) for row in rows if row["metric"].startswith("feature")} == {3, 6}, "first, and middle and last"
    found = features_of(rows, 3, **rows_of("copy_last"))
    assert found.shape == (8, 64) and len(features_of(rows, 4)) == 0
    truth = true_clips(2, 2, 10)[:, :, :3]
    still = torch.cat([truth, truth[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    torch.testing.assert_close(found[2:4], clip_features(still), rtol=1e-3, atol=1e-3)
    assert "frechet 6" in summary(path)
    with pytest.raises(ValueError, match="frames=2 must be 3 or more"):
        compare(denoiser, tmp_path / "u.csv", ["copy_last"], features=True, **(SETTINGS | dict(frames=2)))


def test_a_cut_off_table_goes_on_and_ends_the_same(denoiser, tmp_path):
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    compare(denoiser, whole, ["history_guidance"], **SETTINGS)
    compare(denoiser, cut, ["history_guidance"], **(SETTINGS | dict(seeds=1)))
    compare(denoiser, cut, ["history_guidance"], **SETTINGS)
    without_time = lambda path: [row for row in read_table(path)[1] if row["metric"] != "seconds"]
    assert without_time(whole) == without_time(cut)
    before = cut.read_bytes()
    compare(denoiser, cut, ["history_guidance"], **SETTINGS)
    assert cut.read_bytes() == before


def test_a_table_of_other_settings_is_not_added_to(denoiser, tmp_path):
    compare(denoiser, tmp_path / "t.csv", ["copy_last"], **SETTINGS)
    with pytest.raises(ValueError, match=r"written with other settings.*'steps': \(2, 3\)"):
        compare(denoiser, tmp_path / "t.csv", ["copy_last"], **(SETTINGS | dict(steps=3)))


def test_a_block_of_clips_does_not_grow(denoiser, tmp_path):
    compare(denoiser, tmp_path / "t.csv", ["copy_last"], **(SETTINGS | dict(clips=3)))
    with pytest.raises(ValueError, match="holds 1 clips from clip 2 on, not 2"):
        compare(denoiser, tmp_path / "t.csv", ["copy_last"], **SETTINGS)


def test_an_explosion_is_said_and_the_rest_goes_on(denoiser, tmp_path, capsys):
    compare(denoiser, tmp_path / "t.csv", ["reconstruction:weight=1e30", "copy_last"], **SETTINGS)
    assert "weight=1e+30" in capsys.readouterr().out
    _, rows = read_table(tmp_path / "t.csv")
    assert len(values(rows, "psnr", method="reconstruction")) == 0 and len(values(rows, "psnr", method="copy_last")) == 32


def test_the_commands(denoiser, tmp_path, capsys):
    path = checkpoint.save(tmp_path / "small", denoiser.net, denoiser.schedule)
    common = ["--checkpoint", str(path), "--frames", "4", "--window", "6", "--overlap", "3", "--steps", "2"]
    assert main(["extend", "--method", "injection", "--out", str(tmp_path / "x.gif"), "--truth", *common]) == 0
    assert (tmp_path / "x.gif").exists() and "first fault: ink, at new frame 1" in capsys.readouterr().out
    assert main(["compare", "--methods", "copy_last", "--clips", "2", "--out", str(tmp_path / "t.csv"), *common]) == 0
    header, rows = read_table(tmp_path / "t.csv")
    assert len(values(rows, "memory")) == 0
    assert header["command"].startswith("vdiff compare --methods copy_last --out") and len(header["sha256"]) == 64
    more = ["compare", "--methods", "copy_last", "--seeds", "2", "--clips", "2", "--out", str(tmp_path / "t.csv"), *common]
    assert main(more) == main(more) == 0
    header, rows = read_table(tmp_path / "t.csv")
    assert "--seeds 2" in header["command"] and len(values(rows, "time_to_first_failure")) == 4
    assert main(["extend", "--method", "magic", "--out", "x.gif", *common]) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_measured_once_for_each_method(denoiser, tmp_path, capsys):
    path = checkpoint.save(tmp_path / "small", denoiser.net, denoiser.schedule)
    ask = ["compare", "--checkpoint", str(path), "--methods", "copy_last", "reconstruction:weight=1", "--out", str(tmp_path / "t.csv"),
           "--clips", "2", "--frames", "3", "--window", "6", "--overlap", "3", "--steps", "1", "--memory"]
    assert main(ask) == main(ask) == 0
    header, rows = read_table(tmp_path / "t.csv")
    still, steered = (values(rows, "memory", method=method) for method in ("copy_last", "reconstruction"))
    assert len(still) == len(steered) == 1 and still < steered
    assert "--memory" in header["command"] and " MB" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_peak_memory_is_what_the_lines_took():
    assert peak_memory("x = torch.ones(64 << 20)\ndel x", "y = torch.ones(32 << 20)", "cpu") == pytest.approx(256, rel=0.1)
    with pytest.raises(RuntimeError, match="the measured lines failed"):
        peak_memory("nonsense", device="cpu")


def test_a_setting_that_a_method_does_not_have_is_named():
    with pytest.raises(ValueError, match="history_guidance has no setting encoder; it has weight"):
        bind("history_guidance:encoder=digits32_5_8")
    with pytest.raises(ValueError, match="copy_last has no setting weight; it has start, repeats"):
        bind("copy_last:weight=2")


def test_an_encoder_goes_with_its_own_weights(denoiser, past):
    with pytest.raises(ValueError, match="digits32_5_8 was trained with other weights"):
        extend(denoiser, "history_encoder", past, 4, window=6, overlap=3, steps=2)


def test_several_seeds_of_a_clip_count_as_one_clip():
    rows = [dict(metric="psnr", method="m", clip=str(c), seed=str(s), frame="1", value=10.0 * c + s) for s in (0, 2) for c in (1, 2, 3)]
    rows += [dict(metric="psnr", method="other", clip="1", seed="0", frame="1", value=99.0)]
    assert by_clip(rows, "psnr", method="m").tolist() == [11.0, 21.0, 31.0]
    assert by_clip(rows, "psnr", method="m", seed=2).tolist() == [12.0, 22.0, 32.0]
    assert len(by_clip(rows, "ssim")) == 0


def test_a_command_is_cut_into_lines_that_a_shell_takes_as_one():
    command = "vdiff compare --methods " + " ".join(f"history_guidance:weight={w}" for w in range(9)) + " --out 'a b.csv'"
    lines = command_of(dict(command=command), 60)
    assert max(map(len, lines.split("\n"))) <= 60 < len(command)
    assert shlex.split(lines.replace("\\\n", "")) == shlex.split(command)


def test_the_rows_of_a_table_by_name_in_its_order():
    columns = [("b", ""), ("a", "w=1"), ("b", ""), ("a", "w=2")]
    rows = [dict(method=method, setting=setting, value=i) for i, (method, setting) in enumerate(columns)]
    assert {text: [row["value"] for row in of] for text, of in by_name(rows).items()} == {"b": [0, 2], "a:w=1": [1], "a:w=2": [3]}
    assert list(by_name(rows)) == ["b", "a:w=1", "a:w=2"]


@pytest.mark.parametrize("text", ["injection", "injection:sites=encoder+middle,prepend=False"])
def test_a_method_as_text_finds_its_rows(text):
    assert name_of(rows_of(text)) == text
