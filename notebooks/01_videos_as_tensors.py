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
# # 1. Videos as tensors
#
# **What does a network see when it looks at a video, and how can we make endless video with the truth known for every frame?**
#
# We build the world of this book: a digit that bounces in a box. After two frames its whole future is nearly always determined, so
# a model can be checked against it.
#
# *Time to run: about ten seconds on two CPU cores, and the same on a GPU, which has nothing to do here.*

# %% [markdown]
# **You will learn** how a clip is laid out in memory, in which range, and how to get it from and to a file; what a 2-D
# convolution can and cannot see of a video; how to draw a digit between pixels; how to fold a straight line back at the
# walls; what ground truth is good for.
#
# **You need** basic Python and a first acquaintance with tensors and convolutions.

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
import matplotlib.pyplot as plt
import torch
from einops import rearrange

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.data.bouncing_digits import centroid, draw, glyphs
from vdiff_lite.exercises import check
from vdiff_lite.viz import sliders

generator = torch.Generator().manual_seed(1)

# %% [markdown]
# ## The clip that we are going to make

# %%
finished = vd.BouncingDigits().sample(4, torch.Generator().manual_seed(1))
viz.show_clips(finished.video, alt="A handwritten digit bounces in a box")

# %% [markdown]
# **Predict.** A clip of 16 gray frames of 32 by 32: how many numbers is that? How many bytes as 32-bit floats, and how
# many in a batch of 16?

# %% tags=["nbval-check-output"]
clip = finished.video[:1]
numbers = clip.numel()
print(f"shape {tuple(clip.shape)} = {numbers} numbers, {4 * numbers} bytes;", end=" ")
print(f"a batch of 16: {16 * 4 * numbers}")

# %% [markdown]
# ## The convention
#
# Throughout the book a batch of *clips* is one tensor `(b, c, f, h, w)`: batch, channel, frame, height, width. Letters in
# `this type` are axes and code. Letters in italics are mathematics, and {doc}`../notation` has them all.
#
# Values lie in $[-1, 1]$: black is $-1$, white is $1$. The noise of chapter 2 is made for this range: its mean is 0 and its standard
# deviation 1, and in a range around 0 neither end is special. Files hold whole numbers
# from 0 to 255 (`uint8`). To read them, divide by 127.5 and subtract 1. To write them, do the reverse, but first *clamp*: set what
# lies outside the range to its nearest end. A `uint8` keeps only the last eight bits of a number, so 261 *wraps* around to 5, and
# a pixel that is a little too white turns black.

# %% tags=["nbval-check-output"]
estimate = torch.tensor([-1.05, -1.0, 0.0, 1.0, 1.05])  # a network may overshoot the range
as_integers = ((estimate + 1) * 127.5).round().int()
print("whole numbers       ", as_integers.tolist())
print("as uint8            ", as_integers.to(torch.uint8).tolist())
print("clamped, then uint8 ", as_integers.clamp(0, 255).to(torch.uint8).tolist())

# %% [markdown]
# ## What a 2-D convolution cannot learn
#
# `einops` states a layout in words. (`reshape` keeps the order in memory, so it mixes channels with rows and frames, and raises no
# error.) A 2-D convolution wants images. A clip can be given to it in two ways: its frames as a batch of images, or as the channels
# of one image. (`roll` delays a clip; the last frame becomes the first.)

# %% tags=["nbval-check-output"]
video = finished.video
one_by_one, all_at_once = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Conv2d(16, 16, 3, padding=1)


def frames_as_batch(video):
    images = rearrange(video, "b c f h w -> (b f) c h w")
    return rearrange(one_by_one(images), "(b f) c h w -> b c f h w", f=16)


def frames_as_channels(video):
    return rearrange(all_at_once(rearrange(video, "b 1 f h w -> b f h w")), "b f h w -> b 1 f h w")


changed, delayed = video.clone(), video.roll(1, dims=2)
changed[:, :, 8] = 0
for layer in (frames_as_batch, frames_as_channels):
    differs = (layer(changed) - layer(video)).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
    commutes = torch.allclose(layer(delayed), layer(video).roll(1, dims=2), atol=1e-5)
    print(f"{layer.__name__:18}  change frame 8: {differs.sum():2} frames of the output change;", end="  ")
    print(f"a delayed clip gives the output delayed: {commutes}")

# %% [markdown]
# With *frames as batch* each frame is processed alone. Such a network cannot learn anything that takes two frames: speed,
# direction, or that all frames show the same digit. With *frames as channels* every frame reaches every other, but each has
# weights of its own. What the layer learns about frames 3 and 4 says nothing about frames 4 and 5: it has to learn the same law of
# motion again for each of them. And it takes 16 frames, no more and no fewer.
#
# Attention along time is one rule with the same weights at every time (chapter 3). It wants each spatial position as a sequence of
# frames:

# %% tags=["nbval-check-output"]
print("images   ", tuple(rearrange(video, "b c f h w -> (b f) c h w").shape))
print("sequences", tuple(rearrange(video, "b c f h w -> (b h w) f c").shape))

# %% [markdown]
# ## Build it: a digit between pixels
#
# The digits come with scikit-learn, from the UCI archive: images of 8 by 8 pixels, filled in on paper forms by different people.
# Each image of a digit is one *glyph sample*. `glyphs` enlarges them and centers each on its *centroid*, the center of mass
# of its brightness.

# %% mystnb={"image": {"alt": "Ten handwritten digits in a row, zero to nine, white on black."}, "figure": {"caption": "One glyph sample of each digit."}}
images, labels = glyphs(digit_size=12, split="train")
print(len(images), "glyph samples for training,", len(glyphs(12, "test")[0]), "for tests")
one_each = torch.stack([images[(labels == n).nonzero()[0, 0]] for n in range(10)])
plt.figure(figsize=(9, 1))
plt.imshow(rearrange(one_each, "n h w -> h (n w)"), cmap="gray")
plt.axis("off");

# %% [markdown]
# The digit may stand anywhere, not only on whole pixels. Linear interpolation does that, with one matrix per axis. Let
# $(r_y, r_x)$ be the position of the upper left corner of the glyph $G$. Then
#
# $$\text{frame} = A_y \, G \, A_x^\top, \qquad A_{ij} = \max(0,\; 1 - |\,i - j - r\,|), \tag{1}$$
#
# with $r = r_y$ in $A_y$ and $r = r_x$ in $A_x$. Row $j$ of the glyph lands at $j + r$, and is shared between the two rows $i$ of the
# frame beside it: the nearer one gets more. Drawn over $i$, the weight has the shape of a tent. Below, the corner lies between
# pixels along both axes.

# %%
def tent_matrix(corner, glyph_size, size):
    i = torch.arange(size)[:, None]
    j = torch.arange(glyph_size)[None, :]
    return (1 - (i - j - corner).abs()).clamp(min=0)


def draw_by_hand(glyph, corner, size=32):
    y, x = corner
    return tent_matrix(y, len(glyph), size) @ glyph @ tent_matrix(x, len(glyph), size).T


frame = draw_by_hand(one_each[3], torch.tensor([4.3, 10.8]))

# %% mystnb={"image": {"alt": "A black square with a handwritten three above its middle."}, "figure": {"caption": "The glyph drawn with its corner at (4.3, 10.8)."}}
plt.figure(figsize=(2.4, 2.4))
plt.imshow(frame, cmap="gray")
plt.axis("off");

# %% [markdown]
# The weights of one glyph row sum to 1 over the rows of the frame, so the total intensity (the sum of the brightness over all
# pixels) is kept. And the centroid moves exactly as the corner does. So the position can be measured from the pixels.

# %% tags=["nbval-check-output"]
moved = centroid(draw_by_hand(one_each[3], torch.tensor([9.75, 2.25]))) - centroid(frame)
moved, expected = [round(v, 3) for v in moved.tolist()], [9.75 - 4.3, 2.25 - 10.8]
print("intensity before and after: %.3f %.3f" % (one_each[3].sum(), frame.sum()))
print("centroid moved by", moved, "- expected", expected)

# %% [markdown]
# ## Build it: bouncing
#
# A ball between walls at $0$ and $L$ bounces as if it flew straight on in a world of mirrors. So let it fly through the walls,
# and fold the line back. With $\Delta r$ the displacement per frame,
#
# $$r(f) = \operatorname{tri}(r_0 + f\,\Delta r), \qquad \operatorname{tri}(s) = L - \big|\, (s \bmod 2L) - L \,\big|. \tag{2}$$
#
# $r$ is the corner, so $L$ is the size of the frame minus that of the glyph's image (16: a digit of 12 and a margin): here 32 - 16. To take every second frame doubles
# $\Delta r$, so a model trained at one frame rate is wrong at another. The figure shows both coordinates of a corner: straight lines, folded at
# the walls.

# %%
def fold(u, L):
    return L - (torch.remainder(u, 2 * L) - L).abs()


f = torch.arange(60)
path = fold(torch.tensor([3.0, 12.0]) + torch.tensor([0.9, -0.6]) * f[:, None], L=16.0)

# %% mystnb={"image": {"alt": "Two zigzag curves between zero and sixteen pixels: the row rises first, the column falls first, and the row has the steeper slope."}, "figure": {"caption": "Row and column of the corner over 60 frames: straight lines, folded at the walls."}}
figure, axis = plt.subplots(figsize=(7, 2.4))
viz.plot_lines(axis, f, {"y (row)": path[:, 0], "x (column)": path[:, 1]})
axis.set(xlabel="frame f", ylabel="corner (pixels)");

# %% [markdown]
# Draw the glyph at these positions, and we have a clip: our 3 moves down and to the left.

# %% mystnb={"image": {"alt": "A film strip of sixteen frames: a three moves down and to the left."}, "figure": {"caption": "Our clip: the glyph drawn at the positions of the first 16 frames."}}
by_hand = torch.stack([draw_by_hand(one_each[3], corner) for corner in path[:16]])
by_hand = rearrange(2 * by_hand - 1, "f h w -> 1 f h w")
viz.film_strip([by_hand], ["by hand"]);

# %% [markdown]
# ## Meet the twin
#
# The library's version of what a chapter builds by hand is called its *twin*. Both must give the same numbers. The library
# draws whole batches at once.

# %%
twin = draw(one_each[3][None, None], path[None, None, :16], size=32)
torch.testing.assert_close(by_hand, 2 * twin[0] - 1)

# %% [markdown]
# `BouncingDigits` draws start, velocity and glyph sample at random. It returns a `Batch`: the clips as `video`, and what is known
# about them as `truth`.

# %% tags=["nbval-check-output"]
batch = vd.BouncingDigits().sample(256, torch.Generator().manual_seed(2))
print("video     ", tuple(batch.video.shape))
for name in ("positions", "velocities", "labels"):
    print(f"{name:10}", tuple(getattr(batch.truth, name).shape))

# %% [markdown]
# Is the truth true? We measure the centroid of the pixels and compare it with `positions`. Then we check that `velocities` have
# the same speed on every frame.

# %% tags=["nbval-check-output"]
measured = centroid((batch.video[:, 0] + 1) / 2)
largest = (measured - batch.truth.positions[:, 0]).abs().max()
speed = batch.truth.velocities.norm(dim=-1)
print("every position right to 5e-5 pixels:", bool(largest < 5e-5))
print("slowest and fastest: %.2f %.2f pixels per frame" % (speed.min(), speed.max()))
torch.testing.assert_close(speed, speed[:, :, :1].expand_as(speed))

# %% [markdown]
# The same seed gives the same bytes. And no glyph sample is in both splits: those for tests come from other forms, filled in by
# other people (except for one person at most, as far as can be told: `data/README.md`).

# %%
again = vd.BouncingDigits().sample(256, torch.Generator().manual_seed(2))
assert torch.equal(batch.video, again.video)
splits = [vd.BouncingDigits(split=name).sample(256, generator) for name in ("train", "test")]
train, test = (set(split.truth.samples.flatten().tolist()) for split in splits)
assert not train & test

# %% [markdown]
# ## Play
#
# How fast may a digit be before less than half of it overlaps itself in the next frame? Between 2.5 and 4 pixels per frame, says
# the measure above the slider. In this book digits move between 0.5 and 1.5, so most of a digit lies where it lay.

# %%
speeds = [0.25, 0.5, 1.0, 1.5, 2.5, 4.0]
at_speed = lambda s, n: vd.BouncingDigits(speed=(s, s)).sample(n, torch.Generator().manual_seed(5)).video
for s in speeds:
    brightness = (at_speed(s, 64) + 1) / 2
    shared = torch.minimum(brightness[:, :, 1:], brightness[:, :, :-1]).sum() / brightness[:, :, 1:].sum()
    print(f"speed {s:4}: {shared:.2f} of the intensity lies where it lay on the frame before")
pictures = sliders.clip_pictures(torch.cat([at_speed(s, 1) for s in speeds]))
sliders.picture_slider(pictures, speeds, "speed, pixels per frame", "A digit bounces in a box.", start=2)

# %% [markdown]
# Two digits are harder. Where they overlap, one can hide the other: a model must remember what it cannot see.

# %% mystnb={"image": {"alt": "A film strip of a zero and a three: at first they lie over each other and can hardly be told apart, then they separate."}, "figure": {"caption": "Two digits. Where they overlap, at first, the brighter pixel is shown."}}
two = vd.BouncingDigits(num_digits=2).sample(1, torch.Generator().manual_seed(3))
viz.film_strip(two.video, ["two digits"]);

# %% [markdown]
# ## What breaks, and how to see it
#
# What if we had rounded positions to whole pixels? On one frame nobody can tell. But then a digit moves one pixel along one axis or
# along both, and its speed jumps between two values, both wrong. That is what a model would be taught. (The dips of the other curve are
# bounces: between two frames the digit flew to a wall and back.)

# %% mystnb={"image": {"alt": "The measured speed per frame. Between pixels it is constant, but for three short dips. Rounded to pixels it jumps between 1.0 and 1.4 throughout."}, "figure": {"caption": "Speed measured from the pixels, with positions between pixels and rounded to them."}}
rounded = torch.stack([draw_by_hand(one_each[3], corner.round()) for corner in path])
smooth = torch.stack([draw_by_hand(one_each[3], corner) for corner in path])
figure, axis = plt.subplots(figsize=(7, 2.4))
speed_of = lambda frames: centroid(frames).diff(dim=0).norm(dim=-1)
viz.plot_lines(axis, f[1:], {"between pixels": speed_of(smooth), "rounded to pixels": speed_of(rounded)})
axis.set(xlabel="frame f", ylabel="speed (pixels per frame)");

# %% [markdown]
# The other classic mistake is to forget the range. A clip in $[0, 255]$ or $[0, 1]$ runs through every layer without an error.
# But the same noise hides far less of the one, and more of the other. One line tells:

# %% tags=["nbval-check-output"]
print("min %.1f, max %.1f" % (batch.video.min(), batch.video.max()))

# %% [markdown]
# Your own clips work too. `vd.VideoFolder("my_clips/")` reads video files and folders of images (chapter 12).
#
# ## Recap
#
# A clip is a tensor `(b, c, f, h, w)` in $[-1, 1]$. Our world draws a digit with tent matrices, which makes its centroid
# exact. It folds a straight line back at the walls, so two frames nearly always determine the future, and a model's clips can be
# checked against the truth. (Nearly: if the digit bounces between the two frames, two speeds fit them. A third frame decides.)
#
# ## Exercises
#
# 1. **Predict.** For which corners does equation 1 copy the glyph without any blur?
#
# 2. **Code.** A file gives frames as `uint8`, laid out `(f, h, w, c)`. Write `to_clip(pixels)`, which returns a batch of one clip
# in the book's layout and range, as float32. Hint: `rearrange`.

# %% tags=["exercise"]
def to_clip(pixels):
    """(f, h, w, c) uint8 -> (1, c, f, h, w) float32 in [-1, 1]."""
    return None


pixels = torch.randint(0, 256, (5, 6, 7, 3), generator=generator).to(torch.uint8)
claims = {
    "the shape is (1, 3, 5, 6, 7)": lambda answer: answer(pixels).shape == (1, 3, 5, 6, 7),
    "the numbers are float32": lambda answer: answer(pixels).dtype == torch.float32,
    "0 becomes -1": lambda answer: (answer(0 * pixels) == -1).all(),
    "255 becomes 1": lambda answer: (answer(0 * pixels + 255) == 1).all(),
    "each pixel is where it belongs": lambda answer: all(
        abs(answer(pixels)[0, c, 4, 2, 5] - (pixels[4, 2, 5, c] / 127.5 - 1)) < 1e-6 for c in range(3))}
check(to_clip, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(pixels):
    return rearrange(pixels.float() / 127.5 - 1, "f h w c -> 1 c f h w")


assert check(solution, claims)

# %% [markdown]
# 3. **Code.** Two frames nearly always tell the future. Write `future(first, second, num_frames, L)`: from the corners `(y, x)` on
# frames 0 and 1, the corners on frames 0 to `num_frames - 1`, in a box whose corners run from 0 to `L`. Assume that there is no
# bounce between the two frames. Hint: `fold`.

# %% tags=["exercise"]
def future(first, second, num_frames, L):
    """first, second: (2,) -> (num_frames, 2)."""
    return None


other = fold(torch.tensor([15.0, 1.0]) + torch.tensor([-1.2, 1.4]) * f[:, None], L=20.0)
claims = {
    "frames 0 and 1 are those given": lambda answer: torch.allclose(answer(*path[:2], 2, 16.0), path[:2]),
    "16 frames of our clip": lambda answer: torch.allclose(answer(*path[:2], 16, 16.0), path[:16], atol=1e-3),
    "60 frames, many bounces": lambda answer: torch.allclose(answer(*path[:2], 60, 16.0), path, atol=1e-3),
    "another digit in another box": lambda answer: torch.allclose(
        answer(*other[:2], 60, 20.0), other, atol=1e-3)}
check(future, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(first, second, num_frames, L):
    return fold(first + (second - first) * torch.arange(num_frames)[:, None], L)


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Draw a clip with four digits: `viz.film_strip(vd.BouncingDigits(num_digits=4).sample(1).video)`. From one frame
# alone, could you count them? From the clip?
#
# :::{dropdown} Solutions
# **1.** For whole numbers. Then exactly one $j$ is at distance 0 from each $i$ that the glyph covers, and $A$ holds only zeros and
# ones.
#
# **4.** On one frame overlapping digits may merge into one blob. Along the clip they come apart again.
# :::
#
# ## Sources
#
# The handwritten digits: {cite:t}`alpaydin1998optical`, as shipped by {cite:t}`pedregosa2011scikit`. The idea of digits that
# move: {cite:t}`srivastava2015unsupervised`.
