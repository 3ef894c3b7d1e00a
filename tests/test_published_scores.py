"""The standard table: its measures against brute force, its protocol, and data that it may be made of."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from vdiff_lite import Denoiser, NoiseSchedule, Rooms, VideoUNet, VideoUNetConfig, checkpoint
from vdiff_lite.cli import main
from vdiff_lite.data import BouncingDigits, MovingDigits, clip_source
from vdiff_lite.data.moving_mnist import MovingMNIST
from vdiff_lite.evaluation import evaluate, published
from vdiff_lite.evaluation.evaluate import report
from vdiff_lite.evaluation.published import published_scores, standard_scores
from vdiff_lite.evaluation.two_digits import score_two_digits


def pair(clips=3, noise=0.3):
    generator = torch.Generator().manual_seed(0)
    truth = MovingDigits(num_frames=4).sample(clips, generator).video
    return truth + noise * torch.randn(truth.shape, generator=generator), truth


def by_hand(clip, truth):
    """Frame by frame in numpy, with scipy's filter in place of scikit-image."""
    x, y = ((z.double().numpy() + 1) / 2 for z in (clip, truth))
    rows = []
    for made, true in zip(x[:, 0], y[:, 0]):
        rows.append([])
        for a, b in zip(made, true):
            mse, mae = ((a - b) ** 2).sum(), np.abs(a - b).sum()
            a, b = a.clip(0, 1), b.clip(0, 1)
            mean = lambda z: uniform_filter(z, 7)
            va, vb = (49 / 48 * (mean(z * z) - mean(z) ** 2) for z in (a, b))
            cov = 49 / 48 * (mean(a * b) - mean(a) * mean(b))
            c1, c2 = 0.02**2, 0.06**2
            local = ((2 * mean(a) * mean(b) + c1) * (2 * cov + c2)
                     / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (va + vb + c2)))
            rows[-1].append((mse, mae, local[3:-3, 3:-3].mean(), 10 * math.log10(1 / ((a - b) ** 2).mean())))
    return np.array(rows).mean(1)


def test_the_published_measures_by_brute_force():
    clip, truth = pair()
    scores = published_scores(clip, truth)
    assert list(scores) == ["mse", "mae", "ssim", "psnr"]
    np.testing.assert_allclose(torch.stack(list(scores.values()), 1), by_hand(clip, truth), rtol=1e-6)


def test_errors_are_summed_over_pixels_from_0_to_1():
    truth = torch.full((1, 1, 2, 64, 64), -1.0)
    clip = truth.clone()
    clip[:, :, 0, 0, :10] = 1.0  # ten pixels of one of two frames
    scores = published_scores(clip, truth)
    assert scores["mse"].item() == scores["mae"].item() == 5
    psnr = 10 * math.log10(64 * 64 / 10)
    assert scores["psnr"].item() == pytest.approx((psnr + 100) / 2)  # the other frame is as it should be
    assert published_scores(truth, truth)["ssim"].item() == 1
    with pytest.raises(ValueError, match="differ in shape"):
        published_scores(clip, truth[:, :, :1])
    with pytest.raises(ValueError, match="height=6 must be a whole number of 7 or more"):
        published_scores(*[torch.zeros(1, 1, 1, 6, 64)] * 2)


def test_the_published_data_range_is_milder_than_the_right_one():
    """A blur by 5x5: .93 as published, .91 with the data range of 1 that pixels from 0 to 1 have."""
    truth = (pair()[1] + 1) / 2
    blur = torch.nn.functional.avg_pool3d(truth, (1, 5, 5), 1, (0, 2, 2))
    scores = [published._published_ssim(blur, truth, data_range) for data_range in (1.0, 2.0)]
    assert scores[1].mean() > scores[0].mean() + 0.01


def network(channels=1, size=64, condition=0):
    torch.manual_seed(0)
    net = VideoUNet(VideoUNetConfig(in_channels=channels, size=size, channels=(32, 32), num_middle=1,
                                    noise_channels=32, condition=condition))
    return Denoiser(net.eval().requires_grad_(False), NoiseSchedule())


def rows_of(scores):
    return {(row["way"], row["frames"]): row for row in scores}


@pytest.fixture(scope="module")
def test_set(tmp_path_factory):
    """A file as the published one, with three clips of other digits."""
    video = MovingDigits().sample(3, torch.Generator().manual_seed(0)).video[:, 0]
    path = tmp_path_factory.mktemp("moving") / "mnist_test_seq.npy"
    np.save(path, ((video + 1) * 127.5).round().byte().numpy().swapaxes(0, 1))
    return path


@pytest.fixture
def futures(monkeypatch):
    """Puts what is given to it in the place of what a network makes."""
    made = []
    monkeypatch.setattr(published, "rollout", lambda denoiser, past, *args, **settings: made.pop(0).unbind(2))
    return made


def test_the_table_is_of_the_files_clips_in_order_ten_frames_from_ten(test_set, futures):
    data, generator = MovingMNIST(test_set), torch.Generator().manual_seed(0)
    truth = MovingMNIST(test_set, 20).clips(0, 2)
    futures += [truth[:, :, 10:] + 0.5 * torch.randn(2, 1, 10, 64, 64, generator=generator) for _ in range(3)]
    samples = [clip.clamp(-1, 1) for clip in futures]
    rows = rows_of(standard_scores(network(), data, 2, 10))
    still = truth[:, :, 9:10].expand(-1, -1, 10, -1, -1)
    clips = {"one sample": samples[0], "mean of 3": sum(samples) / 3, "copy the last frame": still}
    assert list(rows) == [(way, "1-10") for way in clips]
    for way, clip in clips.items():
        by_clip = by_hand(clip, truth[:, :, 10:])
        for i, name in enumerate(("mse", "mae", "ssim", "psnr")):
            assert rows[way, "1-10"][name] == pytest.approx(by_clip[:, i].mean(), rel=1e-5)
            error = by_clip[:, i].std(ddof=1) / 2**0.5
            assert rows[way, "1-10"][f"{name}_standard_error"] == pytest.approx(error, rel=1e-3)
    assert rows["mean of 3", "1-10"]["mse"] < rows["one sample", "1-10"]["mse"]


def test_a_blur_wins_by_squared_error(futures):
    """Futures that are equally likely: their mean is closer to the true one than any of them."""
    data = BouncingDigits(size=24, split="test")
    futures += [data.with_frames(10).sample(16, torch.Generator().manual_seed(n)).video for n in range(1, 9)]
    rows = rows_of(standard_scores(network(1, 24), data, 16, 10, samples=8))
    assert rows["mean of 8", "1-10"]["mse"] < 0.75 * rows["one sample", "1-10"]["mse"]


def test_later_frames_have_rows_of_their_own_and_two_digits_an_identity(futures):
    data = clip_source("digits2", 64, split="test")
    true = data.with_frames(33).sample(4, torch.Generator().manual_seed(0))
    right = true.video[:, :, 10:]
    lost = torch.cat([right[:, :, :20], torch.full_like(right[:, :, 20:], -1)], dim=2)
    futures += [lost, right]
    rows = rows_of(standard_scores(network(), data, 4, 23, samples=2))
    assert {frames for _, frames in rows} == {"1-10", "11-20", "21-23"}
    clear = score_two_digits(true.video, true.truth, 10)["clear"]
    assert clear.all()
    for frames, mse, identity in (("1-10", 0, 1), ("11-20", 0, 1), ("21-23", None, 0)):
        row = rows["one sample", frames]
        assert row["identity"] == identity and (row["mse"] > 50 if mse is None else row["mse"] == mse)
    expected = published_scores(lost[:, :, 20:], right[:, :, 20:])["mae"].mean().item()
    assert rows["one sample", "21-23"]["mae"] == pytest.approx(expected)
    assert "identity" not in rows["mean of 2", "1-10"]


def test_a_network_is_told_what_belongs_to_the_shared_frames_and_those_to_come(monkeypatch):
    data, told = Rooms(20, 16, "test"), []
    true = data.sample(2, torch.Generator().manual_seed(0))
    monkeypatch.setattr(published, "rollout", lambda *args, condition, **settings: (
        told.append(condition) or true.video[:, :, 10:].unbind(2)))
    for condition in (3, 0):
        standard_scores(network(3, 16, condition), data, 2, 10)
    assert len(told) == 6 and torch.equal(told[0], true.condition[:, 4:]) and told[3:] == [None] * 3


def test_a_clip_does_not_depend_on_how_many_there_are():
    data = MovingDigits(split="test")
    tables = [rows_of(standard_scores(network(), data, 2, 3, samples, steps=2)) for samples in (2, 3)]
    rows = [table["one sample", "1-3"] for table in tables]
    assert rows[0] == rows[1]
    assert tables[0]["mean of 2", "1-3"]["mse"] != rows[0]["mse"], "each sample has noise of its own"
    assert rows[0] != rows_of(standard_scores(network(), data, 2, 3, 2, 2, seed=1))["one sample", "1-3"]


CARD = str(BouncingDigits(num_digits=2, size=64, speed=(1, 3), digit_size=24))
SAYS = {"PhyDNet": True, "0.9374": True, "not trained on these clips": True,
        "left out, measured for two BouncingDigits: identity": True, "identity: fraction": False}


@pytest.mark.parametrize("data, size, frames, says", [
    ("moving-mnist:FILE", 64, None, SAYS), ("moving-mnist", 64, None, SAYS),
    ("moving-mnist:FOLDER", 32, "4", SAYS | {"PhyDNet": False, "0.9374": False}),
    (None, 64, "4", {"PhyDNet": False, "not trained on": False, "left out": False, "identity: frac": True}),
    (None, 64, "12", {"1-10": True, "11-12": True}),
    ("digits", 32, "4", {"PhyDNet": False, "not trained on": False, "left out": True}),
    ("digits", 64, None, {"mse": False, "clips from noise: left out": True,
                          "identity, crossing, swapped, intensity: left out": True})])
def test_evaluate_takes_any_data_and_says_what_is_left_out(tmp_path, test_set, capsys, data, size, frames,
                                                           says):
    denoiser = network(1, size)
    path = checkpoint.save(tmp_path / "net", denoiser.net, denoiser.schedule, data=CARD)
    command = ["evaluate", "--checkpoint", str(path), "--clips", "2", "--steps", "1", "--out",
               str(tmp_path / "x.json")]
    text = (data or "").replace("FILE", str(test_set)).replace("FOLDER", str(test_set.parent))
    command += ["--data", text] if data else []
    assert main([*command, *(["--frames", frames] if frames else [])]) == 0
    printed, result = capsys.readouterr().out, json.loads((tmp_path / "x.json").read_text())
    assert printed == report(result) + "\n"
    assert {part: part in printed for part in says} == says


@pytest.mark.parametrize("command, says", [
    ("evaluate --data moving-mnist:FILE --clips 4", "clips=4 must be a whole number from 1 to 3"),
    ("evaluate --data moving-mnist:FILE --frames 11", "num_frames=21: clips of Moving MNIST have 20"),
    ("evaluate --data digits2 --frames 0", "frames=0 must be"),
    ("evaluate --data digits2 --frames 1001", "frames=1001 must be"),
    ("evaluate --data", "data='' is unknown; give digits,"),
    ("evaluate --data rooms", "channels=1 does not fit rooms; choose 3"),
    ("neighbors --data rooms", "channels=1 does not fit rooms; choose 3"),
    ("neighbors --data moving-mnist:FILE", "is the published test set, and training on it would spoil"),
    ("train --out x --data moving-mnist:FILE --size 64", "is the published test set, and training on it"),
    ("compare --methods copy_last --out x --split train --data moving-mnist:FILE", "is the published test"),
    ("extend --out x.gif --data rooms", "channels=1 does not fit rooms; choose 3"),
    ("extend --out x.gif --data digits --video y", "video='y' and data='digits' both name clips; give one"),
    ("extend --out x.gif --data moving-mnist:FILE --truth", "num_frames=205: clips of Moving MNIST have 20"),
    ("extend --out x.gif", "has clips of shape (1, 5, 32, 32), and this network continues (1, f, 64, 64)"),
    ("evaluate", "has clips of shape (1, 16, 32, 32), and this network continues (1, f, 64, 64)"),
    ("neighbors", "has clips of shape (1, 16, 32, 32), and this network continues (1, f, 64, 64)")])
def test_data_that_does_not_fit_is_one_line_before_any_work(tmp_path, test_set, capsys, monkeypatch, command,
                                                            says):
    monkeypatch.chdir(tmp_path)
    denoiser = network()
    denoiser.net.forward = lambda *args, **settings: pytest.fail("work")
    monkeypatch.setattr(checkpoint, "load", lambda *args: denoiser)
    denoiser.card = dict(sha256="0")
    words = command.replace("FILE", str(test_set)).split()
    assert main([*words, *[""] * command.endswith("--data")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and says in error[0] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", ["moving-mnist:FILE", "moving-mnist", "digits2"])
def test_a_held_out_clip_of_any_data_is_continued(tmp_path, test_set, monkeypatch, data):
    from vdiff_lite import commands

    given, denoiser = [], network()
    path, text = tmp_path / "net", data.replace("FILE", str(test_set))
    checkpoint.save(path, denoiser.net, denoiser.schedule, data=CARD)
    monkeypatch.setattr(commands, "prepare", lambda d, m, past, frames, *args, **settings: (
        given.append(past) or iter([past[:, :, -1]] * frames), None))
    for frames, seed in ((3, 0), (3, 1), (20, 1)):
        assert main(["extend", "--checkpoint", str(path), "--data", text, "--frames", str(frames), "--seed",
                     str(seed), "--out", str(tmp_path / "x.gif")]) == 0
    for past, seed in zip(given, (0, 1)):
        true = clip_source(text, 64, split="test").with_frames(8)
        assert torch.equal(past, true.sample(1, torch.Generator().manual_seed(seed)).video[:, :, :5])
    assert given[2].shape == (1, 1, 5, 64, 64) and not torch.equal(given[0], given[1])


def test_neighbors_looks_among_the_training_clips_of_the_data(tmp_path, capsys, monkeypatch):
    training = MovingDigits(num_frames=16).sample(256, torch.Generator().manual_seed(0)).video[:2]
    monkeypatch.setattr(evaluate, "draw_clips", lambda *args, **settings: (training, None))
    denoiser = network(1, 64)
    path = checkpoint.save(tmp_path / "net", denoiser.net, denoiser.schedule, data=CARD)
    assert main(["neighbors", "--checkpoint", str(path), "--clips", "2", "--data", "moving-mnist"]) == 0
    drawn = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("drawn"))
    assert float(drawn[-2]) == float(drawn[-1]) == 0
