# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. A world that remembers
#
# **You turn away from a wall, and back again. Is it still the same wall?**
#
# In a real room it is. In the videos of most models it is not: what has left the window is made up anew. Here
# we build a small world in which the truth of every pixel is known, condition a network on actions, and test
# what it remembers.
#
# *Time to run: about two minutes on two CPU cores.*

# %% [markdown]
# **You will learn** how a first-person world is drawn, how a network is conditioned on actions and guided by
# them, how to measure only what a model can know, and what a window of sixteen frames forgets.
#
# **You need** chapters 6 and 7.

# %% jupyter={"source_hidden": true} tags=["remove-cell"]
# Where the package is missing, as on Colab, this installs it.
import subprocess
import sys
from importlib.util import find_spec

repository = ""  # book/_ext/repository.py writes it here
if not find_spec("vdiff_lite"):
    repository = repository or input("Address of the book's repository on GitHub: ")
    subprocess.run(["git", "clone", "-q", "--depth", "1", repository, "book"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "book[bench]"], check=True)
    sys.path.append("book")

# %%
import json
import math
import textwrap
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.data.raycaster import COLORS, render
from vdiff_lite.data.rooms import Rooms, follow_actions, look_round, room_maps, told
from vdiff_lite.diffusion.guidance import conditioned
from vdiff_lite.evaluation.results import FOLDER
from vdiff_lite.evaluation.rooms import seen_pixels
from vdiff_lite.exercises import check
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
device = vd.pick_device()


def seeded(seed):
    return torch.Generator().manual_seed(seed)

# %% [markdown]
# ## The world
#
# A map is a grid of {math}`13 \times 13` cells: 0 is free, another number is a wall of that color. A *pose*
# is a position `(x, y)` in cells and a heading. Each frame follows an *action*: walk or stand, and turn by
# five degrees to either side or not at all. Here are four maps with walks through them, each up to its last
# pose (arrow), and below what the first two walks look like from within.

# %% mystnb={"image": {"alt": "Four maps of rooms with colored walls, seen from above, each with a black path that ends in an arrow."}, "figure": {"caption": "Four maps, and walks of 96 frames through them. The arrow is the last pose."}}
walks = Rooms(num_frames=96, size=64).sample(4, seeded(3))
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6))
for axis, grid, poses in zip(axes, walks.truth.maps, walks.truth.poses):
    axis.imshow(torch.tensor(((1.0, 1.0, 1.0), *COLORS[1:]))[grid])
    axis.plot(poses[:, 0] - 0.5, poses[:, 1] - 0.5, color="black", lw=1)
    x, y, heading = poses[-1].tolist()
    axis.arrow(x - 0.5, y - 0.5, math.cos(heading), math.sin(heading), head_width=0.5, color="black")
    axis.set_axis_off()

# %% mystnb={"image": {"alt": "Film strips of two walks through rooms with colored walls and a chequered floor, eight frames each."}, "figure": {"caption": "The first two walks as seen from within, every twelfth frame."}}
viz.film_strip(walks.video[:2], ["first map", "second map"], every=12);

# %% [markdown]
# ## Build it: a raycaster
#
# The floor is flat, and all walls are one cell high. So a column of pixels needs one ray. With the camera
# at `(x, y)` and heading $\psi$, the ray of the column at $s \in (-1, 1)$ runs along
#
# $$(\cos\psi - s \sin\psi, \; \sin\psi + s \cos\psi). \tag{1}$$
#
# So the view is 90 degrees wide. Along the heading this direction has length 1, so the factor along it is the
# depth. (With the length of the ray itself, straight walls would look bent.) The ray meets its first wall after a depth along the view axis. That wall
# covers the rows $|s'| < 1 / (2\, \text{depth})$, with $s' \in (-1, 1)$ from top to bottom. Below it, row
# $s'$ shows the floor at depth $1 / (2 s')$. A ray need only be tested where it crosses a grid line
# {cite:p}`amanatides1987fast`. Our own version takes small steps instead.

# %%
def my_column(grid, x, y, heading, s, step=0.002):
    """Number of a wall that a ray meets, and its depth."""
    along = math.cos(heading) - s * math.sin(heading), math.sin(heading) + s * math.cos(heading)
    depth = 0.0
    while True:
        depth += step
        wall = grid[int(y + depth * along[1]), int(x + depth * along[0])].item()
        if wall:
            return wall, depth


def my_view(grid, pose, size=64):
    """Walls in their colors, gray where there is none: (3, size, size) in [0, 1]."""
    frame, v = torch.full((3, size, size), 0.3), (torch.arange(size) + 0.5) / size * 2 - 1
    for column in range(size):
        wall, depth = my_column(grid, *pose.tolist(), s=v[column].item())
        frame[:, v.abs() * depth < 0.5, column] = torch.tensor(COLORS[wall])[:, None] / (1 + 0.12 * depth)
    return frame

# %% [markdown]
# ## Meet the twin
#
# `render` casts all rays of all frames at once, from one grid line to the next. It averages four rays per
# pixel, draws floor and ceiling, and darkens walls of one direction. Depths by hand agree with those of the
# library, and seen from the same pose the walls stand where they should:

# %%
grid, pose = walks.truth.maps[0], walks.truth.poses[0, 0]
depths = render(grid[None], pose[None, None], (8, 256))[1][0, 0]
columns = torch.arange(0, 256, 8)
mine = torch.tensor([my_column(grid, *pose.tolist(), s=(c.item() + 0.5) / 128 - 1)[1] for c in columns])
difference = (mine - depths[columns]).abs()
print(f"columns of {len(columns)} whose depth agrees: {(difference < 0.05).sum()}")
assert (difference < 0.05).float().mean() > 0.9  # at a corner two rays beside one another part

# %% mystnb={"image": {"alt": "Two views of one place: by hand, walls in plain colors on gray; by the library, with shading, a chequered floor and a ceiling. The walls stand at the same places."}, "figure": {"caption": "The same pose, by hand and by the library."}}
by_hand = 2 * my_view(grid, pose)[:, None] - 1
viz.film_strip([torch.cat([by_hand, walks.video[0, :, :1]], dim=1)], titles=["by hand", "render"]);

# %% [markdown]
# ## A network conditioned on actions
#
# `rooms32` is the network of chapter 3 with three color channels. Each frame has a condition of three
# numbers: *forward* (0 or 1), *turn* (-1, 0 or 1, of five degrees) and a 1 for "told", those of the action that led to
# the frame. A linear layer turns them into a vector, which is added to
# the embedding of that frame's noise level. In a fifth of the training clips all three were 0, so the same
# network also works without actions. This makes classifier-free guidance possible, as in chapter 7 on the
# past {cite:p}`ho2022classifier`:
#
# $$\hat x_0 = u + w \, (c - u), \qquad c \text{ with the actions}, \; u \text{ without}. \tag{2}$$

# %%
denoiser = vd.load("rooms32", device)
size, window, overlap = denoiser.sample_shape[1:], 16, 5
print(textwrap.fill(denoiser.card["origin"], 100))


def my_conditioned(denoiser, actions, weight):
    def x0_hat(xt, t):
        c = denoiser(xt, t, condition=actions)
        u = denoiser(xt, t, condition=torch.zeros_like(actions))
        return u + weight * (c - u)

    return x0_hat


batch = Rooms(window, size, "test").sample(4, seeded(24))
actions, t = batch.condition.to(device), torch.full((4,), 600, device=device)
xt = torch.randn(batch.video.shape, generator=seeded(1)).to(device)
with torch.no_grad():
    mine, twin = my_conditioned(denoiser, actions, 2)(xt, t), conditioned(denoiser, actions, 2)(xt, t)
torch.testing.assert_close(mine, twin, rtol=1e-3, atol=1e-3)

# %% [markdown]
# **Predict.** Five frames of a walk are given, through a map that the network has never seen. What can it
# know of the next eleven when it gets the actions, and what not even then?

# %%
def go_on(actions=None, weight=1.0, clips=slice(None), steps=12):
    past = batch.video[clips, :, :overlap].to(device)
    sampler = partial(vd.ddim, steps=steps)
    frames = vd.rollout(denoiser, past, window - overlap, window, overlap, sampler=sampler,
                        generator=seeded(2), condition=actions, condition_weight=weight)
    return torch.cat([past, torch.stack(list(frames), 2)], dim=2).cpu().clamp(-1, 1)


told_so, untold = go_on(batch.condition), go_on()

# %% mystnb={"image": {"alt": "Film strips of two walks, every second frame: the truth, made by the network told the actions, and made by the network not told. The made ones blur, and the told one turns with the truth for longer."}, "figure": {"caption": "Two walks through maps never seen, every second frame. Blue: frames given."}}
rows = [clip[i] for i in (0, 1) for clip in (batch.video, told_so, untold)]
viz.film_strip(rows, ["truth", "told", "not told"] * 2, [window, overlap, overlap] * 2, every=2);

# %% [markdown]
# In the strips, the walk with actions turns with the truth for longer. Both blur.
#
# ### Measuring what can be known
#
# A turn shows walls that no given frame has shown. Nobody can predict their color, so an error there says
# little. With map, pose and depth we can tell these pixels apart: a point has been *seen* when it lies in the
# view of a given pose and no wall stands before it. The table has 32 walks through maps of the test split.
# The squared error is averaged over all pixels of a kind before it is turned into PSNR.

# %%
seen = seen_pixels(batch.truth, overlap, size)[:, overlap:]
print("fraction of pixels seen before, by new frame, of the four walks above:")
print([round(share, 2) for share in seen.float().mean((0, 2, 3)).tolist()])
measured = json.loads((FOLDER / "rooms32.json").read_text())
table = pd.DataFrame(measured["rows"]).query("frame in (1, 5, 11)")
names = {"psnr": "all pixels", "seen": "seen before", "unseen": "not seen", "heading_error": "heading off by"}
rows = [f"{way}, new frame {frame}" for way, frame in zip(table.way, table.frame)]
table = table.rename(columns=names).set_axis(rows)[list(names.values())]
digits = dict.fromkeys(table, 1)
caption = f"PSNR (dB), and degrees; {measured['maps']} walks, {measured['steps']} steps"
show_table(table, caption, digits=digits)

# %% [markdown]
# With actions ("told") the network is ahead of both others at frames 5 and 11, on pixels seen before as well,
# on these walks: the table has no intervals. It is not good: at frame 1 it is less than half a dB better than
# the last frame copied, and the floor is a blur. The last column is the angle between the true heading and
# the one whose true picture is most like the frame. It grows for all: turns are not made as far as told, or the pictures are too blurred to be
# read.
#
# ## Play
#
# The weight on the action, on one walk with the same noise. Its effect on PSNR was not measured.

# %%
walk = slice(2, 3)


def walk_with_weight(weight):
    made = go_on(batch.condition[walk], weight, walk, steps=10)[0]
    return torch.cat([viz.framed(batch.video[2], window), viz.framed(made, overlap)], dim=-1)


alt = "Left the truth, right the model, told the actions; a bright border: given frames."
sliders.guidance_slider(walk_with_weight, [0, 1, 1.5, 2, 4], "weight on the action w", alt, start=1,
                        fine=[i / 4 for i in range(25)])

# %% [markdown]
# ## The look-away test
#
# Stand still, see a room for five frames, then turn a full circle in 72 steps of five degrees. In the true
# world the last view is the first, up to rounding.

# %%
grids = room_maps("test")[[33, 8]]
cells = [(grid == 0).nonzero()[n].tolist() for grid, n in zip(grids, (49, 56))]
free = torch.tensor([[x + 0.5, y + 0.5, 0.0] for y, x in cells])
circle = torch.cat([free[:, None].expand(-1, overlap, -1), look_round(grids, free)], dim=1)
true = 2 * render(grids, circle, size)[0] - 1
apart = lambda a, b: ((a - b).abs().mean().item()) / 2 * 255
print(f"first and last true view: {apart(true[:, :, 0], true[:, :, -1]):.4f} of 255")
print(f"first and opposite true view: {apart(true[:, :, 0], true[:, :, overlap + 35]):.1f} of 255")

# %%
turning = torch.zeros(2, circle.shape[1], 2)
turning[:, overlap:, 1] = 1
frames = vd.rollout(denoiser, true[:, :, :overlap].to(device), 72, window, overlap, generator=seeded(5),
                    sampler=partial(vd.ddim, steps=10), condition=told(turning))
made = torch.cat([true[:, :, :overlap], torch.stack(list(frames), 2).cpu().clamp(-1, 1)], dim=2)

# %% mystnb={"image": {"alt": "Film strips of two full circles, every sixth step: the truth, whose last frame is its first, and the network's, which blurs and ends before other walls."}, "figure": {"caption": "A full circle in two rooms, every sixth step from the last given frame to the full turn. The truth comes back to where it began."}}
circles = [clip[:, overlap - 1:] for clip in (true[0], made[0], true[1], made[1])]
viz.film_strip(circles, ["truth", "made"] * 2, num_context=1, every=6);

# %%
degrees = 5 * torch.arange(1, 73)
distance = lambda a, b: (a - b).abs().mean((0, 1, 3, 4))[overlap:] / 2 * 255
off, still = distance(made, true), distance(true[:, :, :1], true)
lines = {"made, to the truth": off, "the first view, to the truth": still}
print(f"made, to the truth: at most {off.max():.0f} of 255, at {degrees[off.argmax()]} degrees")
print(f"after the full turn {off[-1]:.0f} of 255, after the first step {off[0]:.0f}")
print(f"nearer to it than the first view for the last time at {degrees[off < still][-1]} degrees")

# %% mystnb={"image": {"alt": "Two lines against the degrees turned, from 0 to 360. The first true view differs from the truth by zero at both ends and by much between. What was made starts at a small difference, rises above the first view's after a quarter turn, is highest past the half circle, and falls again, but not to zero."}, "figure": {"caption": "Mean absolute difference to the true picture, two rooms. The first view is right again after a full turn; what was made is not."}}
figure, axis = plt.subplots(figsize=(6.5, 2.8))
viz.plot_lines(axis, degrees, lines)
axis.set(xlabel="degrees turned", ylabel="of 255", ylim=0, xticks=range(0, 361, 90));

# %% [markdown]
# The network's circle ends before other walls. In the plot the first view is right again after the full turn.
# What the network made is not: its distance to the truth rises, and falls to about half its maximum. Soon after
# a quarter turn even the unmoved first view is nearer to the truth.
#
# ### Which method remembers?
#
# A window of sixteen frames holds five of the past. After eleven new frames the room that was left is out of
# it. So no method of chapters 7 to 9 should come back to it by more than chance. Does any? The table compares
# the last frame of the circle with the first view and with the opposite one, and a frame on the way with the
# truth. "10 frames" are ten of the sixteen, where the other rows have five.

# %%
look = json.loads((FOLDER / "look_away.json").read_text())
rows, errors = {}, {}
for name, measured in look["methods"].items():
    first, opposite = (255 * torch.tensor(measured[key]) for key in ("first", "opposite"))
    nearer = opposite - first
    rows[name] = {"first view": first.mean().item(), "opposite view": opposite.mean().item(),
                  "nearer to the first by": nearer.mean().item(),
                  "truth at 90 degrees": 255 * measured["true"][17]}
    errors[name] = {"nearer to the first by": 2 * (nearer.std() / len(nearer) ** 0.5).item()}
table, half = pd.DataFrame(rows).T, pd.DataFrame(errors).T
copied = 255 * look["methods"]["past in the window"]["copy"][17]
print(f"the first view itself, to the truth at 90 degrees: {copied:.1f} of 255")
caption = (f"Distance of the last frame, of 255; {look['maps']} maps, {look['steps']} steps; "
           "two standard errors")
show_table(table, caption, best={"nearer to the first by": "max"}, digits=1, half=half)

# %% [markdown]
# None does, as far as this many maps can tell: for no method is the last frame nearer to the first view by
# more than two standard errors. After a quarter turn all are about as far from the truth as the first view
# itself. Two rows are the same: clean keys and values are what the past in the window computes (chapter 9).
# Nobody could have predicted what lies outside the given frames. But the first view had been known, and no
# window held it any more.
#
# ## What breaks, and how to see it
#
# A picture may look like a room and still be wrong. Tell the network to turn the other way, and compare. If
# it ignores the actions, the two clips are alike.

# %%
mirrored = batch.condition.clone()
mirrored[..., 1] *= -1
mirrored[:, :overlap] = batch.condition[:, :overlap]
other_way = go_on(mirrored)
turns = batch.condition[:, overlap:, 1].abs().sum(1) > 6
print("walks that turn in most frames:", turns.nonzero().flatten().tolist())
for name, clip in {"told": told_so, "told to turn the other way": other_way, "not told": untold}.items():
    error = (clip - batch.video)[turns][:, :, overlap:].abs().mean().item() / 2 * 255
    print(f"{name}: {error:.1f} of 255 from the truth")


# %% [markdown]
# On these three walks it does not: turned the other way, the clips are farther from the truth than without any
# actions.
#
# ## Recap
#
# A world drawn by a program has a truth for every pixel: map, pose, depth. Actions enter a network as a
# vector added to the embedding of each frame, and guide it as the past does. What nobody can know is measured
# apart. And a window forgets: what has left it is made up anew by every method measured here, since all work
# on the overlap alone. To remember, a model has to be given distant frames again, as by the anchor of chapter 7
# or chosen by pose, and to be trained for that.
#
# ## Exercises
#
# 1. **Predict.** With more overlap, is the first view remembered for longer? Think of $K = 10$ instead of 5.
#
# 2. **Code.** Which new frame is the first whose window holds no given frame? At least as many frames are given
#    as the overlap is long. New frames count from 1. Hint: after $j$ windows, $j \cdot (F - K)$ frames are new.

# %% tags=["exercise"]
def forgets_at(window, overlap):
    """The number of the first new frame whose window holds no given frame."""
    return None


def forgets_by_rollout(window, overlap):
    frames, made = [True] * overlap, 0  # given?
    while True:
        shown = frames[-overlap:]
        if not any(shown):
            return made + 1
        frames, made = shown + [False] * (window - overlap), made + window - overlap


claims = {
    "F = 16, K = 5: frame 12": lambda answer: answer(16, 5) == 12,
    "F = 16, K = 10: frame 13": lambda answer: answer(16, 10) == 13,
    "F = 16, K = 15: frame 16": lambda answer: answer(16, 15) == 16,
    "all overlaps of windows up to 24, as by counting": lambda answer: all(
        answer(f, k) == forgets_by_rollout(f, k) for f in range(2, 25) for k in range(1, f)),
}
check(forgets_at, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(window, overlap):
    stride = window - overlap
    return math.ceil(overlap / stride) * stride + 1


assert check(solution, claims)


# %% [markdown]
# 3. **Code.** Double the training data: mirror walks from left to right. Into your function go a video and its
#    condition (forward, turn, told), and out come both for the walk through the mirrored world. Hint: what does a
#    left turn become in a mirror?

# %% tags=["exercise"]
def mirror(video, condition):
    """(b, 3, f, h, w) and (b, f, 3) -> the same, mirrored."""
    return None


video, condition = batch.video, batch.condition
before = condition.clone()
maps, poses = batch.truth.maps, batch.truth.poses
in_mirror = torch.stack([maps.shape[-1] - poses[..., 0], poses[..., 1], math.pi - poses[..., 2]], dim=-1)
upper = lambda x: x[..., :size[0] // 2, :]  # the squares of the floor swap light and dark
shown = 2 * render(maps.flip(-1), in_mirror, size)[0] - 1
walked = lambda actions: follow_actions(maps.flip(-1), in_mirror[:, 0], actions[:, 1:, :2])
claims = {
    "above the floor, the video is what the mirrored world shows": lambda answer: torch.allclose(
        upper(answer(video, condition)[0]), upper(shown), atol=1e-3),
    "the actions lead through the mirrored world": lambda answer: torch.allclose(
        walked(answer(video, condition)[1]), in_mirror[:, 1:], atol=1e-3),
    "twice is as before": lambda answer: all(map(
        torch.equal, answer(*answer(video, condition)), (video, condition))),
    "what came in is left as it was":
        lambda answer: answer(video, condition) and torch.equal(condition, before),
}
check(mirror, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(video, condition):
    return video.flip(-1), condition * torch.tensor([1.0, -1.0, 1.0])


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Turn half a circle to one side and back again, then a quarter, then a tenth. From which angle on
#    is the room another one?
#
# :::{dropdown} Solutions
# 1. Hardly. The windows hold given frames for longer, but each adds fewer new ones: with $K = 10$ the first window
#    without a given frame begins one new frame later than with 5.
# 2. The overlap holds only new frames after $\lceil K / (F - K) \rceil$ windows.
# 3. The pictures are flipped, and a turn changes its sign.
# 4. Use `turning[:, overlap:overlap + n, 1] = 1` and `turning[:, overlap + n:overlap + 2 * n, 1] = -1`. Up to
#    five steps each way, part of the given view stays in sight.
# :::
#
# ## Sources
#
# Rays through a grid: {cite:t}`amanatides1987fast`. First-person worlds for tests of memory: DMLab
# {cite:t}`beattie2016deepmind` and Memory Maze {cite:t}`pasukonis2023evaluating`. A world model of a game,
# conditioned on actions: {cite:t}`alonso2024diffusion`. Guidance: {cite:t}`ho2022classifier`; by history:
# {cite:t}`song2025history`.
