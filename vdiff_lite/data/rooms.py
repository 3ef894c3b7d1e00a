"""Walks through rooms: a first-person world, endless and seeded, with its truth: map, poses, actions."""

import math
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vdiff_lite.checks import number, one_of, whole
from vdiff_lite.data.batch import Batch, height_width
from vdiff_lite.data.raycaster import COLORS, render

CELLS = 13  # of a map, to a side
NUM_MAPS = {"train": 4000, "test": 256}
SPEED, BODY = 0.12, 0.22  # cells walked in a frame;  half the width of who walks


@dataclass(frozen=True)
class RoomTruth:
    """The truth about a batch of walks.

    maps: (b, n, n) long, 0 where one can walk, else the number of a wall's color;  poses: (b, f, 3), x and y
    in cells, heading in radians (0 looks along x, pi / 2 along y);  depth: (b, f, w), how far a wall is in
    each column, in cells along the view axis;  actions: (b, f, 2), what led to each frame: forward, 0 or 1,
    and turn, -1, 0 or 1.
    """

    maps: Tensor
    poses: Tensor
    depth: Tensor
    actions: Tensor


@dataclass(frozen=True)
class Rooms:
    """First-person walks through random rooms with colored walls, doors and a chequered floor.

    A frame turns by `turn` degrees to either side or not at all, then walks on or stands. `sample` also gives
    the actions as the condition (b, f, 3): forward, turn, and 1 for "told"; all 0 means that the network is
    told nothing.  size: (height, width), or a number for a square;  split: "train" or "test", other maps.
    Raises ValueError for values that do not fit.
    """

    num_frames: int = 16
    size: int | tuple = (32, 32)
    split: str = "train"
    turn: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", height_width(self.size))
        whole(num_frames=self.num_frames)
        one_of(tuple(NUM_MAPS), split=self.split)
        number(0, 90, turn=self.turn)

    def sample(self, batch: int, generator: Generator | None = None) -> Batch:
        """Draw `batch` new walks, where the generator lives. Raises ValueError for a batch below 1."""
        whole(batch=batch)
        device = generator.device if generator is not None else torch.device("cpu")
        maps = room_maps(self.split)
        drawn = torch.randint(len(maps), (batch,), generator=generator, device=device)
        maps = maps.to(device)[drawn]
        poses, actions = walk(maps, self.num_frames, self.turn, generator)
        frames, depth = render(maps, poses, self.size)
        return Batch(2 * frames - 1, RoomTruth(maps, poses, depth, actions), told(actions))

    def with_frames(self, num_frames: int) -> "Rooms":
        """The same world, with walks of another length."""
        return replace(self, num_frames=num_frames)


def told(actions: Tensor) -> Tensor:
    """Actions (..., 2) as the condition of a network: (..., 3), a 1 for "told" behind them."""
    return F.pad(actions, (0, 1), value=1.0)


@cache
def room_maps(split: str = "train") -> Tensor:
    """The maps of one split: (n, 13, 13) long. No map is in both; tests/test_rooms.py looks."""
    generator = torch.Generator().manual_seed({"train": 0, "test": 1}[split])
    return torch.stack([_draw_map(generator) for _ in range(NUM_MAPS[split])])


def _draw_map(generator):
    """Rooms by division: a wall with a door across the longer side, until a room is small. (13, 13) long."""
    n, rand = CELLS, lambda: torch.rand((), generator=generator).item()
    wall = torch.ones(n, n, dtype=torch.bool)
    wall[1:-1, 1:-1] = False
    rooms = [(1, 1, n - 2, n - 2)]  # y, x, height, width
    while rooms:
        y, x, h, w = rooms.pop()
        if max(h, w) < 4 or (max(h, w) <= 5 and rand() < 0.8):
            continue
        across = h > w or (h == w and rand() < 0.5)
        length, other = (h, w) if across else (w, h)
        cut = 1 + 2 * int(rand() * ((length - 1) // 2))  # walls stand at odd places, doors at even ones
        if cut >= length - 1:
            continue
        door = 2 * int(rand() * ((other + 1) // 2))
        if across:
            wall[y + cut, x:x + w] = True
            wall[y + cut, x + door] = False
            rooms += [(y, x, cut, w), (y + cut + 1, x, h - cut - 1, w)]
        else:
            wall[y:y + h, x + cut] = True
            wall[y + door, x + cut] = False
            rooms += [(y, x, h, cut), (y, x + cut + 1, h, w - cut - 1)]
    # Walls near one another have one color, but for a quarter of the cells.
    colors = partial(torch.randint, 1, len(COLORS), generator=generator)
    blocks = colors((-(-n // 3),) * 2).repeat_interleave(3, 0).repeat_interleave(3, 1)[:n, :n]
    odd = torch.rand(n, n, generator=generator) < 0.25
    return torch.where(wall, torch.where(odd, colors((n, n)), blocks), 0)


def blocked(maps: Tensor, x: Tensor, y: Tensor, body: float = BODY) -> Tensor:
    """Whether someone of this half width, at (x, y), would stand in a wall. x, y: (b, ...). Returns bool."""
    n = maps.shape[-1]
    each = torch.arange(len(maps), device=maps.device).view(-1, *[1] * x.ndim)
    corner = torch.tensor([(-body, -body), (-body, body), (body, -body), (body, body)], device=maps.device)
    sides = zip((x, y), corner.unbind(-1))
    column, row = ((value[..., None] + off).long().clamp(0, n - 1) for value, off in sides)
    return (maps.reshape(-1)[(each * n + row) * n + column] > 0).any(-1)


def move(maps: Tensor, pose: Tensor, action: Tensor, turn: float) -> Tensor:
    """One frame on: turn, then walk, sliding along walls. pose: (b, 3);  action: (b, 2);  turn: degrees."""
    x, y, heading = pose.unbind(-1)
    heading = heading + action[:, 1] * math.radians(turn)
    new_x, new_y = x + SPEED * action[:, 0] * heading.cos(), y + SPEED * action[:, 0] * heading.sin()
    x = torch.where(blocked(maps, new_x, y), x, new_x)
    y = torch.where(blocked(maps, x, new_y), y, new_y)
    return torch.stack([x, y, heading], -1)


def follow_actions(maps: Tensor, pose: Tensor, actions: Tensor, turn: float = 5.0) -> Tensor:
    """The poses that actions lead to. pose: (b, 3), before them;  actions: (b, f, 2). Returns (b, f, 3)."""
    poses = [pose]
    for action in actions.unbind(1):
        poses.append(move(maps, poses[-1], action, turn))
    return torch.stack(poses[1:], 1)


def walk(maps: Tensor, num_frames: int, turn: float = 5.0,
         generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Walks that keep off walls, turn on a whim, and now and then stand and look round.

    Someone who comes near a wall turns to the side where the way is longer, until it is free. Returns poses
    (b, num_frames, 3) and the actions (b, num_frames, 2) that led to them.
    """
    b, device = len(maps), maps.device
    rand = lambda: torch.rand(b, generator=generator, device=device)
    either = lambda: torch.where(rand() < 0.5, -1.0, 1.0)
    start = torch.multinomial((maps == 0).view(b, -1).float(), 1, generator=generator)[:, 0]
    pose = torch.stack([start % CELLS + 0.5, start // CELLS + 0.5, 2 * math.pi * rand()], -1)
    turning, avoiding = torch.zeros(b, device=device), torch.zeros(b, device=device)
    standing = torch.where(rand() < 0.25, (24 * rand()).floor(), 0.0)  # frames to go
    poses, actions, settle = [], [], 12
    for _ in range(num_frames + settle):
        left, ahead, right = _free_way(maps, pose).unbind(-1)
        near, longer = ahead < 1, torch.where(right > left, 1.0, -1.0)
        avoiding = torch.where(near, torch.where(avoiding == 0, longer, avoiding), 0.0)
        whim = torch.where(rand() < 0.7, 0.0, either())
        turning = torch.where(rand() < 0.1, whim, turning)
        standing = torch.where((standing == 0) & (rand() < 0.015), (8 + 40 * rand()).floor(),
                               (standing - 1).clamp(min=0))
        looks = torch.where((turning == 0) & (rand() < 0.2), either(), turning)
        turning = torch.where(standing > 0, looks, turning)
        turns = torch.where((standing == 0) & near, avoiding, turning)
        action = torch.stack([((standing == 0) & (ahead > 0.5)).float(), turns], -1)
        pose = move(maps, pose, action, turn)
        poses.append(pose)
        actions.append(action)
    return torch.stack(poses[settle:], 1), torch.stack(actions[settle:], 1)


def _free_way(maps, pose, angles=(-0.8, 0.0, 0.8)):
    """How far one can walk in some directions, in half cells up to 2: (b, directions)."""
    x, y, heading = (value[:, None, None] for value in pose.unbind(-1))
    ahead = torch.arange(1, 5, device=pose.device) / 2
    heading = heading + torch.tensor(angles, device=pose.device)[:, None]
    free = ~blocked(maps, x + ahead * heading.cos(), y + ahead * heading.sin(), 0.12)
    return free.long().cumprod(-1).sum(-1) / 2


def look_round(maps: Tensor, poses: Tensor, turn: float = 5.0, circles: float = 1.0) -> Tensor:
    """Stand still and turn, from one step on to the end of the last circle: poses (b, 3) -> (b, f, 3)."""
    steps = torch.arange(1, round(circles * 360 / turn) + 1, device=maps.device) * math.radians(turn)
    return torch.stack([*poses[:, None, :2].expand(-1, len(steps), -1).unbind(-1), poses[:, 2:] + steps], -1)
