"""What one sees in a world of walls on a grid: drawn column by column, on any device."""

import torch
from einops import rearrange
from torch import Tensor

from vdiff_lite.data.batch import height_width

OVERSAMPLE = 2  # rays to a pixel, along each axis
COLORS = ((0, 0, 0), (0.85, 0.25, 0.2), (0.95, 0.7, 0.2), (0.35, 0.7, 0.3), (0.2, 0.6, 0.75),
          (0.3, 0.35, 0.8), (0.65, 0.35, 0.7), (0.9, 0.9, 0.85), (0.55, 0.4, 0.3))  # of walls, by number


def render(maps: Tensor, poses: Tensor, size: int | tuple) -> tuple[Tensor, Tensor]:
    """What is seen from each pose: frames (b, 3, f, h, w) in [0, 1], and the depth of each column (b, f, w).

    maps: (b, n, n);  poses: (b, f, 3), as in `RoomTruth`. One ray is cast per column, by the grid lines it
    crosses (Amanatides and Woo 1987); the field of view is 90 degrees, walls are one cell high. Two by two
    rays a pixel are averaged.
    """
    (h, w), device = height_width(size), maps.device
    rows, columns = (pixel_centers(OVERSAMPLE * n, device) for n in (h, w))
    x, y, heading = (poses[..., i, None] for i in range(3))
    along_x, along_y = ray_directions(heading, columns)
    color, depth, x_side = cast(maps, x.expand_as(along_x), y.expand_as(along_y), along_x, along_y)
    palette = torch.tensor(COLORS, device=device)

    # Walls: darker where they run along y, near the border of a cell, and far away. One color per column.
    across = torch.where(x_side, y + depth * along_y, x + depth * along_x).remainder(1)
    from_middle = (across - 0.5).abs()
    shade = torch.where(from_middle < 0.42, 1, 0.72) * torch.where(from_middle < 0.08, 1.12, 1)
    shade = shade * (1 - 0.35 * x_side) / (1 + 0.12 * depth)
    walls = rearrange(palette[color] * shade[..., None], "b f w c -> (b f) c 1 w")

    # Ceiling above eye level, floor below: a row is seen at one distance. Gray here, tinted at last.
    far = 0.5 / rows.abs().clamp(min=1e-3)
    up, down = far[rows < 0, None], far[rows >= 0, None]
    gray = torch.empty(*depth.shape[:2], len(rows), depth.shape[2], device=device)
    gray[:, :, :len(up)] = 0.18 + 0.1 * (1 - up.clamp(max=6) / 6)
    floor_x = (2 * (x[..., None] + down * along_x[..., None, :])).floor()
    floor_y = (2 * (y[..., None] + down * along_y[..., None, :])).floor()
    gray[:, :, len(up):] = (0.32 + 0.16 * (floor_x + floor_y).remainder(2)) / (1 + 0.12 * down)
    tints = torch.tensor([(0.6, 0.75, 1.0), (1.0, 0.95, 0.85)], device=device)[(rows >= 0).long()]

    is_wall = (rows.abs()[:, None] * depth[..., None, :] < 0.5).flatten(0, 1)
    covered = _averaged(is_wall.to(gray), 1)[:, None]
    ground = _averaged(_averaged(gray.flatten(0, 1).masked_fill_(is_wall, 0), 2), 1)[:, None]
    frames = _averaged(covered * walls, 3) + ground * _averaged(tints, 0).T[..., None]
    frames = rearrange(frames, "(b f) c h w -> b c f h w", b=len(maps)).clamp_(0, 1)
    return frames, _averaged(depth, 2)


def _averaged(x, dim):
    """The mean over the rays of a pixel, along one axis: faster than pooling."""
    parts = x.unflatten(dim, (-1, OVERSAMPLE)).unbind(dim + 1)
    return sum(parts[1:], parts[0]) / OVERSAMPLE


def pixel_centers(n: int, device: torch.device) -> Tensor:
    """Where n pixels in a line are centered on a screen from -1 to 1: (n,)."""
    return (torch.arange(n, device=device) + 0.5) / n * 2 - 1


def ray_directions(heading: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """How far rays go along x and y per step along the view axis;  columns: where they meet the screen."""
    return heading.cos() - columns * heading.sin(), heading.sin() + columns * heading.cos()


def cast(maps: Tensor, x: Tensor, y: Tensor, along_x: Tensor, along_y: Tensor) -> tuple:
    """Follow rays from (x, y) to the first wall: its color, the depth, and whether its face runs along y.

    x, y, along_x, along_y: (b, f, rays), in cells. Returns the same shape, three times.
    """
    n = maps.shape[-1]
    step_x, step_y = along_x.sign(), along_y.sign()
    per_x, per_y = 1 / along_x.abs().clamp(min=1e-6), 1 / along_y.abs().clamp(min=1e-6)
    # How far it is to the next grid line of each kind.
    to_x = torch.where(step_x > 0, 1 - x.remainder(1), x.remainder(1)) * per_x
    to_y = torch.where(step_y > 0, 1 - y.remainder(1), y.remainder(1)) * per_y
    offset = torch.arange(len(maps), device=maps.device)[:, None, None] * n * n
    cell = offset + y.floor().long() * n + x.floor().long()
    jump_x, jump_y = step_x.long(), n * step_y.long()
    flat, depth, side = maps.reshape(-1), torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
    free = torch.ones_like(side)
    for _ in range(2 * n):
        first = to_x < to_y
        depth = torch.where(free, torch.where(first, to_x, to_y), depth)
        side = torch.where(free, first, side)
        cell = cell + torch.where(free, torch.where(first, jump_x, jump_y), 0)
        to_x, to_y = torch.where(first, to_x + per_x, to_x), torch.where(first, to_y, to_y + per_y)
        free = free & (flat[cell] == 0)
    return flat[cell], depth.clamp(min=0.05), side
