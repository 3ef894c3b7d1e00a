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
# # 3. The video UNet
#
# **Which network can look at a noisy clip and tell what it was?**
#
# It has to do two things at once: see strokes within a frame, and match them from frame to frame. We build a UNet that
# does the first with convolutions and the second with attention along time, block by block. Then we open the trained one
# and look inside.
#
# *Time to run: about fifteen seconds on two CPU cores, about ten on a GPU.*

# %% [markdown]
# **You will learn** how space and time are factorized; how attention knows the order of frames (rotary positions); how it can
# follow what moves, and foresee where it goes; how a noise level reaches every block (FiLM); how to read and change features
# through a *hook*.
#
# **You need** chapters 1 and 2; convolutions; a first idea of attention (queries, keys, values).

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.models.follow import Follow, MotionBlock
from vdiff_lite.models.layers import Context, ResBlock, TemporalAttention
from vdiff_lite.models.rotary import clean_mask, rotary_angles, rotate
from vdiff_lite.viz import sliders

torch.manual_seed(0)
device = vd.pick_device()
denoiser = vd.load("digits32", device)
net = denoiser.net

# %% [markdown]
# ## What the finished network does

# %% mystnb={"image": {"alt": "Three film strips: a clip under noise, the trained network's estimate of it, and the truth; the last two look alike."}, "figure": {"caption": "The network of this chapter, trained in the next: noisy clip in, clean clip out."}}
clip = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(4))
real = clip.video
t = torch.tensor([650])
xt = denoiser.schedule.add_noise(real, t, torch.randn(real.shape))
x0_hat = denoiser(xt.to(device), t.to(device))
viz.film_strip([xt[0], x0_hat[0], real[0]], ["input, t=650", "estimate", "truth"]);

# %% [markdown]
# **Predict.** A digit moves one pixel per frame. If attention along time only ever compares *the same position* in different
# frames, how can the network follow the digit?

# %% [markdown]
# ## Patches and levels
#
# A frame of 32 by 32 is cut into 2 by 2 patches, so the network works at 16 by 16 tokens. Two halvings follow, to 8 by 8 and
# to 4 by 4. One token at the lowest level stands for 8 by 8 pixels. A digit that moves a pixel per frame stays in one or two of
# them for many frames. That settles the prediction above: what is fast motion at the top is slow at the bottom. It is half an
# answer: a token of 8 by 8 pixels knows where the digit goes, but hardly which strokes it has. The other half comes below.
#
# The *encoder* goes down these levels, and the *decoder* comes back up. At each level the encoder's output is added to the
# decoder's input (a *skip connection*), so that fine detail need not pass through the lowest level.

# %%
# NBVAL_CHECK_OUTPUT
shapes = {}


def record_shape(site, feature):
    if torch.is_tensor(feature) and feature.ndim == 5:
        shapes[site] = tuple(feature.shape)
    return feature


with torch.no_grad():
    net(xt.to(device), t.to(device), hook=record_shape)
for site, shape in shapes.items():
    print(f"{site:10}", shape)

# %% [markdown]
# That was the **hook**: a function that the network calls with the name and the output of each block. It may record the
# feature, as here, or return another one, as feature injection will in chapter 9.

# %% [markdown]
# ## Build it: a residual block that knows the noise level
#
# At $t = 900$ the block should look for blobs, at $t = 100$ for edges. So the noise level, embedded as a vector of sines and
# cosines, sets a scale and a shift for every channel, for each frame by itself. This is called FiLM, or adaptive
# normalization:
#
# $$y = \text{conv}\big(\text{SiLU}((1 + s_t) \odot \text{norm}(h) + b_t)\big). \tag{1}$$

# %%
class MyResBlock(nn.Module):
    def __init__(self, c, e):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, c), nn.GroupNorm(8, c, affine=False)
        self.conv1, self.conv2 = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.modulation = nn.Linear(e, 2 * c)

    def forward(self, x, noise):  # x: (b f) c h w;  noise, the embedded level: (b f) e
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = rearrange(self.modulation(noise), "n (two c) -> two n c 1 1", two=2)
        return x + self.conv2(F.silu((1 + scale) * self.norm2(h) + shift))

# %% [markdown]
# The library's block is the same, with `conv2` initialized to zero, so that the block is the identity at first. Give both the
# same weights:

# %%
twin = ResBlock(32, 64)
nn.init.normal_(twin.conv2.weight, std=0.05)
mine = MyResBlock(32, 64)
mine.load_state_dict(twin.state_dict())
x, noise = torch.randn(4, 32, 8, 8), torch.randn(4, 64)
torch.testing.assert_close(mine(x, noise), twin(x, noise))

# %% [markdown]
# ## Build it: positions that only know differences
#
# Attention does not see order: shuffle the frames and it shuffles its output. Rotary embedding rotates pairs of channels of
# queries and keys by an angle that grows with the frame's position $m$,
#
# $$q_m = R(m\theta)\, q, \quad k_n = R(n\theta)\, k \quad\Rightarrow\quad q_m^\top k_n = q^\top R((n - m)\theta)\, k, \tag{2}$$
#
# so that a score depends on the *difference* $n - m$ alone. A window may then start anywhere in time. With complex numbers it
# is one line:

# %%
def rotate_by_hand(x, positions):  # x: (..., f, d)
    angles = rotary_angles(positions, x.shape[-1])  # (f, d/2)
    pairs = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], dim=-1)


q, k = torch.randn(2, 16, 32).unbind(0)
frames = torch.arange(16)
torch.testing.assert_close(rotate_by_hand(q, frames), rotate(q, rotary_angles(frames, 32)))

# %%
scores = rotate_by_hand(q, frames) @ rotate_by_hand(k, frames).T
later = rotate_by_hand(q, frames + 500) @ rotate_by_hand(k, frames + 500).T
torch.testing.assert_close(scores, later, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## Build it: attention along time
#
# Each spatial position of the frame is a sequence of $f$ vectors. Softmax of the scores says where in time to look:
#
# $$\text{attention}(q, k, v) = \text{softmax}\!\left(q k^\top / \sqrt{d}\right) v. \tag{3}$$

# %%
class MyTemporalAttention(nn.Module):
    def __init__(self, c, d):
        super().__init__()
        self.d, self.norm = d, nn.LayerNorm(c)
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)

    def forward(self, x, f):  # x: (b f) c h w
        h, w = x.shape[2:]
        y = self.norm(rearrange(x, "(b f) c h w -> (b h w) f c", f=f))
        heads = lambda projected: rearrange(projected, "n f (heads d) -> n heads f d", d=self.d)
        q, k, v = heads(self.q(y)), heads(self.k(y)), heads(self.v(y))
        q, k = rotate_by_hand(q, torch.arange(f)), rotate_by_hand(k, torch.arange(f))
        attention = (q @ k.mT / self.d**0.5).softmax(dim=-1)
        y = self.out(rearrange(attention @ v, "n heads f d -> n f (heads d)"))
        return x + rearrange(y, "(b h w) f c -> (b f) c h w", h=h, w=w)

# %% [markdown]
# ## Meet the twin
#
# The library has one `Attention` for all its blocks. It calls PyTorch's fused kernel and arranges memory so that nothing is
# copied. The numbers are the same. (`context` holds what all blocks share: the batch size, the embedded noise levels, the
# rotary angles. `"here"` is the name under which a hook would see the block.)

# %%
twin = TemporalAttention(64, 32)
nn.init.normal_(twin.attention.out.weight, std=0.1)
mine = MyTemporalAttention(64, 32)
mine.load_state_dict({name.removeprefix("attention."): value for name, value in twin.state_dict().items()})
x = torch.randn(2 * 16, 64, 4, 4)
context = Context(b=2, noise=None, angles=rotary_angles(frames, 32))
torch.testing.assert_close(mine(x, f=16), twin(x, context, "here"), rtol=1e-4, atol=1e-5)

# %% [markdown]
# ## Build it: follow what moves
#
# A stroke that is here on frame 1 is somewhere else on frame 9, where attention at *this* position finds nothing. So in the two
# finer levels of the decoder, attention counts positions from what moves. A convolution gives each position a score $s_p$. The
# softmax of the scores weighs the positions, and their mean is the centre of what moves:
#
# $$c = \sum_p \text{softmax}(s)_p \; p. \tag{4}$$
#
# Then every frame is moved so that its centre comes to stand in the middle, reading between pixels where $c$ is not whole.
# Along each axis
#
# $$\text{shift}(y)_i = \sum_j \max(0,\, 1 - |i + c - j|)\; y_j. \tag{5}$$
#
# Both are differentiable, so that $c$ can be learned. After the attention, the result is moved back by $-c$.

# %%
def my_centre(score):  # (n, h, w) -> (n, 2): row and column, counted from the middle
    n, h, w = score.shape
    p = score.flatten(1).softmax(dim=-1).view(n, h, w)
    rows, columns = torch.arange(h) - (h - 1) / 2, torch.arange(w) - (w - 1) / 2
    return torch.stack([(p.sum(2) * rows).sum(1), (p.sum(1) * columns).sum(1)], dim=1)


def my_shift(y, centre):  # (n, h, w, c), (n, 2)
    def read_at(size, c):  # (n,) -> (n, size, size)
        i = torch.arange(size)
        return (1 - (i[:, None] + c[:, None, None] - i).abs()).clamp(min=0)

    rows, columns = read_at(y.shape[1], centre[:, 0]), read_at(y.shape[2], centre[:, 1])
    return torch.einsum("nij, nkl, njlc -> nikc", rows, columns, y)


follow = Follow(8, cell=1)
y = torch.randn(3, 16, 16, 8)
score = follow.score(rearrange(y, "n h w c -> n c h w"))[:, 0]
mine, twin = my_shift(y, 5 * my_centre(score)), follow.shift(y, 5 * follow.find(y))
torch.testing.assert_close(my_centre(score), follow.find(y))
torch.testing.assert_close(mine, twin, atol=1e-5, rtol=1e-4)

# %% [markdown]
# The library's `Follow` does the same, with one refinement: a token of 2 by 2 pixels with 32 channels is laid out as 4 pixels
# with 8 channels before it is moved, so that nothing is blurred by more than a pixel. What does the trained network follow? Its
# centres pass the hook, too. Here they are for the noisy clip at the top, used to move the *clean* one:

# %%
centres = {}
with torch.no_grad():
    net(xt.to(device), t.to(device), hook=centres.setdefault)
centre = centres["decoder.0.temporal.seen"][0].T.cpu()  # (f, 2)
still = my_shift(rearrange(real + 1, "1 c f h w -> f h w c"), centre)
still = rearrange(still, "f h w c -> c f h w") - 1
error = (centre - (clip.truth.positions[0, 0] - 15.5)).norm(dim=1).median()
print(f"in the noise at t={int(t)}, the centre is off by {error:.1f} pixels (median)")

# %% mystnb={"image": {"alt": "Two film strips: in the upper row the digit moves through the frame, in the lower row it stays in the middle of every frame."}, "figure": {"caption": "Followed: each frame of the lower row is moved by the centre that the network estimated from the noisy clip."}}
viz.film_strip([real[0], still], ["as it is", "followed"]);

# %% [markdown]
# In the lower row the same stroke is at the same position of every frame, and attention along time can compare what belongs
# together, however far apart the frames are. (It is attention along trajectories: {cite:t}`patrick2021keeping`. One centre per
# frame suits one thing that moves; several things would need several.)

# %% [markdown]
# ## Build it: foresee where it goes
#
# On a frame of pure noise there is nothing to follow. The frames around it tell where the digit must be. But how much does it
# matter that the network knows? An experiment, before we build anything: five frames are given, the others are pure noise, and
# a hook replaces the centres at the finest level. They are held in the middle of the frame, or are what the network sees, or
# what it foresees, or the true ones: two numbers per frame.

# %%
level = torch.where(torch.arange(16) < 5, 0, 1000).expand(32, 16)
held_out = vd.BouncingDigits(split="test").sample(32, torch.Generator().manual_seed(5))
noisy = denoiser.schedule.add_noise(held_out.video, level, torch.randn(held_out.video.shape))
truth = rearrange(held_out.truth.positions[:, 0] - 15.5, "b f yx -> b yx f").to(device)


def centred_by(centre_of):
    """A hook: the finest level takes centre_of(what it sees, what it foresees) for the centres."""
    seen = {}

    def hook(site, y):
        seen.setdefault(site, y)
        if site != "decoder.0.temporal.centre":
            return y
        return centre_of(seen["decoder.0.temporal.seen"], y)

    return hook


hooks = {"held in the middle": centred_by(lambda seen, foreseen: 0 * seen),
         "as seen": centred_by(lambda seen, foreseen: seen),
         "as foreseen": None,
         "as they are": centred_by(lambda seen, foreseen: truth)}
errors = {}
for name, hook in hooks.items():
    with torch.no_grad():
        x0_hat = denoiser(noisy.to(device), level.to(device), hook=hook).cpu()
    errors[name] = ((x0_hat - held_out.video) ** 2).mean(dim=(0, 1, 3, 4))[5:]
    first, last = errors[name][0], errors[name][-1]
    print(f"centres {name:19} error of the estimate: frame 6 {first:.4f}, frame 16 {last:.4f}")

# %% mystnb={"image": {"alt": "Four lines over the frames 6 to 16, on a logarithmic scale. With centres in the middle the error is high everywhere; with centres as seen it grows fast; as foreseen it stays close above the line of the true centres, which is lowest on every frame."}, "figure": {"caption": "Mean squared error of the estimate on frames of pure noise after five given ones, mean of 32 held-out clips, by which centres the finest level uses."}}
figure, axis = plt.subplots(figsize=(6, 2.6))
viz.plot_lines(axis, range(6, 17), errors)
axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
axis.set(xlabel="frame", ylabel="mean squared error", yscale="log");

# %% [markdown]
# In the lowest line the network knows the true centres. Its error on frame 16 is about three times that on frame 6, but far
# below all that it reaches with centres as seen. *What* the digit is it takes from the past, however far. *Where* it is, is most
# of what was missing. So the finest level has one more part that turns sightings into better ones. It is a small transformer
# along time, with one number and one noise level per token, rows and columns apart.
#
# To continue along a straight line means position plus *distance in time* times velocity. Rotary positions let a score depend on
# the distance. But what attention brings from another frame, its value, does not say how far away it comes from. So here the
# values are rotated as well, by their own frame's angle $R(p_j)$, and the sum is rotated back by the angle of the frame that
# attends:
#
# $$y_i = R(p_i)^{-1} \sum_j a_{ij} R(p_j)\, v_j = \sum_j a_{ij} R(p_j - p_i)\, v_j. \tag{6}$$
#
# A slow rotation by a small angle is nearly linear: $\sin(\omega\,\Delta p) \approx \omega\,\Delta p$. One layer can then
# represent a straight line.

# %%
class MyMotionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))

    def forward(self, x, angles):  # (b, f, c), one head
        y = self.norm1(x)
        q, k, v = (rotate(proj(y), angles) for proj in (self.q, self.k, self.v))
        a = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.out(rotate(a @ v, -angles))
        return x + self.mlp(self.norm2(x))


twin, mine = MotionBlock(32, 32), MyMotionBlock(32)
nn.init.normal_(twin.out.weight, std=0.1)
mine.load_state_dict(twin.state_dict())
x = torch.randn(2, 16, 32)
torch.testing.assert_close(mine(x, context.angles), twin(x, context, None, "here"), rtol=1e-4, atol=1e-5)

# %% [markdown]
# How it learns where things go is a story of chapter 4. What it has learned: the sightings of the noisy frames above, before
# and after.

# %%
centres = {}
with torch.no_grad():
    net(noisy.to(device), level.to(device), hook=centres.setdefault)
error_of = lambda name: (centres[f"decoder.0.temporal.{name}"] - truth).norm(dim=1).mean(0).cpu()
as_seen, as_foreseen = error_of("seen"), error_of("centre")
print("off by (pixels)   as seen   as foreseen")
for frame in (1, 5, 6, 10, 16):
    print(f"frame {frame:2}     {as_seen[frame - 1]:12.2f} {as_foreseen[frame - 1]:13.2f}")

# %% [markdown]
# ## Which frames may attend to which
#
# Frames at $t = 0$ are *given*. They should not be influenced by frames that are still noise. And if they never attend to those,
# then what the network computes for the past does not change while the future is made, and can be computed once. So one rule is
# built in: **a clean frame does not attend to a noisy one.** It follows from the levels alone:

# %% mystnb={"image": {"alt": "A square matrix of sixteen by sixteen; in the rows of the five clean frames only the first five columns are white."}, "figure": {"caption": "Row: the frame that attends. Column: the frame it attends to. White: allowed. The first five frames are given."}}
levels = torch.where(torch.arange(16) < 5, 0, 700)[None]
plt.figure(figsize=(2.6, 2.6))
plt.imshow(clean_mask(levels)[0], cmap="gray", vmin=0, vmax=1)
plt.xticks(range(0, 16, 5))
plt.yticks(range(0, 16, 5))
plt.xlabel("attended to (frame)")
plt.ylabel("attends (frame)");

# %%
def features_of_past(future):
    features = {}
    x = torch.cat([real[:, :, :5], future], dim=2).to(device)
    with torch.no_grad():
        net(x, levels.to(device), hook=features.setdefault)
    return {site: feature[:, :, :5] for site, feature in features.items() if torch.is_tensor(feature)}


a, b = (features_of_past(torch.randn(1, 1, 11, 32, 32)) for _ in range(2))
for site in a:
    torch.testing.assert_close(a[site], b[site], rtol=1e-4, atol=1e-4)

# %% [markdown]
# Two different futures, the same features of the past at every site. Chapter 9 turns this into a method.

# %% [markdown]
# ## The whole
#
# One kind of block is left, the *joint* blocks. They stand at the lowest level, where there are only 16 tokens per frame and
# attention is cheap. There every token of every frame attends to every other, so that a stroke can be followed to wherever it
# went. Count the parameters (the rest: noise embedding, first and last layer):

# %%
# NBVAL_CHECK_OUTPUT
count, parts = lambda module: sum(p.numel() for p in module.parameters()), {}
for name in ("encoder", "down", "middle", "decoder", "up"):
    parts[name] = count(getattr(net, name))
parts |= {"the rest": count(net) - sum(parts.values()), "all": count(net)}
for name, number in parts.items():
    print(f"{name:8} {number:9,}")

# %% [markdown]
# Any number of frames goes in, and the given levels may differ from frame to frame:

# %%
# NBVAL_CHECK_OUTPUT
for f in (1, 7, 16, 24):
    zeros = torch.zeros(2, 1, f, 32, 32, device=device)
    out = net(zeros, torch.zeros(2, f, dtype=torch.long, device=device))
    print(f, "frames in,", out.shape[2], "out")

# %% [markdown]
# ## Play
#
# What does the network hold at each level? The slider shows the strength of the features (the norm over channels) at each site,
# for the noisy clip at the top. Watch the digit appear and the noise go.

# %%
features = {}
with torch.no_grad():
    net(xt.to(device), t.to(device), hook=features.setdefault)
features = {site: y for site, y in features.items() if torch.is_tensor(y) and y.ndim == 5}
clips = []
for feature in features.values():
    strength = feature[0].norm(dim=0).cpu()
    strength = 2 * (strength - strength.min()) / (strength.max() - strength.min()) - 1
    large = F.interpolate(strength[None, None], size=(16, 32, 32), mode="nearest")[0]
    clips.append(torch.cat([xt[0].clamp(-1, 1), large, real[0]], dim=-1))

# %%
alt = "Left the noisy clip, middle the features, right the truth."
sliders.picture_slider(sliders.clip_pictures(clips), list(features), "site", alt, start=3, width=420)

# %% [markdown]
# ## What breaks, and how to see it
#
# Tell the trained network that all frames are at the same time. It can no longer line them up, and the estimate is a blur.

# %%
with torch.no_grad():
    forward = denoiser(xt.to(device), t.to(device)).cpu()
    lost = denoiser(xt.to(device), t.to(device), positions=torch.zeros(16).long()).cpu()

# %% mystnb={"image": {"alt": "Two film strips; with positions a sharp digit moves along, without them the estimate is a blur."}, "figure": {"caption": "The same network on the same noisy clip; in the lower row it was told that all frames are at the same time."}}
viz.film_strip([forward[0], lost[0]], ["positions", "no positions"]);

# %%
error = lambda x0_hat: ((x0_hat - real) ** 2).mean().item()
print(f"mean squared error of the estimate: {error(forward):.4f} with positions, {error(lost):.4f} without")

# %% [markdown]
# ## Recap
#
# Convolutions see within frames, and attention sees along time, at positions that move along with the digit. A small transformer
# foresees where the digit will be, and joint blocks at the lowest level let every token attend to every other. Rotary positions
# make time relative, FiLM brings each frame's noise level to every block, features pass a hook by name, and clean frames never
# attend to noisy ones.
#
# ## Exercises
#
# 1. **Predict.** The clip is doubled from 16 to 32 frames. By what factor does the work of the convolutions grow, that of
#    temporal attention's scores, and that of the joint blocks' scores?
# 2. **Code.** Use a hook to set the output of `decoder.1` to zero. What is left in the estimate?
# 3. **Explore.** Feed a clip of 24 frames at $t = 650$. Is the estimate as good as for 16? (Chapter 6 takes this up in earnest.)
#
# :::{dropdown} Solutions
# 1. Convolutions: 2 times. Scores along time: each of twice as many frames attends to twice as many, 4 times. The joint blocks
#    likewise 4 times, but on 32 · 16 tokens at once, which is why they stay at the lowest level.
# 2. `hook=lambda site, y: y * 0 if site == "decoder.1" else y`. Only the skip connection of the top level and what it can do alone
#    are left: local cleaning of strokes, without knowledge of where the digit is going.
# 3. Compare the error per frame with `((x0_hat - real) ** 2).mean(dim=(0, 1, 3, 4))`.
# :::
#
# ## Sources
#
# The UNet of diffusion: {cite:t}`ho2020denoising`; for video, factorized: {cite:t}`ho2022video`. Rotary positions:
# {cite:t}`su2021roformer`. Adaptive normalization by noise level: {cite:t}`dhariwal2021diffusion`. Soft-argmax:
# {cite:t}`finn2016deep`; differentiable shifts: {cite:t}`jaderberg2015spatial`; attention that follows what moves:
# {cite:t}`patrick2021keeping`. Attention at the lowest resolution only: {cite:t}`hoogeboom2023simple`.
