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
# # 9. Feature injection
#
# **The network has already computed features of the past. Can the next window get these instead of the
# past?**
#
# We record the features of the past through a hook and put them into the evaluation of the new window. With
# all keys and values of a clean past this is an identity: injection *is* the condition of chapter 7, for about
# two thirds of its work per step. With anything else we measure what it does, on `digits32`, which was trained
# with clean pasts, and on `digits32_fixed`, which never saw one.
#
# *Time to run: about two minutes on two CPU cores, less on a GPU.*

# %% [markdown]
# **You will learn** what can be injected, where, and how; why prepended keys and values are exact in one
# network and foreign to another; what the features carry.
#
# **You need** chapters 3 and 7.

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
import time
from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import torch
from einops import rearrange
from sklearn.linear_model import RidgeClassifierCV, RidgeCV

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.evaluation import video_metrics
from vdiff_lite.evaluation.results import command_of, intervals, per_clip, read_results
from vdiff_lite.exercises import check
from vdiff_lite.methods import FeatureCache, history_guidance, injection
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
torch.manual_seed(0)  # a noised source draws its noise from the global generator
device = vd.pick_device()
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
window, overlap = 16, 5
stride = window - overlap  # 5 context frames, 11 new ones per window


def held_out(clips, frames=window, seed=0, split="test"):
    source = vd.BouncingDigits(split=split, num_frames=frames)
    return source.sample(clips, torch.Generator().manual_seed(seed))


def continue_clips(method, truth, steps=12, seed=1):
    xt = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    with torch.no_grad():
        return vd.run_sampler(vd.ddim(method(denoiser, truth[:, :, :overlap]), xt, schedule, steps)).cpu()


def score(clips, truth):
    new, future = clips[:, :, overlap:].clamp(-1, 1), truth[:, :, overlap:].cpu()
    psnr = video_metrics.psnr(new, future).mean(0)
    return {f"PSNR {n}": psnr[n - 1].item() for n in (1, 5, 11)}

# %% [markdown]
# ## What we will have at the end
#
# The same past, injected at two kinds of *sites*, places where a hook sees features. The one keeps digit and
# path, the other shows another digit from the first new frame on:

# %% mystnb={"image": {"alt": "Three film strips: the truth, its continuation by injected keys and values, which looks the same, and one by overwritten decoder outputs: from where the context frames end it shows another digit, dimmer and with noise, not far from the true path."}, "figure": {"caption": "Context: the first five frames (blue). Middle: keys and values of the clean past, prepended. Below: the decoder's outputs at the overlap, overwritten. F = 16, K = 5, stride 11."}}
truth = held_out(6, seed=3).video.to(device)
overwritten = partial(injection, sites="decoder", prepend=False, source="same")
continued = [continue_clips(method, truth) for method in (injection, overwritten)]
continued[1] = torch.cat([truth[:, :, :overlap].cpu(), continued[1][:, :, overlap:]], dim=2)
strips = [truth[0].cpu(), *(clips[0] for clips in continued)]
viz.film_strip(strips, ["truth", "keys, values", "outputs"], num_context=[window, overlap, overlap]);

# %% [markdown]
# **Predict.** The features at the overlap are replaced by those of the noised past, at every noise level and in
# every stage of the decoder. Why should the *new* frames depend on them?
#
# ## The mathematics
#
# Let $y_s(x_t)$ be the features at site $s$: the output of a stage (encoder, middle, decoder), or keys and
# values of attention along time or of a joint block (chapter 3). The *blend*, from 0 to 1, mixes those of the
# past into the frames $a$ of the overlap,
#
# $$y_s(x_t)_a \leftarrow (1 - \text{blend})\; y_s(x_t)_a + \text{blend}\; y_s(h_t), \tag{1}$$
#
# with $h_t$ the past at the same noise level, in the spirit of Plug-and-Play {cite:p}`tumanyan2023plug`. One
# noise serves all levels (`source="same"`), or each step draws its own (`"fresh"`). With `statistics=True` only
# the mean and the standard deviation of each channel are injected, as in style transfer. Chapter 10 measures
# these. With a blend of 1, (1) *overwrites* the features. With *prepended keys and values* the new frames alone
# are in the window. They attend to the keys and values of the past too, like MasaCtrl
# {cite:p}`cao2023masactrl`:
#
# $$\text{attention}\big(q,\; [k_h, k],\; [\text{values}_h, \text{values}]\big). \tag{2}$$
#
# **One level per frame.** In our network every frame has its own noise level, everything but attention works
# within a frame, and clean frames attend to clean frames only. So $k_h$ and $\text{values}_h$ of a
# *clean* past do not depend on the rest of the window. They are computed once and cached, and for the new
# frames (2) is what a full evaluation with the past in the window computes,
#
# $$\text{injection}(x_t) = c(x_t) \quad\text{exactly}, \qquad \text{at } \tfrac{F - K}{F} \text{ of the work.} \tag{3}$$
#
# **One level per clip.** Most video networks take one level for all frames. There $c$ does not exist: no
# input has clean frames beside noisy ones. The features of a clean past then come from another evaluation,
# all at level 0, where there is nothing to denoise. The level also scales and shifts every channel (FiLM,
# chapter 3). So the window at level $t$ meets keys and values of a kind that it never met in training, and
# nothing says that it can read them. Methods for such networks therefore take features of the *same* level,
# and with them the vagueness of a noised past.
#
# ## Build it

# %%
def my_injection(denoiser, past):
    k, cached = past.shape[2], {}

    def record(site, feature):
        cached[site] = feature
        return feature

    clean = torch.zeros(past.shape[0], dtype=torch.long, device=past.device)
    with torch.no_grad():
        denoiser(past, clean, hook=record)  # one evaluation for the whole window

    def prepend(site, feature):
        if not isinstance(feature, tuple):  # a stage's output: left alone
            return feature
        return tuple(torch.cat([old, own], dim=2) for old, own in zip(cached[site], feature))

    def injected(xt, t):
        positions = torch.arange(k, xt.shape[2])  # the new frames come after the past
        new = denoiser(xt[:, :, k:], t, hook=prepend, positions=positions)
        return torch.cat([past, new], dim=2)

    return injected

# %% [markdown]
# ## Meet the twin

# %%
past = truth[:2, :, :overlap]
xt = torch.randn(truth[:2].shape, generator=torch.Generator().manual_seed(1)).to(device)
t = torch.tensor([700, 300], device=device)
with torch.no_grad():
    mine, theirs = my_injection(denoiser, past)(xt, t), injection(denoiser, past)(xt, t)
    in_window = history_guidance(denoiser, past)(xt, t)
torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)

# %% [markdown]
# Equation (3), measured: the difference to the past in the window, and the time of both.

# %%
print(f"largest difference in x0_hat: {(theirs - in_window).abs().max():.1e}")


def seconds(method):
    started = time.perf_counter()
    continue_clips(method, truth, steps=6)
    return time.perf_counter() - started


# In turns, and the fastest of each, so that other work on the machine counts little.
times = torch.tensor([[seconds(method) for method in (injection, history_guidance)] for _ in range(6)])
ratio = times.amin(0)[0] / times.amin(0)[1]
print(f"time of injection / time of the past in the window: {ratio:.2f}")
print(f"(F - K) / F: {stride / window:.2f}")

# %% [markdown]
# The identity holds up to rounding, for any weights of this network. The time falls less than the work, also
# because one evaluation fills the cache, here for six steps. The cache takes memory instead (chapter 10). Features
# of the same level would be computed anew at every step.
#
# ## Which site, which operation, which source?
#
# Everything else is an approximation. The study gave each variant 16 held-out clips and 25 steps of
# `digits32`. PSNR is against the true future. *Identity* (chapter 6) is the fraction of new frames that show
# the true digit. *Position error* is the distance of the digit from its true position, in pixels. In
# brackets: half of the 95% interval over clips.

# %%
variants = {
    "nothing (independent)": "independent",
    "input (replacement)": "replacement",
    "encoder outputs, overwritten": "injection:sites=encoder,prepend=False,source=same",
    "decoder outputs, overwritten": "injection:sites=decoder,prepend=False,source=same",
    "all outputs, overwritten": "injection:sites=encoder+middle+decoder,prepend=False,source=same",
    "all outputs, overwritten, clean": "injection:sites=encoder+middle+decoder,prepend=False",
    "K, V overwritten, same level": "injection:prepend=False,source=same",
    "K, V prepended, same level": "injection:source=same",
    "K, V along time, clean": "injection:sites=temporal",
    "K, V of joint blocks, clean": "injection:sites=joint",
    "all K, V, clean": "injection",
}

# %%
sites = read_results("compare_sites")
print(command_of(sites))
columns = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)} | {"identity": ("identity", None)}
columns |= {f"position error {n}": ("position_error", n) for n in (1, 11)}
mean, half = (x.loc[list(variants.values())].set_axis(list(variants)) for x in intervals(sites, columns))
caption = "digits32, 16 clips: PSNR (dB), fraction of true digits, and position error (pixels), by new frame"
show_table(mean, caption, digits=dict.fromkeys(columns, 1) | {"identity": 2}, half=half)

# %% mystnb={"image": {"alt": "Two panels of dots with intervals, one line for each variant of injection: the fraction of frames with the true digit, and the position error at the last new frame. Keys and values along time have the smaller error and not the digit, those of the joint blocks the digit and a larger error. All together have both."}, "figure": {"caption": "What each variant carries over (digits32). Left: fraction of new frames with the true digit. Right: position error at the eleventh new frame. 16 held-out clips, 95% intervals; a dot without a line: all clips agree."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
panels = (("identity", None, "true digit (fraction)"), ("position_error", stride, "position error (pixels)"))
for axis, (metric, frame, label) in zip(axes, panels):
    scores = per_clip(sites, metric, frame)
    viz.plot_intervals(axis, {name: video_metrics.bootstrap(scores[text]) for name, text in variants.items()})
    axis.set(xlabel=label, xlim=0)

# %% [markdown]
# *Which source?* Features of a noised past are as vague as that past. Whether outputs are overwritten or keys and
# values of the same level used, the result is that of replacement, or worse. Overwriting all outputs with *clean* features comes
# closer to the truth at the first new frame, by more than the intervals.
#
# *Which site?* What is changed at the overlap reaches the new frames only through attention. Clean keys and
# values *along time* tell where the digit is: at the first new frame it is less than a pixel off. But it is
# seldom the true digit. With those of the *joint* blocks the true digit is on every frame. At the first
# it is as far off as without any past, at the eleventh less far. One tells mainly *where*, the other *what*, and the new
# frames need both. We do not know why. Attention along time compares one position, joint attention all.
#
# *Which operation?* At the same level, overwritten and prepended keys and values score the same. Either way
# the new frames attend to the same features.
#
# ## A network that never saw a past
#
# `digits32_fixed` is the same network, trained at one level per clip. From the table of chapter 10, 25 steps:

# %%
fixed = read_results("compare_fixed")
clips = per_clip(fixed, "psnr").count()
names = {text: name for name, text in variants.items() if clips.get(text) == clips.max()}
names |= {"history_guidance": "in the window", "reconstruction:weight=10": "reconstruction guidance, w = 10"}
parts = intervals(fixed, dict(list(columns.items())[:4]))
mean, half = (x.loc[list(names)].rename(index=names).rename_axis(None) for x in parts)
caption = f"digits32_fixed, {clips.max()} clips: PSNR (dB) at new frame 1, 5, 11; fraction of true digits"
show_table(mean, caption, digits=dict.fromkeys(mean, 1) | {"identity": 2}, half=half)

# %% [markdown]
# No injection is better than replacement by more than the intervals. Keys and values of a clean past give
# exactly what the past in the window gives, as equation (3) says. They are no help to a network that never
# learned to read them. Reconstruction guidance (chapter 8), which asks for
# no such training, has the better first new frame and the true digit more often.
#
# ## How long to inject
#
# Plug-and-Play injects features in the first four fifths of its steps, so that the source is not copied
# {cite:p}`tumanyan2023plug`. Here the source does not contain what is to be generated, so there is nothing to
# copy. Does it help to stop early? The 16 clips of the study again, together with the blend of equation
# (1), applied to the keys and values of the overlap:

# %%
by_blend = {blend: f"injection:prepend=False,blend={blend}" for blend in (0.25, 0.5, 0.75, 1)}
by_fraction = {fraction: f"injection:fraction={fraction}" for fraction in (0, 0.2, 0.4, 0.6, 0.8)}
SETTINGS = {
    "blend": {0: "independent"} | by_blend,
    "fraction of the trajectory": by_fraction | {1: "injection"},
}
psnr = pd.DataFrame({f"PSNR {n}": per_clip(sites, "psnr", n).mean() for n in (1, 5, 11)})
by_setting = {name: psnr.loc[list(texts.values())].set_axis(list(texts)) for name, texts in SETTINGS.items()}
for name, table in by_setting.items():
    caption = f"digits32, 16 clips, by {name}: PSNR (dB) at new frame 1, 5, 11"
    display(show_table(table.rename_axis(name), caption, digits=1))

# %% mystnb={"image": {"alt": "Two panels of PSNR at the first, fifth and eleventh new frame: against the blend of overwritten keys and values, and against the fraction of the trajectory in which keys and values are prepended."}, "figure": {"caption": "Two settings of injection (digits32). Left: keys and values of the clean past, blended in at the overlap. Right: clean keys and values prepended in the first part of the trajectory only; after that the noised past is at the input. 16 held-out clips."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for axis, (name, table) in zip(axes, by_setting.items()):
    lines = {column.removeprefix("PSNR "): table[column].to_list() for column in table}
    viz.plot_lines(axis, list(table.index), lines, marker="o")
    axis.set(xlabel=name)
axes[0].set(ylabel="PSNR (dB)")
axes[0].legend().remove()
axes[1].legend(title="new frame", frameon=False, bbox_to_anchor=(1, 1), loc="upper left");

# %% [markdown]
# Neither setting has its best value in the middle. At a blend of 1 overwriting is prepending, and both
# curves end at the same values. Stopping after 80% of the trajectory loses less than half a decibel. The first
# fifth, where the noise is highest, brings most of the gain.
#
# ## What do the features tell?
#
# A linear probe answers this. It takes the features of one clean frame at a site, pooled to 4 x 4 positions,
# and predicts the position of the digit, its velocity, and which digit it is. The probe is fitted on clips of
# the training split and tested on held-out ones. A single frame does not show the velocity: what a site knows
# of it came from other frames.

# %%
def features_and_truth(clips, split, seed):
    batch = held_out(clips, frames=6, seed=seed, split=split)
    cached, by_site = FeatureCache(denoiser, batch.video.to(device)).at(0), {}
    for site, feature in cached.items():
        if torch.is_tensor(feature) and feature.ndim == 5:
            pooled = torch.nn.functional.adaptive_avg_pool2d(feature.flatten(1, 2), 4)
            by_site[site] = rearrange(pooled, "b (c f) h w -> b f (c h w)", f=6)[:, 4].cpu().numpy()
    labels = batch.truth
    return by_site, labels.positions[:, 0, 4], labels.velocities[:, 0, 4], labels.labels[:, 0]


train, test = features_and_truth(500, "train", 1), features_and_truth(200, "test", 2)

# %%
probes = {"position (R2)": (1, RidgeCV), "velocity (R2)": (2, RidgeCV)}
probes["digit (accuracy)"] = (3, RidgeClassifierCV)
rows = {}
for site in train[0]:
    rows[site] = {}
    for column, (i, probe) in probes.items():
        fitted = probe([1.0, 100.0, 1e4]).fit(train[0][site], train[i].numpy())
        rows[site][column] = fitted.score(test[0][site], test[i].numpy())
table = pd.DataFrame(rows).T.rename_axis("site")
show_table(table, "What a linear probe reads from one frame, on 200 held-out clips")

# %% [markdown]
# $R^2$ is the fraction of the variance that the probe explains. The position can be read at every site. The
# velocity is read best in the middle of the network, and badly at both ends. *Which digit it is* a linear
# probe reads on about a third to a half of the clips, where chance is a tenth. That the features carry it all
# the same, those of the joint blocks have shown. Our reading: pooled to 4 x 4 positions, the strokes look
# different wherever the digit is. A probe shows what is easy to read, not all that is there.
#
# ## Play
#
# Which keys and values, how strong a blend, and for which fraction of the trajectory, counted from pure
# noise. Left the truth, right the continuation. A bright border marks context frames. The overlap stays in
# the window and is generated along with the rest.

# %%
one = truth[4:5]


def inject(site, blend, fraction):
    method = partial(injection, sites=site, blend=blend, fraction=fraction, prepend=False)
    clip = torch.cat([one[:, :, :overlap].cpu(), continue_clips(method, one)[:, :, overlap:]], dim=2)
    return torch.cat([viz.framed(one[0].cpu(), window), viz.framed(clip[0], overlap)], dim=-1)


axes = {"site": ["temporal", "joint", "attention"], "blend": [0.0, 0.5, 1.0], "fraction": [0.4, 1.0]}
fine = {"blend": [round(0.1 * i, 1) for i in range(11)], "fraction": [0.2, 0.4, 0.6, 0.8, 1.0]}
alt = "Left the true clip, right the continuation of its first five frames."
sliders.explore_slider(inject, axes, alt, start=[2, 2, 1], fine=fine, width=420)

# %% [markdown]
# ## What breaks, and how to see it
#
# Tell the network the wrong positions. The keys of the past carry their positions in time. If the new frames
# get the *same* positions as the past, instead of the ones after it, they should become the past again.

# %%
def misplaced(denoiser, past):
    cached = FeatureCache(denoiser, past).at(0)

    def prepend(site, feature):
        if not isinstance(feature, tuple):
            return feature
        return tuple(torch.cat([old, own], 2) for old, own in zip(cached[site], feature))

    def injected(xt, t):
        new = denoiser(xt[:, :, overlap:], t, hook=prepend, positions=torch.arange(stride))
        return torch.cat([past, new], dim=2)

    return injected


by_position = {"right": continued[0], "wrong": continue_clips(misplaced, truth)}
scores = {}
for name, clips in by_position.items():
    first_new, context = clips[:, :, overlap:2 * overlap].clamp(-1, 1), clips[:, :, :overlap]
    copy = video_metrics.psnr(first_new, context).mean().item()
    scores[f"{name} positions"] = score(clips, truth) | {"1 to 5 against the context": copy}
caption = "PSNR (dB) against the truth, and of new frames 1 to 5 against the context (high for a copy)"
show_table(pd.DataFrame(scores).T, caption, digits=1)

# %% mystnb={"image": {"alt": "Three film strips: the truth, the continuation with right positions, and one with wrong positions that starts over from the first context frames, with noise in its first five new frames."}, "figure": {"caption": "Context: five frames (blue). Below, the new frames were given the positions of the past. The first five repeat it, with some noise."}}
strips = [truth[0].cpu(), *(clips[0] for clips in by_position.values())]
viz.film_strip(strips, ["truth", "right", "wrong positions"], num_context=[window, overlap, overlap]);


# %% [markdown]
# At the positions of the past the new frames repeat the past. Here the copy that Plug-and-Play guards against
# comes from wrong positions.
#
# ## Recap
#
# Injected features help only as far as the new frames attend to them, and those of a noised past did about
# what replacement does, on both networks. On `digits32` clean keys and values along time tell where the digit
# is, those of the joint blocks which digit it is. All of them are the condition of chapter 7 for less work.
# That helps a network that was trained with clean pasts, and did not help the one that was not.
#
# ## Exercises
#
# 1. **Predict.** What fraction of the work does injection save per step when $K = 12$ of $F = 16$ frames are known?
#
# 2. **Code.** Equation (2) without concatenating. Into your function go queries, keys and values of the window, and
#    keys and values of the past. Out comes what attention over both together gives. Hint: past and window share
#    one softmax.

# %% tags=["exercise"]
def attend(q, k, v, k_past, v_past):
    """q, k, v: (b, n, d); k_past, v_past: (b, m, d) -> (b, n, d)."""
    return None


def attend_by_torch(q, k, v, k_past, v_past):
    both = torch.cat([k_past, k], dim=1), torch.cat([v_past, v], dim=1)
    return torch.nn.functional.scaled_dot_product_attention(q, *both)


q, k, v, k_past, v_past = torch.randn(5, 2, 6, 8, generator=torch.Generator().manual_seed(0))
none = torch.zeros(2, 0, 8)
near = lambda a, b: torch.allclose(a, b, rtol=1e-4, atol=1e-5)
claims = {
    "as torch on the concatenation": lambda answer: near(
        answer(q, k, v, k_past, v_past), attend_by_torch(q, k, v, k_past, v_past)),
    "an empty past changes nothing": lambda answer: near(
        answer(q, k, v, none, none), torch.nn.functional.scaled_dot_product_attention(q, k, v)),
    "the order of the past does not matter": lambda answer: near(
        answer(q, k, v, k_past.flip(1), v_past.flip(1)), answer(q, k, v, k_past, v_past)),
}
check(attend, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(q, k, v, k_past, v_past):
    own, old = (q @ keys.mT / q.shape[-1] ** 0.5 for keys in (k, k_past))
    weights = torch.cat([own, old], dim=-1).softmax(dim=-1)
    split = k.shape[1]
    return weights[..., :split] @ v + weights[..., split:] @ v_past


assert check(solution, claims)


# %% [markdown]
# 3. **Code.** Equation (1) for keys and values, as a hook. Into your function go the cached features of the past,
#    `{site: feature}`, and the blend. Out comes a hook that blends keys and values at the first frames and
#    leaves everything else alone. Hint: keys and values come as a tuple, and frames are dimension 2 of both.

# %% tags=["exercise"]
def blending_hook(cached, blend):
    """Returns a function (site, feature) -> feature."""
    return None


keys, values, old = (torch.full((1, 2, 6, 3), x) for x in (1.0, 2.0, 5.0))
toy = {"a": (old[:, :, :4], old[:, :, :4]), "b": torch.zeros(1)}
blended = lambda answer, blend: answer(toy, blend)("a", (keys, values))
expected = torch.cat([torch.full((1, 2, 4, 3), 3.0), keys[:, :, 4:]], dim=2)
with torch.no_grad():
    of_past = FeatureCache(denoiser, past).at(0)
    by_library = injection(denoiser, past, prepend=False, blend=0.5)(xt, t)
    claims = {
        "blend = 0 changes nothing": lambda answer: torch.equal(blended(answer, 0.0)[1], values),
        "blend = 1/2 is halfway, at the first frames alone":
            lambda answer: torch.allclose(blended(answer, 0.5)[0], expected),
        "outputs are left alone": lambda answer: torch.equal(answer(toy, 0.5)("b", keys), keys),
        "on digits32, as the library": lambda answer: torch.allclose(
            denoiser(xt, t, hook=answer(of_past, 0.5)), by_library, rtol=1e-3, atol=1e-4),
    }
check(blending_hook, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(cached, blend):
    def blended_past(own, old):
        k = old.shape[2]
        return torch.cat([(1 - blend) * own[:, :, :k] + blend * old, own[:, :, k:]], dim=2)

    def hook(site, feature):
        if not isinstance(feature, tuple):
            return feature
        return tuple(blended_past(own, old) for own, old in zip(feature, cached[site]))

    return hook


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Blend at `"decoder"` with `source="same"`: `partial(injection, sites="decoder", prepend=False,
#    source="same", blend=0.5)`. Is there a blend between 0 and 1 that beats both ends?
#
# :::{dropdown} Solutions
# 1. $K / F$, so 12 sixteenths: only four frames pass through the network. One evaluation of twelve frames per
#    window fills the cache.
# 2. Two blocks of logits, one softmax over both, two products.
# 3. At a blend of 1 it overwrites.
# 4. Measure with six clips and then with twenty-four, and compare clip by clip. Does the best blend stay the
#    same? If not, six clips had found noise.
# :::
#
# ## Sources
#
# Features of a source in a new evaluation: {cite:t}`tumanyan2023plug`. Keys and values:
# {cite:t}`cao2023masactrl`. Cached keys and values in a streaming video model: {cite:t}`huang2025self`. Noise
# levels per frame, which make a clean past possible: {cite:t}`chen2024diffusion`.
