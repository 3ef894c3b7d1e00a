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
# # 9. Direct feature injection
#
# **The network has already computed what the past looks like, inside. Can that be handed to the next window, instead of the past itself?**
#
# We record the features of the previous frames through the tap, put them into the new window's pass, and find the one place where this is not a trick but an identity: keys and values of
# a clean past. There injection *is* the condition of chapter 7, with two thirds of its passes. Everywhere else we measure what it does.
#
# *Time to run: about a minute on two CPU cores, about twenty seconds on a GPU.*

# %% [markdown]
# **You will learn** what can be injected, where, and how; why appended keys and values work and overwritten outputs do not; what the features carry.
#
# **You need** chapters 3 and 7.

# %%
import time
from functools import partial

import matplotlib.pyplot as plt
import torch
from einops import rearrange
from sklearn.linear_model import RidgeClassifierCV, RidgeCV

import vdiff_lite as vd
from vdiff_lite.evaluation import video_metrics
from vdiff_lite.evaluation.method_text import bind
from vdiff_lite.evaluation.results import by_clip, command_of, read_table, rows_of, values
from vdiff_lite.methods import FeatureCache, history_guidance, injection
from vdiff_lite.viz import sliders

vd.prepare_cpu()
device = vd.pick_device()
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
F, K = 16, 5  # window and overlap: 5 frames given, 11 made


def held_out(clips, frames=F, seed=0, split="test"):
    data = vd.BouncingDigits(split=split, num_frames=frames)
    return data.sample(clips, torch.Generator().manual_seed(seed))


def continue_clips(method, truth, steps=12, seed=1):
    xt = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    with torch.no_grad():
        return vd.run_sampler(
            vd.ddim(method(denoiser, truth[:, :, :K]), xt, schedule, steps)
        ).cpu()


def score(clips, truth):
    psnr = video_metrics.psnr(clips[:, :, K:].clamp(-1, 1), truth[:, :, K:].cpu()).mean(0)
    return "  ".join(f"{x:5.1f}" for x in psnr[[0, 4, 10]])

# %% [markdown]
# ## What we will have at the end

# %% mystnb={"image": {"alt": "Three film strips: the truth, its continuation by injected keys and values, and one by overwritten decoder features; the last jumps where the given frames end."}, "figure": {"caption": "The first five frames are given (blue). Middle: keys and values of the clean past, appended. Below: the decoder's outputs at the overlap, overwritten. F = 16, K = 5, stride 11."}}
truth = held_out(6, seed=3).video.to(device)
overwritten = partial(injection, sites="decoder", append=False, source="same")
made = [continue_clips(method, truth) for method in (injection, overwritten)]
made[1] = torch.cat([truth[:, :, :K].cpu(), made[1][:, :, K:]], dim=2)
viz.film_strip(
    [truth[0].cpu(), *(clips[0] for clips in made)],
    ["truth", "keys, values", "outputs"],
    num_context=[F, K, K],
);

# %% [markdown]
# **Predict.** The features at the overlap are replaced by those of the true past, at every level and in every stage of the decoder. Why should the *new* frames care?

# %% [markdown]
# ## The mathematics
#
# Let $\phi_s(z)$ be what the network holds at site $s$. *Blending* overwrites it at the frames $a$ of the overlap,
#
# $$\phi_s(z)_a \leftarrow (1 - \lambda)\,\phi_s(z)_a + \lambda\,\phi_s(h_t), \tag{1}$$
#
# with $h_t$ the past at the same noise level, in the spirit of Plug-and-Play {cite:p}`tumanyan2023plug`. *Appending* leaves the window's own features alone and lets its frames look at the
# past's keys and values too, like MasaCtrl's {cite:p}`cao2023masactrl`:
#
# $$\operatorname{attention}\big(Q,\; [K_h, K],\; [V_h, V]\big). \tag{2}$$
#
# If $h$ is *clean* and clean frames never look at noisy ones, then $K_h, V_h$ do not depend on the window at all. They are computed once, and (2) is what a full pass with the past in the
# window computes for the new frames,
#
# $$\text{injection}(x_t) = c(x_t) \quad\text{exactly}, \qquad \text{at } \tfrac{F - K}{F} \text{ of the work.} \tag{3}$$
#
# Streaming video models of today cache keys and values in this way {cite:p}`huang2025self`.

# %% [markdown]
# ## Build it

# %%
def my_injection(denoiser, past):
    k, seen = past.shape[2], {}

    def record(site, feature):
        seen[site] = feature
        return feature

    clean = torch.zeros(past.shape[0], dtype=torch.long, device=past.device)
    with torch.no_grad():
        denoiser(past, clean, hook=record)  # one pass for the whole window

    def in_front(site, feature):
        if not isinstance(feature, tuple):  # a stage's output: left alone
            return feature
        return tuple(torch.cat([old, own], dim=2) for old, own in zip(seen[site], feature))

    def injected(xt, t):
        positions = torch.arange(k, xt.shape[2])  # the new frames stand after the past
        new = denoiser(xt[:, :, k:], t, hook=in_front, positions=positions)
        return torch.cat([past, new], dim=2)

    return injected

# %% [markdown]
# ## Meet the twin

# %%
past = truth[:2, :, :K]
xt = torch.randn(truth[:2].shape, generator=torch.Generator().manual_seed(1)).to(device)
t = torch.tensor([700, 300], device=device)
with torch.no_grad():
    mine, theirs = my_injection(denoiser, past)(xt, t), injection(denoiser, past)(xt, t)
    in_window = history_guidance(denoiser, past)(xt, t)
torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)

# %% [markdown]
# And equation (3), measured: the difference to the past in the window, and the time of both.

# %%
print(f"largest difference in x0_hat: {(theirs - in_window).abs().max():.1e}")


def seconds(method, repeats=3):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        continue_clips(method, truth, steps=6)
        times.append(time.perf_counter() - started)
    return min(times)


ratio = seconds(injection) / seconds(history_guidance)
print(
    f"time of injection / time of the past in the window: {ratio:.2f}   ((F - K) / F = {(F - K) / F:.2f})"
)

# %% [markdown]
# ## Which site, which operation, which source?
#
# Everything else is an approximation. Six clips, the same noise.

# %%
variants = {
    "nothing (independent)": "independent",
    "input (replacement)": "replacement",
    "encoder outputs, overwritten": "injection:sites=encoder,prepend=False,source=same",
    "decoder outputs, overwritten": "injection:sites=decoder,prepend=False,source=same",
    "all outputs, overwritten": "injection:sites=encoder+middle+decoder,prepend=False,source=same",
    "all outputs, overwritten, clean": "injection:sites=encoder+middle+decoder,prepend=False",
    "K, V overwritten, same level": "injection:prepend=False,source=same",
    "K, V appended, same level": "injection:source=same",
    "K, V along time, clean": "injection:sites=temporal",
    "K, V of joint blocks, clean": "injection:sites=joint",
    "K, V of the foresight, clean": "injection:sites=motion",
    "along time and foresight, clean": "injection:sites=temporal+motion",
    "all K, V, clean": "injection",
}
print("                                    PSNR at new frame 1, 5, 11   (6 clips)")
for name, text in variants.items():
    print(f"{name:34}  {score(continue_clips(bind(text), truth), truth)}")

# %% [markdown]
# The pattern: what is written at the overlap reaches the new frames only through attention. Overwriting a stage's *output* changes what the next stage's keys and values are made of, once
# and late; appending *all* keys and values is the whole conversation. And the source matters as much
# as the site: features of a noised past are as vague as that past is, and the same overwriting with clean features does far better.
#
# Six clips are few. The study gave every variant 32 held-out clips and 25 steps, and asked two more questions of each new frame: does it show the right digit (*same*, the identity of chapter 6), and how many pixels is it away
# from its true place (*off*)? The first is what the features carry of identity, the second what they carry of motion.

# %%
about, rows = read_table("../data/results/compare_sites.csv")
print(command_of(about))
print(f"{'':32}  PSNR at 1, 5, 11    same   off at 1, 11")
for name, text in variants.items():
    of = rows_of(text)
    db = "  ".join(f"{by_clip(rows, 'psnr', frame=n, **of).mean():5.1f}" for n in (1, 5, 11))
    off = "".join(f"{by_clip(rows, 'off', frame=n, **of).mean():7.1f}" for n in (1, 11))
    print(f"{name:32} {db} {values(rows, 'identity', **of).mean():7.2f} {off}")

# %% mystnb={"image": {"alt": "Two panels of dots with intervals, one line for each variant of injection: the share of frames with the right digit, and the distance from the true place at the last new frame. Keys and values along time have the digit and not the place; those of the foresight alone have neither; both together have both."}, "figure": {"caption": "What each variant carries over. Left: share of new frames that show the right digit. Right: distance of the digit from its true place at the eleventh new frame. 32 held-out clips, 95% intervals."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
kinds = (("identity", {}, "right digit (share)"), ("off", {"frame": F - K}, "off (pixels)"))
for axis, (metric, where, label) in zip(axes, kinds):
    scores = {
        name: by_clip(rows, metric, **where, **rows_of(text)) for name, text in variants.items()
    }
    viz.plot_intervals(axis, {name: video_metrics.bootstrap(x) for name, x in scores.items()})
    axis.set(xlabel=label, xlim=0)

# %% [markdown]
# The last rows take the conversation apart. Keys and values *along time* alone keep the digit and lose the place: the right digit is on nearly every frame, and by the last of them it is pixels away. Those of the *foresight* alone, a few hundred
# numbers a frame that know nothing but where the past was, do not bring the digit, and without a digit in its place there is little to be put in the right one. Both together bring nearly everything: one says *what*, the other says *where*, and the new frames need both. Those of the joint blocks add next to nothing.
#
# Two pairs of rows agree. With the features of the same noise level, overwritten and appended keys and values come to the same: what the new frames see in the place of the overlap is the same features either way. And *all outputs, clean* come about
# to where the keys and values along time come: an output is what the next stage makes its keys and values of. What the foresight knows is in neither.

# %% [markdown]
# ## How long to inject
#
# Published advice for images is to stop after about 80% of the steps, lest the source be copied. Here the source does not hold what is to be made, so there is nothing to copy. Does stopping
# early help?

# %%
print("share    PSNR at new frame 1, 5, 11   (6 clips)")
for fraction in (0.0, 0.4, 0.8, 1.0):
    clips = continue_clips(partial(injection, fraction=fraction), truth)
    print(f"{fraction:5.1f}  {score(clips, truth)}")

# %% [markdown]
# And over the 32 clips of the study, beside the other dial, how *much* of the past's keys and values replaces the window's own:

# %%
DIALS = {
    "blend": {0: "independent"}
    | {lam: f"injection:prepend=False,blend={lam}" for lam in (0.25, 0.5, 0.75, 1)},
    "share of the trajectory": {s: f"injection:fraction={s}" for s in (0, 0.2, 0.4, 0.6, 0.8)}
    | {1: "injection"},
}


def over_dial(dial, n):
    return [by_clip(rows, "psnr", frame=n, **rows_of(text)).mean() for text in dial.values()]


for name, dial in DIALS.items():
    print(f"\n{name:24}", "".join(f"{x:7}" for x in dial))
    for n in (1, 5, 11):
        print(f"  PSNR at new frame {n:2}    ", "".join(f"{x:7.1f}" for x in over_dial(dial, n)))

# %% mystnb={"image": {"alt": "Two panels of PSNR at the first, fifth and eleventh new frame: against the blend of overwritten keys and values, and against the share of the trajectory in which keys and values are appended."}, "figure": {"caption": "Two dials. Left: keys and values of the clean past at the overlap's own places, blended in. Right: clean keys and values put in front, in the first part of the trajectory only; after that the noised past stands at the input. 32 held-out clips."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for axis, (name, dial) in zip(axes, DIALS.items()):
    viz.plot_lines(axis, list(dial), {n: over_dial(dial, n) for n in (1, 5, 11)}, marker="o")
    axis.set(xlabel=name)
axes[0].set(ylabel="PSNR (dB)")
axes[0].legend().remove()
axes[1].legend(title="new frame", frameon=False, bbox_to_anchor=(1, 1), loc="upper left");

# %% [markdown]
# Neither dial has a best place in the middle. Half a blend is far less than half of the gain: keys between two pictures point at neither. The share of the trajectory is milder: the first fifth of the steps, where the noise is highest, brings most of it. Where the digit goes and which one it is
# is decided there; what comes after draws the strokes.
#
# ## Why does it work? Ask the features
#
# A linear probe: from one clean frame's features at a site, pooled to 4 x 4 places, can a line read where the digit is, how it moves, and which digit it is? The probe learns on clips
# of the training writers and answers for held-out ones. A single frame does not show how it moves: whatever a site knows of *motion* it was told by other frames.

# %%
def features_and_truth(clips, split, seed):
    batch = held_out(clips, frames=6, seed=seed, split=split)
    source = FeatureCache(denoiser, batch.video.to(device)).at(0)
    read = {}
    for site, feature in source.items():
        if torch.is_tensor(feature) and feature.ndim == 5:
            pool = torch.nn.functional.adaptive_avg_pool2d(feature.flatten(1, 2), 4)
            read[site] = (
                rearrange(pool, "b (c f) h w -> b f (c h w)", f=6)[:, 4].cpu().numpy()
            )
    return read, batch.truth.positions[:, 0, 4], batch.truth.velocities[:, 0, 4], batch.truth.labels[:, 0]


train, test = features_and_truth(500, "train", 1), features_and_truth(200, "test", 2)

# %%
print("site          where (R2)   how it moves (R2)   which digit (accuracy)")
for site in train[0]:
    scores = []
    for i, probe in ((1, RidgeCV), (2, RidgeCV), (3, RidgeClassifierCV)):
        fitted = probe([1.0, 100.0, 1e4]).fit(train[0][site], train[i].numpy())
        scores.append(fitted.score(test[0][site], test[i].numpy()))
    print(f"{site:12} {scores[0]:11.2f} {scores[1]:19.2f} {scores[2]:24.2f}")

# %% [markdown]
# Place is everywhere, and motion appears as soon as frames have looked at each other. *Which digit it is* a line can hardly read at any site: pooled to 4 x 4 places, the strokes fall differently
# wherever the digit stands. The network reads it elsewhere: in the two upper levels of the decoder attention along time counts places from the digit (chapter 3), so that a stroke is at the same place on every frame.
#
# ## Play
#
# Which keys and values, how much of them, and for which part of the trajectory, counted from pure noise. Left the truth, right what is made, with a bright border where frames were given; the overlap stays in the window and is
# made along with the rest.

# %%
one = truth[4:5]


def inject(site, blend, fraction):
    method = partial(injection, sites=site, blend=blend, fraction=fraction, append=False)
    clip = torch.cat([one[:, :, :K].cpu(), continue_clips(method, one)[:, :, K:]], dim=2)
    return torch.cat([viz.framed(one[0].cpu(), F), viz.framed(clip[0], K)], dim=-1)


sliders.explore_slider(
    inject,
    {
        "site": ["temporal", "motion", "attention"],
        "blend": [0.0, 0.5, 1.0],
        "share": [0.4, 1.0],
    },
    "Left the true clip, right the continuation of its first five frames.",
    start=[2, 2, 1],
    fine={
        "blend": [round(0.1 * i, 1) for i in range(11)],
        "share": [0.2, 0.4, 0.6, 0.8, 1.0],
    },
    width=420,
)

# %% [markdown]
# ## What breaks, and how to see it
#
# Tell the network the wrong time. The past's keys carry their positions; if the new frames are given the *same* positions as the past, instead of the ones after it, they are asked to be
# the past again.

# %%
def misplaced(denoiser, past):
    held = FeatureCache(denoiser, past).at(0)
    hook = lambda site, y: (
        tuple(torch.cat([a, b], 2) for a, b in zip(held[site], y))
        if isinstance(y, tuple)
        else y
    )
    new = lambda xt, t: denoiser(xt[:, :, K:], t, hook=hook, positions=torch.arange(F - K))
    return lambda xt, t: torch.cat([past, new(xt, t)], dim=2)


wrong = continue_clips(misplaced, truth)
print("PSNR of new frame 1, 5, 11 against the truth")
print("  right positions:", score(made[0], truth), "   wrong ones:", score(wrong, truth))
again = {"right": made[0], "wrong": wrong}
again = {n: video_metrics.psnr(x[:, :, K : 2 * K].clamp(-1, 1), x[:, :, :K]) for n, x in again.items()}
print("PSNR of new frames 1 to 5 against the five given ones (a copy has a high one)")
print("  ".join(f"{n} positions: {x.mean():.1f}" for n, x in again.items()))

# %% mystnb={"image": {"alt": "Three film strips: the truth, the continuation with right positions, and one with wrong positions that starts over from the first given frames."}, "figure": {"caption": "Given: five frames (blue). Below, the new frames were told that they stand where the past stands."}}
viz.film_strip(
    [truth[0].cpu(), made[0][0], wrong[0]],
    ["truth", "right", "wrong positions"],
    num_context=[F, K, K],
);

# %% [markdown]
# Told the past's own positions, the new frames are the past over again, the very copy that one is warned of: it comes from a wrong time and not from too much of the past. With the right time injection fails as the window does, slowly: what
# is copied from copy to copy drifts (the rollouts of chapter 10).
#
# ## Recap
#
# Injection is only as good as the way by which the new frames hear of it. Outputs written over at the overlap are heard faintly; keys and values put in front are heard in every block. With a
# clean past, and a network whose clean frames look only at each other, this is no approximation but the condition of chapter 7, for less work.
#
# ## Exercises
#
# 1. **Predict.** With $K = 12$ of $F = 16$, what share of the work does injection save?
# 2. **Code.** Append the keys and values of frames *older* than the overlap too: let `past` have 11 frames and the window 22. Does the fifth new frame gain?
# 3. **Explore.** Blend with $\lambda$ between 0 and 1 at `"decoder"` with `source="same"`. Is there a $\lambda$ that beats both ends?
#
# :::{dropdown} Solutions
# 1. Three quarters: only 4 of 16 frames pass, plus one pass of 12 frames a window.
# 2. `continue` with `K = 11, F = 22`: the price is the same, eleven new frames a step. The gain is small when the overlap already shows the motion, and larger when it hides a stroke.
# 3. `partial(injection, sites="decoder", prepend=False, source="same", blend=lam)`. Measure with six clips and then with twenty-four: differences below half a dB are noise.
# :::
#
# ## Sources
#
# Features of a source in a new pass: {cite:t}`tumanyan2023plug`; keys and values: {cite:t}`cao2023masactrl`. Cached keys and values in a video model that streams: {cite:t}`huang2025self`.
# Noise levels per frame, which make a clean past possible: {cite:t}`chen2024diffusion`.
