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
# **What does a network see when it looks at a video - and how can we make endless video with the truth known for every frame?**
#
# We build the world of this book: a digit that bounces in a box. It is small enough for a laptop and exact enough
# to measure a model against: after two frames, the whole future is determined.
#
# *Time to run: about ten seconds on two CPU cores, and the same on a GPU, which has nothing to do here.*

# %% [markdown]
# **You will learn** how a clip is laid out in memory and in which range; how to draw a digit between pixels; how to fold a
# straight line back at the walls; what ground truth is good for.
#
# **You need** basic Python and a first acquaintance with tensors.

# %%
import matplotlib.pyplot as plt
import torch
from einops import rearrange

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.data.bouncing_digits import centroid, draw, glyphs
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
# Throughout the book a batch of clips is one tensor `(b, c, f, h, w)`: batch, channel, frame, height, width. Values lie
# in $[-1, 1]$: black is $-1$, white is $1$. Noise has mean 0 and variance 1, so it is on the same scale as the data.
#
# Layers disagree about the layout they want, and `einops` lets us state it in words instead of counting axes. A 2D
# convolution wants frames as a batch of images. Attention along time wants each spatial position as a sequence.

# %% tags=["nbval-check-output"]
as_images = rearrange(finished.video, "b c f h w -> (b f) c h w")
as_sequences = rearrange(finished.video, "b c f h w -> (b h w) f c")
print("images   ", tuple(as_images.shape))
print("sequences", tuple(as_sequences.shape))

# %% [markdown]
# ## Build it: a digit between pixels
#
# The digits are the UCI set that scikit-learn ships: 8 by 8 pixels, 1,797 of them, by 13 people. Each image of a digit is one
# *glyph sample*. `glyphs` enlarges them and centers each on its centroid, the center of mass of its brightness.

# %%
images, labels = glyphs(digit_size=12, split="train")
tuple(images.shape), tuple(glyphs(12, "test")[0].shape)

# %% mystnb={"image": {"alt": "Ten handwritten digits in a row, zero to nine, white on black."}, "figure": {"caption": "One glyph sample of each digit."}}
one_each = torch.stack([images[(labels == n).nonzero()[0, 0]] for n in range(10)])
plt.figure(figsize=(9, 1))
plt.imshow(rearrange(one_each, "n h w -> h (n w)"), cmap="gray")
plt.axis("off");

# %% [markdown]
# The digit may stand anywhere, not only on whole pixels. Linear interpolation does it, and it factors into one matrix
# per axis. With $c$ the corner's coordinate,
#
# $$\text{frame} = A_y \, G \, A_x^\top, \qquad A_{ij} = \max(0,\; 1 - |\,i - j - c\,|). \tag{1}$$
#
# Row $i$ of the frame takes from row $j$ of the glyph $G$ according to how near $j + c$ lies to $i$: the tent function.

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
# The tent has two properties that we will rely on. The weights along $i$ sum to 1, so the total intensity (the sum of the
# brightness over all pixels) is kept. And the center of mass moves by exactly $c$. So the centroid of the pixels *is* the
# position, without any rounding.

# %% tags=["nbval-check-output"]
moved = centroid(draw_by_hand(one_each[3], torch.tensor([9.75, 2.25]))) - centroid(frame)
moved, expected = [round(v, 3) for v in moved.tolist()], [9.75 - 4.3, 2.25 - 10.8]
print("intensity before and after: %.3f %.3f" % (one_each[3].sum(), frame.sum()))
print("centroid moved by", moved, "- expected", expected)

# %% [markdown]
# ## Build it: bouncing
#
# A ball between two walls at $0$ and $L$ moves in a straight line in a world of mirrors. So let it fly through the walls and
# fold the line back,
#
# $$p(f) = \operatorname{tri}(p_0 + v f), \qquad \operatorname{tri}(u) = L - \big|\, (u \bmod 2L) - L \,\big|. \tag{2}$$

# %%
def fold(u, L):
    return L - (torch.remainder(u, 2 * L) - L).abs()


f = torch.arange(60)
path = fold(torch.tensor([3.0, 12.0]) + torch.tensor([0.9, -0.6]) * f[:, None], L=16.0)

# %% mystnb={"image": {"alt": "Two zigzag curves between zero and sixteen pixels: the row falls and rises with a steeper slope than the column."}, "figure": {"caption": "Row and column of the corner over 60 frames: straight lines, folded at the walls."}}
figure, axis = plt.subplots(figsize=(7, 2.4))
viz.plot_lines(axis, f, {"y (row)": path[:, 0], "x (column)": path[:, 1]})
axis.set(xlabel="frame f", ylabel="corner (pixels)");

# %% [markdown]
# Put the two together and we have a clip.

# %%
by_hand = torch.stack([draw_by_hand(one_each[3], corner) for corner in path[:16]])
by_hand = rearrange(2 * by_hand - 1, "f h w -> 1 f h w")

# %% mystnb={"image": {"alt": "A film strip of sixteen frames: a three moves down and to the left."}, "figure": {"caption": "Our clip."}}
viz.film_strip([by_hand], ["by hand"]);

# %% [markdown]
# ## Meet the twin
#
# By *twin* this book means the library's version of what we have just built by hand: both must give the same numbers.
# Here the library draws whole batches at once: same tent matrices, same fold, `(b, n, f)` of them in two matrix products.

# %%
twin = draw(one_each[3][None, None], path[None, None, :16], size=32)
torch.testing.assert_close(by_hand, 2 * twin[0] - 1)

# %% [markdown]
# `BouncingDigits` draws the start, the velocity and the glyph sample at random from a generator. It returns a `Batch`: the
# clips as `video`, and what is known about them as `truth`.

# %% tags=["nbval-check-output"]
batch = vd.BouncingDigits().sample(256, torch.Generator().manual_seed(2))
print("video     ", tuple(batch.video.shape))
for name in ("positions", "velocities", "labels"):
    print(f"{name:10}", tuple(getattr(batch.truth, name).shape))

# %% [markdown]
# Is the truth true? Measure the centroid of the pixels and compare; then check that the fold of equation 2 conserves speed.

# %% tags=["nbval-check-output"]
measured = centroid((batch.video[:, 0] + 1) / 2)
largest = (measured - batch.truth.positions[:, 0]).abs().max().clamp(min=1e-5)
speed = batch.truth.velocities.norm(dim=-1)
print("largest error of the position: %.0e pixels" % largest)
print("slowest and fastest: %.2f %.2f pixels per frame" % (speed.min(), speed.max()))
torch.testing.assert_close(speed, speed[:, :, :1].expand_as(speed))

# %% [markdown]
# The same seed gives the same bytes. And no glyph sample is in both splits: they come from different forms, filled in by
# different people (but for one person at most, as far as can be told: `data/README.md`).

# %%
again = vd.BouncingDigits().sample(256, torch.Generator().manual_seed(2))
assert torch.equal(batch.video, again.video)
splits = [vd.BouncingDigits(split=name).sample(256, generator) for name in ("train", "test")]
train, test = (set(split.truth.samples.flatten().tolist()) for split in splits)
assert not train & test

# %% [markdown]
# ## Play
#
# How fast may a digit be before its frames stop overlapping? Move the slider and watch. The book stays between 0.5 and 1.5
# pixels per frame.

# %%
speeds = [0.25, 0.5, 1.0, 1.5, 2.5, 4.0]
same_start = lambda data: data.sample(1, torch.Generator().manual_seed(5)).video
fast = torch.cat([same_start(vd.BouncingDigits(speed=(s, s))) for s in speeds])
pictures = sliders.clip_pictures(fast)
sliders.picture_slider(pictures, speeds, "speed, pixels per frame", "A digit bounces in a box.", start=2)

# %% [markdown]
# Two digits are the harder setting: they hide each other, and a model must remember what it cannot see.

# %% mystnb={"image": {"alt": "A film strip in which two digits cross and cover each other for a few frames."}, "figure": {"caption": "Two digits. Where they overlap, the brighter pixel is shown."}}
two = vd.BouncingDigits(num_digits=2).sample(1, torch.Generator().manual_seed(3))
viz.film_strip(two.video, ["two digits"]);

# %% [markdown]
# ## What breaks, and how to see it
#
# What if we had rounded positions to whole pixels? On one frame nobody can tell. Along time, the speed is wrong almost
# everywhere: the digit stands still, then jumps.

# %%
rounded = torch.stack([draw_by_hand(one_each[3], corner.round()) for corner in path])
smooth = torch.stack([draw_by_hand(one_each[3], corner) for corner in path])

# %% mystnb={"image": {"alt": "The measured speed per frame: nearly constant for the smooth clip, jumping between zero and more than one for the rounded one."}, "figure": {"caption": "Speed measured from the pixels. A model trained on the dashed clip would learn to stutter."}}
figure, axis = plt.subplots(figsize=(7, 2.4))
speed_of = lambda frames: centroid(frames).diff(dim=0).norm(dim=-1)
viz.plot_lines(axis, f[1:], {"between pixels": speed_of(smooth), "rounded to pixels": speed_of(rounded)})
axis.set(xlabel="frame f", ylabel="speed (pixels per frame)");

# %% [markdown]
# The second classic is to forget the range. A clip in $[0, 255]$ or $[0, 1]$ runs through every layer without an error, and
# a model trained on it learns nothing good, since its noise is on another scale. One line tells:

# %% tags=["nbval-check-output"]
print("min %.1f, max %.1f" % (batch.video.min(), batch.video.max()))

# %% [markdown]
# Your own clips work too: `vd.VideoFolder("my_clips/")` reads video files and folders of images, and a file that cannot be
# used is named, not skipped in silence.

# %% tags=["nbval-check-output"]
try:
    vd.VideoFolder("no_such_folder")
except ValueError as error:
    print(error)

# %% [markdown]
# ## Recap
#
# A clip is a tensor `(b, c, f, h, w)` in $[-1, 1]$. Our world draws a digit with tent matrices, which makes its centroid
# exact, and folds a straight line at the walls, which makes its future determined. So a model's clips can be checked against
# the truth.
#
# ## Exercises
#
# 1. **Predict.** For which corners does equation 1 copy the glyph without any blur?
# 2. **Code.** Let the digit fall: add gravity to the vertical path before the fold. Does the fold still give a physical bounce?
# 3. **Explore.** Set `num_digits=4`. From one frame alone, could you count them? From a clip?
#
# :::{dropdown} Solutions
# 1. For whole numbers: then exactly one $j$ is at distance 0 from each $i$, and $A$ holds only zeros and ones.
# 2. `y = fold(p0 + v * f + 0.5 * g * f**2, L)`. Not physical: the fold mirrors the line, and a mirrored parabola falls *upwards*
#    after the first bounce. A constant velocity is what makes the trick exact.
# 3. Try `viz.film_strip(vd.BouncingDigits(num_digits=4).sample(1).video)`. On one frame overlapping digits merge into one
#    blob; over a clip they come apart again. That is what memory is for.
# :::
#
# ## Sources
#
# The handwritten digits: {cite:t}`alpaydin1998optical`, as shipped by {cite:t}`pedregosa2011scikit`. The idea of digits that
# move: {cite:t}`srivastava2015unsupervised`.
