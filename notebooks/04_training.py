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
# We train a small video diffusion model from scratch, here and now, in under a minute, and look at its samples at every stage.
# Then we load the model that the rest of the book uses, which was trained in the same way for longer, and read how it came to
# be, stage by stage.
#
# *Time to run: about a minute on two CPU cores, about forty seconds on a GPU.*
#
# **You will learn** the training loss in four lines; which noise levels a batch holds and why; how foresight is trained; what
# averaging the weights (EMA) does; what normal training looks like; how a run survives being killed.
#
# **You need** chapters 1 to 3, and what an optimizer does.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch.optim.swa_utils import AveragedModel

import vdiff_lite as vd
from vdiff_lite import checkpoint, viz
from vdiff_lite.diffusion.losses import draw_noise_levels, v_loss
from vdiff_lite.training import foresight
from vdiff_lite.training.centers import centre_loss, true_centres
from vdiff_lite.training.loop import DivergedError
from vdiff_lite.training.optimizer import make_optimizer
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

seeded = lambda seed: torch.Generator().manual_seed(seed)
device = vd.pick_device()
vd.prepare_cpu()
shipped = vd.load("digits32", device)

# %% [markdown]
# ## What training ends with

# %%
clips = vd.sample(shipped, 4, steps=20, generator=seeded(11))
viz.show_clips(clips.cpu(), alt="A digit drawn by the shipped model moves in a box")

# %% [markdown]
# **Predict.** The network has to predict $v$, a mixture of noise and clip. What is the loss of a network that always outputs
# zero? And can the loss ever reach zero?

# %% [markdown]
# ## The mathematics
#
# Draw a clip, a level and noise, let the network predict $v$, and take the squared error:
#
# $$L = \mathbb{E}_{x_0, t, \epsilon} \big\| \hat v(x_t, t) - v \big\|^2, \qquad v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0. \tag{1}$$
#
# The best possible prediction is the *average* of $v$ over all clips that could have become this $x_t$. At high noise many could,
# so the average is a blur and the loss cannot reach zero. The blur is right: it is the sampler that turns it, step by step,
# into one clip.

# %% [markdown]
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
# ## Which errors count?
#
# An error of $v$ is an error of $x_0$ times $\sqrt{\mathrm{SNR} + 1}$. Relative to the error of $x_0$, equation 1 counts *low* noise
# most: there an error of $x_0$ that nobody would see costs much. Motion and identity are decided at *high* noise. Weighting each
# frame by $1/(\mathrm{SNR} + 1)$ makes the loss the plain squared error of $x_0$ at every level (`weighting="x0"`). Min-SNR
# weighting is a third choice. Here is the shipped network's error at a few levels, both ways:

# %%
real = vd.BouncingDigits(split="test").sample(8, seeded(3)).video
noise = torch.randn(real.shape, generator=seeded(4))
rows = {}
for level in (50, 200, 400, 600, 800, 1000):
    t = torch.full((8, 16), level)
    rows[level] = {f"error of {w}": v_loss(net, schedule, real, t, noise, w).item() for w in ("v", "x0")}
table = pd.DataFrame(rows).T.rename_axis("noise level")
show_table(table, "The loss of the shipped network by noise level, in two weightings", digits=4)

# %% [markdown]
# ## Which noise levels?
#
# To serve every method of Part II, one network has to know four situations: all frames at one level (a clip from noise); every
# frame at its own; a clean past (continuing); and a past that is pure noise (the unconditional branch of guidance). A batch mixes
# them. `noise_mix` holds the four fractions.

# %% mystnb={"image": {"alt": "A matrix of forty clips by sixteen frames, colored by noise level; some rows are uniform, some random, some start with dark clean frames, some with bright ones."}, "figure": {"caption": "Noise levels of forty training clips, sorted: one level for all, a past and a future, one level each. Dark: clean. Bright: pure noise."}}
t = draw_noise_levels(40, 16, 1000, (0.2, 0.1, 0.65, 0.05), 0.5, seeded(0))
changes = (t.diff(dim=1) != 0).sum(dim=1)  # none: same level; one: a past and a future; many: per frame
figure, axis = plt.subplots(figsize=(4, 4))
image = axis.imshow(t[changes.argsort(stable=True)], cmap="viridis", vmin=0, vmax=1000, aspect="auto")
axis.set(xlabel="frame", ylabel="clip")
figure.colorbar(image, label="noise level t");

# %% [markdown]
# One more choice hides in "random level". Drawn evenly from 1 to 1000, few clips are nearly pure noise. Only there is the past
# all that the network can use: where the digit is going, and which digit it is, must be *carried over*, not cleaned up. The
# recipe moves half of the clips towards pure noise (`high_noise_fraction`).

# %%
rows = {}
for fraction in (0.0, 0.5):
    t = draw_noise_levels(20_000, 1, 1000, (1, 0, 0, 0), fraction, seeded(0))
    rows[fraction] = {f"above level {n}": 100 * (t > n).float().mean().item() for n in (500, 900, 970)}
table = pd.DataFrame(rows).T.rename_axis("high_noise_fraction")
show_table(table, "How many clips of a batch have a high noise level, in percent", digits=1)

# %% [markdown]
# ## Which digit is it? Two aids for what is learned last
#
# Motion is learned early. That the digit of the first frame is the digit of the last is learned late, because most of the loss
# can be reduced without it: neighboring frames overlap, and copying from a neighbor nearly always works. The recipe makes it
# necessary in two ways. A third of the batches have a **frame stride** of 2: every second frame of a clip twice as long, so that
# neighbors overlap less. (The network is told: rotary positions count in frames of the original.) And the decoder is told during
# training where to look. What it **follows** (chapter 3) is pulled towards the centre of mass of the clean frame's brightness,
#
# $$L_c = \mathbb{E}\, \| c - \text{centroid}(x_0) \|^2 / \text{size}^2. \tag{2}$$

# %%
def centre_loss_by_hand(centres, x0):
    intensity = (x0[:, 0] + 1) / 2  # (b, f, h, w)
    pixels = torch.arange(x0.shape[-1]) - (x0.shape[-1] - 1) / 2
    total = intensity.sum(dim=(2, 3))
    y = (intensity.sum(dim=3) * pixels).sum(-1) / total
    x = (intensity.sum(dim=2) * pixels).sum(-1) / total
    error = torch.stack([y, x], dim=1) - centres  # (b, 2, f)
    return (error / x0.shape[-1]).square().sum(1).mean()


centres = 3 * torch.randn(4, 2, 16)
torch.testing.assert_close(centre_loss_by_hand(centres, x0), centre_loss([centres], x0))

# %% [markdown]
# ## Where will it be? Learned from trajectories
#
# Chapter 3 ended its experiment with two numbers per frame: with the true centres, the network draws the digit. Foreseeing these
# two numbers is a small problem, but hard to learn beside the other: eight clips per step hold eight trajectories, and most of the
# loss is about strokes. So foresight is trained by itself. Draw many trajectories $c$, the centres of clean clips. Make up what the
# network would *see* of them, and predict the truth:
#
# $$\hat c = \text{foresee}(\tilde c), \qquad \tilde c = (c + s_t z)\, \frac{\text{var}(c)}{\text{var}(c) + s_t^2}, \quad z \sim N(0, 1). \tag{3}$$
#
# A sighting is off by $s_t$ pixels, more at higher noise. Where it says little, the best estimate lies near the mean, hence the
# factor. No image goes through a network, so a step costs little.

# %%
def my_sightings(centre, t, generator):
    alpha_bar = schedule.alpha_bar[t][..., None].float()
    s = 0.07 + 0.25 * ((1 - alpha_bar) / alpha_bar.clamp(min=1e-12)).sqrt()
    s = s.clamp(max=1e4)
    z = torch.randn(centre.shape, generator=generator)
    return (centre + s * z) * centre.var() / (centre.var() + s**2)


centre = true_centres(x0)  # (b, f, 2), pixels from the middle
t = draw_noise_levels(4, 16, 1000, (1, 1, 1, 1), generator=seeded(2))
mine, twin = my_sightings(centre, t, seeded(0)), foresight.sightings(centre, t, schedule, seeded(0))
torch.testing.assert_close(mine, twin, rtol=1e-3, atol=1e-4)

# %% [markdown]
# Is the law $s_t = 0.07 + 0.25\,\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$ true? The hook shows what the shipped network sees in
# noisy clips, and we know where the digits are:

# %% mystnb={"image": {"alt": "Points on a rising curve: the error of the centres that the network sees grows from a tenth of a pixel at low noise to about a pixel at level 850, close to the drawn law."}, "figure": {"caption": "Error of the network's sightings in each direction, by noise level (points; root mean square, 16 held-out clips), and the law that foresight is trained with (line)."}}
held_out = vd.BouncingDigits(split="test").sample(16, seeded(6)).video
levels, errors = (50, 200, 400, 600, 700, 800, 850), []
for level in levels:
    features, t = {}, torch.full((16, 16), level)
    noisy = schedule.add_noise(held_out, t, torch.randn(held_out.shape))
    with torch.no_grad():
        shipped.net.to(device)(noisy.to(device), t.to(device), hook=features.setdefault)
    seen = features["decoder.0.temporal.seen"].cpu().mT
    errors.append((seen - true_centres(held_out)).square().mean().sqrt().item())

figure, axis = plt.subplots(figsize=(6, 2.4))
line = torch.arange(20, 900, 10)
axis.plot(line, 0.07 + 0.25 * schedule.snr(line) ** -0.5, color="#666666", label="law")
axis.plot(levels, errors, "o", label="measured")
axis.set(xlabel="noise level t", ylabel="error (pixels)", yscale="log")
axis.legend(frameon=False);

# %% [markdown]
# What should the loss be? **Predict:** a foresight whose steps are one percent too short. After a window of eleven new frames the
# digit is a tenth of a pixel behind, which nobody can see. What is left of its speed after 18 windows, when each takes the one
# before for the truth? And at three percent? (The next cell prints it.)
#
# An error of a pixel at one bounce is soon forgotten. A step that is a hundredth too short in every window is not, and the squared
# error hardly notices it. Two changes make it count. Below a small $\beta$ the error is squared, above it is taken as it is, so that
# rare large errors do not drown the rest. And the *steps* from frame to frame have a term of their own:
#
# $$L_f = \mathbb{E}\; \text{smooth}\ell_1(\hat c - c;\, 0.05) + 5\; \mathbb{E}\; \text{smooth}\ell_1(\Delta\hat c - \Delta c;\, 0.02), \qquad \Delta c_f = c_{f+1} - c_f. \tag{4}$$

# %%
def smooth_l1(a, b, beta):
    error = (a - b).abs()
    return torch.where(error < beta, error**2 / (2 * beta), error - beta / 2).mean()


def my_foresight_loss(predicted, centre):
    steps = predicted[:, 1:] - predicted[:, :-1], centre[:, 1:] - centre[:, :-1]
    return smooth_l1(predicted, centre, 0.05) + 5 * smooth_l1(*steps, 0.02)


print({f"{error:.0%} too short": f"{(1 - error) ** 18:.2f}" for error in (0.01, 0.03, 0.1)})
predicted = centre + 0.05 * torch.randn(centre.shape)
torch.testing.assert_close(my_foresight_loss(predicted, centre), foresight.foresight_loss(predicted, centre))

# %% [markdown]
# Whether it is enough can be seen without drawing a picture. Give foresight the centres of five frames, and let it continue from
# its own output, window after window (`foresight.go_on`).

# %% mystnb={"image": {"alt": "Left, the height of four digits over two hundred frames as zigzag lines between two walls, the true ones and those that foresight continues with; they part slowly. Right, the speed relative to that of the given frames, which stays close to one over 18 windows."}, "figure": {"caption": "Foresight alone, over 18 windows of eleven new frames. Left: the height of four held-out digits, true (gray) and continued from the first five frames (color). Right: the speed, relative to that of the five given frames; median, and the middle half, of 64 digits."}}
long = vd.BouncingDigits(split="test", num_frames=203).sample(64, seeded(8)).video
truth = true_centres(long)
continued = foresight.go_on(shipped.net.cpu(), truth[:, :5], windows=18)
speed = continued.diff(dim=1).norm(dim=-1)
ratio = torch.stack([speed[:, n:n + 11].mean(1) / speed[:, :4].mean(1) for n in range(4, 202, 11)])
lower, median, upper = ratio.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), gridspec_kw=dict(width_ratios=(2, 1)))
left.plot(truth[:4, :, 0].T, color="#bbbbbb", lw=1)
left.plot(continued[:4, :, 0].T, lw=1)
left.set(xlabel="frame", ylabel="row (pixels)")
right.fill_between(range(1, 19), lower, upper, alpha=0.2)
right.plot(range(1, 19), median)
right.axhline(1, color="#666666", lw=0.5)
right.set(xlabel="window", ylabel="relative speed", ylim=(0, 1.6))
figure.tight_layout();

# %% [markdown]
# Three more things belong to the training of foresight. First, what is far away in time may be of another clip: in every fifth
# batch the first frames come from elsewhere, at positions twelve frames back or more. Chapter 7 keeps such frames in view all the
# time, as a memory of *what* is shown, and foresight must not take them for the past of the motion. Second, when the rest of the
# network has learned, foresight is trained again: `foresight.watch` collects what the network really sees in noisy clips, and two
# batches in five are of that instead of equation (3). Third, trajectories run backwards in every other batch. A digit that bounces
# without loss may do so, and a foresight that shortens its steps has to lengthen them on the way back. The tables below measure
# what this gained.
#
# ## A past with its own mistakes
#
# In a long rollout the past was drawn by the network itself: nearly right, never quite. A network that was trained on true pasts
# alone takes each small error for the digit, and adds to it, window after window. Here is an idea to cure that (*scheduled
# sampling*, or self-rollout). In some batches the first four frames are the data's, the next four are what the network draws after
# them, in four coarse steps, and what it has to denoise are the *true* frames after those. It never sees more than 16 frames. It
# only learns not to trust its own output too far {cite:p}`bengio2015scheduled,huang2025self`. (How the four frames are drawn is the
# subject of chapters 5 and 7.) Predict what comes of it. The result is further down.

# %% mystnb={"image": {"alt": "Three film strips: the true clip; the same with its fifth to eighth frame drawn by the network, hardly to be told apart; and ten times the difference, in which the edges of the strokes show in those four frames alone."}, "figure": {"caption": "Above a true clip, in the middle the same with the fifth to the eighth frame as the network draws them after the first four, below ten times the difference."}}
trainer = vd.Trainer(vd.VideoUNet().to(device), schedule, vd.BouncingDigits(), device=device)
trainer.ema.module.load_state_dict(shipped.net.state_dict())
true = vd.BouncingDigits().sample(4, seeded(5)).video.to(device)
drawn, levels, _, _ = trainer.self_rollout(true, torch.randn_like(true), torch.arange(16), seeded(0))
drawn = torch.cat([true[:, :, :16 - drawn.shape[2]], drawn], dim=2)
print("noise levels of one clip:", levels[0].tolist())
error = (drawn - true)[:, :, 4:8].square().mean().sqrt()
print(f"error of the drawn frames: {error:.3f} (root mean square; pixels span -1 to 1)")

rows = [clips[1].cpu() for clips in (true, drawn, 10 * (drawn - true).abs() - 1)]
viz.film_strip(rows, ["true", "self-rollout", "difference x 10"]);

# %% [markdown]
# ## Build it: the loop
#
# A smaller world, so that it fits into a minute: frames of 24 by 24, 8 of them, a network of two levels. The optimizer is Muon for
# matrices and AdamW for the rest: on two cores it needs clearly fewer steps (`vdiff_lite/training/optimizer.py`).
#
# The weights of the last steps jitter around a good point. Their exponential moving average (EMA) sits in the middle of the jitter,
# and is what we sample with. PyTorch's `AveragedModel` keeps it. Its decay grows with the number of steps, so that the average
# soon forgets the random weights it starts from.

# %%
config = vd.VideoUNetConfig(size=24, channels=(32, 64), num_middle=1)
data = vd.BouncingDigits(size=24, num_frames=8)
torch.manual_seed(0)
net = vd.VideoUNet(config).to(device)
optimizer = make_optimizer(net, lr=5e-3, matrix_lr=0.03)
ema = AveragedModel(net, avg_fn=lambda mean, value, n: mean.lerp(value, 1 - min(0.98, float(n / (9 + n)))))
ema.n_averaged += 1  # it starts from the random weights
batch, total = 16, 120


def train_step(n):
    generator = seeded(n)
    x0 = data.sample(batch, generator).video
    t = draw_noise_levels(batch, 8, 1000, (0.5, 0.1, 0.4, 0.0), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    for group in optimizer.param_groups:  # warm up, hold, bring down
        group["lr"] = group["initial_lr"] * min(1, (n + 1) / 20) * min(1, 2.5 * (1 - n / total))
    x0, features = x0.to(device), {}
    loss = my_loss(lambda xt, t: net(xt, t, hook=features.setdefault), x0, t.to(device), eps.to(device))
    centres = [centre for site, centre in features.items() if site.endswith(".centre")]
    optimizer.zero_grad()
    (loss + centre_loss(centres, x0)).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    ema.update_parameters(net)
    return loss.item()

# %%
losses, samples = [], {}
for n in range(total):
    losses.append(train_step(n))
    if n + 1 in (1, 15, 30, 60, 120):
        samples[n + 1] = vd.sample(vd.Denoiser(ema.module, schedule), 1, 8, steps=15, generator=seeded(2))[0]

# %% mystnb={"image": {"alt": "The loss falls from about one to below a tenth within the first hundred steps, then slowly."}, "figure": {"caption": "The loss of each step and its running mean. The vertical axis is logarithmic."}}
running = torch.tensor(losses).unfold(0, 20, 1).mean(-1)
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.plot(range(1, total + 1), losses, color="#bbbbbb", lw=0.8, label="each step")
viz.plot_lines(axis, range(20, total + 1), {"mean of 20": running})
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %% mystnb={"image": {"alt": "Film strips of samples after 1, 15, 30, 60 and 120 steps: from gray noise over a drifting cloud to a bright blob with the size and motion of a digit."}, "figure": {"caption": "One clip from the same noise, at five stages."}}
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

# %% [markdown]
# ## Meet the twin
#
# `Trainer` is this loop, with warm-up, a progress bar, and files. Its average is the same `AveragedModel`. A run's settings are a
# *recipe*, a toml file in `vdiff_lite/training/recipes`, and `vdiff train --recipe digits32` trains by it. The random numbers of step $n$
# depend on the seed and on $n$ alone. So a run that was killed and resumed ends with *the same bytes* as one that was not:

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
straight.losses

# %% [markdown]
# ## The shipped model
#
# Its card lies beside the weights and says how it came to be, stage by stage. The first stage is a run from scratch, without
# foresight. Then foresight is trained, and in the second stage the whole network continues with it, at a lower rate. In half of its
# training clips all frames have the same noise level, and a third of its steps are on single frames. At the end foresight is
# trained once more. `make train` runs the same again, with one exception. Some steps of foresight were taken while the method was
# still being developed. The shipped weights
# had their first 3,000 with the first term of equation (4) alone and $\beta = 0.5$. Of those at the end, only the last 3,000 had
# trajectories that run backwards.
#
# In the table, `short_steps` is how many steps at the start train on clips of 8 frames, half the length and twice as many of
# them. `frame_stride` lists the strides, one of which is drawn per batch: [1, 1, 2] is a third of 2s. `image_every` = 3 means that
# every third step is on single frames. `foresight` and `foresight_after` count the steps that foresight is trained before the
# stage and, in two parts, after it.

# %%
print(f"{shipped.card['parameters']:,} parameters, trained on {shipped.card['data']}")
stages = checkpoint.stages(shipped.card)
settings = ["steps", "batch", "noise_mix", "high_noise_fraction", "frame_stride", "short_steps",
            "image_every", "foresight", "foresight_after"]
columns = {f"stage {n}": {name: str(stage["recipe"].get(name, 0)) for name in settings}
           for n, stage in enumerate(stages, 1)}
show_table(pd.DataFrame(columns), "The recipe of digits32")

# %% mystnb={"image": {"alt": "The loss of the shipped model over its training steps; after a steep fall it keeps falling slowly, and once more at the end as the learning rate goes down."}, "figure": {"caption": "The full loss curve of digits32. Gray: steps on clips of 8 frames. Dotted: from here on, the learning rate falls. The second stage draws other noise levels and single frames, so that its loss does not compare with that of the first."}}
figure, axis = plt.subplots(figsize=(7, 2.6))
start = 0
for n, stage in enumerate(stages, 1):
    recipe, (steps, loss) = stage["recipe"], zip(*stage["loss_curve"])
    end = start + stage["steps"]
    axis.axvspan(start, start + recipe["short_steps"], color="#eeeeee")
    axis.axvline(end - recipe["decay"], color="#666666", ls=":")
    axis.plot([start + step for step in steps], loss, label=f"stage {n}")
    start = end
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log")
axis.legend(frameon=False);

# %% [markdown]
# ## What each stage gained
#
# Every stage was evaluated in the same way (`book/_tools/stages.py`) with 12 steps of DDIM, on 64 held-out clips. The measures:
#
# - *PSNR*, the peak signal-to-noise ratio, of the first, fifth and eleventh new frame after five given ones, in dB:
#   $10 \log_{10}(4 / \text{MSE})$, where MSE is the mean squared error against the true frame and 4 the square of the range of a
#   pixel. 10 dB more is a mean squared error ten times smaller.
# - *Same shape*, *same digit*: the fraction of clips drawn from noise whose last frame shows the shape of the first, and the digit
#   that a classifier reads on the first.
# - *Right digit*: the fraction of frames, in rollouts over 66 new frames, on which the true digit is read.
# - *Time to first failure*: the number of new frames in these rollouts until the first check of a frame fails (intensity, motion,
#   jump or identity, as chapter 10 defines them), mean over clips.
# - *Speed after 18 windows*: that of foresight alone, relative to that of the given frames.

# %%
def stages_table(results, names):
    rows = {}
    for name, result in zip(names, results, strict=True):
        rows[name] = {f"PSNR, frame {frame}": db for frame, db in result["psnr"].items()}
        rows[name] |= {f"same {kind}": result["from_noise"][f"same_{kind}"] for kind in ("shape", "digit")}
        rows[name] |= {"right digit": result["long"]["identity"],
                       "time to first failure": result["long"]["time_to_first_failure"][0],
                       "speed after 18 windows": result.get("speed_after_18")}
    table = pd.DataFrame(rows).T.astype(float).dropna(axis=1, how="all")
    digits = {name: 1 if name.startswith(("PSNR", "time")) else 2 for name in table}
    caption = f"{results[0]['clips']} held-out clips, {results[0]['steps']} steps of DDIM"
    return show_table(table, caption, digits=digits)


results = json.loads(Path("../data/results/stages.json").read_text())
assert results[0]["sha256"] == stages[0]["sha256"]
assert results[-1]["sha256"] in (shipped.card["sha256"], shipped.card.get("rounded_from"))
stages_table(results, ["first stage", "foresight trained", "second stage", "trained once more"])

# %% [markdown]
# The second line is the first one's network, weight for weight. Only foresight was added, trained on trajectories for minutes. The
# same holds for the fourth line and the third. In rollouts it helps at once (time to first failure). Clips from noise got worse at
# that step: the same shape in 0.56 instead of 0.69 of them, the same digit in 0.53 instead of 0.61. The second stage brought most
# of that back. In the second stage foresight was trained along, on eight clips per step, and forgot
# how to keep its speed (last column). The training at the end brought that back, and the new frames are several dB nearer to
# the truth. It did not change how often the right digit is read, nor, by more than a frame or two, the time to first failure.
#
# And training on without foresight? That was tried, too. The first stage was followed by four runs, each from where the one before
# ended: with self-rollout, with true pasts again, and twice with half of the steps on single frames.

# %%
results = json.loads(Path("../data/results/self_rollout.json").read_text())
assert results[0]["sha256"] == stages[0]["sha256"]
names = ["first stage", "self-rollout", "true pasts", "half on frames", "half on frames, again"]
names = [f"{name} ({result['recipe']['steps']:,} steps)" for result, name in zip(results, names)]
stages_table(results, names)

# %% [markdown]
# - *Self-rollout*: every new frame is further from the truth than before, the first one most. The drawn pasts were slightly off, and
#   the network was told that they were clean (level 0). So it learned to trust no past, true ones included. A past that holds errors
#   has to be announced as one, by a noise level of its own.
# - *True pasts* for a few more steps, at a low rate, bring most of it back.
# - *Half on frames*: many more digits in the same time. *Same shape* rose to 0.91 with self-rollout already; half on frames keeps it
#   at 0.88 to 0.89 while PSNR recovers. *Same digit* ends at 0.67, up from 0.61, a step within the error of 64 clips.
# - And the first column: more than twice as many steps again, and the next frame is predicted no better. More training was not what
#   was missing. A way to represent where things go was: see the table before.
#
# The runs differ in more than one setting. So the tables say what happened, and the causes above are our reading of it.

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

# %% mystnb={"image": {"alt": "Three loss curves over forty steps: the recipe's falls slowly, five times the rate falls faster at first, a hundred times the rate jumps and breaks off."}, "figure": {"caption": "Forty steps with the recipe's learning rates, five times and a hundred times as much. A line that ends early is a run that was stopped."}}
def short_run(factor, steps=40):
    torch.manual_seed(0)
    rates = dict(lr=1e-3 * factor, matrix_lr=0.015 * factor)
    recipe = vd.TrainConfig(steps=steps, batch=8, frames=8, short_steps=0, warmup=5, decay=1, **rates)
    trainer = vd.Trainer(vd.VideoUNet(config), schedule, data, recipe, device)
    try:
        for progress in trainer.run(bar=False):
            pass
    except DivergedError as stop:
        print(f"lr x {factor} stopped at {stop}")
    return trainer.losses + [float("nan")] * (steps - len(trainer.losses))


runs = {f"lr x {factor}": short_run(factor) for factor in (1, 5, 100)}
figure, axis = plt.subplots(figsize=(7, 2.4))
viz.plot_lines(axis, range(1, 41), runs)
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %% [markdown]
# ## Recap
#
# Training predicts $v$ at random noise levels and takes the squared error over the noisy frames. A batch mixes clips whose frames all
# have one noise level with clips that have a clean past, so that one network serves every method later; a frame stride and a hint where to look help it learn
# which digit it is, and where things go is learned from trajectories alone, in minutes. Judge a run by its samples: the loss is nearly
# flat while they get good.
#
# ## Exercises
#
# 1. **Predict.** What happens to clips from noise if the mix holds *only* clean-past clips?
# 2. **Code.** Change `my_loss` so that it counts clean frames too. How does the loss of the shipped network change, and why can no
#    network do better?
# 3. **Explore.** Sample with `net` instead of `ema.module`. What does averaging gain after 120 steps?
#
# :::{dropdown} Solutions
# 1. The network never sees a clip whose first frame is noisy, so sampling from noise is outside of what it was trained on. Expect clips
#    that flicker between digits: it has learned to lean on a clean frame that is not there.
# 2. Replace the last line by `return error.mean()`. For a clean frame $v = \epsilon$ is independent of everything the network sees, so
#    its best prediction is zero and the error is 1.
# 3. `vd.sample(vd.Denoiser(net, schedule), ...)`. With the learning rate brought down at the end the difference is small; without that it
#    is large. Averaging and a falling learning rate both remove the jitter.
# :::
#
# ## Sources
#
# The loss: {cite:t}`ho2020denoising`, Eq. 14, in the form of {cite:t}`salimans2022progressive`. Stratified levels:
# {cite:t}`kingma2021variational`. Scheduled sampling: {cite:t}`bengio2015scheduled` for sequences, {cite:t}`huang2025self` for video. A
# level per frame: {cite:t}`chen2024diffusion`. Muon: {cite:t}`jordan2024muon`; AdamW: {cite:t}`loshchilov2019decoupled`. An optional
# weighting (`min_snr`): {cite:t}`hang2023efficient`.
