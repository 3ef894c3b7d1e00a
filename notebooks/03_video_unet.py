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
# It has to do two things at once: see strokes within a frame, and match them from frame to frame. We build a UNet that does the first
# with convolutions and the second with attention along time: space and time are *factorized*.
#
# *Time to run: about fifteen seconds on two CPU cores, about ten on a GPU.*

# %% [markdown]
# **You will learn** why the network is a UNet; how space and time are factorized; how attention knows the order of frames (rotary
# positions); why a few blocks attend to everything at once; how the noise level reaches every block (FiLM); how to read and change
# features through a *hook*; how to see where a trained network looks.
#
# **You need** chapters 1 and 2; convolutions; a first idea of attention (queries, keys, values).

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

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.evaluation.results import FOLDER
from vdiff_lite.exercises import check
from vdiff_lite.models.layers import Context, ResBlock, SpaceTimeBlock, TemporalAttention
from vdiff_lite.models.rotary import clean_mask, rotary_angles, rotate, space_time_angles
from vdiff_lite.viz import sliders

torch.manual_seed(0)
device = vd.pick_device()
denoiser = vd.load("digits32", device)
net = denoiser.net

# %% [markdown]
# ## What the finished network does
#
# Noisy clip in, estimate of the clean clip out. (Chapter 4 trains it.)

# %% mystnb={"image": {"alt": "Three film strips: a clip under noise, the trained network's estimate of it, and the truth; the last two look alike."}, "figure": {"caption": "The input at t = 650, the estimate of the trained network, and the clean clip."}}
clip = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(4))
real = clip.video
t = torch.tensor([650])
xt = denoiser.schedule.add_noise(real, t, torch.randn(real.shape))
x0_hat = denoiser(xt.to(device), t.to(device))
viz.film_strip([xt[0], x0_hat[0], real[0]], ["input, t=650", "estimate", "truth"]);

# %% [markdown]
# **Predict.** A digit moves one pixel per frame. If attention along time only ever compares *the same position* in different
# frames, how can the network tell where the digit went?
#
# ## The picture
#
# The whole network on one page, drawn from its own config. On the left the *encoder* goes down to coarser and coarser grids of tokens.
# On the right the *decoder* comes back up. The rest of the chapter builds these boxes.

# %% mystnb={"image": {"alt": "A diagram in the shape of the letter U. On the left three encoder stages go down, from 32 channels at 16 by 16 tokens over 64 channels at 8 by 8 to 128 channels at 4 by 4. Below stand three middle blocks of joint attention. On the right three decoder stages of the same sizes go up. Dashed arrows lead from each encoder stage across to its decoder stage. Each encoder and decoder stage has a part for convolutions within each frame and a part for attention along time."}, "figure": {"caption": "The network of this chapter. The taller a box, the finer its grid of tokens; the wider, the more channels it has. From one resolution to the next the grid is halved and the channels grow."}}
viz.network_diagram(net.config);

# %% [markdown]
# ## Why a UNet
#
# A frame of 32 by 32 is cut into patches of 2 by 2 pixels, so the network works on 16 by 16 *tokens*. Convolutions of 2 by 2 with stride
# 2 halve the grid to 8 by 8 and 4 by 4, and transposed ones double it again. Each stage of the encoder and the decoder has one block of
# convolutions and one of attention.
#
# *Why an encoder?* A 3 by 3 convolution sees its neighbors only. On the coarsest grid they cover a whole digit and more, and there are a
# sixteenth as many positions to compute. A token there stands for 8 by 8 pixels, so a stroke that moves one pixel per frame stays in it
# for up to eight frames. That is half an answer to the prediction above: fast motion on the fine grid is slow on the coarse one. The
# other half comes below, where every token may attend to every other.
#
# *Why skip connections?* The output $v$ contains the noise, and noise differs at every pixel. On the grid of 4 by 4 each token would
# have to pack the noise of its 64 pixels, without loss. So the encoder's output is added to the decoder's input at each resolution.
# The coarse grids decide what is there and where. The skips carry the fine detail around them.
#
# *Why is time not down-sampled?* A coarse time step would merge a clean frame with a noisy one, and this network gives every frame its
# own noise level.

# %% tags=["nbval-check-output"]
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
# That was the *hook*: a function that the network calls with the name, or *site*, and the output of each stage. It may record the
# feature, as here, or return another one, as feature injection will in chapter 9. At a site of attention, such as
# `decoder.1.temporal`, it gets the keys and the values.
#
# ## Build it: a residual block that knows the noise level
#
# At $t = 900$ the block should look for blobs, at $t = 100$ for edges. So the noise level, embedded as a vector of sines and
# cosines, sets a scale and a shift for every channel of every frame. This is called *FiLM* (feature-wise linear modulation), or
# adaptive normalization. For input features $x$,
#
# $$y = \text{conv}\big(\text{SiLU}((1 + \text{scale}_t) \odot \text{norm}(x) + \text{shift}_t)\big). \tag{1}$$
#
# Before (1) come a norm, SiLU and a convolution that do not know the level. At the end the block adds its input to its result.

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
# The library's block is the same, except that `conv2` starts at zero, so that the block first passes its input through unchanged.
# With equal weights both give the same:

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
# Attention does not see order: shuffle the frames, and its output is shuffled likewise. *Rotary positions* tell it. They rotate
# pairs of channels of queries $q$ and keys $k$ by angles that grow with the frame's position $m$,
#
# $$q_m = R(m\omega)\, q, \quad k_n = R(n\omega)\, k \quad\Rightarrow\quad q_m^\top k_n = q^\top R((n - m)\omega)\, k. \tag{2}$$
#
# Pair $i$ of a head's $d$ channels has $\omega_i = 100^{-2i/d}$ radians per frame: the fast pairs tell neighbors apart, the slow ones distant
# frames. So the product $q_m^\top k_n$, which says how well they match, depends on the *difference* $n - m$ alone. A window may start
# anywhere in time: below, 500 frames later nothing changes. With complex numbers the rotation is one line:

# %%
def rotate_by_hand(x, positions):  # x: (..., f, d)
    angles = rotary_angles(positions, x.shape[-1])  # (f, d/2)
    pairs = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], dim=-1)


q, k = torch.randn(2, 16, 32).unbind(0)
frames = torch.arange(16)
torch.testing.assert_close(rotate_by_hand(q, frames), rotate(q, rotary_angles(frames, 32)))

matches = rotate_by_hand(q, frames) @ rotate_by_hand(k, frames).T
later = rotate_by_hand(q, frames + 500) @ rotate_by_hand(k, frames + 500).T
torch.testing.assert_close(matches, later, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## Build it: attention along time
#
# A convolution along time would share its weights over time too, but would reach only neighbors. Attention reaches every frame. Each
# token's position is a sequence of `f` vectors, one per frame. Softmax turns the products of queries and keys, the *logits*, into
# weights that say where in time to look. The output is the weighted mean of the values. With $d$ channels per head (32, so one, two
# and four heads on the three grids),
#
# $$\text{attention}(q, k, \text{values}) = \text{softmax}\!\left(q k^\top / \sqrt{d}\right) \text{values}. \tag{3}$$

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
# The library has one `Attention` for all its blocks. It calls PyTorch's own, and the numbers are the same. (`context` holds what all
# blocks share: the batch size, the embedded noise levels, the rotary angles. `"here"` is a site.)

# %%
twin = TemporalAttention(64, 32)
nn.init.normal_(twin.attention.out.weight, std=0.1)
mine = MyTemporalAttention(64, 32)
mine.load_state_dict({name.removeprefix("attention."): value for name, value in twin.state_dict().items()})
x = torch.randn(2 * 16, 64, 4, 4)
context = Context(b=2, noise=None, angles=rotary_angles(frames, 32))
torch.testing.assert_close(mine(x, f=16), twin(x, context, "here"), rtol=1e-4, atol=1e-5)

# %% [markdown]
# ## Build it: joint attention
#
# On the coarsest grid there are only 16 tokens per frame. There we can afford *joint attention*: every token of every frame attends
# to every other, so a stroke can be found wherever it went. Each of the blocks in the middle is a transformer block: joint
# attention, then a small network on each token by itself, both with the FiLM of equation 1. A token now has three positions.
# Half of its pairs of channels are rotated by its frame, a quarter by its row, and a quarter by its column (`space_time_angles`).

# %%
class MySpaceTimeBlock(nn.Module):
    def __init__(self, c, e, d):
        super().__init__()
        self.d, self.modulation = d, nn.Linear(e, 4 * c)
        self.norm1, self.norm2 = (nn.LayerNorm(c, elementwise_affine=False) for _ in range(2))
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.out = nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU("tanh"), nn.Linear(4 * c, c))

    def forward(self, x, noise, f):  # x: (b f) c h w;  noise: (b f) e
        h, w = x.shape[2:]
        x = rearrange(x, "(b f) c h w -> b (f h w) c", f=f)
        modulation = repeat(self.modulation(noise), "(b f) (four c) -> four b (f p) c", four=4, f=f, p=h * w)
        scale1, shift1, scale2, shift2 = modulation
        angles = space_time_angles(rotary_angles(torch.arange(f), self.d), h, w)
        heads = lambda projected: rearrange(projected, "b n (heads d) -> b heads n d", d=self.d)
        y = (1 + scale1) * self.norm1(x) + shift1
        q, k, v = rotate(heads(self.q(y)), angles), rotate(heads(self.k(y)), angles), heads(self.v(y))
        attention = (q @ k.mT / self.d**0.5).softmax(dim=-1)
        x = x + self.out(rearrange(attention @ v, "b heads n d -> b n (heads d)"))
        x = x + self.mlp((1 + scale2) * self.norm2(x) + shift2)
        return rearrange(x, "b (f h w) c -> (b f) c h w", h=h, w=w)


# %%
twin = SpaceTimeBlock(64, 32, 32)
for layer in (twin.attention.out, twin.mlp[-1]):
    nn.init.normal_(layer.weight, std=0.1)
mine = MySpaceTimeBlock(64, 32, 32)
mine.load_state_dict({name.removeprefix("attention."): value for name, value in twin.state_dict().items()})
noise = torch.randn(2 * 16, 32)
context = Context(b=2, noise=noise, angles=rotary_angles(frames, 32))
torch.testing.assert_close(mine(x, noise, f=16), twin(x, context, "here"), rtol=1e-4, atol=1e-4)

# %% [markdown]
# Why not joint attention everywhere? And why is there no attention within each frame, as many video networks have it
# {cite:p}`ho2022video`? Count the logits of one head, for 16 frames:

# %% tags=["nbval-check-output"]
count_logits = lambda n, f=16: {"along time": n * f**2, "within frames": f * n**2, "joint": (f * n) ** 2}
grids = {f"{side} x {side}": count_logits(side**2) for side in (16, 8, 4)}
viz.show_table(pd.DataFrame(grids).T.rename_axis("tokens").map("{:,}".format), "Logits by kind of attention")

# %% [markdown]
# On the finest grid attention within frames would cost 16 times as much as along time, and joint attention 256 times as much. Within
# a small frame the convolutions see what attention would see. On the coarsest grid joint attention costs as much as attention along
# time on the finest, and it includes attention within each frame. So a separate one is left out.
#
# ## Which frames may attend to which
#
# Frames at $t = 0$ are *given*. Frames that are still noise should not influence them. And if given frames never attend to noisy ones,
# what the network computes for the past does not change while the future is made, and can be computed once. So one rule is built in:
# **a clean frame does not attend to a noisy one.** Noisy frames attend to all. The mask follows from the noise levels alone, and the
# library has it in both kinds of attention (our classes above do not). Here the first five are clean:

# %% mystnb={"image": {"alt": "A square matrix of sixteen by sixteen; in the rows of the five clean frames only the first five columns are white."}, "figure": {"caption": "Row: the frame that attends. Column: the frame it attends to. White: allowed. The first five frames are clean."}}
levels = torch.where(torch.arange(16) < 5, 0, 700)[None]
plt.figure(figsize=(2.6, 2.6))
plt.imshow(clean_mask(levels)[0], cmap="gray", vmin=0, vmax=1)
plt.xticks(range(0, 16, 5))
plt.yticks(range(0, 16, 5))
plt.xlabel("attended to (frame)")
plt.ylabel("attends (frame)")


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
#
# ## The whole
#
# Put together as in the picture, the parts have this many parameters (the rest: noise embedding, first and last layer). Any number of
# frames goes in.

# %% tags=["nbval-check-output"]
count, parts = lambda module: sum(p.numel() for p in module.parameters()), {}
for name in ("encoder", "down", "middle", "decoder", "up"):
    parts[name] = count(getattr(net, name))
parts |= {"the rest": count(net) - sum(parts.values()), "all": count(net)}
for f in (1, 7, 24):
    out = net(torch.zeros(2, 1, f, 32, 32, device=device), torch.zeros(2, f, dtype=torch.long, device=device))
    print(f, "frames in,", out.shape[2], "out")
viz.show_table(pd.Series(parts, name="parameters").rename_axis("part").to_frame(), "What the parts hold")

# %% [markdown]
# ## What each kind of attention does
#
# A hook may change what it is shown. This one sets all values of some attention layers to zero, so that they bring nothing. Five clean
# frames go in, and eleven of pure noise. How good is the estimate of the eleven?

# %%
def without(kind):
    def hook(site, feature):
        if not site.endswith(kind):
            return feature
        keys, values = feature
        return keys, 0 * values

    return hook


hooks = {"all of it": None, "without joint attention": without(".joint"),
         "without attention along time": without(".temporal")}
level = torch.where(torch.arange(16) < 5, 0, 1000).expand(16, 16)
held_out = vd.BouncingDigits(split="test").sample(16, torch.Generator().manual_seed(5))
noisy = denoiser.schedule.add_noise(held_out.video, level, torch.randn(held_out.video.shape))
mse = lambda x0_hat: ((x0_hat.cpu() - held_out.video) ** 2).mean(dim=(0, 1, 3, 4))[5:]
with torch.no_grad():
    errors = {name: mse(denoiser(noisy.to(device), level.to(device), hook=hook))
              for name, hook in hooks.items()}
errors["a black clip"] = mse(torch.full_like(noisy, -1.0))

# %% mystnb={"image": {"alt": "Four lines over the new frames 1 to 11, on a logarithmic scale. The whole network has by far the lowest error, which rises slowly. Without joint attention it is more than ten times as high and rises. Without attention along time it is as high as that of a black clip."}, "figure": {"caption": "Mean squared error of one estimate of eleven frames of pure noise after five given ones, mean of 16 held-out clips, with a kind of attention switched off in the trained network."}}
figure, axis = plt.subplots(figsize=(6, 2.8))
viz.plot_lines(axis, range(1, 12), errors)
axis.legend(frameon=False, bbox_to_anchor=(0, 1.02), loc="lower left", ncols=2)
axis.set(xlabel="new frame", ylabel="mean squared error", yscale="log");

# %% [markdown]
# With a kind of attention switched off, the error is far higher on every frame. Without attention along time the estimate is no
# better than a black clip. This says what *this* network relies on. One trained without a part might do better with the rest.
#
# ## Where one pixel looks
#
# Which input pixels does one output pixel depend on? The gradient tells. Take the brightest pixel $i$ of the estimate on frame 8,
# and look at
#
# $$g = \left| \frac{\partial\, \hat{x}_0[\text{frame } 8, \text{pixel } i]}{\partial\, x_t} \right|.$$
#
# It has a value for each pixel of each frame.

# %% mystnb={"image": {"alt": "Three film strips. Top, noise in which hardly anything can be seen. Middle, the true clip, in which a digit moves and turns at a wall. Bottom, the gradient: on every frame a bright spot, which moves along with the digit."}, "figure": {"caption": "Top: the noisy clip that the network sees. Middle: the truth. Bottom: the gradient, each frame scaled to its own maximum."}}
xt16 = denoiser.schedule.add_noise(held_out.video, t.expand(16), torch.randn(held_out.video.shape))
xt16.requires_grad_()
on_frame_8 = denoiser(xt16.to(device), t.expand(16).to(device))[:, 0, 8].flatten(1).cpu()
brightest, pixel = on_frame_8.max(dim=1)
g = torch.autograd.grad(brightest.sum(), xt16)[0].abs()
shown = g[3] / g[3].amax(dim=(2, 3), keepdim=True)
viz.film_strip([xt16[3], held_out.video[3], 2 * shown - 1], ["input, t=650", "truth", "gradient"]);

# %% [markdown]
# On every frame the gradient is one spot, and the spot moves along with the digit, though nothing in the network was built to track.
# Does it follow the *stroke* that the pixel of frame 8 shows? The true positions of the digits tell where that stroke is on each frame.
# Compare it with the center of $g^2$:

# %%
weight = g[:, 0] ** 2 / (g[:, 0] ** 2).sum(dim=(2, 3), keepdim=True)
along = lambda weight: (weight * torch.arange(32)).sum(-1)
center = torch.stack([along(weight.sum(3)), along(weight.sum(2))], dim=-1)
digit = held_out.truth.positions[:, 0]
same_pixel = torch.stack([pixel // 32, pixel % 32], dim=-1)[:, None].expand_as(digit)
same_stroke = same_pixel + digit - digit[:, 8:9]
median = lambda where: (center - where).norm(dim=-1).median(dim=0).values
frames = [0, 4, 12, 15]
where = {"the same stroke": median(same_stroke)[frames], "the same pixel": median(same_pixel)[frames]}
viz.show_table(pd.DataFrame(where, index=pd.Index(frames, name="frame")),
               "Pixels between the gradient's center and ..., median of 16 clips", digits=1)

# %% [markdown]
# It stays within about a pixel of the stroke. From the pixel that it started at, it moves up to six pixels away.
#
# ## What an inductive bias buys
#
# An earlier network of this book *did* track, by construction. It estimated one center per frame, its attention compared positions
# relative to that center, and a small part of it was trained on trajectories to know how centers move. That is an *inductive bias*:
# knowledge of the data, built into the network. The plain one of this chapter has none.
#
# Both continue the same 64 held-out clips from five given frames. *PSNR*, in dB, is $10 \log_{10}(4 / \text{MSE})$. MSE is the mean
# squared error against the true frame, and 4 is the square of the range of a pixel. Higher is better.

# %%
rows = json.loads((FOLDER / "inductive_bias.json").read_text())
table = pd.DataFrame(rows).set_index("network")
for frame in ("1", "5", "11"):
    table[f"new frame {frame}"] = [psnr[frame] for psnr in table["psnr"]]
tracked, plain = (table[table.index.str.startswith(kind)].clips.max() for kind in ("tracked", "plain"))
print(f"clips in training, plain to tracked (the longest run of each): {plain / tracked:.1f}")
viz.show_table(table.drop(columns=["psnr", "source", "sha256"]),
               "PSNR in dB of the new frames (64 clips, 25 steps of DDIM), "
               "and what the network was trained with", digits=1)

# %% [markdown]
# Taught its motion law on 768,000 trajectories, the tracked network reaches about the plain one's PSNR from 8.5 times fewer clips.
# Without them it stays far below, and the table has no plain network of as few clips. The price: one center per frame is one object.
#
# ## Other networks in the same minutes
#
# Three other networks of about as many parameters, trained for the same minutes by the same trainer on the same data
# (`tests/peers.py`, `book/_tools/architectures.py`). A *U-ViT* has residual blocks on the fine grids and a transformer on the coarse
# ones {cite:p}`song2025history`. A *DiT* cuts frames into patches of 4x4 and has attention alone, within frames and along time in turn
# {cite:p}`peebles2023scalable`. A *2-D UNet* takes the frames as channels {cite:p}`alonso2024diffusion`. All get clips of 16 frames. A
# network with shorter steps sees more clips. The *Fréchet distance* (chapter 5) is that of clips from noise to real ones: lower is better.

# %%
measured = json.loads((FOLDER / "architectures.json").read_text())
rows, half = {}, {}
for row in measured["networks"]:
    rows[row["name"]] = {"parameters (M)": row["parameters"] / 1e6,
                         "forward (ms)": 1e3 * row["seconds"]["forward"],
                         "step (ms)": 1e3 * row["seconds"]["step"],
                         "clips seen": row["steps"] * measured["clips_per_step"]}
    rows[row["name"]] |= {f"PSNR {n}": psnr for n, psnr in row["psnr"].items()}
    rows[row["name"]]["Frechet distance"] = row["from_noise"]["frechet"]
    half[row["name"]] = {f"PSNR {n}": 1.96 * error for n, error in row["psnr_standard_error"].items()}
copied = ", ".join(f"{psnr:.1f} at {n}" for n, psnr in row["psnr_of_copying"].items())
print(f"PSNR of the last given frame, copied: {copied}; Frechet distance of as many real clips: "
      f"{row['from_noise']['real_frechet']:.1f}")
caption = (f"{measured['minutes']:.0f} minutes of training on {measured['threads']} CPU core(s), "
           f"{measured['clips']} held-out clips; in brackets half of the 95% interval")
digits = {"parameters (M)": 2, "clips seen": 0, "forward (ms)": 0, "step (ms)": 0}
table = pd.DataFrame(rows).T
viz.show_table(table, caption, digits=dict.fromkeys(table, 1) | digits, half=pd.DataFrame(half).T)

# %% [markdown]
# From noise none draws clips like real ones after so few minutes, so the Fréchet distance says little. In continuing clips none is clearly
# ahead of ours: at new frame 1 the DiT's interval overlaps with it, at 5 and 11 that of the 2-D UNet, which saw three times as many clips.
# The 2-D UNet is the fastest by far, but takes clips of one length only: no longer past, no other window. The U-ViT is no better than the
# copied frame yet. This is one short run each, and longer training may change the order.
#
# ## Play
#
# What does the network hold at each site? The slider shows the strength of the features (the norm over channels). At `encoder.1` and
# `encoder.2` the digit stands out of the noise. In the middle the strength alone shows little. At `decoder.0` the noise is back, because
# $v$, which the network predicts, has the noise in it.

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
alt = "Left the noisy clip, middle the features, right the truth."
sliders.picture_slider(sliders.clip_pictures(clips), list(features), "site", alt, start=3, width=420)

# %% [markdown]
# ## What breaks, and how to see it
#
# Tell the trained network that all frames are at the same time, as it never was in training. It cannot line them up, and the
# estimate is a blur.

# %% mystnb={"image": {"alt": "Two film strips; with positions a sharp digit moves along, without them the estimate is a blur."}, "figure": {"caption": "The same network on the same noisy clip; in the lower row it was told that all frames are at the same time."}}
with torch.no_grad():
    forward = denoiser(xt.to(device), t.to(device)).cpu()
    lost = denoiser(xt.to(device), t.to(device), positions=torch.zeros(16).long()).cpu()
error = lambda x0_hat: ((x0_hat - real) ** 2).mean().item()
print(f"mean squared error of the estimate: {error(forward):.4f} with positions, {error(lost):.4f} without")
viz.film_strip([forward[0], lost[0]], ["positions", "no positions"]);

# %% [markdown]
# ## Recap
#
# Convolutions see within frames, and attention sees along time. On the coarsest grid every token of every frame attends to every
# other, so the network finds the same stroke wherever it went, and skips carry the fine detail. Rotary positions make time relative,
# FiLM brings each frame's noise level to every block, features pass a hook by name, and clean frames never attend to noisy ones.
#
# ## Exercises
#
# 1. **Predict.** The clip is doubled from 16 to 32 frames. By what factor does the work of the convolutions grow, that of
# attention along time (its logits), and that of the joint blocks?
#
# 2. **Code.** Write `silence(site)`: it returns a hook that sets the output of one site to zero and leaves everything else alone. Hint:
# see `without` above. Then use it at `decoder.1`: what is left in the estimate?

# %% tags=["exercise"]
def silence(site):
    """"decoder.1" -> a hook."""
    return None


def features_with(hook):
    seen = {}

    def record(site, feature):
        seen[site] = hook(site, feature)
        return seen[site]

    with torch.no_grad():
        net(xt.to(device), t.to(device), hook=record)
    return seen


claims = {
    "the output of decoder.1 is zero":
        lambda answer: (features_with(answer("decoder.1"))["decoder.1"] == 0).all(),
    "that of encoder.2 is not": lambda answer: (features_with(answer("decoder.1"))["encoder.2"] != 0).any(),
    "keys and values pass": lambda answer: len(features_with(answer("middle"))["decoder.1.temporal"]) == 2,
    "only the site of that name": lambda answer: (features_with(answer("decoder.1"))["decoder.0"] != 0).any()}
check(silence, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(site):
    return lambda name, feature: 0 * feature if name == site else feature


assert check(solution, claims)

# %% [markdown]
# 3. **Code.** Write `may_attend(levels)`: from the noise levels `(b, f)`, which frame (row) may attend to which (column), as
# `(b, f, f)` booleans. Hint: forbid exactly the pairs of a clean row and a noisy column.

# %% tags=["exercise"]
def may_attend(levels):
    """(b, f) -> (b, f, f) bool."""
    return None


mixed = torch.tensor([[0, 0, 700, 300], [500, 0, 0, 1000]])
claims = {
    "the shape is (b, f, f)": lambda answer: answer(mixed).shape == (2, 4, 4),
    "a noisy frame attends to all": lambda answer: answer(mixed)[0, 2].all(),
    "a clean frame attends to clean ones":
        lambda answer: answer(mixed)[0, 0].tolist() == [True] * 2 + [False] * 2,
    "each clip has its own mask": lambda answer: answer(mixed)[1, 1].tolist() == [False, True, True, False],
    "all clean: all may": lambda answer: answer(0 * mixed).all(),
    "agrees with the library": lambda answer: torch.equal(answer(mixed), clean_mask(mixed))}
check(may_attend, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(levels):
    clean = levels == 0
    return ~(clean[:, :, None] & ~clean[:, None, :])


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Feed a clip of 24 frames at $t = 650$. Is the estimate as good as for 16? (See also chapter 6.)
#
# :::{dropdown} Solutions
# **1.** Convolutions: 2 times. Logits along time: each of twice as many frames attends to twice as many, 4 times. Those of the joint
# blocks likewise, but the rest of these blocks, projections and small networks, only doubles.
#
# **2.** `denoiser(xt, t, hook=silence("decoder.1"))`. The finest grid is left with what it gets over its skip connection. A faint blur
# remains, about where the digit is, but not which digit.
#
# **4.** Compare the error per frame with `((x0_hat - real) ** 2).mean(dim=(0, 1, 3, 4))`, over some 16 clips. With 24 frames it is about
# as good, except on the first and the last. With 32 the frames near both ends become several times worse.
# :::
#
# ## Sources
#
# The UNet of diffusion: {cite:t}`ho2020denoising`; for video, factorized: {cite:t}`ho2022video`. Rotary positions:
# {cite:t}`su2021roformer`. Adaptive normalization by noise level: {cite:t}`dhariwal2021diffusion`. Attention over everything at the
# lowest resolution only: {cite:t}`hoogeboom2023simple`. Attention along trajectories, for networks that do track:
# {cite:t}`patrick2021keeping`.
