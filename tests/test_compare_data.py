"""Methods compared on any data, and methods of a reader's own: what applies is measured, the rest named."""

import pytest
import torch

from vdiff_lite import BouncingDigits, Denoiser, NoiseSchedule, Rooms, VideoUNet, VideoUNetConfig, checkpoint
from vdiff_lite.cli import main
from vdiff_lite.data.batch import Batch
from vdiff_lite.data.sources import clip_source
from vdiff_lite.evaluation import evaluate, video_metrics
from vdiff_lite.evaluation.compare import compare, extend
from vdiff_lite.evaluation.evaluate import held_out
from vdiff_lite.evaluation.method_text import bind, parse_method
from vdiff_lite.evaluation.results import read_results, summary
from vdiff_lite.evaluation.scores import left_out, score
from vdiff_lite.evaluation.two_digits import score_two_digits
from vdiff_lite.methods import copy_last
from vdiff_lite.viz import save_clip

SETTINGS = dict(clips=3, frames=4, window=6, overlap=3, steps=1, bar=False)
GENERAL = {"psnr", "ssim", "boundary_discontinuity", "nfe", "seconds", "done"}
OWN = """
import torch
from vdiff_lite.methods import copy_last, history_guidance

calls = []

def mine(denoiser, past, weight=1.0, generator=None):
    calls.append((weight, generator))
    return history_guidance(denoiser, past, weight)

def no_method(past):
    return past

number = 3
"""


def network(channels=1, size=16, condition=0):
    torch.manual_seed(0)
    net = VideoUNet(VideoUNetConfig(in_channels=channels, size=size, channels=(32, 32), num_middle=1,
                                    noise_channels=32, condition=condition))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return Denoiser(net.eval().requires_grad_(False), NoiseSchedule())


def metrics(path):
    table = read_results(path)
    return table, set(table.metric) - {"done"}


@pytest.fixture
def folder(tmp_path):
    """Three small color videos of 160 frames."""
    walks = Rooms(160, 16).sample(3, torch.Generator().manual_seed(0)).video
    (tmp_path / "clips").mkdir()
    for i, clip in enumerate(walks):
        save_clip(clip, tmp_path / "clips" / f"{i}.mp4", enlarge=1)
    return tmp_path / "clips"


def test_videos_of_ones_own_are_compared_by_what_applies_to_them(folder, tmp_path, capsys):
    denoiser, out = network(3), tmp_path / "t.csv.gz"
    data = clip_source(f"videos:{folder}", 16, 3)
    path = checkpoint.save(tmp_path / "mine", denoiser.net, denoiser.schedule, data=str(data))
    common = ["compare", "--checkpoint", str(path), "--methods", "copy_last", "history_guidance", "--out",
              str(out), "--clips", "3", "--frames", "4", "--window", "6", "--overlap", "3", "--steps", "1"]
    assert main([*common, "--split", "train"]) == 0
    said = capsys.readouterr().out
    assert said.count("left out, measured for one digit in 32x32 or two: identity, intensity, motion") == 1
    table, names = metrics(out)
    assert names == GENERAL - {"done"} and f"VideoFolder('{folder}" in table.attrs["header"]["data"]
    assert table.attrs["header"]["split"] == "train" and "nan" not in said
    assert main([*common, "--split", "train"]) == 0 and len(read_results(out)) == len(table)
    assert main(common) == 2
    assert "written with other settings" in capsys.readouterr().err
    assert main([*common, "--frames", "14"]) == 2
    assert "num_frames=17 needs as many frames in a row, and there are 16" in capsys.readouterr().err


def test_the_scores_are_those_of_the_clips_of_the_folder(folder, tmp_path):
    denoiser, data, out = network(3), clip_source(f"videos:{folder}", 16, 3), tmp_path / "t.csv.gz"
    compare(denoiser, out, ["history_guidance"], data=data, **SETTINGS)
    truth = data.with_frames(7).sample(16, torch.Generator().manual_seed(1_000)).video[:3]
    made, _ = extend(denoiser, "history_guidance", truth[:, :, :3], 4, 6, 3, steps=1, seed=range(3))
    psnr = video_metrics.psnr(made.clamp(-1, 1), truth)[:, 3:]
    stored = read_results(out).query("metric == 'psnr'").value.to_numpy().reshape(3, 4)
    assert abs(stored - psnr.numpy()).max() < 1e-3


def test_rooms_are_told_what_they_tell_and_fewer_at_once_score_the_same(tmp_path):
    denoiser, data = network(3, 16, 3), Rooms(16, 16, "test")
    told = []
    denoiser.net.register_forward_pre_hook(lambda net, x, kwargs: told.append(kwargs), with_kwargs=True)
    for name, at_once in (("a", 16), ("b", 2)):
        compare(denoiser, tmp_path / f"{name}.csv.gz", ["history_guidance", "injection"], data=data,
                at_once=at_once, details=True, **SETTINGS)
    assert all(kwargs["condition"].shape[-1] == 3 for kwargs in told)
    (a, names), (b, _) = (metrics(tmp_path / f"{name}.csv.gz") for name in "ab")
    assert names == GENERAL - {"done"} | {"saturation"}
    key = ["name", "clip", "frame", "metric"]
    a, b = (table[table.metric.isin(["psnr", "ssim", "saturation"])].set_index(key).value.sort_index()
            for table in (a, b))
    assert len(a) == len(b) == 2 * 3 * 9 and (a - b).abs().max() < 1e-3
    with pytest.raises(ValueError, match="this network is told"):
        compare(network(3, 16, 5), tmp_path / "c.csv.gz", ["copy_last"], data=data, **SETTINGS)
    compare(network(3), tmp_path / "d.csv.gz", ["copy_last"], data=data, **SETTINGS)


def test_two_digits_are_found_again(tmp_path, capsys):
    denoiser, out = network(1, 64), tmp_path / "t.csv.gz"
    data = clip_source("digits2", 64, split="test")
    perfect = data.with_frames(16).sample(16, torch.Generator().manual_seed(1_000))

    def oracle(denoiser, past):
        index = [torch.equal(past[0], x[:, :5]) for x in perfect.video].index(True) if past.any() else 0
        return lambda xt, t: perfect.video[index:index + len(xt)]

    methods = [oracle, "copy_last"]
    compare(denoiser, out, methods, data=data, **SETTINGS | dict(clips=8, frames=11, window=16, overlap=5))
    table = read_results(out)
    mean = table.groupby(["name", "metric"]).value.mean().unstack()
    assert mean.loc["oracle", "identity"] == 1 > mean.loc["copy_last", "identity"]
    assert mean.loc["oracle", "position_error"] < 0.1 < 1 < mean.loc["copy_last", "position_error"]
    assert mean.loc["oracle", "intensity"] == pytest.approx(1, abs=1e-3)
    assert {"crossing", "swapped"} <= set(mean) and not {"motion", "valid"} & set(mean)
    crosses = score_two_digits(perfect.video[:8], type(perfect.truth)(
        **{k: v[:8] for k, v in vars(perfect.truth).items()}), 5)["crosses"]
    assert len(table.query("name == 'oracle' and metric == 'crossing'")) == crosses.sum() > 0
    shown = summary(out)
    assert ("position_error", "mean") in shown and ("motion", "mean") not in shown


def test_what_is_left_out_is_said():
    one, two = (clip_source(text, size, split="test") for text, size in (("digits", 32), ("digits2", 64)))
    assert left_out(one) == left_out(one.with_frames(99)) == left_out(clip_source("digits")) == ""
    assert "one digit in 32x32: motion and failures" in left_out(two)
    for data in (clip_source("digits", 64), Rooms(16, 32)):
        assert "one digit in 32x32 or two: identity, intensity, motion and failures" in left_out(data)


def test_a_truth_that_stands_still_has_no_seam():
    still = torch.zeros(1, 3, 9, 16, 16)
    made = still + 0.1 * torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    rows = {name: value for _, frame, name, value in score(made, Batch(still), 3, 3, Rooms(9, 16))
            if frame is None}
    assert rows["boundary_discontinuity"] != rows["boundary_discontinuity"]  # nan
    rows = score(still, Batch(still), 3, 3, Rooms(9, 16))
    assert {value for *_, name, value in rows if name == "psnr"} == {100}
    moving = torch.randn(still.shape, generator=torch.Generator().manual_seed(1))
    joins = [3, 6]
    assert video_metrics.boundary_discontinuity(moving, joins, moving).item() == pytest.approx(1)


def test_data_that_does_not_fit_is_refused_before_any_work(tmp_path, capsys):
    path = checkpoint.save(tmp_path / "small", network().net, NoiseSchedule())
    out = tmp_path / "t.csv.gz"
    run = lambda *more: main(["compare", "--checkpoint", str(path), "--methods", "copy_last", "--out",
                              str(out), *more])
    for more, says in ((["--data", "rooms"], "channels=1 does not fit rooms"),
                       (["--data", "digit"], "data='digit' is unknown"),
                       ([], "has clips of shape (1, 16, 32, 32), and this network continues (1, f, 16, 16)"),
                       (["--data", "digits", "--features"], "features are those of one digit in 32x32"),
                       (["--data", "digits", "--batch", "0"], "batch=0")):
        assert run(*more) == 2
        assert says in capsys.readouterr().err and not out.exists()


def test_a_method_of_ones_own_by_file_and_name(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    text = f"{tmp_path / 'mine.py'}:mine"
    assert parse_method(f"{text}:weight=2,start=600") == (text, dict(weight=2, start=600))
    denoiser, out = network(1, 32), tmp_path / "t.csv.gz"
    compare(denoiser, out, [f"{text}:weight=2", "history_guidance:weight=2", copy_last], **SETTINGS)
    table = read_results(out)
    assert list(table.name.unique()) == [f"{text}:weight=2", "history_guidance:weight=2", "copy_last"]
    psnr = [rows.value.to_numpy() for _, rows in table[table.metric == "psnr"].groupby("name", sort=False)]
    assert abs(psnr[0] - psnr[1]).max() < 1e-4 < abs(psnr[0] - psnr[2]).max()
    calls = bind(text).func.__globals__["calls"]  # the file was run once
    assert len(calls) > 1 and {weight for weight, _ in calls} == {2}
    assert all(generator is not None for _, generator in calls)
    for wrong, says in ((":nothing", "defines no nothing"), (":no_method", "is no method: it must take"),
                        (":number", "is no method"), (":mine:gain=2", "no setting gain; it has weight"),
                        (":mine:weight=big", "weight='big' must be a number")):
        with pytest.raises(ValueError, match=says):
            bind(f"{tmp_path / 'mine.py'}{wrong}")
    path = checkpoint.save(tmp_path / "net", denoiser.net, denoiser.schedule)
    assert main(["extend", "--checkpoint", str(path), "--method", text, "--frames", "2", "--steps", "1",
                 "--window", "4", "--overlap", "2", "--out", str(tmp_path / "x.gif")]) == 0
    assert "made by" in capsys.readouterr().out


def test_functions_stand_in_a_table_by_their_names(tmp_path):
    def injection(denoiser, past):
        return copy_last(denoiser, past)

    for method in (injection, torch.nn.Identity()):
        with pytest.raises(ValueError, match="has no __name__ that is its own"):
            compare(network(1, 32), tmp_path / "t.csv.gz", [method], **SETTINGS)
    past = BouncingDigits(num_frames=3).sample(1, torch.Generator().manual_seed(0)).video
    made = [extend(network(1, 32), method, past, 2, 4, 3, steps=1)[0] for method in ("copy_last", injection)]
    assert torch.equal(*made)


def test_neighbors_finds_copies_in_any_data(tmp_path, capsys, monkeypatch):
    denoiser = network(3, 16, 3)
    path = checkpoint.save(tmp_path / "walk", denoiser.net, denoiser.schedule, data=str(Rooms(16, 16)))
    training = held_out(checkpoint.load(path), split="train")
    training = training.sample(256, torch.Generator().manual_seed(0)).video
    assert main(["neighbors", "--checkpoint", str(path), "--clips", "2"]) == 0
    said = capsys.readouterr().out
    assert "distance to the nearest of 1,024 frames of training clips" in said and "held-out samples" in said
    monkeypatch.setattr(evaluate, "draw_clips", lambda *args, **settings: (training[:4], None))
    table = evaluate.neighbors(checkpoint.load(path), 4)
    assert table["median"]["drawn by the model"] < 1e-3 < 0.02 < table["smallest"]["held-out samples"]
