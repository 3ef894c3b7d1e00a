import gzip
import math
import os
import shlex
import sys

import pandas as pd
import pytest
import torch

from vdiff_lite import Denoiser, NoiseSchedule, VideoUNet, VideoUNetConfig, checkpoint, files
from vdiff_lite.cli import main
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.device import peak_memory
from vdiff_lite.evaluation.compare import compare, extend, true_clips
from vdiff_lite.evaluation.feature_net import clip_features, load_features
from vdiff_lite.evaluation.method_text import bind, parse_method
from vdiff_lite.evaluation.results import (
    COLUMNS,
    append_rows,
    command_of,
    features_at,
    intervals,
    open_results,
    per_clip,
    print_results,
    read_results,
    start_results,
    summary,
)
from vdiff_lite.evaluation.scores import diagnostics
from vdiff_lite.methods import METHODS
from vdiff_lite.viz.tables import MARK, show_table

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
    data = BouncingDigits(num_frames=7, split="test")
    return data.sample(2, torch.Generator().manual_seed(0)).video[:, :, :3]


def test_methods_are_read_from_text():
    assert parse_method("history_guidance") == ("history_guidance", {})
    settings = parse_method("reconstruction:weight=10,norm=sum,replace=False")[1]
    assert settings == dict(weight=10, norm="sum", replace=False)
    settings = parse_method("injection:sites=temporal+joint,fraction=0.8")[1]
    assert settings == dict(sites=("temporal", "joint"), fraction=0.8)
    settings = parse_method("temporal_history_guidance:weights={3:1.5,1:0.5},start=600")[1]
    assert settings == dict(weights={3: 1.5, 1: 0.5}, start=600)
    assert parse_method("history_guidance:weight=-inf")[1] == dict(weight=-math.inf)


@pytest.mark.parametrize("text, message", [
    ("magic", "method 'magic'"), ("injection:fast", "'fast'"), ("replacement:repeats=0", "repeats=0"),
    ("copy_last:start=a", "start='a'"), ("reconstruction:record=1", "no setting record"),
    ("injection:fraction=much", "fraction='much' must be a number"),
    ("injection:prepend=1", "prepend=1 must be True"), ("injection:sites=3", "sites=3 must be a name"),
    ("history_guidance:weight=True", "weight=True must be a number"),
    ("reconstruction:norm=2", "norm=2 must be text"), ("temporal_history_guidance", "weights={5:1.5,2:0.5}")])
def test_unknown_methods_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        bind(text)


@pytest.mark.parametrize("text, now", [
    ("history_cfg:weight=2", "history_guidance"), ("fractional_history", "fractional_history_guidance"),
    ("temporal_history", "temporal_history_guidance"), ("injection:append=False", "prepend"),
    ("injection:share=0.8", "fraction")])
def test_names_of_before_are_refused_with_todays(text, now):
    with pytest.raises(ValueError, match=f"its name is now {now};"):
        parse_method(text)


def test_a_sampler_of_before_is_refused_with_todays_name(denoiser, past):
    with pytest.raises(ValueError, match="sampler='resampled' is unknown; its name is now repaint;"):
        extend(denoiser, "copy_last", past, 4, sampler="resampled")


@pytest.mark.parametrize("text, nfe", [
    ("history_guidance", 2 * 2 / 4), ("history_guidance:start=600", 2 * 2 / 4),
    ("history_guidance:repeats=3", 3 * 2 * 2 / 4), ("history_guidance:weight=2", 2 * 2 * 2 / 4),
    ("copy_last", 0.0), ("injection", 2 * (3 + 2 * 3) / 6 / 4)])
def test_cost_counts_the_frames_that_pass_the_network(denoiser, past, text, nfe):
    # 4 new frames in windows of 6 that share 3: two windows of 2 steps each.
    made, cost = extend(denoiser, text, past, 4, window=6, overlap=3, steps=2)
    assert made.shape == (2, 1, 7, 32, 32) and torch.equal(made[:, :, :3], past)
    assert cost["nfe"] == pytest.approx(nfe) and cost["seconds"] > 0


@pytest.mark.parametrize("text", [
    *(m for m in METHODS if m not in ("temporal_history_guidance", "history_encoder")),
    "replacement:fresh=True", "temporal_history_guidance:weights={3:1.5,1:0.5}",
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
    a, b = (extend(denoiser, text, past, 8, window=6, overlap=3, steps=2, seed=5)[0]
            for text in ("injection", "history_guidance"))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def values(table, metric, **where):
    """The values of one metric, of the rows whose columns equal `where`."""
    rows = table[table.metric == metric]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return torch.tensor(rows.value.to_list())


def test_a_table_holds_every_clip_and_seed(denoiser, tmp_path):
    path = tmp_path / "t.csv.gz"
    compare(denoiser, path, ["copy_last", "history_guidance:weight=2"], **SETTINGS)
    table = read_results(path)
    assert tuple(table.columns) == (*COLUMNS, "name") and table.attrs["header"]["frames"] == 4
    assert table.dtypes[["seed", "clip", "frame"]].eq("Int64").all() and table.value.dtype == float
    for name in ("copy_last", "history_guidance:weight=2"):
        assert len(values(table, "psnr", name=name)) == 4 * 2 * 4
        assert len(values(table, "time_to_first_failure", name=name, seed=1)) == 4
        # The end of a window at 3; the end of the clip.
        assert [len(values(table, "valid", name=name, frame=n)) for n in range(1, 5)] == [0, 0, 8, 8]
    still = values(table, "psnr", method="copy_last", seed=0)
    torch.testing.assert_close(still, values(table, "psnr", method="copy_last", seed=1))
    plain = pd.read_csv(path, comment="#")  # a table for anybody
    assert list(plain.columns) == list(COLUMNS) and len(plain) == len(table)


def test_a_summary_has_a_row_per_method(denoiser, tmp_path, capsys):
    path = tmp_path / "t.csv.gz"
    compare(denoiser, path, ["copy_last", "history_guidance:weight=2"], **SETTINGS)
    table, numbers = read_results(path), summary(path)
    assert list(numbers.index) == ["copy_last", "history_guidance:weight=2"]
    by_clip = per_clip(table, "psnr", 1)["copy_last"]
    assert numbers.loc["copy_last", ("psnr 1", "mean")] == pytest.approx(by_clip.mean(), abs=0.006)
    assert numbers.loc["copy_last", ("nfe", "per frame")] == 0
    print_results(path)
    said = capsys.readouterr().out
    assert "history_guidance:weight=2" in said and "left out or empty: psnr 5, psnr 11; frames=4 are" in said
    print_results(path, csv=True)
    assert capsys.readouterr().out.startswith(",".join(COLUMNS) + "\ncopy_last,,0,0,1,psnr,")


def test_details_are_positions_and_the_steps_of_guidance(denoiser, tmp_path):
    path = tmp_path / "t.csv.gz"
    compare(denoiser, path, ["copy_last", "reconstruction:weight=0.1"], details=True, **SETTINGS)
    table = read_results(path)
    assert table.attrs["header"]["details"] is True
    x = [values(table, "x", method="copy_last", seed=0, frame=n) for n in range(1, 5)]
    assert all(torch.equal(x[0], later) for later in x) and x[0].min() > 0 and x[0].max() < 32
    error = [values(table, "position_error", method="copy_last", seed=0, frame=n) for n in (1, 4)]
    assert (error[1] > error[0]).float().mean() > 0.5, "it stands, the truth goes on"
    assert values(table, "saturation", method="copy_last").eq(0).all()
    assert len(values(table, "saturation")) == 2 * 2 * 4
    for level in (1000, 500):
        losses = values(table, f"loss at {level}", method="reconstruction")
        assert len(losses) == 2 * 4 * 2 and (losses > 0).all(), "two windows"
    assert len(values(table, "cosine at 500")) == 16
    assert len(values(table, "loss at 1000", method="copy_last")) == 0


def test_x_runs_to_the_right_and_y_down():
    clip = -torch.ones(1, 1, 2, 32, 32)
    clip[0, 0, :, 5:8, 20:23] = 1
    found = {metric: value for _, _, metric, value in diagnostics(clip, clip, 1, [])}
    assert (found["x"], found["y"]) == (pytest.approx(21), pytest.approx(6))


def test_features_are_those_of_whole_windows(denoiser, tmp_path):
    path = tmp_path / "t.csv.gz"
    methods = ["copy_last", "history_guidance:weight=2"]
    compare(denoiser, path, methods, features=True, **(SETTINGS | dict(frames=7)))
    table = read_results(path)
    assert table.attrs["header"]["features"] == load_features().card["sha256"]
    frames = table[table.metric.str.startswith("feature")].frame.unique()
    assert set(frames) == {3, 6}, "first, and middle and last"
    features = features_at(table, 3)["copy_last"]
    assert features.shape == (8, 64) and features_at(table, 4) == {}
    truth = true_clips(2, 2, 10)[:, :, :3]
    still = torch.cat([truth, truth[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    torch.testing.assert_close(features[2:4], clip_features(still), rtol=1e-3, atol=1e-3)
    assert "frechet 6" in summary(path)
    with pytest.raises(ValueError, match="frames=2 must be 3 or more"):
        compare(denoiser, tmp_path / "u.csv.gz", ["copy_last"], features=True, **(SETTINGS | dict(frames=2)))


def without_time(path):
    return read_results(path).query("metric != 'seconds'").reset_index(drop=True)


def test_a_cut_off_table_goes_on_and_ends_the_same(denoiser, tmp_path):
    whole, cut = tmp_path / "whole.csv.gz", tmp_path / "cut.csv.gz"
    compare(denoiser, whole, ["history_guidance"], **SETTINGS)
    compare(denoiser, cut, ["history_guidance"], **(SETTINGS | dict(seeds=1)))
    compare(denoiser, cut, ["history_guidance"], **SETTINGS)
    pd.testing.assert_frame_equal(without_time(whole), without_time(cut))
    before = cut.read_bytes()
    compare(denoiser, cut, ["history_guidance"], **SETTINGS)
    assert cut.read_bytes() == before


@pytest.mark.parametrize("lost", [1, 9, 200])  # of the checksum, of the last line, of the block's middle
def test_a_block_torn_by_a_kill_is_cut_off_and_made_again(denoiser, tmp_path, lost):
    path = tmp_path / "t.csv.gz"
    compare(denoiser, path, ["history_guidance"], **SETTINGS)
    whole, blocks = without_time(path), lambda: (read_results(path).metric == "done").sum()
    path.write_bytes(path.read_bytes()[:-lost])
    assert blocks() == 3, "the torn block is not read"
    open_results(path, {})
    assert gzip.decompress(path.read_bytes()).endswith(b"\n"), "nothing torn is left"
    compare(denoiser, path, ["history_guidance"], **SETTINGS)
    assert blocks() == 4
    pd.testing.assert_frame_equal(without_time(path), whole)


def test_a_damaged_table_is_refused(tmp_path):
    path = tmp_path / "t.csv.gz"
    start_results(path, {})
    append_rows(path, [("m", "", 0, n, None, "done", 1) for n in range(100)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        read_results(path)


def test_a_kill_during_a_rewrite_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "t.csv.gz"
    start_results(path, dict(frames=4))
    append_rows(path, [("m", "", 0, 0, None, "done", 1)])
    before = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        open_results(path, dict(frames=4, command="more"))
    assert path.read_bytes() == before


def test_a_name_that_is_no_gzipped_table_is_refused(denoiser, tmp_path):
    with pytest.raises(ValueError, match=r"ends with \.csv\.gz"):
        compare(denoiser, tmp_path / "table.csv", ["copy_last"], **SETTINGS)
    with pytest.raises(FileNotFoundError, match=r"no table .nothing.*compare_main"):
        read_results("nothing")


def test_a_table_of_other_settings_is_not_added_to(denoiser, tmp_path):
    compare(denoiser, tmp_path / "t.csv.gz", ["copy_last"], **SETTINGS)
    with pytest.raises(ValueError, match=r"written with other settings.*'steps': \(2, 3\)"):
        compare(denoiser, tmp_path / "t.csv.gz", ["copy_last"], **(SETTINGS | dict(steps=3)))


def test_a_block_of_clips_grows_and_ends_as_if_it_had_been_asked_for_at_once(denoiser, tmp_path):
    whole, grown = tmp_path / "whole.csv.gz", tmp_path / "grown.csv.gz"
    compare(denoiser, whole, ["replacement:fresh=True"], **SETTINGS)
    for clips in (1, 3, 4, 2):  # and asking for fewer takes nothing away
        compare(denoiser, grown, ["replacement:fresh=True"], **(SETTINGS | dict(clips=clips)))
    a, b = (per_clip(read_results(path), "psnr") for path in (whole, grown))
    assert len(a) == 4 and (a - b.loc[a.index]).abs().max().max() < 1e-3
    assert read_results(grown).attrs["header"]["noise"] == "per clip"


def test_a_table_of_an_earlier_version_is_not_added_to(denoiser, tmp_path):
    settings = {name: SETTINGS[name] for name in ("frames", "window", "overlap", "steps")}
    start_results(tmp_path / "t.csv.gz", settings | dict(sampler="ddim", split="test"))
    with pytest.raises(ValueError, match=r"written with other settings.*'noise': \(None, 'per clip'\)"):
        compare(denoiser, tmp_path / "t.csv.gz", ["history_guidance"], **SETTINGS)


def test_another_run_of_the_same_table_is_refused(denoiser, tmp_path):
    path = tmp_path / "t.csv.gz"
    with files.only_writer(path), pytest.raises(ValueError, match=rf"another run \(process {os.getpid()}\)"):
        compare(denoiser, path, ["copy_last"], **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_an_explosion_is_reported_and_the_rest_goes_on(denoiser, tmp_path, capsys):
    compare(denoiser, tmp_path / "t.csv.gz", ["reconstruction:weight=1e30", "copy_last"], **SETTINGS)
    assert "weight=1e+30" in capsys.readouterr().out
    table = read_results(tmp_path / "t.csv.gz")
    assert len(values(table, "psnr", method="reconstruction")) == 0
    assert len(values(table, "psnr", method="copy_last")) == 32


def test_the_commands(denoiser, tmp_path, capsys):
    path = checkpoint.save(tmp_path / "small", denoiser.net, denoiser.schedule)
    gif, out = tmp_path / "x.gif", tmp_path / "t.csv.gz"
    common = ["--checkpoint", str(path), "--frames", "4", "--window", "6", "--overlap", "3", "--steps", "2"]
    assert main(["extend", "--method", "injection", "--out", str(gif), "--truth", *common]) == 0
    assert gif.exists() and "first failure: intensity, at new frame 1" in capsys.readouterr().out
    common += ["--methods", "copy_last", "--clips", "2", "--out", str(out)]
    assert main(["compare", *common]) == 0
    table = read_results(out)
    header = table.attrs["header"]
    assert len(values(table, "memory")) == 0 and len(header["sha256"]) == 64
    assert header["command"].startswith("vdiff compare") and "--methods copy_last" in header["command"]
    more = ["compare", "--seeds", "2", *common]
    assert main(more) == main(more) == 0
    table = read_results(out)
    assert "--seeds 2" in table.attrs["header"]["command"]
    assert len(values(table, "time_to_first_failure")) == 4
    common = common[:-6]
    assert main(["extend", "--method", "magic", "--out", "x.gif", *common]) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_measured_once_for_each_method(denoiser, tmp_path, capsys):
    path = checkpoint.save(tmp_path / "small", denoiser.net, denoiser.schedule)
    command = ["compare", "--checkpoint", str(path), "--methods", "copy_last", "reconstruction:weight=1",
               "--out", str(tmp_path / "t.csv.gz"), "--clips", "2", "--frames", "3", "--window", "6",
               "--overlap", "3", "--steps", "1", "--memory"]
    assert main(command) == main(command) == 0
    table = read_results(tmp_path / "t.csv.gz")
    still, steered = (values(table, "memory", method=method) for method in ("copy_last", "reconstruction"))
    assert len(still) == len(steered) == 1 and still < steered
    assert "--memory" in table.attrs["header"]["command"] and "memory" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_peak_memory_is_what_the_lines_took():
    peak = peak_memory("x = torch.ones(64 << 20)\ndel x", "y = torch.ones(32 << 20)", "cpu")
    assert peak == pytest.approx(256, rel=0.1)
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


def table_of(rows):
    """A table as `read_results` returns it, of (name, seed, clip, frame, metric, value)."""
    return pd.DataFrame(rows, columns=["name", "seed", "clip", "frame", "metric", "value"])


def test_several_seeds_of_a_clip_count_as_one_clip():
    rows = [("m", seed, clip, 1, "psnr", 10.0 * clip + seed) for seed in (0, 2) for clip in (1, 2, 3)]
    table = table_of([*rows, ("m", 0, 1, 2, "psnr", 0.0), ("other", 0, 1, 1, "psnr", 99.0)])
    assert per_clip(table, "psnr", 1)["m"].tolist() == [11.0, 21.0, 31.0]
    assert per_clip(table, "psnr")["m"].tolist() == [pytest.approx(22 / 3), 21.0, 31.0]
    assert per_clip(table, "psnr", 1)["other"].isna().tolist() == [False, True, True]
    assert per_clip(table, "ssim").empty


def test_intervals_keep_the_order_of_the_table_and_leave_out_what_is_missing():
    table = table_of([("b", 0, clip, 1, "psnr", float(clip)) for clip in range(30)]
                     + [("a", 0, clip, 1, "ssim", 1.0) for clip in range(3)])
    mean, half = intervals(table, {"PSNR": ("psnr", 1), "same": ("ssim", None)})
    assert list(mean.index) == list(half.index) == ["b", "a"]
    assert mean.loc["b", "PSNR"] == 14.5
    assert half.loc["b", "PSNR"] == pytest.approx(1.96 * 8.66 / 30**0.5, rel=0.1)
    assert mean.loc["a", "same"] == 1 and half.loc["a", "same"] == 0 and mean.isna().sum().sum() == 2


def test_a_command_is_cut_into_lines_that_a_shell_takes_as_one():
    methods = " ".join(f"history_guidance:weight={w}" for w in range(9))
    command = f"vdiff compare --methods {methods} --out 'a b.csv'"
    table = pd.DataFrame()
    table.attrs["header"] = dict(command=command)
    lines = command_of(table, 60)
    assert max(map(len, lines.split("\n"))) <= 60 < len(command)
    assert shlex.split(lines.replace("\\\n", "")) == shlex.split(command)


def test_a_table_has_headings_a_caption_and_marks_the_best():
    frame = pd.DataFrame({"PSNR": [30.04, 31.24, 31.31], "seam": [0.0, 1.2, 0.9], "note": ["<a>", "b", None]},
                         index=["still", "one", "two"]).rename_axis("method")
    half = pd.DataFrame({"PSNR": [0.2, 0.3, None]}, index=frame.index)
    table = show_table(frame, "Who & what", best={"PSNR": "max", "seam": 1}, digits={"PSNR": 1}, half=half)
    html = table._repr_html_()
    assert "<caption" in html and "Who &amp; what" in html and "overflow-x:auto" in html
    assert html.count('scope="col"') == 4 and html.count('scope="row"') == 3 and "&lt;a&gt;" in html
    assert html.count("<strong>") == 2, "one of each column"
    assert f"<strong>{MARK}31.3</strong>" in html and f"<strong>{MARK}0.90</strong>" in html
    assert '<td style="text-align:right">30.0 (0.2)</td>' in html
    assert '<td style="text-align:left">b</td>' in html
    text = repr(table)
    assert text.startswith("Who & what") and f"{MARK}31.3" in text and "31.2 (0.3)" in text
    assert "nan" not in text and "None" not in text
    with pytest.raises(ValueError, match="best names SSIM; the columns are PSNR, seam, note"):
        show_table(frame, "", best={"SSIM": "max"})


def test_columns_of_measures_mark_their_best_by_themselves():
    frame = pd.DataFrame({"digits32 PSNR 1": [30.0, 31.0], "position error 5": [2.0, 1.0],
                          "PSNR as text": ["3 (1 to 5)", "4"], "SSIM": [None, float("nan")],
                          "seconds": [1.0, 2.0]}, index=["a", "a"])
    html = show_table(frame, "")._repr_html_()
    assert [html.count(f"{MARK}{x}") for x in ("31.00", "1.00")] == [1, 1]
    assert html.count("<strong>") == 2, "no other column"
    assert "<strong>" not in show_table(frame, "", best={})._repr_html_()


def test_what_looks_equal_is_best_together():
    frame = pd.DataFrame({"PSNR": [31.31, 31.33, 30.0], "count": [1, 2, 3_000]})
    html = show_table(frame, "", best={"PSNR": "max", "count": "min"}, digits=1)._repr_html_()
    assert html.count(f"<strong>{MARK}31.3</strong>") == 2 and f"<strong>{MARK}1</strong>" in html
    assert "3,000" in html
