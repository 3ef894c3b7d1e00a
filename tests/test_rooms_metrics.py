"""What chapter 11 measures by, calibrated on true walks."""

import math
from dataclasses import replace

import pytest
import torch

import vdiff_lite as vd
from vdiff_lite.data.raycaster import render
from vdiff_lite.data.rooms import Rooms, RoomTruth
from vdiff_lite.evaluation.rooms import continue_walks, heading_error, look_away, seen_pixels


@pytest.fixture(scope="module")
def walks():
    return Rooms(8, 32, "test").sample(4, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("degrees", [0, 7, -12])
def test_a_turn_made_on_purpose_is_read_to_a_degree(walks, degrees):
    poses = walks.truth.poses.clone()
    poses[..., 2] += math.radians(degrees)
    turned = 2 * render(walks.truth.maps, poses, 32)[0] - 1
    assert (heading_error(turned[:, :, :3], shortened(walks.truth, 3)) - degrees).abs().max() <= 1


def shortened(truth, frames):
    return replace(truth, poses=truth.poses[:, :frames])


def pose(x, y, degrees):
    return torch.tensor([[x, y, math.radians(degrees)]])


def test_seen_is_what_lies_in_an_earlier_view_with_no_wall_before_it():
    grid = torch.zeros(1, 13, 13, dtype=torch.long)
    grid[:, 0] = grid[:, -1] = grid[:, :, 0] = grid[:, :, -1] = 1
    poses = torch.stack([pose(6.5, 6.5, 0), pose(6.5, 6.5, 0), pose(6.5, 6.5, 90), pose(6.5, 6.5, 45)], dim=1)
    depth = render(grid, poses, (16, 16))[1]
    seen = seen_pixels(RoomTruth(grid, poses, depth, torch.zeros(1, 4, 2)), 1, (16, 16))[0]
    assert seen[:2].all()  # the given frame, and the same view again
    assert not seen[2].any()  # a quarter turn on, with a field of view of 90 degrees
    columns = seen[3, 8]  # an eighth: half of the columns, those to the side it came from
    assert columns[:8].all() and not columns[8:].any()


def test_a_wall_hides_what_is_behind_it():
    grid = torch.zeros(1, 13, 13, dtype=torch.long)
    grid[:, 0] = grid[:, -1] = grid[:, :, 0] = grid[:, :, -1] = 1
    grid[0, :, 7] = 2  # a wall across
    poses = torch.stack([pose(5.5, 6.5, 0), pose(9.5, 6.5, 0)], dim=1)  # before it, and behind it
    depth = render(grid, poses, (16, 16))[1]
    seen = seen_pixels(RoomTruth(grid, poses, depth, torch.zeros(1, 2, 2)), 1, (16, 16))[0]
    assert not seen[1, 8].any()
    grid[0, :, 7] = 0
    depth = render(grid, poses, (16, 16))[1]
    seen = seen_pixels(RoomTruth(grid, poses, depth, torch.zeros(1, 2, 2)), 1, (16, 16))[0]
    assert seen[1, 8].all()


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    config = vd.VideoUNetConfig(in_channels=3, size=16, channels=(32,), num_middle=1, condition=3)
    return vd.Denoiser(vd.VideoUNet(config).eval().requires_grad_(False), vd.NoiseSchedule())


def test_the_table_has_a_row_for_each_way_and_frame(denoiser):
    rows = continue_walks(denoiser, clips=2, past=2, frames=3, steps=2)
    assert {(row["way"], row["frame"]) for row in rows} == {
        (way, frame) for way in ("told", "not told", "last frame") for frame in (1, 2, 3)}
    copied = [row for row in rows if row["way"] == "last frame"]
    assert copied[0]["psnr"] > copied[2]["psnr"] and 0 < copied[0]["share_seen"] <= 1


def test_a_true_circle_comes_back_and_what_is_made_is_compared_with_it(denoiser):
    result = look_away(denoiser, maps=2, window=16, overlap=5, steps=1, turn=10)
    assert result["true"].shape == (2, 36)
    assert result["video"].shape == result["truth"].shape == (2, 3, 41, 16, 16)
    assert (result["truth"][:, :, 4] - result["truth"][:, :, -1]).abs().mean() < 1e-3
    assert result["copy"][:, -1].max() < 1e-3 < result["copy"][:, 17].min()
    assert torch.equal(result["video"][:, :, :5], result["truth"][:, :, :5])
