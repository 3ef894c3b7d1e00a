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
# # 6. The context limit
#
# **The model generates 16 frames. Why not simply ask it for more?**
#
# The number of frames that a network sees at once is its *context limit*. Two obvious ways past it: concatenate
# several clips, or give the network more frames than it was trained on. We try both and measure what goes wrong.
# Along the way we collect the measures of Part II, and say when a clip *fails*.
#
# *Time to run: about a minute and a half on two CPU cores, half of that on a GPU.*

# %% [markdown]
# **You will learn** why the training length limits what a network can generate; what freezing, fading, a
# boundary discontinuity and a change of identity are; how each is measured, and how a measure is validated;
# when a clip counts as failed, and what to conclude when none has.
#
# **You need** chapters 1, 3 and 5.

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

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features, frechet, load_features, real_clip_features
from vdiff_lite.exercises import check
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
device = vd.pick_device()
denoiser = vd.load("digits32", device)
window, overlap = 16, 5
stride = window - overlap  # 11 new frames per window


def generate_clips(clips, seed):
    """Clips of 16 frames, as in chapter 5: the first frame alone, then the other fifteen."""
    return vd.generate(denoiser, clips, window, steps=15, generator=torch.Generator().manual_seed(seed)).cpu()

# %% [markdown]
# ## Several clips, concatenated
#
# Three generated clips in a row. At frames 16 and 32 the digit jumps, and changes into another one:

# %% mystnb={"image": {"alt": "A film strip of 48 frames, every second shown; at frames 16 and 32 the digit changes and jumps."}, "figure": {"caption": "Three generated clips, concatenated (seeds chosen so that the digits can be read). The digit changes at frames 16 and 32 (orange bars)."}}
chosen = [torch.Generator().manual_seed(seed) for seed in (11, 9, 4)]
clips = vd.generate(denoiser, 3, window, steps=15, generator=chosen).cpu()
concatenated = rearrange(clips, "n c f h w -> 1 c (n f) h w")
viz.film_strip(concatenated, ["concatenated"], every=2, joins=[16, 32]);

# %%
alt = "A digit bounces, and is twice replaced by another digit"
viz.show_clips([viz.framed(concatenated[0], joins=[16, 32])], ["three clips, concatenated"], alt=alt)

# %% [markdown]
# **Predict.** What if the network gets 48 frames of noise at once? None of its layers depends on the number
# 16. What will it do well, and what not?
#
# ## A longer window

# %% mystnb={"image": {"alt": "Film strips for 16, 32 and 48 frames at once; in the longer ones the digit is a shapeless spot. Noise is left at both ends of the 32 frames and on nearly all of the 48."}, "figure": {"caption": "Every fourth frame of clips generated in one window. The network was trained on at most 16 frames."}}
lengths = [16, 32, 48]
sample = partial(vd.sample, denoiser, 4, sampler=vd.ddim, steps=15)  # all frames at once
long_clips = {n: sample(num_frames=n, generator=torch.Generator().manual_seed(2)).cpu() for n in lengths}
viz.film_strip([long_clips[n][0] for n in lengths], [f"{n} at once" for n in lengths], every=4);

# %% [markdown]
# Once the window is longer than in training, the digit loses its shape, and noise stays: at both ends of 32
# frames, on nearly all of 48. We measure four clips of each length. The *speed* is how far the centroid of the
# digit moves per frame, in pixels. The *intensity* of a frame is how much is drawn on it: the sum of $(x + 1) / 2$
# over its pixels. The last column counts the pixels that are not black, $x > -0.9$. All are divided by their
# means over real clips.

# %%
source = vd.BouncingDigits(split="test", num_frames=48)
real = source.sample(128, torch.Generator().manual_seed(0)).video
rows = {}
for n, clip in long_clips.items():
    speed = digit_metrics.speed(clip).mean() / digit_metrics.speed(real).mean()
    intensity = digit_metrics.intensity(clip).mean() / digit_metrics.intensity(real).mean()
    not_black = (clip > -0.9).float().mean() / (real > -0.9).float().mean()
    rows[n] = {"speed": speed.item(), "intensity": intensity.item(), "not black": not_black.item()}
table = pd.DataFrame(rows).T.rename_axis("frames")
show_table(table, "digits32, four clips per length, all frames at once, relative to real clips")

# %% [markdown]
# Something still moves, at about the right speed. But at 48 frames about four times as many pixels as on real
# clips are not black. Our reading: the network never saw two frames more than 15 apart, and has not learned what
# to make of such pairs. The frames at the ends have the most of them.
#
# A longer window would therefore need training on longer clips. What would it cost to run? The work
# of attention along time and of joint attention grows with the square of the length, everything else in
# proportion to it. Which of the two dominates shows in the time *per frame*:

# %%
def evaluation_time(frames, repeats=3):
    x, t = torch.randn(1, 1, frames, 32, 32, device=device), torch.full((1,), 500, device=device)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        with torch.no_grad():
            denoiser(x, t).sum().item()
        times.append(time.perf_counter() - started)
    return min(times)


sizes = [16, 32, 64, 128, 256]
cost = [evaluation_time(n) / n for n in sizes]

# %% mystnb={"image": {"alt": "Time per frame relative to a window of sixteen frames; it is about one up to 64 frames and then rises, to less than two at 256."}, "figure": {"caption": "Cost of a frame in one long window, relative to a window of 16 frames (measured here, the fastest of three evaluations)."}}
figure, axis = plt.subplots(figsize=(5.5, 2.6))
viz.plot_lines(axis, sizes, {"one window": [c / cost[0] for c in cost]}, marker="o")
axis.set(xlabel="frames in the window", ylabel="time per frame, relative", xscale="log", ylim=0)
axis.set(xticks=sizes, xticklabels=sizes)
axis.minorticks_off()
ratio = cost[-1] / cost[0]
print(f"a frame in a window of {sizes[-1]} takes {ratio:.1f} times as long as in one of {sizes[0]}")

# %% [markdown]
# Up to 64 frames the line is nearly flat: attention is a small part of this network's work. Beyond that it
# rises, but even a window of 256 frames is affordable here. So not time but quality limits the window of a small
# network.
#
# ## The mathematics
#
# We want a sample from $p(x_{0:N-1})$ for any $N$, and we have $p(x_{0:F-1})$. The way out is to factorize in
# time. With an *overlap* of $K$ frames and a *stride* of $F - K$,
#
# $$p(x_{0:N-1}) \approx p(x_{0:F-1}) \prod_{j \geq 1} p\big(x_{\text{new}_j} \mid x_{\text{last } K \text{ before}}\big), \tag{1}$$
#
# where $j$ counts the windows after the first. Each factor is a window of the length that the network knows,
# *conditioned on the past*: the frames given or generated before. Part II is about how to make the network use
# it. The approximation is to keep only its last $K$ frames: what they do not show is lost. A digit hidden on all
# of them is unknown to the next window, which may replace it.
#
# ## Build it: the sliding window
#
# `condition_on_past` (chapter 5) holds the known frames in the window, marked as clean. A *rollout* is this in a
# loop: generate a window, keep its last $K$ frames as the next past, and repeat. Ours begins with a given past
# instead of the first factor.

# %%
def my_rollout(past, windows, seed, steps=15):
    generator, generated = torch.Generator().manual_seed(seed), [past]
    for _ in range(windows):
        known = torch.cat(generated, dim=2)[:, :, -overlap:]
        xt = torch.randn(1, 1, window, 32, 32, generator=generator).to(device)
        with torch.no_grad():
            method = vd.condition_on_past(denoiser, known)
            clip = vd.run_sampler(vd.ddim(method, xt, denoiser.schedule, steps))
        generated.append(clip[:, :, overlap:])
    return torch.cat(generated, dim=2)

# %% [markdown]
# ## Meet the twin
#
# The library's `rollout` yields frame after frame and keeps only the overlap, so its memory does not grow with
# the length of the clip.

# %%
source_49 = vd.BouncingDigits(split="test", num_frames=49)
truth = source_49.sample(1, torch.Generator().manual_seed(12)).video.to(device)
past = truth[:, :, :overlap]
mine = my_rollout(past, 4, seed=0)
generator, sampler = torch.Generator().manual_seed(0), partial(vd.ddim, steps=15)
frames = vd.rollout(denoiser, past, 44, window, overlap, sampler=sampler, generator=generator)
torch.testing.assert_close(mine[:, :, overlap:], torch.stack(list(frames), dim=2), rtol=1e-3, atol=1e-3)

# %% mystnb={"image": {"alt": "Two film strips of 49 frames, every third shown: the truth, and a continuation by the model from five given frames, in which a digit keeps moving."}, "figure": {"caption": "Above the truth, below four windows generated by the model. Blue: frames given (the first five; the truth is given throughout). New windows begin at frames 16, 27 and 38 (orange bar: the first frame shown)."}}
labels = ["truth", "generated"]
viz.film_strip([truth[0], mine[0]], labels, num_context=[49, overlap], every=3, joins=[16, 27, 38]);

# %% [markdown]
# Four windows on, the digit still moves and keeps its shape. How close is it to the truth?
#
# ## How a long clip is measured
#
# The motion of our digits is deterministic, so each failure has a measure. Let $\delta_f$ be the root mean
# square of $x_{f} - x_{f-1}$ over the pixels, and $J$ the frames at which new windows begin.
#
# | failure | measure | ideal |
# |---|---|---|
# | the future is not the true one | **PSNR** (peak signal-to-noise ratio) of a frame against the truth, $10 \log_{10}(4 / \text{mean squared error})$ dB, by *lead time*, the number of frames since the last true one | high |
# | a visible join | **boundary discontinuity**, the change across a join relative to the change elsewhere: $\operatorname{mean}_{f \in J} \delta_f \,/\, \operatorname{mean}_{f \notin J} \delta_f$ | 1 |
# | freezing, rushing | **motion**: mean speed / mean speed of the truth | 1 |
# | fading, doubling | **intensity**: mean intensity / mean intensity of the truth | 1 |
# | another digit | **identity**: fraction of frames on which the digit of the first frame is read | 1 |
# | clips that do not look real | **Fréchet distance** of many clips to real ones, see below | that of as many real clips |
#
# In PSNR (chapter 3), 4 is the square of the range of pixels, from $-1$ to 1. *SSIM*, structural similarity,
# compares local means, variances and covariances with the truth's, and is 1 for equal frames (chapter 12). A
# boundary discontinuity is what the eye sees as a seam.

# %%
def my_boundary_discontinuity(clip, joins):
    change = clip.diff(dim=2).square().mean(dim=(1, 3, 4)).sqrt()  # (b, f - 1): from frame f to f + 1
    at_join = torch.zeros(change.shape[1], dtype=torch.bool)
    at_join[[j - 1 for j in joins]] = True
    return (change[:, at_join].mean() / change[:, ~at_join].mean()).item()


def my_scores(clip, real, joins=(16, 32)):
    digits = digit_metrics.read_digits(clip)
    return {
        "boundary": my_boundary_discontinuity(clip, joins),
        "motion": (digit_metrics.speed(clip).mean() / digit_metrics.speed(real).mean()).item(),
        "intensity": (digit_metrics.intensity(clip).mean() / digit_metrics.intensity(real).mean()).item(),
        "identity": (digits == digits[:, :1]).float().mean().item(),
    }

# %% [markdown]
# A measure needs validation too. Real clips must score as ideal, and clips corrupted on purpose must be caught
# by the measure meant for them: slowed clips by motion, fading ones by intensity, clips switched
# at the joins by boundary discontinuity and identity. Motion and intensity are relative to 128 *other* real
# clips.

# %%
def slow_down(clip):
    return clip[:, :, :16].repeat_interleave(3, dim=2)


def fade(clip):
    return (clip + 1) * torch.linspace(1, 0.4, clip.shape[2])[:, None, None] - 1


def switch_clips(clip):
    return torch.cat([clip[:, :, :16], clip.roll(1, 0)[:, :, 16:32], clip.roll(2, 0)[:, :, 32:]], dim=2)


corrupted = {
    "real": real,
    "slowed to a third": slow_down(real),
    "fading": fade(real),
    "another clip at joins": switch_clips(real),
}
unconditional = rearrange(generate_clips(12, seed=5), "(n k) c f h w -> n c (k f) h w", k=3)
corrupted |= {"model, concatenated": unconditional}

# %%
others = source.sample(128, torch.Generator().manual_seed(1)).video
scores = {name: my_scores(clip, others) for name, clip in corrupted.items()}
show_table(pd.DataFrame(scores).T, "Real, corrupted and generated clips; each measure is ideal at 1")

# %% [markdown]
# On real clips boundary discontinuity, motion and intensity are close to 1. They are not equal to it:
# two sets of 128 clips differ a little. Identity is below 1 even there: the classifier, fitted to glyph samples of the training
# split, sometimes misreads a digit as it moves between pixels. That is the ceiling to compare with. Each
# corruption is caught by its measure. One number misleads: the boundary of slowed clips is 0, because both
# joins happen to fall between two copies of one frame. The model's clips, concatenated, fail where the
# switched ones do.
#
# ### When does a clip fail?
#
# A mean over a clip does not say *when* it went wrong. So the library checks every frame against limits, set by
# hand and wide enough for real clips. `digit_metrics.failures` tells which checks fail on which frames, and a
# clip *fails* at its first frame on which any does. (Its identity check compares with the true digit, not with the first frame.) We validate
# the checks in the same way, on 32 clips whose first five frames count as given.

# %%
(dim, bright), (slow, fast), jump = (digit_metrics.LIMITS[x] for x in ("intensity", "motion", "jump"))
limits = {
    "intensity": ("median over 7 frames, relative to the context", f"{dim} to {bright}"),
    "motion": ("median speed over 7 frames, relative to the truth's mean", f"{slow} to {fast}"),
    "jump": ("movement in one frame", f"at most {jump:g} pixels"),
    "identity": ("digit read most often on 7 frames", "the truth's"),
}
display(show_table(pd.DataFrame(limits, index=["measure", "passes"]).T, "The checks of a frame"))
rows = {}
for name in ("real", "slowed to a third", "fading", "another clip at joins"):
    failed = digit_metrics.failures(corrupted[name][:32], real[:32], overlap)
    rows[name] = {check: frames.any(dim=1).float().mean().item() for check, frames in failed.items()}
show_table(pd.DataFrame(rows).T, "Fraction of 32 clips that fail each check on some frame")


# %% [markdown]
# All real clips pass but one, whose digit is misread for a while. Of the clips switched at joins *jump* misses
# one. Otherwise each check catches all of its corruption. But the corruptions are gross. The limits let half the speed
# pass, and the checks do not look at the direction at all.
#
# ### Distribution-level metrics
#
# Papers on video often report a number that needs no true future. A *feature network* trained on videos maps
# every clip to a vector of features, and their *distribution* is compared with that of real clips, by the formula
# of chapter 5 for two Gaussians {cite:p}`heusel2017gans`:
#
# $$\lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr}\!\big(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1 \Sigma_2)^{1/2}\big). \tag{2}$$
#
# This is the square of the *Fréchet distance*. The field calls it the distance, without a root, and so do we.
# For videos it is FVD {cite:p}`unterthiner2018towards`, whose feature network was trained to classify human
# actions. Ours was trained on bouncing digits, to predict which digit it sees, where, and how fast it moves
# (`vdiff_lite.evaluation.feature_net`). The features of a clip are the mean and the standard deviation over its
# frames of the last layer's activations, each computed from five frames by convolutions along time, and scaled to
# unit variance over real clips.

# %%
def my_frechet(a, b):
    (mean_1, cov_1), (mean_2, cov_2) = ((x.mean(0), torch.cov(x.T)) for x in (a.double(), b.double()))
    # the trace of a root is the sum of the roots of the eigenvalues
    root = torch.linalg.eigvals(cov_1 @ cov_2).sqrt().real.sum()
    return ((mean_1 - mean_2) ** 2).sum() + cov_1.trace() + cov_2.trace() - 2 * root


real_features = real_clip_features(frames=window)  # of 2,048 held-out clips
one_half, other_half = clip_features(real[:64, :, :window]), clip_features(real[64:, :, :window])
by_hand, twin = my_frechet(one_half, other_half).item(), frechet(one_half, other_half)
torch.testing.assert_close(by_hand, twin, rtol=1e-4, atol=1e-4)
size = sum(p.numel() for p in load_features().parameters())
print(f"{size:,} parameters; {len(real_features)} real clips, {real_features.shape[1]} features each")

# %% [markdown]
# **Predict.** Is the distance of real clips to real clips 0? Which of the corrupted clips does it catch? Does
# it catch a clip played backwards? We take sixteen frames around the first join:

# %%
def distance_to_real(clips):
    return frechet(clip_features(clips), real_features)


around_join = slice(window - 8, window + 8)
sets = {name: clips[:, :, around_join] for name, clips in corrupted.items() if "model" not in name}
order = torch.randperm(window, generator=torch.Generator().manual_seed(0))
sets["played backwards"] = sets["real"].flip(2)
sets["frames shuffled"] = sets["real"][:, :, order]
distances = {name: distance_to_real(clips) for name, clips in sets.items()}
show_table(pd.DataFrame({"distance": distances}), "Fréchet distance to real clips, 128 clips each", digits=1)

# %%
fewer = {f"{n} of them": distance_to_real(sets["real"][:n]) for n in (16, 32, 64, 128)}
fewer["128 of them, frames 0 to 15"] = distance_to_real(real[:, :, :window])
digits = source.sample(128, torch.Generator().manual_seed(0)).truth.labels.flatten()  # of these 128
print("clips of each digit, 0 to 9, among ours:", torch.bincount(digits, minlength=10).tolist())
source = vd.BouncingDigits(split="test")
others = [source.sample(128, torch.Generator().manual_seed(seed)).video for seed in (1, 2, 3, 4)]
fewer |= {f"128 others, seed {seed}": distance_to_real(clips) for seed, clips in enumerate(others, 1)}
show_table(pd.DataFrame({"distance": fewer}), "Fréchet distance of real clips to real clips", digits=1)

# %% [markdown]
# Switched clips and shuffled frames lie far from real clips. Slowed and fading clips lie only a little
# farther than the real ones they were made from (these sixteen frames see only the middle of the fade). Clips
# played backwards do not stand out: a bouncing digit played backwards is a bouncing digit. The distance
# describes a set of clips. It cannot say *which* clip fails, or how, and it does not penalize a plausible clip
# that is not the true future.
#
# Nor are real clips at 0. The mean and the covariance of a few clips differ from those of many, and the fewer
# the clips, the more so. (The covariance of 16 clips has rank 15 at most, in 64 dimensions.) Sets of equal size
# differ too: the four others of 128 are nearer than ours. Which sixteen frames we cut hardly matters. The draw
# does: ours has only two sevens. So a distance means something only beside that of *as many* real clips, at best
# of the true futures of the *same* clips. Chapter 10 does this.
#
# ## Play
#
# The overlap $K$ is what the next window knows of the past. One frame tells where the digit is, two also tell
# its velocity. More frames leave fewer new ones per window. All use the same past and the same seed. The border
# is bright above and below for one frame when a new window begins.

# %%
twelve = truth[:, :, :12]


def continue_with_overlap(k):
    generator, sampler = torch.Generator().manual_seed(3), partial(vd.ddim, steps=12)
    frames = vd.rollout(denoiser, twelve, 20, window, k, sampler=sampler, generator=generator)
    generated = torch.cat([twelve, torch.stack(list(frames), dim=2)], dim=2)[0]
    joins = range(12 + window - k, 32, window - k)  # the first frames of the windows after the first
    both = viz.framed(truth[0, :, :32], 32), viz.framed(generated, 12, joins)
    return torch.cat(both, dim=-1).cpu()


alt = "Left the truth, right the model; bright border: the first 12 frames, the context."
overlaps = [1, 2, 5, 8, 12]
sliders.guidance_slider(continue_with_overlap, overlaps, "overlap K", alt, start=2, fine=range(1, 13))


# %% [markdown]
# ## What breaks, and how to see it
#
# Even with an overlap each window is conditioned on what the last one *generated*, errors included. Here is the
# PSNR against the truth by lead time, over eight clips and four windows.

# %% mystnb={"image": {"alt": "PSNR of the model's frames against the truth, mean of eight clips, over 44 frames: the model's line falls, fastest in the first window and without a jump at the joins, and stays above that of repeating the last context frame."}, "figure": {"caption": "PSNR against the truth by lead time, mean of eight clips. Dotted lines: joins. Dashed: the last context frame, repeated."}}
def roll_out(known, k):
    generator, sampler = torch.Generator().manual_seed(0), partial(vd.ddim, steps=15)
    frames = vd.rollout(denoiser, known, 44, window, k, sampler=sampler, generator=generator)
    return torch.stack(list(frames), dim=2).cpu().clamp(-1, 1)


eight = source_49.sample(8, torch.Generator().manual_seed(13)).video
known, future = eight[:, :, :overlap], eight[:, :, overlap:]
generated = {k: roll_out(known, k) for k in (overlap, 1)}
psnr_model = video_metrics.psnr(generated[overlap], future).mean(0)
psnr_copy = video_metrics.psnr(known[:, :, -1:].expand_as(future), future).mean(0)
figure, axis = plt.subplots(figsize=(6.5, 2.8))
viz.plot_lines(axis, range(1, 45), {"model": psnr_model, "copy the last frame": psnr_copy})
for join in (11, 22, 33):
    axis.axvline(join + 0.5, color="#999999", ls=":")
axis.set(xlabel="lead time (frames)", ylabel="PSNR (dB)");

# %% [markdown]
# The line stays above that of a copy. It falls fastest within the first window, where the past is true. At a
# join nothing breaks: what a window has lost, the next one does not regain. Do these clips *fail*? We count the
# new frames before the first failed check, with $K = 5$ and with a single frame of overlap:

# %%
for k, new in generated.items():
    failed = digit_metrics.failures(torch.cat([known, new], dim=2), eight, overlap)
    frames, reasons = digit_metrics.time_to_first_failure(failed, overlap)
    survived = (frames == 44).sum().item()
    print(f"K = {k}: {frames.tolist()}, {survived} of 8 without a failure", sorted({*reasons} - {""}))
for n in (8, 32, 64, 300):
    print(f"none of {n} failed: a fraction of {1 - 0.05 ** (1 / n):.2f} may still fail;  3 / n = {3 / n:.2f}")

# %% [markdown]
# With one frame of overlap half of the clips fail, all by their motion: a single frame does not tell the
# velocity. A clip without a failure after 44 frames is *censored*: its time to failure is longer, by how much we
# do not know. A mean of such times is too small, so Part II shows how many clips survive each frame instead.
#
# With $K = 5$ all eight survive. If a fraction $p$ of clips fails, all of $n$ survive with probability
# $(1 - p)^n$. The largest $p$ for which this is still 5% is about $3 / n$, the *rule of three*: of eight
# surviving clips we learn only that no more than about a third fail.
#
# **How far does the past reach?** Take real clips at noise level 600. Compare the network's error with the first
# five frames clean and with these as noisy as the rest. Where the two curves meet, a clean past has no effect.

# %% mystnb={"image": {"alt": "Error of the network's estimate for frames 5 to 15: with the first five frames clean it rises along the clip, with these noisy it falls a little to frame 8 and then rises, and lies higher on every frame."}, "figure": {"caption": "Squared error of the estimate at t = 600, frame by frame, on 24 held-out clips, with the first five frames clean and with these as noisy as the rest."}}
x0 = vd.BouncingDigits(split="test").sample(24, torch.Generator().manual_seed(9)).video
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(10))
xt, t = denoiser.schedule.add_noise(x0, torch.tensor([600]), eps), torch.full((24, window), 600)
with_past = torch.cat([x0[:, :, :overlap], xt[:, :, overlap:]], dim=2)
t_with_past = torch.where(torch.arange(window) < overlap, 0, t)
inputs = {"five noisy frames": (xt, t), "five clean frames": (with_past, t_with_past)}
errors = {}
for name, (clips, levels) in inputs.items():
    batches = zip(clips.split(8), levels.split(8))
    x0_hat = torch.cat([denoiser(a.to(device), b.to(device)).cpu() for a, b in batches])
    errors[name] = (x0_hat - x0).square().mean(dim=(0, 1, 3, 4))[overlap:]
figure, axis = plt.subplots(figsize=(6.5, 2.6))
viz.plot_lines(axis, range(overlap, window), errors, marker="o")
axis.set(xlabel="frame", ylabel="squared error", ylim=0);

# %%
gain = 1 - errors["five clean frames"] / errors["five noisy frames"]
print("fraction of the error that a clean past removes, by frame:", [round(g, 2) for g in gain.tolist()])


# %% [markdown]
# The curves do not meet. The fraction of the error that the clean past removes falls along the window, and is
# still large on the last frame: every frame of the window can attend to the past (chapter 3).
#
# With $K = 5$ every clip passes every check, and its PSNR falls all the same: a plausible clip need not be the
# true one. That is why Part II reports the other measures too.
#
# ## Recap
#
# A model of 16 frames cannot simply be asked for more: concatenated clips do not fit together, and in longer
# windows noise remains and the shape is lost. The solution is a sliding window whose new frames are
# conditioned on the overlap. PSNR, boundary discontinuity, motion, intensity and identity say what is wrong
# with a long clip, limits on them say when it fails, and the Fréchet distance compares a set of clips with
# real ones. The clip measures caught gross corruptions. The distance found switched clips and shuffled frames,
# and hardly slow or fading ones.
#
# ## Exercises
#
# 1. **Predict.** A clip repeats its first 16 frames forwards and backwards without end. Which measures does it
#    pass?
#
# 2. **Code.** Corrupt clips so that only *motion* catches it. From real clips of 96 frames make clips of
#    48. Hint: you have twice the frames you need.

# %% tags=["exercise"]
def only_motion(clip):
    """(b, 1, 96, 32, 32) -> (b, 1, 48, 32, 32), wrong in nothing but their motion."""
    return None


long_real = vd.BouncingDigits(split="test", num_frames=96).sample(8, torch.Generator().manual_seed(3)).video
as_real = long_real[:, :, :48]
compared = lambda answer: my_scores(answer(long_real), as_real)
claims = {
    "48 frames come out": lambda answer: answer(long_real).shape == as_real.shape,
    "motion is off by more than 0.3": lambda answer: abs(compared(answer)["motion"] - 1) > 0.3,
    "intensity is within 0.1 of 1": lambda answer: abs(compared(answer)["intensity"] - 1) < 0.1,
    "boundary is within 0.2 of 1": lambda answer: abs(compared(answer)["boundary"] - 1) < 0.2,
    "identity is above 0.9": lambda answer: compared(answer)["identity"] > 0.9,
}
check(only_motion, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def double_speed(clip):
    return clip[:, :, ::2]


assert check(double_speed, claims)


# %% [markdown]
# 3. **Code.** From the checks of each frame to the time to first failure. The mask `failed` is
#    true on the frames on which some check fails. Return, for each clip, the number of frames *before* the first
#    failure, and all of them where none fails. Hint: `cumprod`.

# %% tags=["exercise"]
def frames_before_failure(failed):
    """(b, n) bool -> (b,) long."""
    return None


mask = lambda *frames: torch.tensor([[f in frames for f in range(5)]])
random_masks = torch.rand(100, 12, generator=torch.Generator().manual_seed(0)) < 0.1
by_library = digit_metrics.time_to_first_failure({"any": random_masks}, 0)[0]
claims = {
    "the first failure counts, not the last": lambda answer: answer(mask(2, 4)).tolist() == [2],
    "a failure on the first frame gives 0": lambda answer: answer(mask(0)).tolist() == [0],
    "without a failure all frames count": lambda answer: answer(mask()).tolist() == [5],
    "100 random masks, as the library": lambda answer: torch.equal(answer(random_masks), by_library),
}
check(frames_before_failure, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def until_first(failed):
    return (~failed).long().cumprod(dim=1).sum(dim=1)


assert check(until_first, claims)

# %% [markdown]
# 4. **Explore.** Roll out eight clips for `num_frames=200`, with $K = 5$ and with $K = 2$. Which check fails first?
#    How many clips survive, and what does the rule of three allow you to say?
#
# :::{dropdown} Solutions
# 1. Motion, intensity, identity and (nearly) boundary discontinuity: nothing jumps, fades or stops. Only the
#    comparison with the true future fails. A measure that does not use the truth can be fooled by a loop.
# 2. Double speed is wrong in its motion alone.
# 3. The product of "not failed" over the frames so far is 1 until the first failure.
# 4. Sample true clips of five frames more than you roll out, and give yours, context included, to `digit_metrics.failures`. Eight clips say little about rare failures.
# :::
#
# ## Sources
#
# Sliding windows for video diffusion: {cite:t}`ho2022video`. Long-range alternatives to them:
# {cite:t}`harvey2022flexible`. Errors that accumulate, and how noise on the past limits them:
# {cite:t}`chen2024diffusion`. The Fréchet distance: {cite:t}`heusel2017gans` for images,
# {cite:t}`unterthiner2018towards` for videos.
