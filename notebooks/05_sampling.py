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
# **The network only ever estimates the clean clip. How does noise become a clip, and in how few network evaluations (NFE)?**
#
# We build three samplers of a few lines each: DDPM, that of the first diffusion models; DDIM; and DPM-Solver++, a second-order solver. Then
# we measure what they make of how many network evaluations.
#
# *Time to run: about two minutes on two CPU cores, and not much less on a GPU: most evaluations here are of one clip or a few.*

# %% [markdown]
# **You will learn** what DDPM, DDIM and DPM-Solver++ do with the same estimate; what few steps cost; which sampler suits which
# budget; what one network gets right and wrong when it samples from noise; how denoisers compose.
#
# **You need** chapters 2 and 4.

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
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import display

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.diffusion.samplers import trailing_times
from vdiff_lite.evaluation import digit_metrics
from vdiff_lite.evaluation.evaluate import noise_table
from vdiff_lite.evaluation.results import FOLDER
from vdiff_lite.exercises import check
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
# We chose the four seeds so that the digits can be read. Others follow below.
#
# **Predict.** Training used 1000 levels. How many network evaluations do you think a good clip needs: 1000, 100, a dozen?
#
# ## The mathematics
#
# A *sampler* goes down the noise levels. At level $t$ it holds $x_t$ and the estimate $\hat x_0$. What is $x_{t'}$ at a lower level $t'$?
# All samplers here take a weighted sum of $\hat x_0$, $x_t$ and perhaps fresh noise $z \sim \mathcal N(0, 1)$.
#
# *DDPM* draws from $q(x_{t'} \mid x_t, x_0)$, the distribution of $x_{t'}$ for a known clip, with the estimate in place of $x_0$. With
# $\alpha_{t|t'} = \bar\alpha_t / \bar\alpha_{t'}$ and $\beta_{t|t'} = 1 - \alpha_{t|t'}$,
#
# $$x_{t'} = \frac{\sqrt{\bar\alpha_{t'}}\, \beta_{t|t'}\, \hat x_0 + \sqrt{\alpha_{t|t'}}\, (1 - \bar\alpha_{t'})\, x_t}{1 - \bar\alpha_t} + \sqrt{\frac{\beta_{t|t'}\, (1 - \bar\alpha_{t'})}{1 - \bar\alpha_t}}\; z. \tag{1}$$
#
# *DDIM* keeps the noise that is already there, $\hat\epsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat x_0)/\sqrt{1 - \bar\alpha_t}$, and turns
# it down:
#
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{t'}}\, \hat\epsilon. \tag{2}$$
#
# Between the two, a part of the noise is fresh, with standard deviation $\sigma_z$. The constant $\eta$ sets it, from 0 (DDIM) to 1 (DDPM):
#
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{t'} - \sigma_z^2}\, \hat\epsilon + \sigma_z\, z, \qquad \sigma_z = \eta\, \sqrt{\frac{1 - \bar\alpha_{t'}}{1 - \bar\alpha_t}} \sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{t'}}}.$$
#
# With $\sigma_t = \sqrt{1 - \bar\alpha_t}$ and $\lambda_t = \log \sqrt{\mathrm{SNR}(t)}$, (2) moves $x_t / \sigma_t$ along a straight line
# in $e^{\lambda_t}$, with slope $\hat x_0$. *DPM-Solver++*(2M) lets the slope change: its step is of second order, without a further network
# evaluation, by extrapolating from the last two estimates to the middle of the step. With $\Delta\lambda = \lambda_{t'} - \lambda_t$,
#
# $$x_{t'} = \frac{\sigma_{t'}}{\sigma_t}\, x_t - \sqrt{\bar\alpha_{t'}}\, (e^{-\Delta\lambda} - 1)\, D, \qquad D = \hat x_0 + \frac{\Delta\lambda}{2\, \Delta\lambda^{\text{last}}} \left(\hat x_0 - \hat x_0^{\text{last}}\right). \tag{3}$$
#
# With $D = \hat x_0$ this is (2).
#
# *Where are the infinities?* $\lambda_t$ is $-\infty$ at level 1000 and $+\infty$ at level 0, so $\Delta\lambda$ is infinite in the first
# and the last step of (3). Then $e^{-\Delta\lambda} = 0$, and both are of first order: $D = \hat x_0$. So is the second step, since
# $\Delta\lambda^{\text{last}}$ is infinite there. $\hat\epsilon$ in (2) divides by zero at level 0 only, and no step starts there. And
# $\hat x_0$ comes from $v$, which never divides (chapter 2).

# %% [markdown]
# ## Which levels?
#
# With 25 network evaluations, which 25 of the 1000 levels? They must start at 1000, since we start with pure noise. Our levels do:
# *trailing spacing*. Leading spacing counts up from 1 in equal steps, and does not reach 1000.

# %% tags=["nbval-check-output"]
def levels(steps, T=1000):
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


print(levels(8))
print("25 levels in leading spacing start at", max(range(1, 1001, 40)))
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
        alpha, beta = ab / ab_next, 1 - ab / ab_next  # of the step
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
    last = gap_last = None
    for t, t_next in zip(levels(steps), levels(steps)[1:]):
        x0_hat = denoiser(xt, torch.full((len(xt),), t, device=device))
        gap = (lam[t_next] - lam[t]).item()
        first_order = last is None or t_next == 0
        d = x0_hat if first_order else x0_hat + gap / (2 * gap_last) * (x0_hat - last)
        shrink, step = (sigma[t_next] / sigma[t]).item(), 1 - torch.tensor(-gap).exp().item()
        xt = shrink * xt + signal[t_next].item() * step * d
        last, gap_last = x0_hat, gap
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
# ## How good is a clip?
#
# - *Intensity* is the sum of the brightness $(x + 1)/2$ over the pixels of a frame, and *speed* the distance in pixels that the centroid
#   moves from frame to frame. Both are given relative to their means over real clips, so that 1 is right.
# - *Same digit* is the fraction of clips in which a classifier, fitted to the training glyphs, reads the same digit on the first and the
#   last frame.
# - *Distance to glyphs* is the root mean squared difference between a clip's digit and the nearest training glyph, median over clips.

# %%
real = vd.BouncingDigits(split="test").sample(256, seeded(0)).video
real_intensity, real_speed = digit_metrics.intensity(real).mean(), digit_metrics.speed(real).mean()


def measures(clips):
    clips = clips.cpu()
    return {"intensity": (digit_metrics.intensity(clips).mean() / real_intensity).item(),
            "speed": (digit_metrics.speed(clips).mean() / real_speed).item(),
            "same digit": digit_metrics.same_digit(clips).float().mean().item(),
            "distance to glyphs": digit_metrics.nearest_glyph(clips)[0].median().item()}


def show_measures(rows, caption):
    table = pd.DataFrame(rows).T
    display(show_table(table, caption, digits=dict.fromkeys(table, 2) | {"distance to glyphs": 3}))

# %% [markdown]
# ## What few steps cost
#
# Equation 1 is exact for a known clip. DDPM puts the estimate in its place, which is an average over all clips that could have become $x_t$,
# and ignores how much these differ. In a small step that hardly matters, since nearly all of $x_t$ is kept. In a large step the result is
# mostly the average plus fresh noise. DDIM keeps its noise, but holds the average fixed over the whole step too. We sample four clips in
# 4, 16 and 100 steps, from the same noise, and show the first. In 4 steps both are faint.

# %% mystnb={"image": {"alt": "Film strips of a clip made by DDPM with 4, 16 and 100 steps and by DDIM with the same numbers of steps. With 4 steps both are faint smears; with 100 steps the digit is bright."}, "figure": {"caption": "One clip, every second frame, by DDPM and DDIM in 4, 16 and 100 steps from the same noise."}}
for steps in (4, 100):
    t = levels(steps)[steps // 2:][:2]
    ab, ab_next = schedule.alpha_bar[t].tolist()
    weight = (ab / ab_next)**0.5 * (1 - ab_next) / (1 - ab)
    print(f"DDPM in {steps} steps, at level {t[0]}: weight of x_t {weight:.2f}")

start = noise(4, seed=6)
drawn = {f"DDPM {steps}": my_ddpm(start, steps, seeded()) for steps in (4, 16, 100)}
drawn |= {f"DDIM {steps}": my_ddim(start, steps) for steps in (4, 16, 100)}
viz.film_strip([clips[0].cpu() for clips in drawn.values()], list(drawn), every=2);

# %% [markdown]
# ## Distance to the exact trajectory
#
# DDIM and DPM-Solver++ both approximate one exact trajectory, so their error can be measured. As the reference we
# take Heun's method, in the angle $\varphi$ of chapter 2. There $x_t = \cos\varphi\, x_0 + \sin\varphi\, \epsilon$, so
# $dx_t / d\varphi = -\sin\varphi\, x_0 + \cos\varphi\, \epsilon$, which is $v$, the network's own output. Each step takes the mean of $v$
# at its two ends. The distance is the root mean squared difference of the clips, and the yardstick is that between two unrelated clips.

# %% mystnb={"image": {"alt": "Distance to the reference against the number of steps on logarithmic axes; both curves fall with the number of steps and lie close to each other up to 16."}, "figure": {"caption": "Root mean squared distance of four clips to the reference. The dotted line is the distance between two unrelated clips."}}
@torch.no_grad()
def heun(xt, steps):
    angle = schedule.alpha_bar.sqrt().arccos()
    v_hat = lambda xt, t: denoiser.net(xt, torch.full((len(xt),), t, device=device))
    for t, t_next in zip(levels(steps), levels(steps)[1:]):
        v, change = v_hat(xt, t), (angle[t_next] - angle[t]).item()
        if t_next > 0:  # the mean of v here and v there; there is no v_hat at level 0
            v = (v + v_hat(xt + change * v, t_next)) / 2
            xt = xt + change * v
    return schedule.x0_from_v(xt, torch.full((len(xt),), t, device=device), v)


rms = lambda difference: difference.square().mean().sqrt().item()
exact = heun(start, 32)
print(f"Heun: 32 steps, {2 * 32 - 1} evaluations, against 16 steps: {rms(exact - heun(start, 16)):.3f}")
counts = [4, 8, 16, 32]
drawn |= {f"DDIM {steps}": my_ddim(start, steps) for steps in (8, 32)}
drawn |= {f"DPM-Solver++ {steps}": my_dpmpp(start, steps) for steps in counts}
distances = {name: [rms(drawn[f"{name} {steps}"] - exact) for steps in counts]
             for name in ("DDIM", "DPM-Solver++")}
unrelated = rms(exact - exact.roll(1, 0))

figure, axis = plt.subplots(figsize=(6, 3))
viz.plot_lines(axis, counts, distances, marker="o")
axis.axhline(unrelated, color="#666666", ls=":")
axis.set(xlabel="network evaluations (NFE)", ylabel="distance", xscale="log", yscale="log")
distance_marks = [0.05, 0.1, 0.2, 0.3]
axis.set(xticks=counts, xticklabels=counts, yticks=distance_marks, yticklabels=distance_marks)
axis.minorticks_off()
table = pd.DataFrame(distances, index=pd.Index(counts, name="NFE"))
show_table(table, f"Distance to the reference; two unrelated clips: {unrelated:.3f}", digits=3)

# %% [markdown]
# Heun is of second order too: from 16 to 32 steps its error should fall to a quarter, so what is left is about a third of what it moved
# by. DPM-Solver++ at 32 is much farther from it than that: the reference will do. Up to 16 evaluations the two contestants are equally far from it.
# At 32 the second order pays.
#
# ## Which sampler for which budget?

# %%
order = sorted(drawn, key=lambda name: (int(name.split()[1]), name))
show_measures({name: measures(drawn[name]) for name in order} | {"the reference": measures(exact)},
            "Four clips of sixteen frames, by sampler and number of network evaluations")

# %% [markdown]
# (Four clips are few: read differences of a tenth as noise, and *same digit*, where a clip is a quarter, not at all.) In few steps all
# three samplers make faint clips. A dozen evaluations give a preview, and about a hundred the full intensity.
#
# - *Up to 16 evaluations* DDIM and DPM-Solver++ are equally faint. Take either.
# - *Around 32*, DPM-Solver++ is nearer to the exact trajectory. Take it where the clip has to be the one that many steps would give.
# - *At 100*, DDPM's clips are the nearest to the glyphs. Fresh noise at every step can also cover up earlier errors of the network, and an
#   exact trajectory keeps them. That DDPM needs more steps than DDIM, as on images, does not show in this table.
#
# ## Where is the intensity lost?
#
# **Predict:** is the estimate too faint at some level? Evaluate the network at each level twice: on real clips under noise, and along the
# trajectory, on what the sampler has made so far.

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
# On real clips under noise the estimate is right at every level, within four hundredths. Along the trajectory the network is given its own
# output, and the intensity falls. Smaller steps on the same network keep nearly all of it (the reference, above). So the loss is mostly the
# steps' error: each leaves an $x_t$ that no real clip becomes, and there nothing in training requires the estimate to be right.
#
# ## One frame, four frames, sixteen
#
# **Predict:** would a clip of four frames fade as much as one of sixteen? And a single frame?

# %%
by_length = {frames: vd.sample(denoiser, 16, frames, generator=seeded()).cpu() for frames in (1, 4, 16)}
rows = {frames: {name: value for name, value in measures(clips).items() if name in ("intensity", "speed")}
        for frames, clips in by_length.items()}
show_table(pd.DataFrame(rows).T.rename_axis("frames"), "16 clips each, 25 steps of DDIM")

# %% [markdown]
# These single frames are too bright. Four frames hardly move. Sixteen frames move as they should, and are too faint. The network was
# trained on clips of sixteen frames only, and a shorter clip is another task.
#
# So sixteen is the length to sample, but a frame alone does not fade. Combine them: sample the first frame alone, then the
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
# `my_generate` *continues* a frame that it made itself. Nothing stops it at sixteen frames: see Part II. It also uses $\eta = 0.5$:
# under fresh noise the network can correct errors made before {cite:p}`karras2022elucidating`.

# %% mystnb={"image": {"alt": "Film strips of twelve clips drawn from noise. In the upper four, drawn all at once, strokes are thin and faint. The middle four, with fresh noise, are as thin and faint. In the lower four, with the first frame first, strokes are bright and thick. Some shapes of each kind are no digits."}, "figure": {"caption": "Clips from noise, every second frame, not picked: four drawn all at once, four with fresh noise (eta 1), four with the first frame first (eta 0.5)."}}
ways = {"all at once": by_length[16],
        "all at once, eta 1": vd.sample(denoiser, 16, eta=1, generator=seeded()).cpu(),
        "first frame first": vd.generate(denoiser, 16, generator=seeded()).cpu(), "real clips": real}
show_measures({way: measures(clips) for way, clips in ways.items()}, "16 clips per way, and 256 real ones")
shown = [*ways["all at once"][:4], *ways["all at once, eta 1"][:4], *ways["first frame first"][:4]]
viz.film_strip(shown, ["at once"] * 4 + ["eta 1"] * 4 + ["first first"] * 4, every=2);

# %% [markdown]
# Drawn all at once, the clips are too faint. With fresh noise they are no brighter. With the first frame first these are too bright, as the
# single frames are, their strokes are thick, and they are farther from the training glyphs. In each row the shapes are farther from the
# glyphs than those of real clips: some are no digits. For the other measures sixteen clips are too few.
#
# **Predict:** suppose the first frame is taken from a real clip. How much of what is wrong is still wrong?

# %%
true = real[:16]
given_one = vd.condition_on_past(denoiser, true[:, :, :1].to(device))
with torch.no_grad():
    sampler = vd.ddim(given_one, noise(16, seed=8), schedule, 25, eta=0.5, generator=seeded())
    continued = vd.run_sampler(sampler).cpu()
rows = {"one true frame, then sampled": measures(continued), "the same clips, real": measures(true)}
show_measures(rows, "16 clips")

# %% [markdown]
# With one true frame the clips are about as bright, as fast and as near to the glyphs as real ones. Two of the 16 do not keep their digit.
# So most of what is wrong comes with the first frame. Most of the training clips had a clean past (chapter 4). Some large models divide the
# work: Emu Video {cite:p}`girdhar2024emu` first makes a still image and gives it to the video model as its first frame.
#
# ## Three ways, 64 clips
#
# The table of `vdiff evaluate` has two more measures. *Shape consistency* (same shape) is the fraction of clips that end with the shape
# that they began with: among the first digits of all clips, the one nearest to the clip's last digit is its own. Some real
# digits are alike, so real clips stay below 1, and a value above theirs is no merit. The *Fréchet distance* compares all sampled clips with real
# ones. A small network, trained to read digit, position and motion, turns each clip into a vector of features. With mean $\mu$ and
# covariance $\Sigma$ of these vectors,
#
# $$\|\mu_1 - \mu_2\|^2 + \operatorname{tr}\big(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\big),$$
#
# and less is better. The last row says what as many real clips get.

# %%
results = json.loads((FOLDER / "digits32.json").read_text())
assert results["sha256"] == denoiser.card["sha256"]
table, errors = noise_table(results)
caption = f"{results['clips']} clips per row, {results['steps']} steps; in brackets: standard errors"
show_table(table, caption, half=errors)

# %% [markdown]
# Speed is right in all three rows, within about a standard error. *All at once without fresh noise*, the clips are a tenth too faint and
# farthest from real ones. *With fresh noise* they are nearer, and more of them keep their digit, by less than two standard errors; they
# are no brighter. *With the first frame first* the intensity is right within five hundredths and the Fréchet distance smallest, but no more
# clips keep their digit. (The sixteen clips above misled: these were too bright, and more of those drawn all at once kept their digit.)
# Since every clip passes the test of shape, what is missing is a shape that is one digit: one between two may be read as one on the first frame and
# as the other on the last.
#
# `vd.sample` samples all at once. `vd.generate` and `vdiff sample` sample the first frame first. In Part II the first frames are given, and
# there this network is at its best.
#
# ## Denoisers compose
#
# What wraps a denoiser is a denoiser: an `nn.Module` with the same `schedule`, `sample_shape` and `device`. So wrappers nest, and every
# sampler takes the result. Here is the network with a clean frame in its window and its estimate held in $[-1, 1]$: what lies outside is
# certainly wrong, and would be fed back at the next step. A bare function becomes a denoiser with
# `Denoiser.from_function`.

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
# The same noise with more and more steps of DDIM. With one step you see the network's first estimate, the average of all clips. Each further
# step commits a little more.

# %%
@torch.no_grad()
def trajectory(steps, seed):
    for step in vd.ddim(denoiser, noise(1, seed=seed), schedule, steps):
        yield step.x0_hat[0].cpu()


axes = {"DDIM steps": [1, 2, 4, 8, 25], "seed": [2, 3, 8, 33]}
fine = {"DDIM steps": range(1, 51), "seed": range(20)}
sliders.explore_slider(trajectory, axes, "A clip drawn from noise.", start=[3, 0], fine=fine)

# %% [markdown]
# ## What breaks, and how to see it
#
# Start the trajectory too late: tell the network that pure noise is level 900. It takes the noise for a clip with a trace of signal.
# Most pixels of a clip are -1, so at level 900 the mean of $x_t$ is below 0. That of noise is 0: as if more were drawn. Below are four
# clips from level 1000, and what becomes of the same noise passed off as level 900.

# %% mystnb={"image": {"alt": "Film strips of four pairs of clips from the same noise, started at level 1000 and at level 900. Those started at 1000 show one shape each; those started at 900 are brighter, the holes in them are smaller, and the last is another shape."}, "figure": {"caption": "Four clips, every second frame, and what becomes of the same noise when the network is told that it is at t = 900."}}
late_levels = [round(t * 0.9) for t in levels(32)]
with torch.no_grad():
    from_900 = vd.run_sampler(vd.ddim(denoiser, start, schedule, steps=late_levels)).cpu()
from_top = drawn["DDIM 32"].cpu()
show_measures({"started at 1000": measures(from_top), "started at 900": measures(from_900)}, "4 clips")
pairs = [clip for pair in zip(from_top, from_900) for clip in pair]
viz.film_strip(pairs, ["from 1000", "from 900"] * 4, every=2);

# %% [markdown]
# Started too late, the clips are too bright, by more than they are too faint otherwise.
#
# ## Recap
#
# A sampler is a rule for going from one level to the next, given the estimate of the clean clip. All start at pure noise, and the price is
# the number of network evaluations. DDPM adds fresh noise at every step. DDIM and DPM-Solver++ follow one trajectory. An estimate
# that is right on the data need not be right on the sampler's own output: in few steps clips from noise are faint, in any number some are
# no digits, while a true first frame is continued well.
#
# ## Exercises
#
# 1. **Predict.** Is DDIM with $\eta = 1$ the same as DDPM? For which numbers of steps?
#
# 2. **Code.** Write `eta_step(xt, x0_hat, t, t_next, eta, z)`: one step of DDIM with fresh noise `z`. Hint: the formula with $\sigma_z$. At
# `t_next = 0` rounding may leave a tiny negative number under the root.

# %% tags=["exercise"]
def eta_step(xt, x0_hat, t, t_next, eta, z):
    """xt, x0_hat, z: clips; t, t_next: ints -> a clip."""
    return None


xt, x0_hat, z = (torch.randn(2, 1, 3, 4, 4, generator=seeded(n)) for n in (1, 2, 3))


def reference_step(sampler, t, t_next, **options):
    """One step of the library's sampler, with a denoiser that returns x0_hat and noise from seed 3."""
    fixed = vd.Denoiser.from_function(lambda xt, t: x0_hat, schedule, (1, 4, 4))
    steps = sampler(fixed, xt, schedule, [t, t_next] + [0] * (t_next > 0), generator=seeded(3), **options)
    return list(steps)[1].xt


near = partial(torch.allclose, atol=1e-4)
claims = {
    "eta = 0 is equation 2": lambda answer: near(
        answer(xt, x0_hat, 600, 400, 0, z), reference_step(vd.ddim, 600, 400)),
    "eta = 1 is DDPM": lambda answer: near(
        answer(xt, x0_hat, 600, 400, 1, z), reference_step(vd.ddpm, 600, 400)),
    "from pure noise": lambda answer: near(
        answer(xt, x0_hat, 1000, 700, 0.5, z), reference_step(vd.ddim, 1000, 700, eta=0.5)),
    "at level 0 the estimate is left": lambda answer: near(answer(xt, x0_hat, 40, 0, 1, z), x0_hat)}
check(eta_step, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(xt, x0_hat, t, t_next, eta, z):
    ab, ab_next = schedule.alpha_bar[[t, t_next]].tolist()
    eps_hat = (xt - ab**0.5 * x0_hat) / (1 - ab) ** 0.5
    sigma_z = eta * ((1 - ab_next) / (1 - ab) * (1 - ab / ab_next)) ** 0.5
    return ab_next**0.5 * x0_hat + max(0, 1 - ab_next - sigma_z**2) ** 0.5 * eps_hat + sigma_z * z


assert check(solution, claims)

# %% [markdown]
# 3. **Code.** DDIM is a rotation. Write `rotation_step(xt, v, t, t_next)`, the step of equation 2 for a network that predicts $v$, without any
# division. Hint: put $x_0$ and $\epsilon$ in terms of $x_t$ and $v$ (chapter 2) into equation 2, and use $\varphi = \arccos\sqrt{\bar\alpha_t}$.

# %% tags=["exercise"]
def rotation_step(xt, v, t, t_next):
    """xt, v: clips; t, t_next: ints -> a clip."""
    return None


v = schedule.v(x0_hat, torch.tensor([600]), z)
claims = {
    "no step changes nothing": lambda answer: near(answer(xt, v, 300, 300), xt),
    "from pure noise to 0: minus v": lambda answer: near(answer(xt, v, 1000, 0), -v),
    "from clean to pure noise: v": lambda answer: near(answer(xt, v, 0, 1000), v),
    "600 to 400 is DDIM": lambda answer: near(
        answer(schedule.add_noise(x0_hat, torch.tensor([600]), z), v, 600, 400),
        schedule.add_noise(x0_hat, torch.tensor([400]), z))}
check(rotation_step, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(xt, v, t, t_next):
    angle, angle_next = schedule.alpha_bar[[t, t_next]].sqrt().arccos()
    turn = (angle_next - angle).item()
    return math.cos(turn) * xt + math.sin(turn) * v


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Run DDIM *backwards*, from a clean clip to noise, and forwards again. Does the clip come back?
#
# :::{dropdown} Solutions
# **1.** Yes, for any subset of levels. With $\eta = 1$, $\sigma_z$ is the standard deviation of the noise in (1), and the means agree
# (exercise 2).
#
# **4.** Go through the levels in rising order with the same formula. The clip comes back up to the step error of both ways, which shrinks with
# more steps. At $t = 1000$ exactly it cannot, since nothing is left of the clip there. Stop shortly before.
# :::
#
# ## Sources
#
# {cite:t}`ho2020denoising`, Eq. 6 and 7; {cite:t}`song2021denoising`, Eq. 12; {cite:t}`lu2022dpm`, Algorithm 2. Trailing spacing:
# {cite:t}`lin2024common`. Fréchet distance: {cite:t}`heusel2017gans`.
