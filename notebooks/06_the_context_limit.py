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
# # 6. The wall
#
# **The model makes 16 frames. Why not simply ask for more?**
#
# There are two obvious ways past the end of a clip: put clips one after the other, or feed the network more frames than it was trained on. We try both, measure what goes wrong, and
# collect the yardsticks that every method of Part II will be held to.
#
# *Time to run: about a minute on two CPU cores, half of that on a GPU.*

# %% [markdown]
# **You will learn** why a fixed length is a wall; what a *seam* is, and drift, freezing, fading and a swap of identity; how each is measured, and how a measure is checked.
#
# **You need** chapters 1 and 5.

# %%
import time

import matplotlib.pyplot as plt
import torch
from einops import rearrange

import vdiff_lite as vd
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.feature_net import clip_features, frechet, load_features, real_clip_features
from vdiff_lite.methods import history_guidance
from vdiff_lite.viz import sliders

vd.prepare_cpu()
device = vd.pick_device()
denoiser = vd.load("digits32", device)
F, K = 16, 5  # window and overlap: 11 new frames a window


def draw_clips(clips, frames, seed, steps=15):
    return vd.sample(
        denoiser, clips, frames, vd.ddim, steps, torch.Generator().manual_seed(seed)
    ).cpu()

# %% [markdown]
# ## Two walls

# %% mystnb={"image": {"alt": "A film strip of 48 frames, every second shown; at frames 16 and 32 the digit changes and jumps."}, "figure": {"caption": "Three clips put one after the other. The digit changes at frames 16 and 32 (orange bars)."}}
clips = draw_clips(3, F, seed=1)
stacked = rearrange(clips, "n c f h w -> 1 c (n f) h w")
viz.film_strip(stacked, ["one after the other"], every=2, joins=[16, 32]);

# %%
viz.show_clips(
    [viz.framed(stacked[0], joins=[16, 32])],
    ["three clips, joined"],
    alt="A digit bounces, and is swapped for another twice",
)

# %% [markdown]
# **Predict.** And if the network is simply given 48 frames of noise at once? It has no layer that knows the number 16. What will it do well, and what not?

# %% [markdown]
# ## A longer window

# %% mystnb={"image": {"alt": "Film strips for 16, 32 and 48 frames at once; in the longer ones the digit is fainter and more blurred."}, "figure": {"caption": "Every fourth frame of clips drawn in one piece. The network was trained on 16 frames at most."}}
lengths = [16, 32, 48]
long = {n: draw_clips(4, n, seed=2) for n in lengths}
viz.film_strip([long[n][0] for n in lengths], [f"{n} at once" for n in lengths], every=4);

# %% [markdown]
# Let us count instead of looking at one clip: ink and speed relative to real clips, and how often the digit read on the first frame is also read on the last.

# %%
real = (
    vd.BouncingDigits(split="test", num_frames=48)
    .sample(128, torch.Generator().manual_seed(0))
    .video
)
print("frames   ink  speed  same digit")
for n in lengths:
    intensity = digit_metrics.intensity(long[n]).mean() / digit_metrics.intensity(real).mean()
    speed = digit_metrics.speed(long[n]).mean() / digit_metrics.speed(real).mean()
    read = digit_metrics.read_digits(long[n])
    print(
        f"{n:6} {intensity:5.2f} {speed:6.2f}  {(read[:, 0] == read[:, -1]).sum().item()} of {len(read)}"
    )

# %% [markdown]
# And it does not scale, even where it works. In the joint blocks every place looks at every other place of every frame, so the work grows with the square of the length; and memory grows with
# it. A clip of an hour would never fit.

# %%
def pass_time(frames, repeats=3):
    x, t = (
        torch.randn(1, 1, frames, 32, 32, device=device),
        torch.full((1,), 500, device=device),
    )
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        with torch.no_grad():
            denoiser(x, t).sum().item()
        times.append(time.perf_counter() - started)
    return min(times)


sizes = [16, 32, 64, 128, 256]
cost = [pass_time(n) / n for n in sizes]

# %% mystnb={"image": {"alt": "Time per frame relative to a window of sixteen frames; it is roughly flat at first and rises for long windows."}, "figure": {"caption": "Price of a frame in one long window, relative to a window of 16 frames (measured here, one pass each)."}}
figure, axis = plt.subplots(figsize=(5.5, 2.6))
viz.plot_lines(axis, sizes, {"one window": [c / cost[0] for c in cost]}, marker="o")
axis.set(
    xlabel="frames in the window",
    ylabel="time per frame, relative",
    xscale="log",
    xticks=sizes,
    xticklabels=sizes,
    ylim=0,
)
axis.minorticks_off();

# %% [markdown]
# ## The mathematics
#
# What we want is a sample from $p(x_{1:N})$ for any $N$, and what we have is $p(x_{1:F})$. The way out is to factorise in time: with an overlap of $K$ frames and a
# stride of $F - K$,
#
# $$p(x_{1:N}) \approx p(x_{1:F}) \prod_j p\big(x_{\text{new}_j} \mid x_{\text{last } K \text{ before}}\big). \tag{1}$$
#
# Each factor is a window of the length that the network knows, *conditioned on frames that are already made*. Everything in Part II is about that bar: how to make the network listen to the past.
# The approximation is in the number $K$: what the last $K$ frames do not show is forgotten.

# %% [markdown]
# ## Build it: the sliding window

# %%
def my_rollout(past, windows, seed, steps=15):
    generator, made = torch.Generator().manual_seed(seed), [past]
    for _ in range(windows):
        known = torch.cat(made, dim=2)[:, :, -K:]
        xt = torch.randn(1, 1, F, 32, 32, generator=generator).to(device)
        with torch.no_grad():
            window = vd.run_sampler(
                vd.ddim(history_guidance(denoiser, known), xt, denoiser.schedule, steps)
            )
        made.append(window[:, :, K:])
    return torch.cat(made, dim=2)

# %% [markdown]
# ## Meet the twin
#
# The library's `rollout` yields frame after frame and keeps only the overlap, so it can run for ever.

# %%
from functools import partial

truth = (
    vd.BouncingDigits(split="test", num_frames=49)
    .sample(1, torch.Generator().manual_seed(12))
    .video.to(device)
)
past = truth[:, :, :K]
mine = my_rollout(past, 4, seed=0)
frames = vd.rollout(
    denoiser,
    past,
    44,
    sampler=partial(vd.ddim, steps=15),
    generator=torch.Generator().manual_seed(0),
)
torch.testing.assert_close(
    mine[:, :, K:], torch.stack(list(frames), dim=2), rtol=1e-3, atol=1e-3
)

# %% mystnb={"image": {"alt": "Two film strips of 49 frames, every third shown: the truth, and a continuation by the model from five given frames, in which a digit keeps moving."}, "figure": {"caption": "Above the truth, below four windows made by the model. Given: the first five frames (blue). New windows begin at frames 16, 27 and 38 (orange bar: the first frame shown)."}}
viz.film_strip(
    [truth[0], mine[0]], ["truth", "made"], num_context=[49, 5], every=3, joins=[16, 27, 38]
);

# %% [markdown]
# ## What a long clip is judged by
#
# Our world is deterministic, so each thing that can go wrong has a number:
#
# | what goes wrong | measured by | right is |
# |---|---|---|
# | the future is not the true one | PSNR of frame $n$ against the truth, by horizon | high, as long as possible |
# | a visible join | **seam**: change across a join / change elsewhere | 1 |
# | freezing, rushing | **motion**: speed / true speed | 1 |
# | fading, doubling | **ink** / true ink | 1 |
# | another digit | **identity**: digit read on a frame = digit read on the first | 1 |
# | clips that no camera would see | **Fréchet distance** of many clips, see below | that of as many real ones |

# %%
def boundary_discontinuity(clip, joins):
    change = (
        clip.diff(dim=2).square().mean(dim=(1, 3, 4)).sqrt()
    )  # (b, f - 1): change from frame f to f + 1
    at_join = torch.zeros(change.shape[1], dtype=torch.bool)
    at_join[[j - 1 for j in joins]] = True
    return (change[:, at_join].mean() / change[:, ~at_join].mean()).item()


def score_clips(clip, real, joins=(16, 32)):
    read = digit_metrics.read_digits(clip)
    return {
        "boundary_discontinuity": boundary_discontinuity(clip, joins),
        "motion": (digit_metrics.speed(clip).mean() / digit_metrics.speed(real).mean()).item(),
        "intensity": (digit_metrics.intensity(clip).mean() / digit_metrics.intensity(real).mean()).item(),
        "identity": (read == read[:, :1]).float().mean().item(),
    }

# %% [markdown]
# A measure has to be measured too. Real clips must score as perfect, and clips broken on purpose must be caught - each by the measure meant for it.

# %%
def freeze(clip):
    return clip[:, :, :16].repeat_interleave(3, dim=2)


def fade(clip):
    return (clip + 1) * torch.linspace(1, 0.4, clip.shape[2])[:, None, None] - 1


def swap(clip):
    return torch.cat(
        [clip[:, :, :16], clip.roll(1, 0)[:, :, 16:32], clip.roll(2, 0)[:, :, 32:]], dim=2
    )


broken = {
    "real": real,
    "slowed to a third": freeze(real),
    "fading": fade(real),
    "another clip at joins": swap(real),
}
broken |= {
    "model, no memory": rearrange(
        draw_clips(12, F, 5), "(n k) c f h w -> n c (k f) h w", k=3
    )
}

# %%
print(f"{'':22}  seam  motion  ink  identity")
for name, clip in broken.items():
    print(
        f"{name:22} {score_clips(clip, real)['seam']:5.2f}  "
        + "  ".join(f"{score_clips(clip, real)[m]:5.2f}" for m in ("motion", "intensity", "identity"))
    )

# %% [markdown]
# Read the row of real clips first: seam, motion and ink are 1 by construction or nearly so. Identity is not quite 1 even there: the reader, fitted to other people's
# handwriting, sometimes changes its mind about the same digit between pixels. That is the ceiling to compare with.

# %% [markdown]
# ### Clips as a crowd
#
# All of these ask about one thing each, and most need the truth. Papers on video often give one number that needs neither: take a network that knows videos, let it describe every clip by some numbers, and compare the *distribution* of these
# with that of real clips. Both are taken for Gaussians; the *Fréchet distance* of two Gaussians is known {cite:p}`heusel2017gans`:
#
# $$d^2 = \lVert \mu_a - \mu_b \rVert^2 + \operatorname{tr}\!\big(C_a + C_b - 2\,(C_a C_b)^{1/2}\big). \tag{2}$$
#
# For videos it is called FVD {cite:p}`unterthiner2018towards`, and its network was trained to tell human actions apart. Ours was trained on bouncing digits, to read which digit it sees, where, and how fast it goes (`vdiff_lite.features`). A clip is described by the mean
# and the deviation over its frames of what the last layer says, each number scaled so that it varies by 1 over real clips.

# %%
def my_frechet(a, b):
    (mean_a, cov_a), (mean_b, cov_b) = (
        (x.mean(0), torch.cov(x.T)) for x in (a.double(), b.double())
    )
    # the trace of a root is the sum of the roots of the eigenvalues
    root = torch.linalg.eigvals(cov_a @ cov_b).sqrt().real.sum()
    return ((mean_a - mean_b) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * root


about_real = real_clip_features(frames=F)  # of 2,048 held-out clips
one, other = clip_features(real[:64, :, :F]), clip_features(real[64:, :, :F])
by_hand, twin = my_frechet(one, other).item(), frechet(one, other)
torch.testing.assert_close(by_hand, twin, rtol=1e-4, atol=1e-4)
size = sum(p.numel() for p in load_features().parameters())
print(
    f"{size:,} parameters; {len(about_real)} real clips, {about_real.shape[1]} numbers each"
)

# %% [markdown]
# **Predict.** Real clips against real clips: is the distance 0? And which of the broken ones does it catch - a film run backwards among them? Sixteen frames around the first join:

# %%
def away(clip):
    return frechet(clip_features(clip), about_real)


part = slice(F - 8, F + 8)
crowds = {
    name: clip[:, :, part] for name, clip in broken.items() if name != "model, no memory"
}
order = torch.randperm(F, generator=torch.Generator().manual_seed(0))
crowds["run backwards"] = crowds["real"].flip(2)
crowds["frames shuffled"] = crowds["real"][:, :, order]
print(f"distance from real clips, {len(real)} clips each")
for name, clip in crowds.items():
    print(f"{name:22}{away(clip):8.1f}")

# %%
print("real clips again, fewer of them")
for n in (16, 32, 64, 128):
    print(f"{n:22}{away(crowds['real'][:n]):8.1f}")
others = [
    vd.BouncingDigits(split="test").sample(128, torch.Generator().manual_seed(seed))
    for seed in (1, 2, 3, 4)
]
print(f"{'128 others, four times':22}", "  ".join(f"{away(x.video):7.1f}" for x in others))

# %% [markdown]
# It sees every fault, some better than others, and needs no limits to be set. But it is a number about a crowd: it cannot say *which* clip is wrong, nor what is wrong with it, and a clip that is plausible but not the true future costs it nothing (run backwards, a film of bouncing digits is a film of bouncing digits). And real
# clips are not at 0: a few clips have another mean and covariance than many, and the fewer, the more so; and among as many it is a matter of luck, which digits are rare in a crowd, say (ours is an unlucky one). So a distance says something only beside that of *as many* real
# clips, at best of the true futures of the *same* clips. Chapter 10 keeps to that.

# %% [markdown]
# ## Play
#
# The overlap $K$ is what the next window knows. With 1 frame it knows where, with 2 also where to; more frames help against blur and cost new frames per window. Same past, same seed; a flash above and below: a new window begins.

# %%
past12 = truth[:, :, :12]


def walk(k):
    frames = vd.rollout(
        denoiser,
        past12,
        20,
        overlap=k,
        sampler=partial(vd.ddim, steps=12),
        generator=torch.Generator().manual_seed(3),
    )
    made = torch.cat([past12, torch.stack(list(frames), dim=2)], dim=2)[0]
    begins = range(12 + F - k, 32, F - k)  # windows after the first
    both = viz.framed(truth[0, :, :32], 32), viz.framed(made, 12, begins)
    return torch.cat(both, dim=-1).cpu()


sliders.guidance_slider(
    walk,
    [1, 2, 5, 8, 12],
    "overlap K",
    "Left the truth, right the model; bright border: the first 12 frames, given.",
    start=2,
    fine=range(1, 13),
)

# %% [markdown]
# ## What breaks, and how to see it
#
# Even with an overlap errors add up: each window starts from what the last one *made*. Watch PSNR against the truth fall with the horizon, here for one clip and four windows.

# %% mystnb={"image": {"alt": "PSNR of the model's frames against the truth, falling with the frame number, above and later near the line of repeating the last given frame."}, "figure": {"caption": "Prediction quality by horizon for one clip. Dotted lines: joins. Dashed: the last given frame, repeated."}}
time_to_first_failure = video_metrics.psnr(mine[:, :, K:].cpu().clamp(-1, 1), truth[:, :, K:].cpu())[0]
still = video_metrics.psnr(
    past[:, :, -1:].cpu().expand_as(truth[:, :, K:]), truth[:, :, K:].cpu()
)[0]
figure, axis = plt.subplots(figsize=(6.5, 2.8))
viz.plot_lines(axis, range(1, 45), {"model": time_to_first_failure, "copy the last frame": still})
for join in (11, 22, 33):
    axis.axvline(join + 0.5, color="#999999", ls=":")
axis.set(xlabel="new frame", ylabel="PSNR (dB)");

# %% [markdown]
# **How far does the past reach?** Ask the network directly. Take real clips at noise level 600, so that it sees roughly where the digit is but not which strokes it has, and compare its error with
# five clean frames in front and without them. Where the two curves meet, the past would not be heard any more.

# %% mystnb={"image": {"alt": "Error of the network's guess for frames 5 to 15: without a past it is level; with five clean frames it lies lower on every frame, and least so on the last."}, "figure": {"caption": "Squared error of the guess at t = 600, frame by frame, on 24 held-out clips, with and without five clean frames before."}}
clean = vd.BouncingDigits(split="test").sample(24, torch.Generator().manual_seed(9)).video
xt = denoiser.schedule.add_noise(
    clean,
    torch.tensor([600]),
    torch.randn(clean.shape, generator=torch.Generator().manual_seed(10)),
)
level = torch.full((24, F), 600)
num_context = torch.where(torch.arange(F) < K, 0, level)
curves = {}
for name, x, t in (
    ("no past", xt, level),
    ("five clean frames", torch.cat([clean[:, :, :K], xt[:, :, K:]], 2), num_context),
):
    guess = torch.cat(
        [denoiser(a.to(device), b.to(device)).cpu() for a, b in zip(x.split(8), t.split(8))]
    )
    curves[name] = (guess - clean).square().mean(dim=(0, 1, 3, 4))[K:]
figure, axis = plt.subplots(figsize=(6.5, 2.6))
viz.plot_lines(axis, range(K, F), curves, marker="o")
axis.set(xlabel="frame", ylabel="squared error", ylim=0);

# %%
gain = 1 - curves["five clean frames"] / curves["no past"]
print(
    "share of the error that the past removes, by frame:",
    [round(g, 2) for g in gain.tolist()],
)

# %% [markdown]
# They come near each other towards the end of the window and do not meet: strokes are carried over from the past however far away, because attention follows the digit (chapter 3). What a network
# hears of its past decides how long a digit stays itself.
#
# Once the position is off by a few pixels PSNR says no more: a clip can be perfectly plausible and score like a still. That is why the other four measures exist, and why Part II reports
# them all.
#
# ## Recap
#
# A model of 16 frames cannot be asked for more: joined clips do not fit, longer windows drift and cost ever more. The way on is a sliding window whose new frames are conditioned on
# the overlap. What a long clip must be is: predictable, seamless, moving, inked, and itself - five numbers, each calibrated on clips broken on purpose - and many of them together must be a crowd like that of real clips.
#
# ## Exercises
#
# 1. **Predict.** Which of the five measures does a clip pass that repeats its first 16 frames forwards and backwards for ever?
# 2. **Code.** Break a clip so that only *motion* catches it.
# 3. **Explore.** Roll out 200 frames with `my_rollout`. Which measure goes first?
#
# :::{dropdown} Solutions
# 1. Seam (nearly: no jump), motion, ink and identity all pass; only the comparison with the true future fails. A measure without the truth can be cheated by a loop.
# 2. Let it run at double speed: `clip[:, :, ::2]`. Ink, identity and the seam stay near 1.
# 3. Take 18 windows and apply `judge` to stretches of 50 frames. On an imperfect model identity tends to go first: nothing but five frames carries the strokes on.
# :::
#
# ## Sources
#
# Sliding windows for video diffusion: {cite:t}`ho2022video`; long-range alternatives to them: {cite:t}`harvey2022flexible`. Errors that add up, and how noise on the
# past holds them down: {cite:t}`chen2024diffusion`. The distance between crowds: {cite:t}`heusel2017gans` for pictures, {cite:t}`unterthiner2018towards` for videos. Exact metrics from simple worlds have precedents; see {cite:t}`harvey2022flexible`.
