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
# **The model generates 16 frames. Why not simply ask for more?**
#
# There are two obvious ways to go on after the last frame: concatenate several clips, or give the network
# more frames than it was trained on. We try both, measure what goes wrong, and collect the measures that Part
# II applies to every method.
#
# *Time to run: about a minute on two CPU cores, half of that on a GPU.*

# %% [markdown]
# **You will learn** why the training length limits what the network can generate; what a boundary
# discontinuity is, and freezing, fading and a change of identity; how each is measured, and how a measure is
# validated.
#
# **You need** chapters 1, 3 and 5.

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
from vdiff_lite.methods import history_guidance
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

# %% mystnb={"image": {"alt": "A film strip of 48 frames, every second shown; at frames 16 and 32 the digit changes and jumps."}, "figure": {"caption": "Three generated clips, concatenated (seeds chosen so that the digits can be read). The digit changes at frames 16 and 32 (orange bars)."}}
chosen = [torch.Generator().manual_seed(seed) for seed in (11, 9, 4)]
clips = vd.generate(denoiser, 3, window, steps=15, generator=chosen).cpu()
concatenated = rearrange(clips, "n c f h w -> 1 c (n f) h w")
viz.film_strip(concatenated, ["concatenated"], every=2, joins=[16, 32]);

# %%
alt = "A digit bounces, and is twice replaced by another digit"
viz.show_clips([viz.framed(concatenated[0], joins=[16, 32])], ["three clips, concatenated"], alt=alt)

# %% [markdown]
# **Predict.** What if the network is given 48 frames of noise at once? None of its layers depends on the
# number 16. What will it do well, and what not?

# %% [markdown]
# ## A longer window

# %% mystnb={"image": {"alt": "Film strips for 16, 32 and 48 frames at once; in the longer ones the digit is a shapeless spot, and noise is left around it."}, "figure": {"caption": "Every fourth frame of clips generated in one window. The network was trained on at most 16 frames."}}
lengths = [16, 32, 48]
sample = partial(vd.sample, denoiser, 4, sampler=vd.ddim, steps=15)  # all frames at once
long_clips = {n: sample(num_frames=n, generator=torch.Generator().manual_seed(2)).cpu() for n in lengths}
viz.film_strip([long_clips[n][0] for n in lengths], [f"{n} at once" for n in lengths], every=4);

# %% [markdown]
# One clip per length is not evidence, so we measure all four of each length. The *speed* is how far the
# centroid of the digit moves per frame, in pixels. The *intensity* of a frame is how much is drawn on it: the
# sum of $(x + 1) / 2$ over its pixels. The last column counts the pixels that are not black, $x > -0.9$. All
# three are divided by their means over real clips.

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
# Something still moves, at about the right speed. But the noise is not removed, and the shape is lost. The
# network has never seen frames more than 15 apart, and attends to such pairs without having learned to.
#
# Longer windows also do not scale, even for a network trained on them. In the joint blocks every token
# attends to every token of every frame, so the work of attention grows with the square of the length. Memory
# grows with the length too: a clip of an hour would not fit. When does the square show in the time?

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
axis.minorticks_off();

# %% [markdown]
# In short windows it hardly shows: attention is a small part of the work. In the long ones the time per frame
# rises, but stays below twice that of a short window up to 256 frames. So time is not what stops a window of
# a few hundred frames of this small network: quality is, and in the end memory.
#
# ## The mathematics
#
# We want a sample from $p(x_{1:N})$ for any $N$, and we have $p(x_{1:F})$. The way out is to factorize in
# time. With an overlap of $K$ frames and a stride of $F - K$,
#
# $$p(x_{1:N}) \approx p(x_{1:F}) \prod_j p\big(x_{\text{new}_j} \mid x_{\text{last } K \text{ before}}\big). \tag{1}$$
#
# Each factor is a window of the length that the network knows, *conditioned on frames that were generated
# before*. Part II is about this condition: how to make the network use the past. The approximation is to keep
# only the last $K$ frames. What they do not show is lost.

# %% [markdown]
# ## Build it: the sliding window
#
# `history_guidance(denoiser, known)` returns a denoiser with the known frames in its window, clean and marked
# as clean (chapter 7).

# %%
def my_rollout(past, windows, seed, steps=15):
    generator, generated = torch.Generator().manual_seed(seed), [past]
    for _ in range(windows):
        known = torch.cat(generated, dim=2)[:, :, -overlap:]
        xt = torch.randn(1, 1, window, 32, 32, generator=generator).to(device)
        with torch.no_grad():
            clip = vd.run_sampler(vd.ddim(history_guidance(denoiser, known), xt, denoiser.schedule, steps))
        generated.append(clip[:, :, overlap:])
    return torch.cat(generated, dim=2)

# %% [markdown]
# ## Meet the twin
#
# The library's `rollout` yields frame after frame and keeps only the overlap, so its memory does not grow
# with the clip.

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
# ## How a long clip is measured
#
# The motion of our digits is deterministic, so each failure has a measure. Let $\delta_f$ be the root mean
# square of $x_{f} - x_{f-1}$ over the pixels, and $J$ the frames at which new windows begin.
#
# | failure | measure | ideal |
# |---|---|---|
# | the future is not the true one | **PSNR** of frame $n$ against the truth, $10 \log_{10}(4 / \text{mean squared error})$ dB, by *lead time* $n$, the number of frames since the last true one | high |
# | a visible join | **boundary discontinuity**, the change across a join relative to the change elsewhere: $\operatorname{mean}_{f \in J} \delta_f \,/\, \operatorname{mean}_{f \notin J} \delta_f$ | 1 |
# | freezing, rushing | **motion**: mean speed / mean speed of the truth | 1 |
# | fading, doubling | **intensity**: mean intensity / mean intensity of the truth | 1 |
# | another digit | **identity**: fraction of frames on which the digit of the first frame is read | 1 |
# | clips that do not look real | **Fréchet distance** of many clips to real ones, see below | that of as many real clips |
#
# A boundary discontinuity is what the eye sees as a seam.

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
# A measure needs validation too. Real clips must score as ideal, and clips that we corrupt on purpose must be
# caught by the measure meant for them: slowed clips by motion, fading ones by intensity, clips switched at
# the joins by boundary discontinuity and identity. Motion and intensity are taken relative to 128 *other*
# real clips.

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
# Read the row of real clips first. Boundary discontinuity, motion and intensity are close to 1: two sets of
# 128 clips differ a little. Identity is below 1 even there: the classifier, fitted to glyph samples of the
# training split, sometimes changes its reading of one digit as it moves between pixels. That is the ceiling
# to compare with. Each corrupted clip is caught as planned, and one measure misleads: the boundary of slowed
# clips is 0.00 because both joins happen to fall between two copies of the same frame. The model's clips,
# concatenated, fail where the switched ones do.

# %% [markdown]
# ### Distribution-level metrics
#
# Each of these measures looks at one property of one clip, and most need the truth. Papers on video often
# report one number that needs no true future. A network trained on videos maps every clip to a vector of
# features, and the *distribution* of these features is compared with that of real clips. Both are
# approximated by Gaussians with means $\mu$ and covariances $C$. The *Fréchet distance* of two Gaussians has
# a closed form {cite:p}`heusel2017gans`:
#
# $$d^2 = \lVert \mu_a - \mu_b \rVert^2 + \operatorname{tr}\!\big(C_a + C_b - 2\,(C_a C_b)^{1/2}\big). \tag{2}$$
#
# For videos it is called FVD {cite:p}`unterthiner2018towards`, and its feature network was trained to
# classify human actions. Ours was trained on bouncing digits, to predict which digit it sees, where, and how
# fast it moves (`vdiff_lite.evaluation.feature_net`). The features of a clip are the mean and the standard
# deviation over its frames of the last layer's activations, each scaled to unit variance over real clips.

# %%
def my_frechet(a, b):
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), torch.cov(x.T)) for x in (a.double(), b.double()))
    # the trace of a root is the sum of the roots of the eigenvalues
    root = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()
    return ((mean_a - mean_b) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * root


real_features = real_clip_features(frames=window)  # of 2,048 held-out clips
one_half, other_half = clip_features(real[:64, :, :window]), clip_features(real[64:, :, :window])
by_hand, twin = my_frechet(one_half, other_half).item(), frechet(one_half, other_half)
torch.testing.assert_close(by_hand, twin, rtol=1e-4, atol=1e-4)
size = sum(p.numel() for p in load_features().parameters())
print(f"{size:,} parameters; {len(real_features)} real clips, {real_features.shape[1]} features each")

# %% [markdown]
# **Predict.** Is the distance of real clips to real clips 0? And which of the corrupted clips does it catch?
# Is a clip played backwards among them? We take sixteen frames around the first join:

# %%
def distance_to_real(clips):
    return frechet(clip_features(clips), real_features)


around_join = slice(window - 8, window + 8)
sets = {name: clips[:, :, around_join] for name, clips in corrupted.items() if "model" not in name}
order = torch.randperm(window, generator=torch.Generator().manual_seed(0))
sets["played backwards"] = sets["real"].flip(2)
sets["frames shuffled"] = sets["real"][:, :, order]
distances = {name: distance_to_real(clips) for name, clips in sets.items()}
show_table(pd.DataFrame({"distance": distances}), "Frechet distance to real clips, 128 clips each", digits=1)

# %%
fewer = {f"{n} of them": distance_to_real(sets["real"][:n]) for n in (16, 32, 64, 128)}
source = vd.BouncingDigits(split="test")
others = [source.sample(128, torch.Generator().manual_seed(seed)).video for seed in (1, 2, 3, 4)]
fewer |= {f"128 others, seed {seed}": distance_to_real(clips) for seed, clips in enumerate(others, 1)}
show_table(pd.DataFrame({"distance": fewer}), "Frechet distance of real clips to real clips", digits=1)

# %% [markdown]
# Switched clips and shuffled frames lie far from real clips. Slowed and fading clips lie only a little
# farther than the real ones. (These sixteen frames see only the part of the fade from 0.9 to 0.7.) Clips
# played backwards do not stand out at all: a bouncing digit played backwards is a bouncing digit. The
# distance needs no true future, but it describes a set of clips. It cannot say *which* clip fails, nor how,
# and it does not penalize a plausible clip that is not the true future.
#
# Real clips are not at 0 either. The mean and the covariance of a few clips differ from those of many, and
# the fewer the clips, the more so. Among sets of equal size it is also a matter of chance, for example of
# which digits are rare in a set (ours is perhaps an unlucky one). So a distance means something only beside
# that of *as many* real clips, at best of the true futures of the *same* clips. Chapter 10 does this.

# %% [markdown]
# ## Play
#
# The overlap $K$ is what the next window knows of the past. One frame tells where the digit is, two also tell
# its velocity. More frames help against blur and leave fewer new frames per window. All use the same past and
# the same seed. The border is bright above and below for one frame when a new window begins.

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
# Errors accumulate even with an overlap: each window is conditioned on what the last one *generated*. Here is
# the PSNR against the truth by lead time, over eight clips and four windows.

# %% mystnb={"image": {"alt": "PSNR of the model's frames against the truth, mean of eight clips, over 44 frames: the model's line falls, and stays above that of repeating the last context frame."}, "figure": {"caption": "PSNR against the truth by lead time, mean of eight clips. Dotted lines: joins. Dashed: the last context frame, repeated."}}
eight = source_49.sample(8, torch.Generator().manual_seed(13)).video
known, future = eight[:, :, :overlap], eight[:, :, overlap:]
generator = torch.Generator().manual_seed(0)
frames = vd.rollout(denoiser, known, 44, window, overlap, sampler=sampler, generator=generator)
generated = torch.stack(list(frames), dim=2).cpu().clamp(-1, 1)
psnr_model = video_metrics.psnr(generated, future).mean(0)
psnr_copy = video_metrics.psnr(known[:, :, -1:].expand_as(future), future).mean(0)
figure, axis = plt.subplots(figsize=(6.5, 2.8))
viz.plot_lines(axis, range(1, 45), {"model": psnr_model, "copy the last frame": psnr_copy})
for join in (11, 22, 33):
    axis.axvline(join + 0.5, color="#999999", ls=":")
axis.set(xlabel="lead time (frames)", ylabel="PSNR (dB)");

# %% [markdown]
# **How far does the past reach?** We can measure it on the network itself. Take real clips at noise level
# 600, where the network sees roughly where the digit is but not its strokes, and compare its error with five
# clean context frames and without them. Where the two curves meet, the past has no effect.

# %% mystnb={"image": {"alt": "Error of the network's estimate for frames 5 to 15: it rises along the clip with and without a past, and with five clean frames it lies lower on every frame."}, "figure": {"caption": "Squared error of the estimate at t = 600, frame by frame, on 24 held-out clips, with five clean context frames and without."}}
x0 = vd.BouncingDigits(split="test").sample(24, torch.Generator().manual_seed(9)).video
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(10))
xt, t = denoiser.schedule.add_noise(x0, torch.tensor([600]), eps), torch.full((24, window), 600)
with_past = torch.cat([x0[:, :, :overlap], xt[:, :, overlap:]], dim=2)
t_with_past = torch.where(torch.arange(window) < overlap, 0, t)
inputs = {"no past": (xt, t), "five clean frames": (with_past, t_with_past)}
errors = {}
for name, (clips, levels) in inputs.items():
    batches = zip(clips.split(8), levels.split(8))
    x0_hat = torch.cat([denoiser(a.to(device), b.to(device)).cpu() for a, b in batches])
    errors[name] = (x0_hat - x0).square().mean(dim=(0, 1, 3, 4))[overlap:]
figure, axis = plt.subplots(figsize=(6.5, 2.6))
viz.plot_lines(axis, range(overlap, window), errors, marker="o")
axis.set(xlabel="frame", ylabel="squared error", ylim=0);

# %%
gain = 1 - errors["five clean frames"] / errors["no past"]
print("fraction of the error that the past removes, by frame:", [round(g, 2) for g in gain.tolist()])

# %% [markdown]
# The curves do not meet. The fraction of the error that the past removes falls along the window, and is still
# large on the last frame. Every frame of the window can attend to the past, the last as well as the first
# (chapter 3).
#
# Once the position is off by a few pixels, PSNR is no longer informative: a clip can be perfectly plausible
# and score like a still frame. That is why the other measures exist, and why Part II reports them all.
#
# ## Recap
#
# A model of 16 frames cannot simply be asked for more: concatenated clips do not fit together, and in longer
# windows noise remains and the shape is lost. The solution is a sliding window whose new frames are
# conditioned on the overlap. PSNR, boundary discontinuity, motion, intensity and identity say what is wrong
# with a long clip, and the Fréchet distance compares a set of clips with real ones. The four clip measures
# were validated on clips corrupted on purpose. The distance found switched clips and shuffled frames, and
# hardly slow or fading ones.
#
# ## Exercises
#
# 1. **Predict.** Which measures does a clip pass that repeats its first 16 frames forwards and backwards
#    without end?
# 2. **Code.** Corrupt a clip so that only *motion* catches it.
# 3. **Explore.** Roll out 200 frames with `my_rollout`. Call a measure failed once it differs from 1 by more
#    than 0.3. Which fails first?
#
# :::{dropdown} Solutions
# 1. Boundary discontinuity (nearly: no jump), motion, intensity and identity all pass. Only the comparison
#    with the true future fails. A measure that does not use the truth can be fooled by a loop.
# 2. Play clips of 96 frames at double speed: sample `fast` as `real` is sampled, with `num_frames=96`, and
#    give `fast[:, :, ::2]` to `my_scores`. Intensity, identity and boundary discontinuity stay near 1.
# 3. Take a true clip of 203 frames and 18 windows from its first five frames. Apply `my_scores` to stretches
#    of 48 frames from frame `s`, with the same stretch of the truth as `real` and `joins=[j - s for j in
#    range(5, 203, 11) if s < j < s + 48]`. For identity, compare the digits of the stretch with that of frame
#    0 of the *whole* clip, `read_digits(clip)[:, :1]`. One clip is one draw: try several. Chapter 10 counts
#    over more.
# :::
#
# ## Sources
#
# Sliding windows for video diffusion: {cite:t}`ho2022video`. Long-range alternatives to them:
# {cite:t}`harvey2022flexible`. Errors that accumulate, and how noise on the past limits them:
# {cite:t}`chen2024diffusion`. The Fréchet distance: {cite:t}`heusel2017gans` for images,
# {cite:t}`unterthiner2018towards` for videos. Exact metrics from simple worlds have precedents: see
# {cite:t}`harvey2022flexible`.
