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
# # 4. Training
#
# **What does a loss of 0.03 look like, and is it normal that the first samples are soup?**
#
# We train a small video diffusion model from scratch and look at its samples on the way.
#
# *Time to run: a little over a minute on two CPU cores, less on a GPU.*
#
# **You will learn** the training loss; which noise levels a batch holds and why; what normal training looks
# like; what Muon, averaged weights (EMA) and a falling learning rate gain; which errors a loss counts;
# training in less memory, and resuming to the same bytes.
#
# **You need** chapters 1 to 3, and what an optimizer does.

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
import copy
import math
import tempfile
import textwrap
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import checkpoint, viz
from vdiff_lite.diffusion.losses import draw_noise_levels, v_loss
from vdiff_lite.diffusion.samplers import noise_like
from vdiff_lite.evaluation.results import FOLDER
from vdiff_lite.exercises import check
from vdiff_lite.training.loop import DivergedError, lr_factor
from vdiff_lite.training.optimizer import make_optimizer, orthogonalize
from vdiff_lite.training.recipe import load_recipe, recipe_names
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

seeded = lambda seed: torch.Generator().manual_seed(seed)
device = vd.pick_device()
vd.prepare_cpu()
shipped = vd.load("digits32", device)

# %% [markdown]
# ## What training ends with
#
# Four clips from noise by `digits32`, the library's main model. (We chose seeds whose digits can be read. Not all can.)

# %%
clips = vd.generate(shipped, 4, steps=20, generator=[seeded(n) for n in (9, 11, 4, 12)])
viz.show_clips(clips.cpu(), alt="A digit drawn by the shipped model moves in a box")

# %% [markdown]
# **Predict.** The network predicts $v$. What is the loss of a network that always outputs zero? Can the
# loss ever reach zero?
#
# ## The mathematics
#
# Draw a clip, a level and noise, let the network predict $v$, and take the squared error:
#
# $$L = \mathbb{E}_{x_0, t, \epsilon} \big\| \hat v(x_t, t) - v \big\|^2, \qquad v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0. \tag{1}$$
#
# The best prediction is the *average* of $v$ over all clips that could have become this $x_t$. At high
# noise many could, so the average is a blur, and the loss cannot reach zero. The blur is right: the sampler
# goes only a small step towards it. From there fewer clips are possible, and the next average is sharper.
#
# ## Build it: the loss
#
# A frame at $t = 0$ is clean. Its $v$ is noise that the frame does not contain, so nothing can predict it,
# and it does not count.

# %%
schedule = vd.NoiseSchedule()


def my_loss(net, x0, t, eps):
    signal, noise = schedule.signal_and_noise(t, x0)
    xt, v = signal * x0 + noise * eps, signal * eps - noise * x0
    error = ((net(xt, t) - v) ** 2).mean(dim=(1, 3, 4))  # one number per frame
    noisy = t > 0
    return (error * noisy).sum() / noisy.sum()

# %%
x0 = vd.BouncingDigits().sample(4, seeded(0)).video
eps = torch.randn(x0.shape, generator=seeded(1))
t = draw_noise_levels(4, 16, 1000, (1, 1, 1, 1), generator=seeded(2))
net = shipped.net.cpu()
torch.testing.assert_close(my_loss(net, x0, t, eps), v_loss(net, schedule, x0, t, eps))

zeros = lambda xt, t: torch.zeros_like(xt)
print("loss of the shipped network on these clips: %.4f" % my_loss(net, x0, t, eps))
print("loss of predicting zero:                    %.4f" % my_loss(zeros, x0, t, eps))

# %% [markdown]
# Zero has a loss near 1: $v$ mixes $\epsilon$, whose mean square is 1, with $x_0$, whose mean square is a
# little less.
#
# ## Build it: the noise levels
#
# To serve every method of Part II, the network has to know four situations: all frames at one level (a clip
# from noise); each frame at its own (to denoise some frames before others); a clean past (to continue); and
# a past of pure noise (guidance without the past). `noise_mix` holds their fractions. In most recipes a
# clean past has the largest, since Part II continues clips; `** 1.5` makes short pasts more frequent.
#
# Levels are drawn evenly and *stratified*: a batch of eight gets one from every eighth of the range, so the
# loss jumps less. Near pure noise, where the frame says little, identity and motion have to come from the
# past. For a `high_noise_fraction` of the clips the level is therefore drawn as $T (1 - u^3)$, not $T u$.

# %%
def my_noise_levels(batch, frames, T, noise_mix, high_noise_fraction, generator):
    rand = partial(torch.rand, generator=generator)
    mix = torch.tensor(noise_mix, dtype=torch.float32)
    kind = torch.multinomial(mix, batch, replacement=True, generator=generator)[:, None]
    u = (rand(1) + torch.randperm(batch, generator=generator) / batch) % 1  # stratified
    u = torch.where(rand(batch) < high_noise_fraction, 1 - u**3, u)
    level = 1 + (u * T).long().clamp(max=T - 1)[:, None]
    own = torch.randint(1, T + 1, (batch, frames), generator=generator)
    past = torch.arange(frames) < 1 + ((frames - 1) * rand(batch, 1) ** 1.5).floor()
    t = torch.where(kind == 1, own, level)  # kind 0: one level for all frames; 1: one for each
    t = torch.where((kind == 2) & past, 0, t)  # 2: a clean past
    return torch.where((kind == 3) & past, T, t)  # 3: a past of pure noise


arguments = (40, 16, 1000, (0.2, 0.1, 0.65, 0.05), 0.5)
torch.testing.assert_close(my_noise_levels(*arguments, seeded(0)), draw_noise_levels(*arguments, seeded(0)))

# %% mystnb={"image": {"alt": "Left, a matrix of forty clips by sixteen frames, colored by noise level; some rows are uniform, some random, some start with dark clean frames, some with bright ones. Right, two histograms of noise levels: flat with a fraction of zero, rising steeply towards 1000 with a fraction of one half."}, "figure": {"caption": "Left: noise levels of forty training clips, sorted: one level for all, a past and a future, one level each. Dark: clean. Bright: pure noise. Right: how often each level is drawn, without and with the move towards pure noise."}}
t = my_noise_levels(*arguments, seeded(0))
changes = (t.diff(dim=1) != 0).sum(dim=1)  # none: same level; one: a past and a future; many: per frame
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
image = left.imshow(t[changes.argsort(stable=True)], cmap="viridis", vmin=0, vmax=1000, aspect="auto")
left.set(xlabel="frame", ylabel="clip")
figure.colorbar(image, label="noise level t")
for fraction, color, style in ((0.0, viz.COLORS[0], "-"), (0.5, viz.COLORS[1], "--")):
    levels = my_noise_levels(20_000, 1, 1000, (1, 0, 0, 0), fraction, seeded(0))
    label = f"high_noise_fraction {fraction}"
    right.hist(levels[:, 0], bins=20, histtype="step", color=color, ls=style, label=label)
    print(f"{label}: {(levels > 900).float().mean():.0%} of the clips above level 900")
right.set(xlabel="noise level t", ylabel="clips of 20,000")
right.legend(frameon=False, loc="upper left");

# %% [markdown]
# ## Build it: the loop
#
# We use 8 frames of 24 by 24 and a network of two resolutions. A step draws a batch, takes the gradient of the
# loss, scales it down if its norm exceeds 1, and lets AdamW move the weights. The learning rate is warmed up
# over ten steps, while AdamW's running averages form. Everything random in step $n$ comes from a generator with seed $n$.

# %%
config = vd.VideoUNetConfig(size=24, channels=(32, 64), num_middle=1)
data = vd.BouncingDigits(size=24, num_frames=8)
noise_mix, steps = (0.5, 0.1, 0.4, 0.0), 120


def draw_batch(n, data=data, batch=16):
    generator = seeded(n)
    x0 = data.sample(batch, generator).video
    t = my_noise_levels(batch, 8, 1000, noise_mix, 0.5, generator)
    return x0, t, noise_like(x0, generator)


def train_step(net, optimizer, n, factor):
    x0, t, eps = (x.to(next(net.parameters()).device) for x in draw_batch(n))
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    loss = my_loss(net, x0, t, eps)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss.item()

# %%
torch.manual_seed(0)
net = vd.VideoUNet(config).to(device)
optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, betas=(0.9, 0.99))
losses, samples = [], {}
for n in range(steps):
    losses.append(train_step(net, optimizer, n, factor=min(1, (n + 1) / 10)))
    if n + 1 in (1, 15, 30, 60, 120):
        samples[n + 1] = vd.sample(vd.Denoiser(net, schedule), 1, 8, steps=15, generator=seeded(2))[0].cpu()
print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {steps} steps; "
      f"mean loss of the last 20: {sum(losses[-20:]) / 20:.3f}")

# %% mystnb={"image": {"alt": "The loss falls steeply for about sixty steps, to a tenth, then slowly."}, "figure": {"caption": "The loss of each step, and the mean of the last 20. The vertical axis is logarithmic."}}
running = lambda losses: torch.tensor(losses).unfold(0, 20, 1).mean(-1)
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.plot(range(1, steps + 1), losses, color="#bbbbbb", lw=0.8, label="each step")
viz.plot_lines(axis, range(20, steps + 1), {"mean of the last 20": running(losses)})
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %% mystnb={"image": {"alt": "Film strips of samples after 1, 15, 30, 60 and 120 steps: from gray noise over a cloud to a bright blob of about the size of a digit, which moves."}, "figure": {"caption": "Clips sampled from the same noise, after 1 to 120 steps: a cloud, then a blob that moves."}}
viz.film_strip(list(samples.values()), [f"step {n}" for n in samples]);

# %% [markdown]
# :::{admonition} Is this normal?
# :class: tip
#
# Yes. The loss falls steeply, then slowly. It may begin below that of zero: an untrained network predicts one
# constant, the random bias of its last layer. Meanwhile the samples turn from noise into a cloud and a blob that moves,
# and in longer runs into digits. Judge a run by its *samples*, and compare two by the loss on the same clips.
#
# | you see | it means |
# |---|---|
# | loss near 1 for hundreds of steps | nothing is learned: check the range of the clips, the levels, the learning rate |
# | loss jumps by a factor of 2 from step to step | normal: each batch draws other noise levels |
# | samples are gray clouds, loss 0.1 | normal after a minute; the cloud should already move |
# | good strokes, but the digit changes along the clip | normal until late |
# | `nan` | the learning rate is too high |
# :::
#
# ## Longer matters: Muon
#
# The gradient of a weight matrix is large along a few directions and small along most. Muon
# {cite:p}`jordan2024muon` takes the momentum of the gradient, $G = U S V^\top$, and moves by $U V^\top$:
# the same directions, all equally far. A decomposition per step would be slow, so five rounds of a polynomial in
# $G G^\top$ (Newton-Schulz; `help(orthogonalize)`) stand in for it, roughly: in the figure about forty values
# come near 1, and the smallest stay small.

# %% mystnb={"image": {"alt": "Singular values of a gradient in falling order. Relative to the largest they drop steeply; after Newton-Schulz about forty of the 64 wander around one, and the rest fall to zero; by the decomposition all are one."}, "figure": {"caption": "The 64 singular values of one matrix's gradient: as they are, by the decomposition, and after five rounds of the library's polynomial."}}
gradient = net.middle[0].attention.out.weight.grad.cpu()
U, S, Vh = torch.linalg.svd(gradient, full_matrices=False)
mine, twin = U @ Vh, orthogonalize(gradient)
in_its_directions = U.T @ twin @ Vh.T  # diagonal, if the twin has the same directions
values = in_its_directions.diagonal()
torch.testing.assert_close(in_its_directions, values.diag(), rtol=0, atol=1e-3)

figure, axis = plt.subplots(figsize=(7, 2.6))
viz.plot_lines(axis, range(1, len(S) + 1), {"gradient, relative to the largest": S / S[0],
                                            "all directions equal": torch.linalg.svdvals(mine),
                                            "orthogonalize(gradient)": values})
axis.set(xlabel="direction", ylabel="singular value", ylim=(0, 2));

# %% [markdown]
# Muon is for the matrices inside the network. Biases, norms, the noise embedding, and the first and last
# layer stay with AdamW (`make_optimizer`).
#
# ## Longer matters: averaged weights and a falling rate
#
# Each batch pulls the weights elsewhere, so they jitter around a good point. One remedy is to sample with an
# average $\bar\theta$ of the weights $\theta$, the *exponential moving average* (EMA),
#
# $$\bar\theta \leftarrow d_n\,\bar\theta + (1 - d_n)\,\theta, \qquad d_n = \min\!\big(d,\ n / (9 + n)\big). \tag{2}$$
#
# The *decay* $d$ sets its memory: the average reaches back about $1 / (1 - d)$ steps, 50 for the $d = 0.98$
# used here and 1,000 for the 0.999 of most recipes. A longer memory smooths more, but lags behind a network
# that still improves. $d_n$ starts small, so that the random initial weights are soon forgotten.
#
# The other is a learning rate that falls at the end. In step $n$ of $N$, with $n_w$ steps of warm-up and
# $n_d$ of fall, it is multiplied by
#
# $$\min\!\Big(1, \frac{n + 1}{n_w}\Big) \Big(0.02 + 0.98\,\frac{1 - \cos\big(\pi \min(1, \frac{N - n}{n_d})\big)}{2}\Big). \tag{3}$$

# %%
@torch.no_grad()
def average(mean, net, n, decay=0.98):
    d = min(decay, n / (9 + n))
    for theta_bar, theta in zip(mean.parameters(), net.parameters()):
        theta_bar.lerp_(theta, 1 - d)  # theta_bar + (1 - d) (theta - theta_bar)


def my_lr_factor(n, steps, warmup, decay):
    q = min(1, (steps - n) / decay)
    return min(1, (n + 1) / warmup) * (0.02 + 0.98 * (1 - math.cos(math.pi * q)) / 2)


for n in range(steps):
    assert math.isclose(my_lr_factor(n, steps, 10, 60), lr_factor(n, steps, 10, 60))
print("factor in steps 0, 5, 10, 60, 90, 119:",
      ", ".join(f"{my_lr_factor(n, steps, 10, 60):.2f}" for n in (0, 5, 10, 60, 90, 119)))
print("steps that an average reaches back:", {decay: round(1 / (1 - decay)) for decay in (0.98, 0.999)})

# %% [markdown]
# Now the same 120 steps with Muon, from the same weights, on the same batches. Halfway the state
# is copied: the original goes on at its rate, the copy at a falling one. Both are averaged.

# %%
def train(state, first, last, decay):
    net, mean, optimizer = state
    losses = []
    for n in range(first, last):
        losses.append(train_step(net, optimizer, n, my_lr_factor(n, steps, 10, decay)))
        average(mean, net, n + 1)
    return losses


torch.manual_seed(0)
muon_net = vd.VideoUNet(config).to(device)
muon = muon_net, copy.deepcopy(muon_net), make_optimizer(muon_net, lr=5e-3, matrix_lr=0.03)
muon_losses = train(muon, 0, 60, decay=1)
falling = copy.deepcopy(muon)
falling_losses = muon_losses + train(falling, 60, steps, decay=60)
muon_losses += train(muon, 60, steps, decay=1)

# %% mystnb={"image": {"alt": "Running means of three losses over 120 steps; Muon's falls faster than AdamW's from the start, and the one with a falling rate ends lowest."}, "figure": {"caption": "Mean loss of the last 20 steps, on the same batches, with AdamW, with Muon, and with Muon at a falling rate."}}
figure, axis = plt.subplots(figsize=(7, 2.6))
runs = {"AdamW": losses, "Muon": muon_losses, "Muon, falling rate": falling_losses}
viz.plot_lines(axis, range(20, steps + 1), {name: running(run) for name, run in runs.items()})
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %%
held_out = vd.BouncingDigits(size=24, num_frames=8, split="test")


@torch.no_grad()
def held_out_loss(net, batches=8):
    draws = [[x.to(device) for x in draw_batch(10_000 + n, held_out)] for n in range(batches)]
    return sum(my_loss(net, *draw).item() for draw in draws) / batches


networks = {"AdamW, last weights": net, "Muon, last weights": muon[0], "Muon, averaged": muon[1],
            "Muon, falling rate, last weights": falling[0], "Muon, falling rate, averaged": falling[1]}
table = pd.DataFrame({"loss": {name: held_out_loss(network) for name, network in networks.items()}})
caption = f"Loss on 128 held-out clips after {steps} steps, same clips and noise"
show_table(table, caption, best={"loss": "min"}, digits=4)

# %% [markdown]
# In this short run of one seed Muon lowers the loss, and so does the average or the falling rate. Both together
# add next to nothing. (AdamW has the better of two rates that we tried.) The shipped networks were trained with
# all three.
#
# ## Meet the twin
#
# `Trainer` is this loop, with a progress bar and files. Three steps of it, and three by hand:

# %%
recipe = vd.TrainConfig(steps=steps, batch=16, frames=8, short_steps=0, warmup=10, decay=60, lr=5e-3,
                        matrix_lr=0.03, noise_mix=noise_mix, high_noise_fraction=0.5, ema_decay=0.98)
torch.manual_seed(0)
trainer = vd.Trainer(vd.VideoUNet(config), schedule, data, recipe)
torch.manual_seed(0)
by_hand = vd.VideoUNet(config)
state = by_hand, copy.deepcopy(by_hand), make_optimizer(by_hand, lr=5e-3, matrix_lr=0.03)
for _ in range(3):
    trainer.train_step()

torch.testing.assert_close(trainer.losses, train(state, 0, 3, decay=60))
for twin, mine in zip(trainer.ema.module.parameters(), state[1].parameters()):
    torch.testing.assert_close(twin, mine)
[round(loss, 4) for loss in trainer.losses]

# %% [markdown]
# ## Longer matters: a run that survives
#
# Long runs get killed. A saved state holds weights, average, optimizer and step, and the random numbers of step $n$ depend on the seed
# and $n$ alone. So a resumed run ends with *the same bytes* as one that was never cut off:

# %%
def new_trainer():
    torch.manual_seed(0)
    recipe = vd.TrainConfig(steps=4, batch=2, frames=4, short_steps=0, warmup=1, decay=2)
    return vd.Trainer(vd.VideoUNet(config), schedule, data.with_frames(4), recipe)


straight, cut = new_trainer(), new_trainer()
for progress in straight.run(bar=False):
    pass
state = Path(tempfile.mkdtemp()) / "state.safetensors"
for progress in cut.run(bar=False):
    if progress.step == 2:
        cut.save(state)
        break
resumed = new_trainer().resume(state)
for progress in resumed.run(bar=False):
    pass

assert all(torch.equal(a, b) for a, b in zip(straight.ema.parameters(), resumed.ema.parameters()))
[round(loss, 4) for loss in straight.losses]

# %% [markdown]
# ## Longer matters: which errors count?
#
# An error of $v$ is an error of $x_0$ times $\sqrt{\mathrm{SNR} + 1}$. So equation 1 weights the squared
# error of $x_0$ by $\mathrm{SNR} + 1$: the less noise, the more it counts. `weighting="x0"` is the plain
# squared error of $x_0$, and `"min_snr"` weights it by the SNR, at most by 5.

# %%
real = vd.BouncingDigits(split="test").sample(8, seeded(3)).video
noise = torch.randn(real.shape, generator=seeded(4))
rows = {}
for level in (50, 200, 400, 600, 800, 1000):
    t = torch.full((8, 16), level)
    rows[level] = {f"error of {w}": v_loss(shipped.net.cpu(), schedule, real, t, noise, w).item()
                   for w in ("v", "x0")}
table = pd.DataFrame(rows).T.rename_axis("noise level")
show_table(table, "The loss of the shipped network by noise level, in two weightings", digits=4)

# %% [markdown]
# That answers the question at the top: a loss such as 0.03 is an average, of 0.005 in the middle and 0.09 at
# pure noise. At level 50 it rises again: $\mathrm{SNR} + 1$ magnifies a tiny error of $x_0$.
#
# All recipes use `"v"`. With `"x0"` low noise would hardly count (see its column).
#
# ## Longer matters: a batch that does not fit
#
# *Gradient accumulation* takes a batch in parts, for less memory: their gradients are added up, and the
# optimizer steps once, after the last. One trap: the loss is a mean over noisy frames, and parts differ in
# how many they have. So divide each part's sum by the count of the *whole* batch
# (`vdiff train --accumulate 4`, exercise 3).
#
# ## Recipes
#
# A run's settings are a *recipe*, a toml file in `vdiff_lite/training/recipes`.
# `vdiff train --recipe tiny --out mine` trains by it, draws samples on the way, and continues a run that
# was cut off. The first of its steps, `short_steps`, take clips of half the length, twice
# as many per batch. `decay` here is $n_d$, not $d$. `digits32_fixed` is for Part II: it never sees a clean past.

# %%
columns, on_cpu = {}, FOLDER / "recipe_cpu.txt"
times = pd.read_csv(on_cpu, sep=r"\s{2,}", skiprows=1, index_col="recipe", engine="python")
for name in recipe_names():
    recipe = load_recipe(name)
    stage = recipe.stages[-1]
    clips = stage.batch * (stage.steps + stage.short_steps)
    clips_of = recipe.source or f"{recipe.data.get('num_digits', 1)} digits".replace("1 digits", "1 digit")
    columns[name] = dict(network=recipe.network, data=clips_of, clips=clips)
    settings = ("steps", "batch", "short_steps", "noise_mix", "high_noise_fraction", "decay")
    columns[name] |= {setting: getattr(stage, setting) for setting in settings}
    columns[name]["noise_mix"] = str(stage.noise_mix)
    columns[name] |= {f"CPU: {what}": value for what, value in times.T.get(name, {}).items()}
print("CPU:", on_cpu.read_text().split("\n")[0])
show_table(pd.DataFrame(columns, dtype=object), "The recipes", digits=1)

# %% [markdown]
# Trained weights are saved as a *checkpoint*, and beside it its *card*, a json file: how the network is
# built, its recipe, where the weights come from. Here is the origin of those that ship.
# {doc}`../checkpoints` has their PSNR, and how near the samples come to the training glyphs
# (`vdiff neighbors`). Samples nearer to them than held-out glyphs are, or a loss on training clips far below the
# held-out one, would show copying.

# %%
for name in checkpoint.shipped():
    print(textwrap.fill(f"{name}: {checkpoint.read_card(name)['origin']}", 100) + "\n")

# %% [markdown]
# ## Play
#
# The estimate by level. At 1000 it is the average of all clips.

# %%
real = vd.BouncingDigits(split="test").sample(1, seeded(7)).video
eps = torch.randn(real.shape, generator=seeded(0))
levels = list(range(100, 1001, 100))
xt = torch.cat([schedule.add_noise(real, torch.tensor([t]), eps) for t in levels])
x0_hat = shipped.to(device)(xt.to(device), torch.tensor(levels, device=device)).cpu()

pictures = sliders.clip_pictures(torch.cat([xt.clamp(-1, 1), x0_hat], dim=-1)[:, :, ::2])
sliders.picture_slider(pictures, levels, "noise level t", "Left the noisy clip, right the estimate.", start=5)

# %% [markdown]
# ## What breaks, and how to see it
#
# Far too high a learning rate. At a hundred times the default of `TrainConfig`, which the recipes keep, a
# gradient soon is no number, and `Trainer` stops. Five times the rate is better, over so few steps.

# %% mystnb={"image": {"alt": "Three loss curves over forty steps: the recipe's falls slowly, five times the rate falls faster, a hundred times the rate breaks off early."}, "figure": {"caption": "Forty steps with the recipe's learning rates, five times and a hundred times as much. A line that ends early is a run that was stopped."}}
def short_run(factor, steps=40):
    torch.manual_seed(0)
    rates = dict(lr=1e-3 * factor, matrix_lr=0.015 * factor)
    recipe = vd.TrainConfig(steps=steps, batch=8, frames=8, short_steps=0, warmup=5, decay=1, **rates)
    trainer, losses = vd.Trainer(vd.VideoUNet(config), schedule, data, recipe), []
    try:
        for progress in trainer.run(bar=False):
            losses.append(progress.loss)
    except DivergedError as stop:
        print(f"lr x {factor} stopped at {stop}")
    return losses + [math.nan] * (steps - len(losses))


runs = {f"lr x {factor}": short_run(factor) for factor in (1, 5, 100)}
figure, axis = plt.subplots(figsize=(7, 2.4))
viz.plot_lines(axis, range(1, 41), runs)
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %% [markdown]
# ## Recap
#
# Training predicts $v$ at random noise levels and takes the squared error over the noisy frames. A batch
# mixes clips at one level with clips that have a clean past, so that one network serves every method.
#
# ## Exercises
#
# 1. **Predict.** What happens to clips from noise if `noise_mix` holds *only* clips with a clean past?
#
# 2. **Code.** Write `x0_loss(net, x0, t, eps)`: the mean squared error of the estimate of $x_0$ over the
# noisy frames, for a `net` that predicts $v$. Hint: `my_loss`, and how to get the clip back from $v$
# (chapter 2).

# %% tags=["exercise"]
def x0_loss(net, x0, t, eps):
    """x0, eps: (b, c, f, h, w), t: (b, f) -> a scalar."""
    return None


x0, t, eps = draw_batch(0)
t[:, :2] = 0  # the first two frames are clean
perfect = lambda xt, t: schedule.v(x0, t, eps)
wrong_where_clean = lambda xt, t: perfect(xt, t) + (t == 0)[:, None, :, None, None]
on_cpu = muon[1].cpu()
claims = {
    "a perfect network has loss 0": lambda answer: answer(perfect, x0, t, eps) < 1e-9,
    "clean frames do not count": lambda answer: answer(wrong_where_clean, x0, t, eps) < 1e-9,
    "at pure noise it is the loss of v": lambda answer: torch.isclose(
        answer(zeros, x0, t.clamp(min=1000), eps), my_loss(zeros, x0, t.clamp(min=1000), eps), rtol=1e-3),
    "agrees with the library": lambda answer: torch.isclose(
        answer(on_cpu, x0, t, eps), v_loss(on_cpu, schedule, x0, t, eps, "x0"), rtol=1e-3)}
check(x0_loss, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(net, x0, t, eps):
    xt = schedule.add_noise(x0, t, eps)
    x0_hat = schedule.x0_from_v(xt, t, net(xt, t))
    error = ((x0_hat - x0) ** 2).mean(dim=(1, 3, 4))
    return (error * (t > 0)).sum() / (t > 0).sum()


assert check(solution, claims)

# %% [markdown]
# 3. **Code.** Write `accumulate(net, x0, t, eps, parts)`: it leaves in each `p.grad` the gradient of `my_loss` on the whole batch, but evaluates
# `net` on `1 / parts` of the clips at a time. It returns the largest number of clips evaluated at once. Hint: `chunk`, and the count of
# noisy frames.

# %% tags=["exercise"]
def accumulate(net, x0, t, eps, parts):
    """Sets the gradients of net's parameters; returns a number of clips."""
    return None


batch = draw_batch(1, batch=6)
batch[1][:2, :7] = 0  # two clips have one noisy frame each
gradient = lambda: torch.cat([p.grad.flatten() for p in on_cpu.parameters()])
on_cpu.requires_grad_().zero_grad()
my_loss(on_cpu, *batch).backward()
whole_batch = gradient()


def same_gradient(answer, parts):
    on_cpu.zero_grad()
    largest = answer(on_cpu, *batch, parts)
    return largest == 6 // parts and (gradient() - whole_batch).norm() < 1e-3 * whole_batch.norm()


claims = {f"{n} parts give the gradient of the batch": partial(same_gradient, parts=n) for n in (1, 2, 3)}
check(accumulate, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(net, x0, t, eps, parts):
    count, largest = (t > 0).sum(), 0
    for part in zip(x0.chunk(parts), t.chunk(parts), eps.chunk(parts)):
        noisy = (part[1] > 0).sum()
        (my_loss(net, *part) * noisy / count).backward()
        largest = max(largest, len(part[0]))
    return largest


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Sample with `net`, with `muon[0]` and with `falling[1]` from the same noise. Which of the
# three would you pick by the samples, and which by the table?
#
# :::{dropdown} Solutions
# **1.** It never sees a noisy first frame, so pure noise is outside of its training: it leans on a
# clean frame that is not there.
#
# **4.** `vd.sample(vd.Denoiser(falling[1], schedule), 1, 8, steps=15, generator=seeded(2))`, and likewise
# the others. After 120 steps all are blobs. The table sees differences that the eye does not.
# :::
#
# ## Sources
#
# The loss: {cite:t}`ho2020denoising`, Eq. 14, in the form of {cite:t}`salimans2022progressive`. Stratified
# levels: {cite:t}`kingma2021variational`. A level per frame: {cite:t}`chen2024diffusion`. Muon:
# {cite:t}`jordan2024muon`; AdamW: {cite:t}`loshchilov2019decoupled`. `min_snr`:
# {cite:t}`hang2023efficient`.
