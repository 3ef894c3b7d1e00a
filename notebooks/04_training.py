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
# **What does a loss of 0.03 look like - and is it normal that the first samples are soup?**
#
# We train a small video diffusion model from scratch, here and now, and look at its samples on the way. That takes three things,
# each of which fits on a screen: a loss, a choice of noise levels, a loop. The second half is about what makes a longer run good:
# another optimizer, an average of the weights, a falling learning rate, and files, so that a run survives being killed.
#
# *Time to run: a little over a minute on two CPU cores, less on a GPU.*
#
# **You will learn** the training loss in four lines; which noise levels a batch holds and why; what normal training looks like;
# what Muon, averaging (EMA) and a falling rate gain; how a run is resumed to the same bytes; what a recipe is.
#
# **You need** chapters 1 to 3, and what an optimizer does.

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
# Four clips from noise by the model that ships, `digits32` (seeds chosen so that the digits can be read; not all can).

# %%
clips = vd.generate(shipped, 4, steps=20, generator=[seeded(n) for n in (9, 11, 4, 12)])
viz.show_clips(clips.cpu(), alt="A digit drawn by the shipped model moves in a box")

# %% [markdown]
# **Predict.** The network has to predict $v$, a mixture of noise and clip. What is the loss of a network that always outputs
# zero? And can the loss ever reach zero?
#
# ## The mathematics
#
# Draw a clip, a level and noise, let the network predict $v$, and take the squared error:
#
# $$L = \mathbb{E}_{x_0, t, \epsilon} \big\| \hat v(x_t, t) - v \big\|^2, \qquad v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0. \tag{1}$$
#
# The best possible prediction is the *average* of $v$ over all clips that could have become this $x_t$. At high noise many could,
# so the average is a blur and the loss cannot reach zero. The blur is right: it is the sampler that turns it, step by step,
# into one clip.
#
# ## Build it: the loss

# %%
schedule = vd.NoiseSchedule()


def my_loss(net, x0, t, eps):
    signal, noise = schedule.signal_and_noise(t, x0)
    xt, v = signal * x0 + noise * eps, signal * eps - noise * x0
    error = ((net(xt, t) - v) ** 2).mean(dim=(1, 3, 4))  # one number per frame
    noisy = t > 0
    return (error * noisy).sum() / noisy.sum()

# %% [markdown]
# The last two lines need a comment. A frame at $t = 0$ is clean. Its target is pure noise, and nothing in the frame reveals it.
# Predicting it would teach nothing and add noise to the gradient, so clean frames do not count.

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
# Zero has a loss near 1: $v$ mixes $\epsilon$, whose mean square is 1, with $x_0$, whose mean square is a little less.
#
# ## Build it: the noise levels
#
# To serve every method of Part II, one network has to know four situations: all frames at one level (a clip from noise); every
# frame at its own; a clean past (continuing); and a past that is pure noise (the unconditional branch of guidance). A batch mixes
# them. `noise_mix` holds the four fractions.
#
# The levels themselves are drawn evenly, and *stratified*: a batch of eight gets one level out of every eighth of the range. One
# choice hides in "evenly". Few clips are then nearly pure noise, and only there is the past all that the network can use: which
# digit it is, and where it is going, must be *carried over*, not cleaned up. So `high_noise_fraction` of the clips are moved
# towards pure noise, by $u \mapsto 1 - u^3$.

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
# A smaller world, so that it fits into half a minute: frames of 24 by 24, 8 of them, a network of two levels. A step draws a batch,
# takes the loss and its gradient, holds the gradient's norm to 1, and lets the optimizer move the weights. The optimizer is the
# usual one, AdamW. The learning rate is warmed up over the first ten steps. Everything random in step $n$ comes from a generator
# with the seed $n$: that will pay off below.

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

# %% mystnb={"image": {"alt": "Film strips of samples after 1, 15, 30, 60 and 120 steps: from gray noise over a cloud to a bright blob of about the size of a digit, which moves."}, "figure": {"caption": "One clip from the same noise, at five stages."}}
viz.film_strip(list(samples.values()), [f"step {n}" for n in samples]);

# %% [markdown]
# :::{admonition} Is this normal?
# :class: tip
#
# Yes. The loss falls fast at first, when the network learns that frames are mostly black, and then slowly. In longer runs that is
# when the samples become digits. A flat loss is not a stuck run. Compare *samples*, and the loss at *high* noise, which is where
# motion and layout are decided.
#
# | you see | it means |
# |---|---|
# | loss near 1 for hundreds of steps | the network is not learning: check the range of the clips, the levels, the learning rate |
# | loss jumps by a factor of 2 from step to step | normal: each batch draws other noise levels. Look at the running mean |
# | samples are gray clouds, loss 0.1 | normal after a minute; the cloud should already move |
# | good strokes, digit changes along the clip | in longer runs: normal until late |
# | `nan` | the learning rate is too high; `Trainer` stops and says at which step |
# :::
#
# This is all of training, and it would do, given time. The rest of the chapter is about needing less of it.
#
# ## Longer matters: Muon
#
# The gradient of a weight matrix is lopsided: a few directions are large, most are small, and an optimizer that follows it spends
# its steps on the few. Muon {cite:p}`jordan2024muon` takes the gradient's momentum $G = U S V^\top$ and moves by $U V^\top$: the same
# directions, all of them equally far. A singular value decomposition in every step would be slow. Five rounds of a polynomial in
# $G G^\top$ (Newton-Schulz) come near enough: most directions land near 1, and only the smallest stay below. Here are both, for the
# gradient that one matrix of our network has right now.

# %% mystnb={"image": {"alt": "Singular values of a gradient in falling order. Relative to the largest they drop steeply; after Newton-Schulz most of them lie near one and the last third falls to zero; by the decomposition all are one."}, "figure": {"caption": "The 64 singular values of one matrix's gradient: as they are, by the decomposition, and after five rounds of the library's polynomial."}}
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
# Muon is for the matrices inside the network. Biases, norms, the embedding of the noise level, the first and the last layer stay
# with AdamW (`make_optimizer`).
#
# ## Longer matters: an average of the weights, and a falling rate
#
# Each batch pulls the weights elsewhere, so those of the last steps jitter around a good point. Two things take the jitter out. One
# is to sample with an *average* $\bar\theta$ of the weights, the exponential moving average (EMA),
#
# $$\bar\theta \leftarrow d_n\,\bar\theta + (1 - d_n)\,\theta, \qquad d_n = \min\!\big(d,\ n / (9 + n)\big), \tag{2}$$
#
# whose decay $d_n$ grows with the step $n$, so that it soon forgets the random weights at the start. The other is to let the
# learning rate fall at the end. Ours is multiplied, in step $n$ of $N$ with $n_w$ of warm-up and $n_d$ of decay, by
#
# $$r_n = \min\!\Big(1, \frac{n + 1}{n_w}\Big) \Big(0.02 + 0.98\,\frac{1 - \cos(\pi q_n)}{2}\Big), \qquad
# q_n = \min\!\Big(1, \frac{N - n}{n_d}\Big). \tag{3}$$

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

# %% [markdown]
# Now the same 120 steps again, from the same random weights and on the same batches, with Muon. Halfway we make a copy. The
# original goes on at its rate, and the copy with a falling one. Both are averaged.

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

# %% mystnb={"image": {"alt": "Running means of three losses over 120 steps; Muon's falls faster than AdamW's from the start, and the one with a falling rate ends lowest."}, "figure": {"caption": "Mean loss of the last 20 steps, on the same batches."}}
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
show_table(table, f"Loss on 128 held-out clips after {steps} steps, same clips and noise", digits=4)

# %% [markdown]
# In this short run each of the three lowers the loss. (AdamW's rate is the better of two that we tried, 0.001 and 0.003.) Averaging
# and a falling rate do much the same: where the rate has fallen there is little jitter left for the average to remove. The shipped
# networks were trained with all three.
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
trainer.losses

# %% [markdown]
# ## Longer matters: a run that survives
#
# A run of hours gets killed. The random numbers of step $n$ depend on the seed and on $n$ alone, and a saved state holds weights,
# average, optimizer and step. So a run that was cut off and resumed ends with *the same bytes* as one that was not:

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
# An error of $v$ is an error of $x_0$ times $\sqrt{\mathrm{SNR} + 1}$. Relative to the error of $x_0$, equation 1 counts *low* noise
# most: there an error of $x_0$ that nobody would see costs much. Motion and identity are decided at *high* noise. Weighting each
# frame by $1/(\mathrm{SNR} + 1)$ makes the loss the plain squared error of $x_0$ at every level (`weighting="x0"`). Min-SNR
# weighting is a third choice. The shipped networks were trained with the first. Here is the error of `digits32` at a few levels,
# both ways:

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
# That answers the question at the top. A loss of 0.03 is an average over levels that have little in common. What a network is worth
# shows at the levels where the error of $x_0$ is large.
#
# ## Recipes
#
# A run's settings are a *recipe*, a toml file in `vdiff_lite/training/recipes`. `vdiff train --recipe tiny --out mine` trains by it,
# and the same command continues a run that was cut off. It draws samples on the way, and writes the loss, by noise level too, to
# `mine.log.csv`. These ship. `tiny` is the one for a laptop. In its first steps the clips are of 8 frames, half the length and twice
# as many of them (`short_steps`).

# %%
columns = {}
for name in recipe_names():
    recipe = load_recipe(name)
    stage = recipe.stages[-1]
    clips = stage.batch * (stage.steps + stage.short_steps)
    clips_of = recipe.source or f"{recipe.data.get('num_digits', 1)} digits".replace("1 digits", "1 digit")
    columns[name] = dict(network=recipe.network, data=clips_of, clips=clips)
    settings = ("steps", "batch", "short_steps", "noise_mix", "high_noise_fraction", "decay")
    columns[name] |= {setting: str(getattr(stage, setting)) for setting in settings}
show_table(pd.DataFrame(columns, dtype=object), "The recipes")

# %% [markdown]
# The loss curves of the four checkpoints that ship were not kept. Their cards say where the weights come from. {doc}`../checkpoints`
# has their PSNR and how to train each again.

# %%
for name in checkpoint.shipped():
    print(textwrap.fill(f"{name}: {checkpoint.read_card(name)['origin']}", 100) + "\n")
print("How long the recipes take on a CPU")
print((FOLDER / "recipe_cpu.txt").read_text())

# %% [markdown]
# ## Play
#
# How good is it at each noise level? The slider shows the network's estimate for the same clip and noise from level 100 to 1000. At
# 1000 there is nothing to see but noise, and the estimate is the average of all clips.

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
# A learning rate that is far too high. The loss may fall for a few steps, and then a gradient is no longer a number: `Trainer` stops
# and says at which step. A rate that is only a few times higher can even look *better* over so few steps: short runs flatter high
# learning rates.

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
# Training predicts $v$ at random noise levels and takes the squared error over the noisy frames. A batch mixes clips whose frames all
# have one noise level with clips that have a clean past, so that one network serves every method later; Muon, an average of the
# weights and a falling rate get there in fewer steps. Judge a run by its samples: the loss is nearly flat while they get good.
#
# ## Exercises
#
# 1. **Predict.** What happens to clips from noise if the mix holds *only* clean-past clips?
# 2. **Code.** Change `my_loss` so that it counts clean frames too. How does the loss of the shipped network change, and why can no
#    network do better?
# 3. **Explore.** Sample with `net`, with `muon[0]` and with `falling[1]` from the same noise. Which of the three would you pick by
#    the samples, and which by the table?
#
# :::{dropdown} Solutions
# 1. The network never sees a clip whose first frame is noisy, so sampling from noise is outside of what it was trained on. Expect clips
#    that flicker between digits: it has learned to lean on a clean frame that is not there.
# 2. Replace the last line by `return error.mean()`. For a clean frame $v = \epsilon$ is independent of everything the network sees, so
#    its best prediction is zero and the error is 1.
# 3. `vd.sample(vd.Denoiser(falling[1], schedule), 1, 8, steps=15, generator=seeded(2))`, and likewise the others. After 120 steps all
#    are blobs, and hard to tell apart by eye. The table compares what the eye cannot yet see.
# :::
#
# ## Sources
#
# The loss: {cite:t}`ho2020denoising`, Eq. 14, in the form of {cite:t}`salimans2022progressive`. Stratified levels:
# {cite:t}`kingma2021variational`. A level per frame: {cite:t}`chen2024diffusion`. Muon: {cite:t}`jordan2024muon`; AdamW:
# {cite:t}`loshchilov2019decoupled`. An optional weighting (`min_snr`): {cite:t}`hang2023efficient`.
