"""How true a made walk is: pixels that the given frames have seen, the heading, the look-away test."""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor

from vdiff_lite.data.raycaster import pixel_centers, ray_directions, render
from vdiff_lite.data.rooms import Rooms, RoomTruth, look_round, room_maps, told, walk
from vdiff_lite.diffusion.denoiser import Denoiser, Method
from vdiff_lite.diffusion.guidance import condition_on_past
from vdiff_lite.diffusion.samplers import ddim
from vdiff_lite.evaluation.video_metrics import decibels
from vdiff_lite.rollout import rollout

NEAR = 0.15  # cells: two depths that differ by less are of the same wall


def seen_pixels(truth: RoomTruth, k: int, size: tuple) -> Tensor:
    """Which pixels show what one of the first k frames has shown: (b, f, h, w) bool, true for those k frames.

    A pixel shows a point of a wall, of the floor or of the ceiling. It is seen from another pose when it lies
    in the field of view there, and no wall stands before it. size: (h, w) of a frame.
    """
    w = size[1]
    rows, columns = (pixel_centers(n, truth.poses.device) for n in size)
    forward = torch.minimum(truth.depth[..., None, :], 0.5 / rows.abs()[:, None])  # (b, f, h, w)
    height = rows.abs()[:, None] * forward
    x, y, heading = (value[..., None, None] for value in truth.poses.unbind(-1))
    along_x, along_y = ray_directions(heading, columns)
    point_x, point_y = x + forward * along_x, y + forward * along_y
    seen = torch.zeros_like(point_x, dtype=torch.bool)
    for j in range(k):
        px, py, angle = (value[:, None, None, None] for value in truth.poses[:, j].unbind(-1))
        ahead = (point_x - px) * angle.cos() + (point_y - py) * angle.sin()
        aside = (point_y - py) * angle.cos() - (point_x - px) * angle.sin()
        column = (aside / ahead.clamp(min=1e-6) + 1) / 2 * w
        inside = (ahead > 0) & (column >= 0) & (column < w) & (height < ahead)
        columns_there = column.long().clamp(0, w - 1).flatten(1)
        wall = truth.depth[:, j].gather(1, columns_there).view_as(ahead)
        seen |= inside & (ahead < wall + NEAR)
    seen[:, :k] = True
    return seen


def heading_error(frames: Tensor, truth: RoomTruth, widest: float = 30.0) -> Tensor:
    """By how many degrees a frame looks to the side of where it should.

    Matched, by squared error, against what the true map shows from the true place at other headings, a degree
    apart.  frames: (b, 3, f, h, w) in [-1, 1]. Returns (b, f), positive for too far in the direction of
    turn 1; what is off by more than `widest` degrees is taken for less.
    """
    angles = torch.arange(-widest, widest + 1, device=frames.device)
    errors = []
    for angle in angles:
        poses = truth.poses.clone()
        poses[..., 2] += math.radians(angle)
        shown = 2 * render(truth.maps, poses, tuple(frames.shape[3:]))[0] - 1
        errors.append((frames - shown).square().mean((1, 3, 4)))
    return angles[torch.stack(errors).argmin(0)]


def continue_walks(denoiser: Denoiser, clips: int = 32, past: int = 5, frames: int = 11, steps: int = 25,
                   seed: int = 0) -> list[dict]:
    """A network continues walks through maps it has never seen, told the actions and not told.

    One row for each way (told, not told, the last frame copied) and new frame: PSNR in dB of all pixels, of
    those that the given frames have seen and of the others (mean over the clips of the squared error first),
    and the mean size of `heading_error`. Raises ValueError for a network that is told no actions.
    """
    size = denoiser.sample_shape[1:]
    generator = Generator().manual_seed(seed)
    batch = Rooms(past + frames, size, "test").sample(clips, generator)
    true, context = batch.video, batch.video[:, :, :past]
    run = partial(rollout, denoiser, context, frames, past + frames, past, sampler=partial(ddim, steps=steps))
    draw = lambda **told: torch.stack(list(run(generator=Generator().manual_seed(seed), **told)), 2).cpu()
    ways = {"told": draw(condition=batch.condition), "not told": draw(),
            "last frame": context[:, :, -1:].expand(-1, -1, frames, -1, -1)}
    seen = seen_pixels(batch.truth, past, size)[:, past:]
    rest = replace(batch.truth, poses=batch.truth.poses[:, past:])
    rows = []
    for way, made in ways.items():
        error = (made.clamp(-1, 1) - true[:, :, past:]).square().mean(1)
        off = heading_error(made, rest).abs().float()
        for i in range(frames):
            mask, of_frame = seen[:, i], error[:, i]
            rows.append(dict(way=way, frame=i + 1, psnr=decibels(of_frame.mean()).item(),
                             seen=decibels(of_frame[mask].mean()).item(),
                             unseen=decibels(of_frame[~mask].mean()).item(),
                             share_seen=mask.float().mean().item(), heading_error=off[:, i].mean().item()))
    return rows


def look_away(denoiser: Denoiser, method: Method = condition_on_past, maps: int = 64, overlap: int = 5,
              window: int = 16, steps: int = 25, seed: int = 0, turn: float = 5.0) -> dict:
    """Stand still, turn a full circle, and look: is it the room one has left?

    Returns mean absolute differences of pixels in [0, 1]: "true" (maps, f), of each frame to what the true
    map shows, "copy" of the last given frame to the same; "first" (maps,) of the last frame to the first
    view, "opposite" of it to the opposite one; and "video" (maps, 3, overlap + f, h, w), "truth" likewise.
    Given are `overlap` frames in which one stands.
    """
    generator = Generator().manual_seed(seed)
    grids = room_maps("test")
    grids = grids[torch.randperm(len(grids), generator=generator)[:maps]]
    start = walk(grids, 1, turn, generator)[0]
    circle = look_round(grids, start[:, 0], turn)
    poses = torch.cat([start.expand(-1, overlap, -1), circle], dim=1)
    truth = 2 * render(grids, poses, denoiser.sample_shape[1:])[0] - 1
    actions = torch.zeros(maps, poses.shape[1], 2)
    actions[:, overlap:, 1] = 1
    new = rollout(denoiser, truth[:, :, :overlap], circle.shape[1], window, overlap, method,
                  partial(ddim, steps=steps), Generator().manual_seed(seed), condition=told(actions))
    video = torch.cat([truth[:, :, :overlap], torch.stack(list(new), 2).cpu().clamp(-1, 1)], dim=2)
    apart = lambda a, b: (a - b).abs().mean((1, 3, 4)) / 2
    half = overlap + circle.shape[1] // 2
    first, opposite, last = truth[:, :, :1], truth[:, :, half - 1:half], video[:, :, -1:]
    return dict(true=apart(video, truth)[:, overlap:], copy=apart(first, truth)[:, overlap:],
                first=apart(last, first)[:, 0], opposite=apart(last, opposite)[:, 0], video=video,
                truth=truth)
