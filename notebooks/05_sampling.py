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
# # 5. Sampling
#
# **The network only ever estimates the clean clip - so how does noise become a clip, and in how few network evaluations (NFE)?**
#
# We build three samplers, each a function of a few lines: the ancestral sampler of the first diffusion models, DDIM, and a
# second-order solver. Then we measure quality against the number of network evaluations.
#
# *Time to run: about a minute on two CPU cores, and no less on a GPU: most evaluations here are of one clip or a few.*

# %% [markdown]
# **You will learn** what DDPM, DDIM and DPM-Solver++ do with the same estimate; why the first level must be pure noise; what few
# steps cost, measured; how denoisers compose.
#
# **You need** chapters 2 and 4.

# %%
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.diffusion.samplers import trailing_times
from vdiff_lite.evaluation import digit_metrics
from vdiff_lite.evaluation.evaluate import noise_table
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
device = vd.pick_device()
torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds the inputs of a convolution to ten bits
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
seeded = lambda seed=1: torch.Generator().manual_seed(seed)


def noise(clips, frames=16, seed=0):
    return torch.randn(clips, 1, frames, 32, 32, generator=seeded(seed)).to(device)

# %% [markdown]
# ## What we will have at the end

# %%
with torch.no_grad():
    clips = vd.run_sampler(vd.dpmpp_2m(denoiser, noise(4, seed=3), schedule, steps=12))
viz.show_clips(clips.cpu(), alt="A digit drawn from noise in twelve steps moves in a box")

# %% [markdown]
# **Predict.** Training used 1000 levels. How many network evaluations do you think a good clip needs: 1000, 100, 10?
#
# ## The mathematics
#
# At level $t$ we hold $x_t$ and the estimate $\hat x_0$. What is $x_{t'}$ at a level $t' < t$? All samplers of this chapter take a
# weighted sum of $\hat x_0$, $x_t$ and perhaps fresh noise $z \sim \mathcal N(0, 1)$. (DPM-Solver++ also uses the estimate before.)
# *Ancestral* sampling (DDPM) draws from the true posterior $q(x_{t'} \mid x_t, x_0)$ with the estimate instead of $x_0$. With
# $\alpha = \bar\alpha_t / \bar\alpha_{t'}$ and $\beta = 1 - \alpha$, its mean and variance are those of
#
# $$x_{t'} = \frac{\sqrt{\bar\alpha_{t'}}\, \beta\, \hat x_0 + \sqrt{\alpha}\, (1 - \bar\alpha_{t'})\, x_t}{1 - \bar\alpha_t} + \sqrt{\frac{\beta\, (1 - \bar\alpha_{t'})}{1 - \bar\alpha_t}}\; z. \tag{1}$$
#
# *DDIM* keeps the noise that is already there, $\hat\epsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat x_0)/\sqrt{1 - \bar\alpha_t}$, and only turns it down:
#
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{t'}}\, \hat\epsilon. \tag{2}$$
#
# Between the two, a part of the noise is fresh. How much is set by $\eta$, from 0, which is (2), to 1:
#
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{t'} - s^2}\, \hat\epsilon + s\, z, \qquad s = \eta\, \sqrt{\frac{1 - \bar\alpha_{t'}}{1 - \bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}}.$$
#
# *DPM-Solver++(2M)* sees (2) as one Euler step of a differential equation in $\lambda = \log \sqrt{\mathrm{SNR}}$. It takes a second-order
# step instead, without another network evaluation, by extrapolating from the last two estimates. With
# $\sigma_t = \sqrt{1 - \bar\alpha_t}$, and $h_{\text{last}}$ the $h$ of the step before,
#
# $$x_{t'} = \frac{\sigma_{t'}}{\sigma_t}\, x_t - \sqrt{\bar\alpha_{t'}}\, (e^{-h} - 1)\, D, \quad D = \hat x_0 + \frac{h}{2 h_{\text{last}}} \left(\hat x_0 - \hat x_0^{\text{last}}\right), \quad h = \lambda_{t'} - \lambda_t. \tag{3}$$
#
# With $D = \hat x_0$ this is (2).

# %% [markdown]
# ## Which levels?
#
# With 25 network evaluations, which 25 of the 1000 levels? They must start at 1000, since we start with pure noise. ("Trailing"
# spacing. A popular alternative starts at 961 and mistakes noise for a clip with a trace of signal.)

# %%
# NBVAL_CHECK_OUTPUT
def levels(steps, T=1000):
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


print(levels(8))
assert levels(25) == trailing_times(1000, 25)

# %% [markdown]
# ## Build it: DDIM

# %%
@torch.no_grad()
def my_ddim(xt, steps):
    for t, t_next in zip(levels(steps), levels(steps)[1:]):
        ab, ab_next = schedule.alpha_bar[[t, t_next]].tolist()
        x0_hat = denoiser(xt, torch.full((len(xt),), t, device=device))
        eps_hat = (xt - ab**0.5 * x0_hat) / (1 - ab) ** 0.5
        xt = ab_next**0.5 * x0_hat + (1 - ab_next) ** 0.5 * eps_hat
    return xt

# %% [markdown]
# ## Build it: DDPM

# %%
@torch.no_grad()
def my_ddpm(xt, steps, generator):
    for t, t_next in zip(levels(steps), levels(steps)[1:]):
        ab, ab_next = schedule.alpha_bar[[t, t_next]].tolist()
        alpha, beta = ab / ab_next, 1 - ab / ab_next
        x0_hat = denoiser(xt, torch.full((len(xt),), t, device=device))
        xt = (ab_next**0.5 * beta * x0_hat + alpha**0.5 * (1 - ab_next) * xt) / (1 - ab)
        if t_next > 0:
            z = torch.randn(xt.shape, generator=generator).to(device)
            xt = xt + (beta * (1 - ab_next) / (1 - ab)) ** 0.5 * z
    return xt

# %% [markdown]
# ## Build it: DPM-Solver++(2M)

# %%
@torch.no_grad()
def my_dpmpp(xt, steps):
    signal, sigma = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    lam = signal.log() - sigma.log()
    last = h_last = None
    for t, t_next in zip(levels(steps), levels(steps)[1:]):
        x0_hat = denoiser(xt, torch.full((len(xt),), t, device=device))
        h = (lam[t_next] - lam[t]).item()
        first_order = last is None or t_next == 0
        d = x0_hat if first_order else x0_hat + h / (2 * h_last) * (x0_hat - last)
        shrink, step = (sigma[t_next] / sigma[t]).item(), 1 - torch.tensor(-h).exp().item()
        xt = shrink * xt + signal[t_next].item() * step * d
        last, h_last = x0_hat, h
    return xt

# %% [markdown]
# ## Meet the twins
#
# The library's samplers are generators. They yield a `Step(t, xt, x0_hat)` at each level, so that a notebook can look at the
# trajectory. (They are also tested against the schedulers of the `diffusers` library.)

# %%
xt = noise(1)
with torch.no_grad():
    ddim = vd.run_sampler(vd.ddim(denoiser, xt, schedule, 6))
    ddpm = vd.run_sampler(vd.ddpm(denoiser, xt, schedule, 6, generator=seeded()))
    dpmpp = vd.run_sampler(vd.dpmpp_2m(denoiser, xt, schedule, 6))
for mine, twin in ((my_ddim(xt, 6), ddim), (my_ddpm(xt, 6, seeded()), ddpm), (my_dpmpp(xt, 6), dpmpp)):
    torch.testing.assert_close(mine, twin, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## 1000, 800 or 100 network evaluations
#
# DDPM {cite:p}`ho2020denoising` evaluates the network at all 1000 levels. We do it once, for a clip of 4 frames, and compare with a subset of
# 800 and of 100 levels.

# %%
made, seconds = {}, {}
for steps in (1000, 800, 100):
    started = time.perf_counter()
    made[f"DDPM {steps}"] = my_ddpm(noise(1, 4, seed=4), steps, seeded())[0]
    seconds[steps] = time.perf_counter() - started
made["DDIM 25"] = my_ddim(noise(1, 4, seed=4), 25)[0]
made["DPM++ 12"] = my_dpmpp(noise(1, 4, seed=4), 12)[0]
print("time of DDPM relative to 100 steps:", {n: round(s / seconds[100], 1) for n, s in seconds.items()})

# %% mystnb={"image": {"alt": "Film strips of four frames made by DDPM with 1000, 800 and 100 steps, DDIM with 25 and DPM-Solver plus plus with 12; each shows one shape that moves, not all of them are digits, and the last two are nearly the same."}, "figure": {"caption": "The same starting noise. The ancestral samplers draw fresh noise on the way, so each arrives at another clip."}}
viz.film_strip(list(made.values()), list(made));

# %% [markdown]
# Each strip shows one shape that moves, and with 1000 evaluations it is no better a digit than with 25 or 12. So tens of evaluations
# make a clip. What they cost is measured next.
#
# ## Quality against steps, measured
#
# DDIM and DPM-Solver++ follow the same trajectory, so we can say exactly how far off a coarse solution is. Take a fine one (64 steps)
# from the same noise and measure the root mean squared distance at the end. As a yardstick, the distance between two clips of
# different digits.

# %%
start = noise(4, 8, seed=6)
with torch.no_grad():
    fine = vd.run_sampler(vd.dpmpp_2m(denoiser, start, schedule, 64))
rms = lambda difference: difference.square().mean().sqrt().item()
counts = [2, 4, 8, 16, 32]
coarse = {steps: my_ddim(start, steps) for steps in counts}
distances = {"DDIM": [rms(coarse[steps] - fine) for steps in counts],
             "DPM-Solver++(2M)": [rms(my_dpmpp(start, steps) - fine) for steps in counts]}
unrelated = rms(fine - fine.roll(1, 0))

# %% mystnb={"image": {"alt": "Distance to the fine solution against the number of steps on logarithmic axes; both fall, the second-order solver lies below DDIM for many steps."}, "figure": {"caption": "Root mean squared distance to a solution of 64 steps. The dotted line is the distance between two unrelated clips."}}
figure, axis = plt.subplots(figsize=(6, 3))
viz.plot_lines(axis, counts, distances, marker="o")
axis.axhline(unrelated, color="#666666", ls=":")
axis.set(xlabel="network evaluations (NFE)", ylabel="distance", xscale="log", yscale="log")
axis.set(xticks=counts, xticklabels=counts)
axis.minorticks_off();

# %%
table = pd.DataFrame(distances, index=pd.Index(counts, name="NFE"))
show_table(table, f"Distance to the fine solution; two unrelated clips: {unrelated:.3f}", digits=3)

# %% [markdown]
# Being near the fine solution is one thing, being a good clip another. Two things can be checked on any clip, because our world is
# simple. *Intensity* is the sum of the brightness $(x + 1)/2$ over the pixels of a frame. *Speed* is the distance in pixels that the
# centroid moves from frame to frame. Both are given relative to their means over real clips, so that 1 is right.

# %%
real = vd.BouncingDigits(split="test", num_frames=8).sample(256, seeded(0)).video
real_intensity, real_speed = digit_metrics.intensity(real).mean(), digit_metrics.speed(real).mean()


def check(clips):
    intensity = digit_metrics.intensity(clips.cpu()).mean() / real_intensity
    speed = digit_metrics.speed(clips.cpu()).mean() / real_speed
    return {"intensity": intensity.item(), "speed": speed.item()}


table = pd.DataFrame({steps: check(clips) for steps, clips in coarse.items()}).T.rename_axis("steps")
show_table(table, "Four clips of eight frames, drawn by DDIM")

# %% [markdown]
# Four clips of eight frames are a small sample: read differences of a tenth as noise. `vdiff evaluate` does it with 64.
#
# The intensity is too low, even with many steps. Where is it lost? **Predict:** is the estimate too faint at some level? Evaluate the
# network at each level twice: on real clips under noise, and on what the sampler has made so far.

# %% mystnb={"image": {"alt": "Intensity of the estimate against the noise level. For real clips under noise the line stays close to one. Along the trajectory it starts at one, falls while the noise is high and goes on falling slowly to the end."}, "figure": {"caption": "Intensity of the estimate $\\hat x_0$ by noise level: for eight real clips under noise, relative to their own, and along the trajectory of 25 DDIM steps that draws eight clips of 16 frames, relative to the data's. Read from right to left."}}
eight = vd.BouncingDigits(split="test").sample(8, seeded(0)).video
eps, intensity = noise(8, seed=4), lambda clips: digit_metrics.intensity(clips.cpu()).mean()
lines = {"real clips under noise": [], "along the trajectory": []}
with torch.no_grad():
    for step in vd.ddim(denoiser, eps, schedule, 25):
        if step.t > 0:
            t = torch.full((8,), step.t, device=device)
            x0_hat = denoiser(schedule.add_noise(eight.to(device), t, eps), t)
            lines["real clips under noise"].append(intensity(x0_hat) / intensity(eight))
            lines["along the trajectory"].append(intensity(step.x0_hat) / real_intensity)

figure, axis = plt.subplots(figsize=(6, 2.4))
viz.plot_lines(axis, levels(25)[:-1], lines)
axis.axhline(1, color="#666666", lw=0.5)
axis.set(xlabel="noise level t", ylabel="intensity (1 is right)");

# %% [markdown]
# At each level by itself the estimate is right, within about seven hundredths. Along the trajectory the network is given its own output:
# strokes fainter than any that it was trained on, and each step makes faint strokes fainter. An estimate that is right on
# the data need not be right on the sampler's own output. Nothing in the loss requires that, and fewer, larger steps make it worse.
#
# ## Draw the first frames first
#
# **Predict:** would a clip of two frames fade as much as one of sixteen? *Same shape* is the fraction of clips whose last frame shows
# the shape of the first: of the first digits of all clips, the nearest to its last digit is its own.

# %%
def check_shape(clips):
    return check(clips) | {"same shape": digit_metrics.shape_consistency(clips).float().mean().item()}


rows = {}
for frames in (2, 8, 16):
    at_once = vd.sample(denoiser, 16, frames, steps=25, generator=seeded()).cpu()
    rows[frames] = check_shape(at_once)
show_table(pd.DataFrame(rows).T.rename_axis("frames"), "16 clips, 25 steps of DDIM")

# %% [markdown]
# Clips of two frames have nearly the right intensity; clips of eight and sixteen do not. It is lost while the noise is high (the figure
# above). Our reading: many frames have to agree on a shape there while none of them shows one yet, and what they agree on is faint. So
# let three frames agree by themselves, and draw the rest with these as the past: clean frames, at $t = 0$, in the same window. The
# network was trained for that (chapter 4).

# %%
def my_generate(clips, frames, first, steps, generator):
    def sample(model, f):
        xt = torch.randn(clips, 1, f, 32, 32, generator=generator).to(device)
        return vd.run_sampler(vd.ddim(model, xt, schedule, steps, eta=0.5, generator=generator))

    past = sample(denoiser, first)

    def given_the_past(xt, t):
        per_frame = t[:, None].repeat(1, frames)
        per_frame[:, :first] = 0
        return denoiser(torch.cat([past, xt[:, :, first:]], dim=2), per_frame)

    return sample(vd.Denoiser.from_function(given_the_past, schedule, denoiser.sample_shape), frames)


with torch.no_grad():
    mine = my_generate(1, 16, 3, 6, seeded())
twin = vd.generate(denoiser, 1, 16, steps=6, first=3, generator=seeded())
torch.testing.assert_close(mine, twin, rtol=1e-3, atol=1e-3)

# %%
first_three = vd.generate(denoiser, 16, 16, steps=25, generator=seeded()).cpu()
rows = {"all at once": check_shape(at_once), "first frames first": check_shape(first_three)}
show_table(pd.DataFrame(rows).T, "16 clips of 16 frames, 25 steps of DDIM")

# %% mystnb={"image": {"alt": "Film strips of eight clips drawn from noise; in the upper four, drawn all at once, strokes are faint; in the lower four, drawn with the first frames first, they are as bright as in real clips. Some shapes of either kind are no digits."}, "figure": {"caption": "Clips from noise, every second frame, not picked: four drawn all at once, four with the first three frames first, with 25 steps each."}}
viz.film_strip([*at_once[:4], *first_three[:4]], ["at once"] * 4 + ["first frames first"] * 4, every=2);

# %% [markdown]
# Two things are different here. The first frames are drawn first, which brings the intensity back. And $\eta = 0.5$ adds fresh noise on
# the way, which mends small errors of the shape (exercise 1). Note what `my_generate` does: it *continues* from frames that it made
# itself. Nothing stops it at sixteen. That is Part II.
#
# ## Who draws the first frames?
#
# The clips are bright, and in one piece, but some of these shapes are no digits. **Predict:** suppose the first two frames are not drawn
# but taken from a real clip. How much of what is wrong is still wrong?
#
# The table of 64 clips has two more measures. *Same digit* is the fraction of clips in which a classifier reads the same digit on the first and the
# last frame. *Same shape* is below 1 for real clips, too: some of their digits are so similar that they are confused with each other.
# A value above theirs is no merit. The *Frechet distance* compares all drawn clips with real ones. A small network that was trained to read digit, position
# and motion turns each clip into a vector of features. With mean $\mu$ and covariance $\Sigma$ of these vectors,
# $d = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\big(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\big)$, and less is better. The last
# row says what as many real clips get.

# %%
results = json.loads(Path("../data/results/digits32.json").read_text())
assert results["sha256"] == denoiser.card["sha256"]
table, errors = noise_table(results)
caption = f"{results['clips']} clips per row, {results['steps']} steps; in brackets: standard errors. "
caption += "Guided: the first two frames in 50 steps with eta 1, the rest with eta 0.5"
show_table(table, caption, digits=3, half=errors)

# %% [markdown]
# The third row is the subject of the next two sections. With two true frames (last but one row) every measure is close to that of real clips: as bright and as fast within a few hundredths,
# the same digit at both ends nearly as often, and a Frechet distance below that of as many other real clips. So most of what is wrong
# in the clips of `digits32` comes with their first frames.
#
# Continuing and drawing from noise are different tasks. A first frame has no past, and every stroke must be invented. What strokes a
# digit may have is learned from many digits, and a clip of sixteen frames shows one. Large models divide the work, too. Emu Video
# {cite:p}`girdhar2024emu` has a still drawn first, and gives it to the video model as its first frame. eDiff-I
# {cite:p}`balaji2022ediffi` trains copies of one network further, each for some of the noise levels.
#
# So let a second network draw the first frames. `digits32_begin` has the weights of `digits32`, trained further on clips of two frames
# with no past (`make first-frame`).
#
# And how should it draw? **Predict:** what gains more here, a network trained for first frames, more network evaluations, or more fresh
# noise on the way? The distance to glyphs is the root mean squared difference to the nearest training glyph, median over clips.
# Diversity is the mean distance between two digits, relative to real ones.

# %%
first_frame_model = vd.load("digits32_begin", device)
for stage in vd.checkpoint.stages(first_frame_model.card)[2:]:
    recipe = stage["recipe"]
    frames = recipe["batch"] * recipe["frames"]
    assert recipe["image_every"] == 2
    print(f"{stage['steps']:,} steps, each on {recipe['batch']} clips of {recipe['frames']} frames;", end=" ")
    print(f"every second step on {frames:,} single frames instead")

first_frames = json.loads(Path("../data/results/digits32_begin.json").read_text())
card = first_frame_model.card
assert first_frames["sha256"]["digits32_begin"] in (card["sha256"], card.get("rounded_from"))


def show_rows(rows, caption):
    table = pd.DataFrame(rows | {"real clips": first_frames["real"]}).T
    errors = {name: table[f"{name}_standard_error"] for name in table if f"{name}_standard_error" in table}
    order = [name for name in ("same_digit", "intensity", "speed", "distance", "diversity") if name in table]
    titles = {"same_digit": "same digit", "distance": "distance to glyphs"}
    table = table[order].astype(float).rename(columns=titles)
    errors = pd.DataFrame(errors).rename(columns=titles)
    return show_table(table, caption, digits=dict.fromkeys(table, 3) | {"distance to glyphs": 4}, half=errors)


rows = {f"{row['network']}, eta {row['eta']}, {row['steps']} steps": row for row in first_frames["drawn"]}
show_rows(rows, f"Two frames from noise, {first_frames['clips']} times; in brackets: standard errors")

# %% [markdown]
# The network counts for most: with each of these settings the first-frame model comes nearer to the glyphs than `digits32` with its best.
# Then the fresh noise: with more $\eta$ the shapes come nearer, up to $\eta = 1$, which is DDPM. Intensity rises, too, in most steps by
# no more than one or two standard errors. It has a price: with `digits32` diversity falls, and with both networks speed. A trajectory
# without fresh noise keeps the errors that it has made. Fresh noise hides them again, and the network can correct them
# {cite:p}`karras2022elucidating`. Then the number of network evaluations, up to a point: from 25 to 50 there is more intensity, from 50
# to 100 less is gained. Two frames are an eighth of a window, and what is wrong in them is wrong to the end. So `vd.generate` lets the
# first-frame model draw them by DDPM in 50 steps, and continues by DDIM in 25.
#
# ## Away from a worse version
#
# For this task we have a good network and a worse one: `digits32_begin`, and `digits32`, which it was trained from. What the good one
# gets wrong, the worse one gets more wrong, and mostly in the same direction: both draw shapes that are a little too much like
# everything at once. So the way from the worse estimate to the better one points away from the errors that they have in common. Go on
# along it, past the better estimate {cite:p}`karras2024guiding`:
#
# $$\hat x_0 = \hat x_0^{\text{worse}} + w\, (\hat x_0^{\text{good}} - \hat x_0^{\text{worse}}). \tag{4}$$
#
# With $w = 1$ the good network is alone. This has the form of classifier-free guidance, which chapter 7 builds; but there two
# *conditions* of one network are compared, and here two *networks*. And $w$ may depend on the noise level
# {cite:p}`kynkaanniemi2024applying`: near pure noise it is decided which shape there will be, further down how it looks and how it
# moves. (We divide at level 600, a choice that is not compared with others here.) **Predict:** what does a weight that is too large cost, and at which noise levels would you dare more?

# %%
def my_autoguided(good, worse, above, below):
    def guided(xt, t):
        w = above if t[0] > 600 else below
        return worse(xt, t) + w * (good(xt, t) - worse(xt, t))

    return vd.Denoiser.from_function(guided, schedule, good.sample_shape)


mine = my_autoguided(first_frame_model, denoiser, 3, 1.5)
twin = vd.autoguided(first_frame_model, denoiser, (3, 1.5))
with torch.no_grad():
    samples = [vd.run_sampler(vd.ddpm(d, noise(1, 2), schedule, 6, generator=seeded())) for d in (mine, twin)]
torch.testing.assert_close(*samples, rtol=1e-3, atol=1e-3)

rows = {}
for row in first_frames["guided"]:
    w = row["weight"] if isinstance(row["weight"], list) else [row["weight"]] * 2
    rows[f"w = {w[0]} above level 600, {w[1]} below"] = row
first_frames["real"]["same_digit"] = results["from_noise"]["real_same_digit"]  # of clips of sixteen frames
caption = f"The first-frame model guided, {first_frames['clips']} clips; in brackets: standard errors. "
caption += "Same digit: of clips of 16 frames; the rest: of their first two frames"
show_rows(rows, caption)

# %% [markdown]
# One weight at all levels first. With $w = 1.5$ intensity, speed, distance to the glyphs and diversity are close to those of real clips.
# With $w = 3$ the shapes come *nearer* to the training glyphs than real ones do: caricatures, too bright, and a third too fast, since
# the step between the two frames is exaggerated, too. Now guide above level 600 alone ($w = 1$ below). The intensity is right, but
# the digits move too *slowly*. So the two halves of the trajectory err in opposite
# ways, and 3 above with 1.5 below is the compromise that `vd.generate` uses. Intensity is right, speed is some hundredths short, and the
# digit that is read stays what it is a little more often than with 1.5 everywhere, by less than two standard errors in these clips. The
# worse network is the one that continues, so `first_frame_model=` is all that you pass.
#
# ## Denoisers compose
#
# What wraps a denoiser is a denoiser: an `nn.Module` with the same `schedule`, `sample_shape` and `device`. So wrappers nest, and every
# sampler takes the result. Here is the guided model with its estimate held in $[-1, 1]$. A bare function becomes a denoiser with
# `Denoiser.from_function`, as in `my_autoguided` above, and nests as well.

# %%
composed = vd.clip_denoised(twin)
by_hand = vd.clip_denoised(mine)
assert isinstance(composed, vd.Denoiser) and composed.sample_shape == denoiser.sample_shape
for d in (composed, by_hand):
    steps = list(vd.ddpm(d, noise(1, 2), schedule, 6, generator=seeded()))
    print("largest |x0_hat|:", max(step.x0_hat.abs().max().item() for step in steps))

# %% mystnb={"image": {"alt": "Film strips of ten clips drawn from noise whose first two frames were drawn by a first-frame model. Upper five: by that network alone, some shapes are blurred or no digits. Lower five, from the same noise: guided away from the first network, most can be read as a digit."}, "figure": {"caption": "Clips from noise, every second frame, not picked: the first two frames by `digits32_begin`, alone and guided away from `digits32`; the others by `digits32`."}}
draw = lambda clips, w: vd.generate(denoiser, clips, generator=seeded(), first_frame_model=first_frame_model,
                                    first_frame_weight=w).cpu()
clips = [*draw(5, 1), *draw(5, (3, 1.5))]
viz.film_strip(clips, ["alone"] * 5 + ["guided"] * 5, every=2);

# %% [markdown]
# The upper five are drawn by the first-frame model alone, the lower five from the same noise with guidance: strokes are more decided, and
# what was no digit has often become one. In the table of 64 clips (third row) all measures are near those of real clips. In the 512 of
# the table of weights, another *digit* is read at the end more often than in real clips (0.90 of them keep it, of real ones 0.97): a
# shape between two digits may be read as one on one frame and as the other on the next.
#
# `vdiff sample` draws like this; `vdiff evaluate` prints the table. In Part II the first frames are given, and `digits32` works by itself.

# %% [markdown]
# ## Play
#
# One noise, more and more steps of DDIM; another seed is another noise.

# %%
@torch.no_grad()
def trajectory(steps, seed):
    for step in vd.ddim(denoiser, noise(1, seed=seed), schedule, steps):
        yield step.x0_hat[0].cpu()


axes = {"DDIM steps": [1, 2, 4, 8, 25], "seed": [6, 7, 8, 9]}
fine = {"DDIM steps": range(1, 51), "seed": range(20)}
sliders.explore_slider(trajectory, axes, "A clip drawn from noise.", start=[3, 0], fine=fine)

# %%
axes = {"w above 600": [1, 1.5, 3], "w below": [1.5, 3]}
fine = {name: [i / 2 for i in range(11)] for name in axes}
alt = "A clip drawn from noise, its first frames guided away from a worse network."
sliders.explore_slider(lambda above, below: draw(1, (above, below))[0], axes, alt, start=[2, 0], fine=fine)

# %% [markdown]
# Above: with one step you see the network's first estimate, the average of all clips; each further step commits a little more. Below:
# the same noise, its first frames drawn with more and more guidance, above and below level 600. With 3 in both, strokes are hard and
# digits run.
#
# ## What breaks, and how to see it
#
# Start the trajectory too late: tell the network that pure noise is level 900. It mistakes the noise for a clip with a trace of signal,
# and finds one. We measure on clips of two frames, which hardly fade (in longer ones the fading and this error offset each other).

# %%
late_levels = [round(t * 0.9) for t in levels(20)]
with torch.no_grad():
    from_top = vd.run_sampler(vd.ddim(denoiser, noise(16, 2, seed=6), schedule, steps=20))
    from_900 = vd.run_sampler(vd.ddim(denoiser, noise(16, 2, seed=6), schedule, steps=late_levels))
print(f"intensity, 1 is right: started at 1000 {check(from_top)['intensity']:.2f},", end=" ")
print(f"started at 900 {check(from_900)['intensity']:.2f}")

# %% mystnb={"image": {"alt": "Four pairs of frames from the same noise, started at level 1000 and at level 900; those started at 900 are somewhat brighter, and the first of them is a blob."}, "figure": {"caption": "Four clips of two frames, from the same noise: started where it belongs, and told that it is at t = 900."}}
side_by_side = [torch.cat(list(clips[:4]), dim=1) for clips in (from_top, from_900)]
figure = viz.film_strip(side_by_side, ["from 1000", "from 900"])
for axis, frame in zip(figure.axes, 4 * [0, 1]):
    axis.set_title(frame, fontsize=8)

# %% [markdown]
# ## Recap
#
# A sampler is a rule for going from one level to the next, given the estimate of the clean clip. DDPM adds fresh noise and needs many
# levels; DDIM keeps the noise and needs tens; a second-order step comes as close with fewer. All start at pure noise, and the number of
# network evaluations is the price. Where a worse network is at hand, extrapolating from its estimate past the better one reduces what
# both get wrong.
#
# ## Exercises
#
# 1. **Predict.** Is DDIM with $\eta = 1$ the same as DDPM? For which numbers of steps?
# 2. **Code.** In `my_ddim`, replace the estimate by `x0_hat.clamp(-1, 1)`. When does it help, and can it hurt?
# 3. **Explore.** Run DDIM *backwards*, from a clean clip to noise, and forwards again. Does the clip come back?
#
# :::{dropdown} Solutions
# 1. Yes, for any subset of levels: with $\eta = 1$, $s^2$ is the variance of (1), and the means agree. See for yourself: with generators
#    of the same seed, `vd.ddim(..., eta=1)` gives what `my_ddpm` gives.
# 2. It helps with few steps and large guidance weights, where estimates overshoot. It hurts exactness: the trajectory is not the one that
#    the network's estimates imply.
# 3. Go through the levels in rising order with the same formula. It comes back up to the step error of both trajectories, which shrinks
#    with more steps; at $t = 1000$ exactly it cannot, since nothing is left of the clip there. Stop at 990.
# :::
#
# ## Sources
#
# {cite:t}`ho2020denoising`, Eq. 6 and 7; {cite:t}`song2021denoising`, Eq. 12; {cite:t}`lu2022dpm`, Algorithm 2. Trailing spacing:
# {cite:t}`lin2024common`. Autoguidance: {cite:t}`karras2024guiding`. Frechet distance: {cite:t}`heusel2017gans`.
