import math

import pytest
import torch

from vdiff_lite.data.raycaster import render
from vdiff_lite.data.rooms import (
    CELLS,
    Rooms,
    blocked,
    follow_actions,
    look_round,
    room_maps,
    told,
    walk,
)


def seeded(n=0):
    return torch.Generator().manual_seed(n)


def test_a_seed_gives_the_same_walks():
    one, two = (Rooms(num_frames=4).sample(2, seeded(3)) for _ in range(2))
    assert torch.equal(one.video, two.video) and torch.equal(one.condition, two.condition)
    assert not torch.equal(one.video, Rooms(num_frames=4).sample(2, seeded(4)).video)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_shapes_and_ranges(size):
    batch = Rooms(num_frames=5, size=size).sample(3, seeded())
    h, w = size
    assert batch.video.shape == (3, 3, 5, h, w) and batch.condition.shape == (3, 5, 3)
    assert batch.video.min() >= -1 and batch.video.max() <= 1
    assert batch.truth.depth.shape == (3, 5, w) and batch.truth.depth.min() > 0
    assert set(batch.condition[..., 0].unique().tolist()) <= {0, 1}
    assert set(batch.condition[..., 1].unique().tolist()) <= {-1, 0, 1}
    assert (batch.condition[..., 2] == 1).all()


def test_maps_for_testing_are_never_trained_on():
    train, test = ({m.numpy().tobytes() for m in room_maps(split)} for split in ("train", "test"))
    assert len(test) == len(room_maps("test")) and not train & test


def test_every_room_can_be_reached():
    for grid in room_maps("test"):
        free = grid == 0
        reached = torch.zeros_like(free)
        reached[tuple(free.nonzero()[0])] = True
        while True:
            wider = reached.clone()
            wider[1:] |= reached[:-1]
            wider[:-1] |= reached[1:]
            wider[:, 1:] |= reached[:, :-1]
            wider[:, :-1] |= reached[:, 1:]
            wider &= free
            if torch.equal(wider, reached):
                break
            reached = wider
        assert torch.equal(reached, free)
        assert free[1:-1, 1:-1].any() and not free[0].any() and not free[:, -1].any()


def test_nobody_walks_through_walls_and_most_walk():
    maps = room_maps("train")[:64]
    poses, actions = walk(maps, 64, generator=seeded())
    for pose in poses.unbind(1):
        assert not blocked(maps, pose[:, 0], pose[:, 1]).any()
    assert actions[..., 0].mean() > 0.3  # the way ahead is mostly free
    assert torch.allclose(follow_actions(maps, poses[:, 0], actions[:, 1:]), poses[:, 1:])


def test_a_full_turn_ends_where_it_began():
    maps = room_maps("test")[:4]
    start = walk(maps, 1, generator=seeded())[0]
    around = look_round(maps, start[:, 0])
    first, circle = render(maps, start, 32)[0], render(maps, around, 32)[0]
    assert circle.shape[2] == 72
    assert (circle[:, :, -1:] - first).abs().mean() < 1e-4  # a pixel at an edge may fall to the other side
    assert (circle[:, :, 35:36] - first).abs().mean() > 0.05  # the opposite view


def empty_room(color=1):
    grid = torch.zeros(1, CELLS, CELLS, dtype=torch.long)
    grid[:, 0] = grid[:, -1] = grid[:, :, 0] = grid[:, :, -1] = color
    return grid


@pytest.mark.parametrize("heading, distance", [(0.0, 8.0), (math.pi, 3.0), (math.pi / 2, 6.5),
                                               (-math.pi / 2, 4.5)])
def test_depth_is_the_distance_along_the_view(heading, distance):
    pose = torch.tensor([[[4.0, 5.5, heading]]])
    _, depth = render(empty_room(), pose, 16)
    torch.testing.assert_close(depth[..., 6:10], torch.full((1, 1, 4), distance), rtol=1e-5, atol=1e-4)


def test_a_turn_to_the_right_moves_the_picture_to_the_left():
    grid = empty_room()
    grid[0, 6, 12] = 5  # one cell of another color, straight ahead
    frames, _ = render(grid, torch.tensor([[[2.5, 6.5, 0.0], [2.5, 6.5, math.radians(10)]]]), (32, 32))
    blue = frames[0, 2] - frames[0, 0]
    column = lambda i: (blue[i, 16].clamp(min=0) * torch.arange(32)).sum() / blue[i, 16].clamp(min=0).sum()
    assert abs(column(0) - 15.5) < 0.5
    expected = 15.5 - 16 * math.tan(math.radians(10))  # the field of view is 90 degrees
    assert abs(column(1) - expected) < 0.7


def test_what_is_told_of_actions():
    actions = torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])
    assert told(actions).tolist() == [[[1, -1, 1], [0, 0, 1]]]


@pytest.mark.parametrize("options, message", [
    (dict(split="valid"), "split='valid'"), (dict(turn=-5), "turn=-5"), (dict(num_frames=0), "num_frames=0"),
    (dict(size=(0, 4)), "height=0")])
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        Rooms(**options)
    with pytest.raises(ValueError, match="batch=0"):
        Rooms().sample(0)
