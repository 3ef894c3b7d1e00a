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
# # 7. History guidance
#
# **The past is a condition like any other. Can the network be made to use it, and to use it *more*?**
#
# We put the past into the window as clean frames, build classifier-free guidance on it in ten lines, and
# increase the weight until it breaks.
#
# *Time to run: about two minutes on two CPU cores, less than one on a GPU.*

# %% [markdown]
# **You will learn** how per-frame noise levels turn a model of clips into a model of futures; what a score is
# and why a difference of two estimates is one; what the guidance weight does, in theory and on digits; how to
# guide with a noised past or with several pasts at once; what a past compressed to eight numbers still tells
# the network; and why an anchor has to be trained.
#
# **You need** chapters 3, 5 and 6.

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
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.diffusion.oracle import GaussianVideo, posterior_error
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.results import bootstrap, command_of, intervals, per_clip, read_results
from vdiff_lite.exercises import check
from vdiff_lite.methods import (
    anchored_history,
    fractional_history_guidance,
    history_encoder,
    history_guidance,
    load_history,
    temporal_history_guidance,
)
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
device = vd.pick_device()
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
window, overlap = 16, 5
stride = window - overlap  # 5 context frames, 11 new ones per window

# %%
def held_out(clips, frames=window, seed=0):
    source = vd.BouncingDigits(split="test", num_frames=frames)
    return source.sample(clips, torch.Generator().manual_seed(seed)).video.to(device)


def noise_like(clip, seed=1):
    return torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed)).to(device)


def continue_clips(method, truth, steps=15, seed=1, denoiser=denoiser):
    guided = method(denoiser, truth[:, :, :overlap])
    with torch.no_grad():
        return vd.run_sampler(vd.ddim(guided, noise_like(truth, seed), schedule, steps))


PSNR_DIGITS = {f"PSNR {n}": 1 for n in (1, 5, 11)}


def psnr_of(new, future):
    """Mean PSNR over clips at new frame 1, 5 and 11."""
    psnr = video_metrics.psnr(new.clamp(-1, 1), future).mean(0)
    return {f"PSNR {n}": psnr[n - 1].item() for n in (1, 5, 11)}

# %% [markdown]
# ## What we will have at the end
#
# Five frames are given. Above the truth, below the model's continuation: the digit takes the same path.

# %% mystnb={"image": {"alt": "Two film strips of 16 frames: the true clip, and the same five first frames continued by the model; the digit takes the same path."}, "figure": {"caption": "Above the truth, below the continuation by the model. Blue: frames given (the first five; the truth is given throughout). F = 16, K = 5, stride 11."}}
truth = held_out(8, seed=3)
generated = continue_clips(history_guidance, truth)
viz.film_strip([truth[0], generated[0]], ["truth", "generated"], num_context=[window, overlap]);

# %% [markdown]
# **Predict.** Guidance pushes the estimate away from what the network would estimate *without* the past. With
# the weight at 3, will the digit move faster, slower, or freeze? Will it be brighter or fainter?
#
# ## The mathematics
#
# Take a window of $F$ frames whose first $K$ are the past $h$. The network takes one noise level *per frame*,
# so the same weights give two estimates:
#
# $$c = \hat x_0\big([h, x_t], [0, t]\big), \qquad u = \hat x_0\big([\epsilon, x_t], [T, t]\big). \tag{1}$$
#
# Here $x_t$ is the new frames alone (in the code, `xt` is the whole window). In $c$ the past is in the window
# at level 0: it is clean, and the network knows that. In $u$ the same frames are pure noise at level $T$:
# nothing is known of the past. Showing it in this way is called *in-window conditioning*. It needs a network
# trained with clean frames beside noisy ones. One trained at one level per clip accepts the same call, but there
# $c$ is no conditional estimate (chapter 8's first table).
#
# What does their difference mean? The *score* of a density is the gradient of its logarithm, $\nabla \log p$.
# It points to where the density grows. For the exact denoiser, *Tweedie's formula* says that estimate and
# score are the same thing in other units. With $\sigma_t^2 = 1 - \bar\alpha_t$,
#
# $$\hat x_0(x_t) = \frac{x_t + \sigma_t^2\, \nabla \log p(x_t)}{\sqrt{\bar\alpha_t}}.$$
#
# Here $c$ belongs to the density $p(x_t \mid h)$ and $u$ to $p(x_t)$. By Bayes' rule, $\log p(x_t \mid h) =
# \log p(x_t) + \log p(h \mid x_t) - \log p(h)$, and the last term does not depend on $x_t$. So
#
# $$c - u = \frac{\sigma_t^2}{\sqrt{\bar\alpha_t}}\, \nabla \log p(h \mid x_t).$$
#
# It points to where the past becomes more probable. *Classifier-free guidance* {cite:p}`ho2022classifier`
# goes $w$ times as far in this direction:
#
# $$\hat x_0 = u + w\,(c - u). \tag{2}$$
#
# $w$ is the *guidance weight*. $w = 1$ is the conditional model and $w = 0$ the unconditional one. Every
# other weight needs both: two network evaluations (NFE) per step instead of one.
#
# At each noise level, (2) follows the score of $p(x_t)\, p(h \mid x_t)^w$. It is tempting to conclude that
# the samples are from
#
# $$p_w(x) \propto p(x)\, p(h \mid x)^w, \tag{3}$$
#
# which for $w > 1$ is narrower around what the past suggests than the posterior is. They are not: adding
# noise to $p_w$ does not give the densities that guidance follows. One dimension is enough to see it. Let $p$
# be normal with mean 0 and variance 1, let $p(x \mid h)$ have mean 1 and variance 1/4, and $w = 3$.

# %%
def normal_denoiser(mean, variance):
    """The exact denoiser of a normal density, the same for every pixel."""
    def x0_hat(xt, t):
        signal, sigma = schedule.signal_and_noise(t, xt)
        return mean + variance * signal * (xt - signal * mean) / (variance * signal**2 + sigma**2)

    return x0_hat


def guided(xt, t, w=3):
    u, c = normal_denoiser(0.0, 1.0)(xt, t), normal_denoiser(1.0, 0.25)(xt, t)
    return u + w * (c - u)


start = torch.randn(1, 1, 1, 100, 200, generator=torch.Generator().manual_seed(0))
samples = vd.run_sampler(vd.ddim(guided, start, schedule, 500))
precision = 1 / 1.0 + 3 * (1 / 0.25 - 1 / 1.0)  # of p_w, since the exponents add up
print(f"equation (3): mean {3 / 0.25 / precision:.2f}, standard deviation {precision ** -0.5:.2f}")
print(f"guided DDIM:  mean {samples.mean():.2f}, standard deviation {samples.std():.2f}")


# %% [markdown]
# The samples lie farther out than (3) says, and are much narrower. So take (3) as a direction only: a larger
# weight pushes away from what is likely without the past, and narrows the samples.
#
# ## Build it
#
# A *method* takes a denoiser and the past, and returns a denoiser. So it runs with any sampler:

# %%
def my_guided(denoiser, past, w):
    """Two branches, one after the other: what the library does in one batched evaluation."""
    new = torch.arange(window, device=device) >= overlap

    def guided(xt, t):
        levels = t[:, None].expand(-1, window)
        # The noise that x_t would contain if its clean part were the past.
        noise = schedule.eps_from_x0(xt[:, :, :overlap], levels[:, :overlap], past)
        c = denoiser(torch.cat([past, xt[:, :, overlap:]], 2), torch.where(new, levels, 0))
        u = denoiser(torch.cat([noise, xt[:, :, overlap:]], 2), torch.where(new, levels, 1000))
        x0_hat = u + w * (c - u)
        return torch.cat([past, x0_hat[:, :, overlap:]], dim=2)

    return guided

# %% [markdown]
# Under DDIM the noise of the overlap is the same at every step, since its estimate is always the past. Fresh noise would make the estimate random.
#
# ## Meet the twin
#
# First, our estimate is the library's. Second, as for every network, it moves along a straight line with $w$.

# %%
past, xt, t = truth[:2, :, :overlap], noise_like(truth[:2]), torch.tensor([700, 300], device=device)
with torch.no_grad():
    mine = my_guided(denoiser, past, 2.0)(xt, t)
    theirs = history_guidance(denoiser, past, 2.0)(xt, t)
torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)

with torch.no_grad():
    line = {w: history_guidance(denoiser, past, w)(xt, t) for w in (0.0, 1.0, 3.0)}
straight = line[0.0] + 3 * (line[1.0] - line[0.0])
torch.testing.assert_close(line[3.0], straight, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## The exact posterior
#
# Is equation (2) *right*? For digits nobody knows $p(\text{future} \mid \text{past})$. So here is a video
# model for which it is known, an *oracle*. Its pixels are independent of each other, and each follows a
# smooth Gaussian process in time. The denoiser is a matrix, and the future given the past is a Gaussian with
# a known mean and covariance. Method and sampler run on it unchanged.
#
# We measure two errors of the sampled futures, frame by frame. The *bias* is the root mean square of (mean of
# the samples - exact mean), in exact standard deviations. The *std ratio* is the standard deviation of the
# samples over the exact one. Ideal are 0 and 1.

# %%
model = GaussianVideo(schedule)
clips = model.sample(8, 10, 16, torch.Generator().manual_seed(0))
known = clips[:, :, :4]
weights = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]
bias, std_ratio, rows = {}, {}, {}
for w in weights:
    start = torch.randn(clips.shape, generator=torch.Generator().manual_seed(1))
    futures = vd.run_sampler(vd.ddim(history_guidance(model, known, w), start, schedule, 60))
    bias[w], std_ratio[w] = posterior_error(futures, known, model)
for w in (1.0, 2.0):
    rows |= {f"bias, w = {w:g}": bias[w].tolist(), f"std ratio, w = {w:g}": std_ratio[w].tolist()}
columns = [f"frame {n}" for n in range(1, 7)]
show_table(pd.DataFrame(rows, index=columns).T, "Gaussian model: bias and std ratio by new frame")

# %% mystnb={"image": {"alt": "Two curves against the guidance weight for a Gaussian video model: the bias is near zero at weight one and grows on both sides; the std ratio is near one at weight one and falls below it for larger weights."}, "figure": {"caption": "History guidance on the Gaussian video model, second new frame. Ideal: bias 0 and std ratio 1 (dotted). Only w = 1 is near both."}}
figure, axis = plt.subplots(figsize=(5.5, 2.8))
lines = {"bias": [bias[w][1] for w in weights], "std ratio": [std_ratio[w][1] for w in weights]}
viz.plot_lines(axis, weights, lines, marker="o")
for ideal in (0, 1):
    axis.axhline(ideal, color="#999999", ls=":")
axis.set(xlabel="guidance weight w", ylabel="exact standard deviations", ylim=(-0.2, 5));

# %% [markdown]
# With an exact network the condition in the window, $w = 1$, *is* the posterior, and 60 steps come close to it.
# Every other weight samples another distribution, and a larger one is too narrow. So if a larger weight
# raises PSNR on digits, there are two explanations, which PSNR alone cannot tell apart. The network may not
# be exact and use its past too little. Or PSNR rewards narrower samples.
#
# ## On digits
#
# Eight held-out clips, the same noise, several weights:

# %% mystnb={"image": {"alt": "Film strips of one clip for guidance weights 0, 1, 2.5 and 4 below the true clip."}, "figure": {"caption": "One clip, four weights, the same noise. Blue: frames given (the first five; the truth is given throughout)."}}
on_digits, future = {}, truth[:, :, overlap:].cpu()
for w in (0.0, 1.0, 1.5, 2.5, 4.0, 8.0):
    on_digits[w] = continue_clips(partial(history_guidance, weight=w), truth, steps=8).cpu()
shown = [0.0, 1.0, 2.5, 4.0]
strips = [truth[0].cpu(), *(on_digits[w][0] for w in shown)]
viz.film_strip(strips, ["truth", *(f"w = {w}" for w in shown)], num_context=[window] + [overlap] * 4);

# %% [markdown]
# Without the past ($w = 0$) the new frames have nothing to do with it. From $w = 1$ on the eye sees no
# difference. Here is the study: `digits32`, 16 held-out clips, 25 steps. PSNR against the true future tells
# how well the past was used. Motion and intensity, both relative to the truth (chapter 6), show side effects.
# *Saturation* is the fraction of the new pixels that end beyond the range of pictures, $|x| > 1.1$, before
# they are clamped. In brackets: half the width of the 95% interval over clips.

# %%
def by_weight(table, columns):
    """Means and half of the 95% intervals over clips: one row per weight."""
    parts = intervals(table, columns | {"saturation (%)": ("saturation", None)})
    for part in parts:
        part.index = pd.Index([float(name.split("=")[1]) for name in part.index], name="w")
        part["saturation (%)"] *= 100
    return parts


weights_table = read_results("compare_weights")
print(command_of(weights_table))
columns = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)}
columns |= {name: (name, None) for name in ("motion", "intensity")}
mean, half = by_weight(weights_table, columns)
best = dict.fromkeys(["PSNR 1", "PSNR 5", "PSNR 11"], "max") | {"motion": 1, "intensity": 1}
caption = "digits32 by guidance weight: PSNR (dB) at new frame 1, 5, 11; motion and intensity, ideal at 1"
show_table(mean, caption, best, digits=PSNR_DIGITS, half=half)

# %% mystnb={"image": {"alt": "Three panels against the guidance weight, with bands: PSNR at new frames 1, 5 and 11; motion and intensity relative to the truth, with a line at one; the percentage of saturated pixels."}, "figure": {"caption": "What the weight does to digits32: 16 held-out clips, 25 steps, 5 context frames, 11 generated. Bands: 95% intervals over clips. Middle: 1 is ideal (dotted)."}}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
panels = (["PSNR 1", "PSNR 5", "PSNR 11"], ["motion", "intensity"], ["saturation (%)"])
for axis, names in zip(axes, panels):
    viz.plot_lines(axis, mean.index, {name: mean[name] for name in names}, marker="o")
    for line, name in zip(axis.get_lines(), names):
        low, high = mean[name] - half[name], mean[name] + half[name]
        axis.fill_between(mean.index, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axis.set(xlabel="guidance weight w")
axes[0].set(ylabel="dB")
axes[1].axhline(1, color="#999999", ls=":")
axes[1].set(ylabel="relative to the truth")
axes[2].set(ylabel="% of the new pixels saturated")
axes[2].legend().remove()


# %% [markdown]
# PSNR rises steeply up to $w = 1$, is highest at 1.5 and 2, and falls from there. The intervals of
# neighboring weights overlap. But all weights continued the same clips from the same noise, so we can compare
# clip by clip, which takes the differences between clips out:

# %%
def above_plain(table, names):
    """PSNR minus that of w = 1, clip by clip: means, and half of their 95% intervals."""
    gain, half = (pd.DataFrame(index=list(names.values()), dtype=float) for _ in range(2))
    for n in (1, 5, 11):
        psnr = per_clip(table, "psnr", n)
        for name, shown in names.items():
            plain = "history_guidance:weight=1" if "history_guidance:weight=1" in psnr else "history_guidance"
            gain.loc[shown, f"PSNR {n}"], low, high = bootstrap(psnr[name] - psnr[plain])
            half.loc[shown, f"PSNR {n}"] = (high - low) / 2
    return gain, half


gain, half = above_plain(weights_table, {f"history_guidance:weight={w:g}": f"w = {w:g}" for w in mean.index})
show_table(gain, "PSNR above that of w = 1, clip by clip (dB)", digits=1, half=half)

# %% [markdown]
# On `digits32`, $w = 1.5$ predicts better than $w = 1$ at all three frames, by about one decibel. At $w = 2$
# the gain at the first frame is not resolved, at $w = 3$ none is, and $w = 8$ is worse everywhere. Each
# weight but 0 and 1 costs twice the network evaluations. Which of the two explanations holds, a past used too
# little at $w = 1$ or narrower samples, these numbers do not tell.
#
# At every weight from 1 up the digit moves nearly as fast and is nearly as bright as it should be. Nothing
# freezes, although {cite:t}`song2025history` saw videos turn static from $w = 3$ on. Why could guidance freeze
# motion? It favors futures that make the past more probable. Where the past says little about motion, the
# likeliest may be the past itself. Our reading: here five frames tell the velocity, and nothing ever stands
# still.
#
# ## Play
#
# The weight, on one clip. Left the truth, right the model. Bright borders mark context frames.

# %%
one = truth[5:6]


def play(weight):
    clip = continue_clips(partial(history_guidance, weight=weight), one, steps=8)[0]
    return torch.cat([viz.framed(one[0], window), viz.framed(clip, overlap)], dim=-1).cpu()


alt = "Left the true clip, right the model's continuation of its first five frames."
fine = [round(0.1 * i, 1) for i in range(61)]
sliders.guidance_slider(play, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], alt=alt, start=2, fine=fine)

# %% [markdown]
# ## Noised pasts, and several pasts
#
# {cite:t}`song2025history` propose two refinements of this *vanilla* history guidance.
#
# *Fractional history guidance* keeps the past clean in $c$, and takes the direction of guidance from a past
# noised to a level $\ell$, which the network is told: $c_\ell = \hat x_0([h_\ell, x_t], [\ell, t])$. Only the
# coarse content survives that noise, so fine detail is not pushed. It takes three evaluations per step:
#
# $$\hat x_0 = c + (w - 1)\,(c_\ell - u).$$
#
# *Temporal history guidance* adds several directions. In $c_i$ only the last $n_i$ frames of the past are
# clean, and the older ones are pure noise. It takes one evaluation more than there are subsets:
#
# $$\hat x_0 = u + \sum_i w_i\,(c_i - u).$$
#
# We try both on our eight clips, and then take what the study of chapter 10 has on 32 other clips.

# %%
variants = {
    "vanilla, w = 1": (1, history_guidance),
    "vanilla, w = 1.5": (2, partial(history_guidance, weight=1.5)),
    "fractional, w = 1.5, level 500": (3, partial(fractional_history_guidance, weight=1.5, level=500)),
    "temporal, 5 frames and 2": (3, partial(temporal_history_guidance, weights={5: 1.0, 2: 0.5})),
}
rows = {}
for name, (nfe, method) in variants.items():
    new = continue_clips(method, truth, steps=12).cpu()[:, :, overlap:]
    rows[name] = {"NFE per step": nfe} | psnr_of(new, future)
caption = "digits32, 8 clips: PSNR (dB) at new frame 1, 5, 11"
display(show_table(pd.DataFrame(rows).T, caption, digits=PSNR_DIGITS | {"NFE per step": 0}))
main, names = read_results("compare_main"), ["fractional_history_guidance:weight=1.5,level=500"]
above, half = above_plain(main, dict(zip(["history_guidance:weight=1.5", *names], list(variants)[1:])))
show_table(above, "digits32, 32 clips: PSNR above that of w = 1, clip by clip (dB)", digits=1, half=half)

# %% [markdown]
# On the 32 clips vanilla guidance with $w = 1.5$ gains at all three frames. Fractional guidance is level with
# $w = 1$ there, for three times its evaluations, and on our eight clips it lies below. Temporal guidance is
# ahead of $w = 1$ at the first frame and behind it at the last, on eight clips without an interval. Each is one
# setting, not tuned.
#
# ## The past as an embedding
#
# Clean frames in the window cost as much as new ones: they pass through the network at every step. Many systems
# compress the past to one *embedding* $e(h)$ instead, and condition the network on it beside the noise level:
#
# $$c = \hat x_0\big(x_t, t, e(h)\big), \qquad u = \hat x_0\big(x_t, t, 0\big), \qquad e(h) \in \mathbb{R}^{s}.$$
#
# Only the $F - K$ new frames pass through the network. Equation (2) works as before, since the embedding is
# dropped now and then in training.
#
# `HistoryEncoder` stacks the past frames as channels, applies three convolutions, and compresses the result
# to $s$ numbers. From these it computes two inputs for the network. A vector modulates the channels of every
# block (FiLM), as the noise embedding does. It is the same at every spatial position, so it can say *what* is
# there, but hardly *where*. So the numbers are also decoded to a *draft* of each new frame, which is added to
# the input of the first stage.
#
# Training has two stages. Embedding and draft come first, with the draft's squared error as the loss. Then
# `digits32` is fine-tuned to use them. Here are two encoders of five frames, with $s = 64$ and $s = 8$.

# %%
past, encoders = truth[:, :, :overlap], vd.checkpoint.folder() / "history"
by_form = {"truth": truth, "five frames in the window": continue_clips(history_guidance, truth, 12)}
for size in (64, 8):
    conditioned, encoder = load_history(encoders / f"digits32_5_{size}", device)
    with torch.no_grad():
        draft = encoder.draft(encoder.embed(past), range(stride))
    by_form[f"draft, s = {size}"] = torch.cat([past, draft], dim=2)
    method = partial(history_encoder, encoder=encoder)
    by_form[f"embedding, s = {size}"] = continue_clips(method, truth, 12, denoiser=conditioned)

# %% mystnb={"image": {"alt": "Film strips of one clip of 16 frames: the truth, its continuation from five frames in the window, and from embeddings of 64 and of 8 numbers, each below its blurred draft."}, "figure": {"caption": "One clip. Blue: frames given (the first five, in the window or as an embedding; the truth is given throughout). A draft is what the encoder alone can draw from the embedding."}}
num_context = [window] + [overlap] * (len(by_form) - 1)
viz.film_strip([clips[0].cpu() for clips in by_form.values()], list(by_form), num_context=num_context);


# %% [markdown]
# The window keeps the digit. The drafts are blurs on about the right path, and what the embeddings lead to is
# a digit there, but another one. Over 16 held-out clips, with five context frames and with ten (each has
# encoders of its own):

# %%
def forms(k):
    """Names in the tables: names shown."""
    names = {"history_guidance": "in the window"}
    for size in (64, 8):
        encoder = f"history_encoder:encoder=digits32_{k}_{size}"
        names[f"draft:frames={k} size={size}"] = f"draft, s = {size}"
        names |= {encoder: f"embedding, s = {size}", f"{encoder},weight=2": f"embedding, s = {size}, w = 2"}
    return names


drafts, rows = read_results("histories"), {}
print(command_of(drafts), "\n")
columns = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)} | {"identity": ("identity", None)}
for k in (5, 10):
    table = read_results(f"compare_past_{k}")
    print(command_of(table), "\n")
    rows[k] = pd.concat([table, drafts[drafts["clip"].isin(table["clip"])]])  # the same clips
    rows[k] = rows[k][rows[k].name.isin(list(forms(k)))].replace({"name": forms(k)})
    mean, half = intervals(rows[k], columns)
    caption = f"{k} context frames: PSNR (dB) at new frame 1, 5, 11, and identity"
    display(show_table(mean, caption, dict.fromkeys(columns, "max"), PSNR_DIGITS, half=half))

# %% mystnb={"image": {"alt": "PSNR by new frame with five context frames: the past in the window lies highest on every frame; below it the draft; below that the embeddings; lowest the model without a past."}, "figure": {"caption": "PSNR by new frame and by the form in which the network gets five context frames. digits32, 16 held-out clips, 25 steps, w = 1. No past: w = 0 in the study above."}}
without = weights_table[weights_table.name == "history_guidance:weight=0"].assign(name="no past")
psnr = pd.concat([rows[5], without]).query("metric == 'psnr'").groupby(["name", "frame"]).value.mean()
shown = ["in the window", "draft, s = 64", "embedding, s = 64", "embedding, s = 8", "no past"]
figure, axis = plt.subplots(figsize=(6.5, 2.8))
viz.plot_lines(axis, range(1, 12), {name: psnr[name] for name in shown})
axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
axis.set(xlabel="new frame", ylabel="PSNR (dB)");

# %% [markdown]
# And what each form costs:

# %%
parameters = drafts[drafts.metric == "parameters"].set_index("name").value
for size in (64, 8):
    millions = parameters[f"draft:frames=5 size={size}"] / 1e6
    print(f"parameters of the encoder of five frames with s = {size}: {millions:.2f} million")
memory = drafts[drafts.metric.str.startswith("memory")].pivot_table("value", "name", "metric", sort=False)
memory.columns = ["training, batch of 8", "sampling, 4 clips"]
caption = "Peak MB above the loaded network; sampling: ten context and eleven new frames, w = 1.5"
show_table(memory, caption, digits=0)

# %% [markdown]
# These encoders were trained briefly (`--steps 400`). Longer training may keep more.
#
# - *The embedding tells roughly where the digit is, and not which one it is.* It lies above the model without
#   a past and far below the window at every new frame. The true digit is seldom read: the strokes did not
#   survive the compression.
# - *The size of the embedding matters little here.* In the table the intervals of 8 and 64 numbers overlap.
#   Position and velocity are four numbers, and eight have room for them. Sixty-four have room for some of the
#   shape, but a loss that a blur satisfies did not put it there.
# - *Guidance does not restore what was left out.* At $w = 2$ an embedding predicts about as it does at $w =
#   1$, and the true digit is still seldom read.
# - *The draft* has the higher PSNR, and in the strips no digits. Squared error favors a blur at the true
#   position. Its identity is not 0, since the classifier names some digit even for a blur.
# - *Ten frames* do not help this embedding. In the window they do not help either, but with ten given the window
#   is longer than the 16 frames of training, and the new frames are others.
#
# An embedding saves a little memory in training. In sampling with guidance it saves more than half, as both
# branches would hold the past.
#
# ## An anchor
#
# The overlap is all that the next window sees, and after ten windows it is a copy of a copy. But the past in
# the window need not be the *latest* frames only. Some of the first context frames can stay in the window as
# an *anchor*: clean, in front of the other frames. It could tell which digit it is, if not where.
#
# The network also needs a position for the anchor. The true one is soon further back than any frame it has
# seen in training, so we tell it a fixed *distance* in frames instead.
#
# **Predict.** `digits32` was trained on 16 consecutive frames and never saw an anchor. What will it do with
# one that is said to lie 12 frames before the window? And right before it?

# %%
def my_anchored(denoiser, past, anchor, distance):
    n, k = anchor.shape[2], past.shape[2]

    def anchored(xt, t):
        f = xt.shape[2]
        clip = torch.cat([anchor, past, xt[:, :, k:]], dim=2)
        levels = torch.where(torch.arange(n + f, device=t.device) < n + k, 0, t[:, None])
        positions = torch.cat([torch.arange(n) - n - distance, torch.arange(f)])
        x0_hat = denoiser(clip, levels, positions=positions)
        return torch.cat([past, x0_hat[:, :, n + k:]], dim=2)

    return anchored


past, xt = truth[:, :, :overlap], noise_like(truth)
anchor, t = truth[:, :, :3], torch.full((len(truth),), 600, device=device)
with torch.no_grad():
    mine = my_anchored(denoiser, past, anchor, 0)(xt, t)
    theirs = anchored_history(denoiser, past, anchor, distance=0)(xt, t)
torch.testing.assert_close(mine, theirs)

# %%
long_truth = held_out(8, overlap + 22, seed=11)
past, sampler = long_truth[:, :, :overlap], partial(vd.ddim, steps=12)
methods = {"no anchor": history_guidance}
for n, distance in ((5, 12), (5, 0), (1, 12), (1, 0)):
    name = f"{n} frame{'s' * (n > 1)}, distance {distance}"
    methods[name] = partial(anchored_history, anchor=past[:, :, :n], distance=distance)
rolled, rows, expected = {}, {}, long_truth.cpu()
for name, method in methods.items():
    generator = torch.Generator().manual_seed(0)
    frames = vd.rollout(denoiser, past, 22, window, overlap, method, sampler, generator)
    clips = rolled[name] = torch.cat([past, torch.stack(list(frames), dim=2)], dim=2).cpu()
    ratio = digit_metrics.intensity(clips).mean() / digit_metrics.intensity(expected).mean()
    rows[name] = psnr_of(clips[:, :, overlap:], expected[:, :, overlap:])
    rows[name] |= {"motion": digit_metrics.motion(clips, expected).mean().item(), "intensity": ratio.item()}
caption = "digits32 with an anchor, 8 clips, two windows: PSNR (dB), motion and intensity, ideal at 1"
show_table(pd.DataFrame(rows).T, caption, digits=PSNR_DIGITS)

# %% mystnb={"image": {"alt": "Film strips of one clip: the truth, the continuation without an anchor, and two with five anchor frames at distances 12 and 0."}, "figure": {"caption": "Every second frame of 27, one clip. Blue: frames given (the first five; the truth is given throughout). The second window begins at frame 16 (orange bar)."}}
names = ["no anchor", "5 frames, distance 12", "5 frames, distance 0"]
strips, num_context = [expected[0], *(rolled[name][0] for name in names)], [27, 5, 5, 5]
viz.film_strip(strips, ["truth", *names], num_context=num_context, every=2, joins=[16]);

# %% [markdown]
# The strips go on into a second window, from frame 16. In the first, which the PSNR is from, the anchor is the
# past itself. It has nothing new to tell, and can only do harm. Five frames do much. Said to lie 12 frames
# before the window, they leave noise in the picture: some frames are then further apart than the 15 that
# training has shown, as in the long windows of chapter 6. Said to lie right before it, they make the digit
# rush. Our reading: the network takes them for the frames right before the past. One frame disturbs less.
# None of the four predicts better at frames 5 and 11 than no anchor. Help in later windows was not measured.
#
# So an anchor has to be trained: earlier frames in front of the window in training too, at the distance that
# they will be said to have.
#
# ## What breaks, and how to see it
#
# At a large weight equation (2) leaves the range of pixels: $\hat x_0$ is extrapolated, and nothing makes the
# result a picture. Clamping at the end hides it {cite:p}`saharia2022photorealistic`. Count the pixels beyond
# $[-1, 1]$ by more than a tenth, by hand and by the library:

# %%
beyond = {}
for w, clips in on_digits.items():
    new = clips[:, :, overlap:]
    fraction = (new.abs() > 1.1).float().mean()
    torch.testing.assert_close(video_metrics.saturation(new).mean(), fraction)
    beyond[w] = 100 * fraction.item()
show_table(pd.Series(beyond, name="% beyond").rename_axis("w").to_frame(), "New pixels beyond the range")

# %% [markdown]
# On `digits32` few pixels do so, and more with a larger weight. `clip_denoised` holds an estimate in $[-1, 1]$ at
# every step. Inside the guidance it clamps both branches, and the extrapolation can still leave the range.
# Around the guidance it clamps what the sampler sees.

# %%
def clip_branches(denoiser, past):
    return history_guidance(vd.clip_denoised(denoiser), past, weight=8.0)


def clip_result(denoiser, past):
    return vd.clip_denoised(history_guidance(denoiser, past, weight=8.0))


rows = {}
clips = {"w = 8": on_digits[8.0]}
clips |= {f.__name__: continue_clips(f, truth, steps=8).cpu() for f in (clip_branches, clip_result)}
for name, x in clips.items():
    new = x[:, :, overlap:]
    rows[name] = {"saturation (%)": 100 * video_metrics.saturation(new).mean().item()} | psnr_of(new, future)
show_table(pd.DataFrame(rows).T, "digits32, 8 clips, w = 8: saturation and PSNR (dB)", digits=PSNR_DIGITS)


# %% [markdown]
# On these eight clips both remove most of the saturation. Clamping the branches raises PSNR at the first frame by
# 1.4 dB. Elsewhere it changes by half a decibel or less. Clamping keeps the estimate a picture. It does not
# undo the extrapolation.
#
# ## Recap
#
# One noise level per frame makes the past a condition: clean frames in the window, no new weights. The
# difference of two estimates is a score, and guidance follows it $w$ times as far. With an exact network the
# posterior lies at $w = 1$. `digits32` predicts better at $w = 1.5$, by about one decibel, at twice the
# network evaluations. A past compressed to a few numbers tells roughly where the digit goes and loses which
# one it is.
#
# ## Exercises
#
# 1. **Predict.** In the Gaussian model, what is the std ratio at $w = 0$ for a frame right after the past? Why?
#    Then print `std_ratio[0.0]`.
#
# 2. **Code.** Solve Tweedie's formula for the score. Into your function go an estimate, the noisy clip and its
#    level, and out comes $\nabla \log p(x_t)$. Hint: `schedule.signal_and_noise(t, xt)` returns
#    $\sqrt{\bar\alpha_t}$ and $\sigma_t$, ready to be multiplied.

# %% tags=["exercise"]
def score_from_x0(x0_hat, xt, t):
    """Three clips or levels (b, c, f, h, w), the same, (b,) -> (b, c, f, h, w)."""
    return None


some = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
levels = torch.tensor([300, 700])
first, second = (normal_denoiser(*parts)(some, levels) for parts in ((0.0, 1.0), (1.0, 0.25)))
signal, sigma = schedule.signal_and_noise(levels, some)
closed = -(some - signal) / (0.25 * signal**2 + sigma**2)  # of a normal density, noised: mean 1, variance 1/4
scored = lambda answer, x0_hat: answer(x0_hat, some, levels)
close = lambda a, b: torch.allclose(a, b, rtol=1e-3, atol=1e-4)
claims = {
    "mean 0, variance 1: the score is -xt at every level": lambda answer: close(scored(answer, first), -some),
    "mean 1, variance 1/4: as in closed form": lambda answer: close(scored(answer, second), closed),
    "guidance of estimates is guidance of scores": lambda answer: close(
        scored(answer, first + 3 * (second - first)), -some + 3 * (closed + some)),
}
check(score_from_x0, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(x0_hat, xt, t):
    signal, sigma = schedule.signal_and_noise(t, xt)
    return (signal * x0_hat - xt) / sigma**2


assert check(solution, claims)


# %% [markdown]
# 3. **Code.** Write temporal history guidance. Into your function go a denoiser, a past of $K$ frames, and
#    weights such as `{4: 1.0, 2: 0.5}`: the last four frames with weight 1, the last two with 0.5. Out comes a
#    denoiser. Hint: `my_guided` has all the pieces. Only the levels of the past differ from branch to branch.

# %% tags=["exercise"]
def my_temporal(denoiser, past, weights):
    """Returns a function (xt, t) -> x0_hat, with t of shape (b,)."""
    return None


noisy, level = model.sample(2, 10, 16, torch.Generator().manual_seed(5)), torch.tensor([700, 300])


def agrees(answer, weights, twin):
    return close(answer(model, known[:2], weights)(noisy, level), twin(noisy, level))


both = {4: 1.0, 2: 0.5}
claims = {
    "one subset, w = 1: the past in the window":
        lambda answer: agrees(answer, {4: 1.0}, history_guidance(model, known[:2])),
    "one subset, w = 2: vanilla guidance":
        lambda answer: agrees(answer, {4: 2.0}, history_guidance(model, known[:2], 2.0)),
    "two subsets: the library's":
        lambda answer: agrees(answer, both, temporal_history_guidance(model, known[:2], both)),
}
check(my_temporal, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(denoiser, past, weights):
    k = past.shape[2]

    def guided(xt, t):
        frames, levels = torch.arange(xt.shape[2]), t[:, None].expand(-1, xt.shape[2])
        noise = schedule.eps_from_x0(xt[:, :, :k], levels[:, :k], past)

        def branch(n):  # the last n frames of the past are clean
            clean, noised = (frames >= k - n) & (frames < k), frames < k - n
            context = torch.where(clean[:k].view(1, 1, -1, 1, 1), past, noise)
            return denoiser(torch.cat([context, xt[:, :, k:]], dim=2),
                            torch.where(clean, 0, torch.where(noised, 1000, levels)))

        u = branch(0)
        x0_hat = u + sum(w * (branch(n) - u) for n, w in weights.items())
        return torch.cat([past, x0_hat[:, :, k:]], dim=2)

    return guided


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Let the weight depend on $t$: guide only while $t > 500$. Which half of the trajectory does
#    the gain come from?
#
# :::{dropdown} Solutions
# 1. Without the past the new frame has the process's own standard deviation. Given the past it is nearly
#    determined. So the ratio is far above 1, and falls with the distance from the past.
# 2. Multiply by $\sqrt{\bar\alpha_t}$, subtract $x_t$, divide by $\sigma_t^2$.
# 3. One branch for each subset and one without any past.
# 4. Choose between two denoisers: `lambda xt, t: (guided if t[0] > 500 else plain)(xt, t)`, and the other way
#    around. Compare PSNR and saturation of both with those of guidance at all levels, clip by clip, over a
#    dozen clips or more.
# :::
#
# ## Sources
#
# Classifier-free guidance: {cite:t}`ho2022classifier`. Guidance on history, fractional and temporal:
# {cite:t}`song2025history`. Noise levels per frame: {cite:t}`chen2024diffusion`. The conditional window in
# video diffusion: {cite:t}`ho2022video`, {cite:t}`harvey2022flexible`. An anchor frame for long videos:
# {cite:t}`henschel2024streamingt2v`. Saturation: {cite:t}`saharia2022photorealistic`.
