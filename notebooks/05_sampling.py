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
# *Time to run: about two minutes on two CPU cores, and not much less on a GPU: most evaluations here are of one clip or a few.*

# %% [markdown]
# **You will learn** what DDPM, DDIM and DPM-Solver++ do with the same estimate; why the first level must be pure noise; what few
# steps cost, measured; what one network gets right and wrong when it draws from noise; how denoisers compose.
#
# **You need** chapters 2 and 4.

# %%
import json
import time
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.diffusion.samplers import trailing_times
from vdiff_lite.evaluation import digit_metrics
from vdiff_lite.evaluation.evaluate import noise_table
from vdiff_lite.evaluation.results import FOLDER
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
    chosen = torch.cat([noise(1, seed=seed) for seed in (33, 2, 16, 59)])
    clips = vd.run_sampler(vd.dpmpp_2m(denoiser, chosen, schedule, steps=12))
viz.show_clips(clips.cpu(), alt="A digit drawn from noise in twelve steps moves in a box")

# %% [markdown]
# The four seeds are chosen, so that the digits can be read. What comes from seeds that are not chosen stands at the end of the chapter.
#
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

# %% tags=["nbval-check-output"]
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
# DDPM {cite:p}`ho2020denoising` evaluates the network at all 1000 levels. We do it once, for a clip of 8 frames, and compare with a subset of
# 800 and of 100 levels. (Eight frames, half a window, to save time.)

# %%
made, seconds = {}, {}
for steps in (1000, 800, 100):
    started = time.perf_counter()
    made[f"DDPM {steps}"] = my_ddpm(noise(1, 8, seed=4), steps, seeded())[0]
    seconds[steps] = time.perf_counter() - started
made["DDIM 25"] = my_ddim(noise(1, 8, seed=4), 25)[0]
made["DPM++ 12"] = my_dpmpp(noise(1, 8, seed=4), 12)[0]
print("time of DDPM relative to 100 steps:", {n: round(s / seconds[100], 1) for n, s in seconds.items()})

# %% mystnb={"image": {"alt": "Film strips of eight frames made by DDPM with 1000, 800 and 100 steps, DDIM with 25 and DPM-Solver plus plus with 12; each shows one shape that moves. With 1000 and 800 steps it is a bright 2, with 25 and 12 it is faint and hard to read."}, "figure": {"caption": "The same starting noise. The ancestral samplers draw fresh noise on the way, so each may arrive at another clip."}}
viz.film_strip(list(made.values()), list(made));

# %% [markdown]
# Each strip shows one shape that moves, so tens of evaluations make a clip. But it is faint, and with hundreds it is not. One clip is no
# measurement. What few steps cost is measured next.
#
# ## Quality against steps, measured
#
# DDIM and DPM-Solver++ follow the same trajectory, so we can say exactly how far off a coarse solution is. Take a fine one (64 steps)
# from the same noise and measure the root mean squared distance at the end. As a yardstick, the distance between two clips of
# different digits.

# %%
start = noise(4, seed=6)
with torch.no_grad():
    fine = vd.run_sampler(vd.dpmpp_2m(denoiser, start, schedule, 64))
rms = lambda difference: difference.square().mean().sqrt().item()
counts = [4, 8, 16, 32]
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
real = vd.BouncingDigits(split="test").sample(256, seeded(0)).video
real_intensity, real_speed = digit_metrics.intensity(real).mean(), digit_metrics.speed(real).mean()


def check(clips):
    intensity = digit_metrics.intensity(clips.cpu()).mean() / real_intensity
    speed = digit_metrics.speed(clips.cpu()).mean() / real_speed
    return {"intensity": intensity.item(), "speed": speed.item()}


table = pd.DataFrame({steps: check(clips) for steps, clips in coarse.items()}).T.rename_axis("steps")
show_table(table, "Four clips of sixteen frames, drawn by DDIM")

# %% [markdown]
# Four clips are a small sample: read differences of a tenth as noise. `vdiff evaluate` does it with 64.
#
# The intensity is too low, and the fewer the steps, the lower. Where is it lost? **Predict:** is the estimate too faint at some level? Evaluate the
# network at each level twice: on real clips under noise, and on what the sampler has made so far.

# %% mystnb={"image": {"alt": "Intensity of the estimate against the noise level. For real clips under noise the line stays close to one. Along the trajectory it starts at one, falls while the noise is high and goes on falling slowly to the end."}, "figure": {"caption": "Intensity of the estimate $\\hat x_0$ by noise level: for eight real clips under noise, relative to their own, and along the trajectory of 25 DDIM steps that draws eight clips of 16 frames, relative to the data's. Read from right to left."}}
eight = real[:8]
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
# At each level by itself the estimate is right, within four hundredths. Along the trajectory the network is given its own output:
# strokes fainter than any that it was trained on, and each step makes faint strokes fainter. An estimate that is right on
# the data need not be right on the sampler's own output. Nothing in the loss requires that, and fewer, larger steps make it worse.
#
# ## One frame, four frames, sixteen
#
# **Predict:** would a clip of four frames fade as much as one of sixteen? And a single frame?

# %%
drawn = {frames: vd.sample(denoiser, 16, frames, generator=seeded()).cpu() for frames in (1, 4, 16)}
rows = {frames: check(clips) for frames, clips in drawn.items()}
show_table(pd.DataFrame(rows).T.rename_axis("frames"), "16 clips each, 25 steps of DDIM")

# %% [markdown]
# A single frame is too bright. Four frames hardly move. Sixteen frames move as they should, and are too faint. The network was trained
# on clips of sixteen frames and on no others. A shorter clip may look like an easier task, but it is another task.
#
# So sixteen is the length to draw, and a frame alone is at least not faint. Combine them: draw the first frame alone, and then the
# window with this frame as the past, clean, at $t = 0$. The network was trained to go on from clean frames (chapter 4).

# %%
def my_generate(clips, frames, steps, generator):
    def sample(model, f):
        xt = torch.randn(clips, 1, f, 32, 32, generator=generator).to(device)
        return vd.run_sampler(vd.ddim(model, xt, schedule, steps, eta=0.5, generator=generator))

    first = sample(denoiser, 1)

    def given_the_first(xt, t):
        per_frame = t[:, None].repeat(1, frames)
        per_frame[:, 0] = 0
        return denoiser(torch.cat([first, xt[:, :, 1:]], dim=2), per_frame)

    return sample(vd.Denoiser.from_function(given_the_first, schedule, denoiser.sample_shape), frames)


with torch.no_grad():
    mine = my_generate(1, 16, 6, seeded())
twin = vd.generate(denoiser, 1, 16, steps=6, generator=seeded())
torch.testing.assert_close(mine, twin, rtol=1e-3, atol=1e-3)

# %% [markdown]
# `my_generate` *continues* from a frame that it made itself. Nothing stops it at sixteen. That is Part II. It also uses $\eta = 0.5$. A
# trajectory without fresh noise keeps the errors that it has made. Fresh noise hides them again, and the network can correct them
# {cite:p}`karras2022elucidating`.
#
# Two more measures. *Same digit* is the fraction of clips in which a classifier reads the same digit on the first and the last frame.
# The *distance to glyphs* is the root mean squared difference between a clip's digit and the nearest training glyph, median over clips.

# %%
def check_digit(clips):
    same = digit_metrics.same_digit(clips).float().mean().item()
    distance = digit_metrics.nearest_glyph(clips)[0].median().item()
    return check(clips) | {"same digit": same, "distance to glyphs": distance}


ways = {"all at once": drawn[16],
        "all at once, eta 1, 50 steps": vd.sample(denoiser, 16, steps=50, eta=1, generator=seeded()),
        "first frame first": vd.generate(denoiser, 16, generator=seeded()),
        "first three frames first": vd.generate(denoiser, 16, generator=seeded(), first=3)}
ways = {way: clips.cpu() for way, clips in ways.items()} | {"real clips": real}
table = pd.DataFrame({way: check_digit(clips) for way, clips in ways.items()}).T
show_table(table, "16 clips per way, and 256 real ones", digits=dict.fromkeys(table, 2) | {"distance to glyphs": 3})

# %% mystnb={"image": {"alt": "Film strips of twelve clips drawn from noise. In the upper four, drawn all at once, strokes are thin and faint. The middle four, with fresh noise, are a little brighter. In the lower four, with the first frame first, strokes are bright and thick. Some shapes of each kind are no digits."}, "figure": {"caption": "Clips from noise, every second frame, not picked: four drawn all at once, four with fresh noise in 50 steps, four with the first frame first (eta 0.5)."}}
shown = [*ways["all at once"][:4], *ways["all at once, eta 1, 50 steps"][:4], *ways["first frame first"][:4]]
viz.film_strip(shown, ["at once"] * 4 + ["eta 1"] * 4 + ["first first"] * 4, every=2);

# %% [markdown]
# All at once, the clips are too faint. With fresh noise and twice as many steps they are a little less so. With the first frame first they
# are too bright, since the single frame is: the network goes on from what it is given. Their strokes are thick, and farther from the
# training glyphs. With three frames first the clips are slow, since a few frames by themselves hardly move. And in each row the shapes are
# farther from the glyphs than those of real clips: some are no digits. (With 16 clips, read differences of a tenth in *same digit* as noise.)
#
# **Predict:** suppose the first frame is not drawn but taken from a real clip. How much of what is wrong is still wrong?

# %%
true = real[:16]
given_one = vd.condition_on_past(denoiser, true[:, :, :1].to(device))
with torch.no_grad():
    sampler = vd.ddim(given_one, noise(16, seed=8), schedule, 25, eta=0.5, generator=seeded())
    continued = vd.run_sampler(sampler).cpu()
rows = {"one true frame, then drawn": check_digit(continued), "the same clips, real": check_digit(true)}
table = pd.DataFrame(rows).T
show_table(table, "16 clips", digits=dict.fromkeys(table, 2) | {"distance to glyphs": 3})

# %% [markdown]
# With one true frame the clips are about as bright, as fast and as near to the glyphs as real ones, and two of the 16 do not keep their
# digit. So most of what is wrong comes with the first frame. To continue a frame is another task than to invent it, and most of the training clips had a clean past (chapter 4). Some large
# models divide the work: Emu Video {cite:p}`girdhar2024emu` has a still drawn first, and gives it to the video model as its first frame.
#
# ## Three ways, 64 clips
#
# The table of `vdiff evaluate` has two more measures. *Same shape* is the fraction of clips whose last frame shows the shape of the first: of
# the first digits of all clips, the nearest to its last digit is its own. It is below 1 for real clips, too: some of their digits are so
# similar that they are confused with each other. A value above theirs is no merit. The *Frechet distance* compares all drawn clips with
# real ones. A small network that was trained to read digit, position and motion turns each clip into a vector of features. With mean
# $\mu$ and covariance $\Sigma$ of these vectors,
# $d = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\big(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\big)$, and less is better. The last
# row says what as many real clips get.

# %%
results = json.loads((FOLDER / "digits32.json").read_text())
assert results["sha256"] == denoiser.card["sha256"]
table, errors = noise_table(results)
caption = f"{results['clips']} clips per row, {results['steps']} steps; in brackets: standard errors"
show_table(table, caption, half=errors)

# %% [markdown]
# Speed is right in all three rows, within about a standard error. For the rest each way trades one thing for another. *All at once*, without
# fresh noise, the clips are a tenth too faint and farthest from real ones. *With fresh noise* they are nearer, and more of them keep their
# digit, by less than two standard errors; they are no brighter. *With the first frame first* the intensity is right within five hundredths and
# the Frechet distance smallest, but no more clips keep their digit than without. (In the 16 clips above intensity was further off: it
# depends on the first frame, and these differ much.) None is right in everything: in real clips the digit is nearly always kept. Since the shape is kept in every clip, what is missing is a shape that is one digit. A shape between two may be
# read as one on the first frame and as the other on the last.
#
# `vd.sample` draws all at once, `vd.generate` and `vdiff sample` the first frame first. In Part II the first frames are given, and there this
# network is at its best.
#
# ## Denoisers compose
#
# What wraps a denoiser is a denoiser: an `nn.Module` with the same `schedule`, `sample_shape` and `device`. So wrappers nest, and every
# sampler takes the result. Here is the network with a clean frame in its window and its estimate held in $[-1, 1]$. A bare function
# becomes a denoiser with `Denoiser.from_function`, as in `my_generate` above, and nests as well.

# %%
composed = vd.clip_denoised(vd.condition_on_past(denoiser, true[:1, :, :1].to(device)))
assert isinstance(composed, vd.Denoiser) and composed.sample_shape == denoiser.sample_shape
with torch.no_grad():
    for name, d in {"not held": composed.inner, "held": composed}.items():
        steps = list(vd.dpmpp_2m(d, noise(1), schedule, 6))
        print(f"{name:8} largest |x0_hat|: {max(step.x0_hat.abs().max().item() for step in steps):.2f}")

# %% [markdown]
# ## Play
#
# One noise, more and more steps of DDIM; another seed is another noise.

# %%
@torch.no_grad()
def trajectory(steps, seed):
    for step in vd.ddim(denoiser, noise(1, seed=seed), schedule, steps):
        yield step.x0_hat[0].cpu()


axes = {"DDIM steps": [1, 2, 4, 8, 25], "seed": [2, 3, 8, 33]}
fine = {"DDIM steps": range(1, 51), "seed": range(20)}
sliders.explore_slider(trajectory, axes, "A clip drawn from noise.", start=[3, 0], fine=fine)

# %%
def drawn_first(first, eta):
    return vd.generate(denoiser, 1, 16, partial(vd.ddim, eta=eta), generator=seeded(5), first=first)[0].cpu()


axes = {"frames drawn first": [1, 3, 8], "eta": [0, 1]}
fine = {"frames drawn first": range(1, 16), "eta": [i / 10 for i in range(11)]}
sliders.explore_slider(drawn_first, axes, "A clip drawn from noise, its first frames first.", start=[0, 1], fine=fine)

# %% [markdown]
# Above: with one step you see the network's first estimate, the average of all clips; each further step commits a little more. Below:
# one, three or eight frames drawn first, without fresh noise and with it. Each setting draws another clip. Some are digits, some are not.
#
# ## What breaks, and how to see it
#
# Start the trajectory too late: tell the network that pure noise is level 900. It mistakes the noise for a clip with a trace of signal,
# and finds one.

# %%
late_levels = [round(t * 0.9) for t in levels(32)]
with torch.no_grad():
    from_900 = vd.run_sampler(vd.ddim(denoiser, start, schedule, steps=late_levels)).cpu()
from_top = coarse[32].cpu()
rows = {"started at 1000": check_digit(from_top), "started at 900": check_digit(from_900)}
table = pd.DataFrame(rows).T
show_table(table, "4 clips", digits=dict.fromkeys(table, 2) | {"distance to glyphs": 3})

# %% mystnb={"image": {"alt": "Film strips of four pairs of clips from the same noise, started at level 1000 and at level 900. Those started at 1000 show one shape each; those started at 900 are brighter, the holes in them are smaller, and the last is another shape."}, "figure": {"caption": "Four clips, every second frame, and the same noise told that it is at t = 900."}}
pairs = [clip for pair in zip(from_top, from_900) for clip in pair]
viz.film_strip(pairs, ["from 1000", "from 900"] * 4, every=2);

# %% [markdown]
# Started too late, the clips are too bright, by more than they are too faint otherwise, and none of the four keeps its digit.
#
# ## Recap
#
# A sampler is a rule for going from one level to the next, given the estimate of the clean clip; all start at pure noise, and the number of
# network evaluations is the price. DDPM adds fresh noise at every step, DDIM keeps the noise, and a second-order solver comes nearer to
# the same clip where steps are many. An estimate that is right on the data need not be right on the sampler's own output: clips from noise
# are faint, or their shapes no digits, while a true first frame is continued well.
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
# {cite:t}`lin2024common`. Frechet distance: {cite:t}`heusel2017gans`.
