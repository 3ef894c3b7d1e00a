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
# # 7. Guidance on the frames already made
#
# **The past is a condition like any other. Can the network be made to listen to it - and to listen *more*?**
#
# We put the past into the window as clean frames, build classifier-free guidance on it in ten lines, hold it against a video model
# whose right answer is known exactly, and turn the weight up until it breaks.
#
# *Time to run: about a minute on two CPU cores, about twenty seconds on a GPU.*

# %% [markdown]
# **You will learn** how per-frame noise levels turn a model of clips into a model of futures; what the guidance weight does to the answer, in theory and on digits; how to guide with a
# blurred past, with several pasts at once, or with some frames that are never forgotten; and what a past squeezed into eight numbers still knows.
#
# **You need** chapters 5 and 6.

# %%
from functools import partial

import matplotlib.pyplot as plt
import torch

import vdiff_lite as vd
from vdiff_lite.diffusion.oracle import GaussianVideo, posterior_error
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.results import by_clip, by_name, command_of, read_table, rows_of, values
from vdiff_lite.methods import (
    anchored_history,
    fractional_history_guidance,
    history_encoder,
    history_guidance,
    load_history,
    temporal_history_guidance,
)
from vdiff_lite.viz import sliders

vd.prepare_cpu()
device = vd.pick_device()
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
F, K = 16, 5  # window and overlap: 5 frames given, 11 made


# %%
def held_out(clips, frames=F, seed=0):
    return (
        vd.BouncingDigits(split="test", num_frames=frames)
        .sample(clips, torch.Generator().manual_seed(seed))
        .video.to(device)
    )


def noise_like(clip, seed=1):
    return torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed)).to(device)


def continue_clips(method, truth, steps=15, seed=1):
    guided = method(denoiser, truth[:, :, :K])
    with torch.no_grad():
        return vd.run_sampler(vd.ddim(guided, noise_like(truth, seed), schedule, steps))

# %% [markdown]
# ## What we will have at the end

# %% mystnb={"image": {"alt": "Two film strips of 16 frames: the true clip, and the same five first frames continued by the model; the digit takes the same path."}, "figure": {"caption": "Given: the first five frames (blue). Above the truth, below what the model makes of them. F = 16, K = 5, stride 11."}}
truth = held_out(8, seed=3)
made = continue_clips(history_guidance, truth)
viz.film_strip([truth[0], made[0]], ["truth", "made"], num_context=[F, K]);

# %% [markdown]
# **Predict.** Guidance pushes the answer away from what the network would say *without* the past. With the weight at 3, will the digit move faster, slower, or freeze? Will it be
# brighter or fainter?

# %% [markdown]
# ## The mathematics
#
# A window of $F$ frames whose first $K$ are the past $h$. The network takes one noise level *per frame*, so two questions can be asked of the same weights:
#
# $$c = \hat x_0\big([h, x_t], [0, t]\big), \qquad u = \hat x_0\big([\epsilon, x_t], [T, t]\big). \tag{1}$$
#
# In $c$ the past stands in the window at level 0: clean, and the network knows it. In $u$ the same places hold pure noise at level $T$: nothing is known. Classifier-free guidance
# {cite:p}`ho2022classifier` walks from one to the other, and past it:
#
# $$\hat x_0 = u + w\,(c - u). \tag{2}$$
#
# $w = 1$ is the conditional model, $w = 0$ the unconditional one. Since $c - u$ is proportional to the gradient of $\log p(h \mid x_t)$, guidance samples (nearly) from
#
# $$p_w(x) \propto p(x)\, p(h \mid x)^w, \tag{3}$$
#
# a distribution that is *surer* of the past than the past warrants when $w > 1$. On history this was studied by {cite:t}`song2025history`.

# %% [markdown]
# ## Build it

# %%
def my_guided(denoiser, past, w):
    """Two branches, one after the other: what the library does in one batched pass."""
    new = torch.arange(F, device=device) >= K

    def guided(xt, t):
        levels = t[:, None].expand(-1, F)
        # What the sampler's noise at the past frames is, once the past is taken out of it.
        noise = schedule.eps_from_x0(xt[:, :, :K], levels[:, :K], past)
        c = denoiser(torch.cat([past, xt[:, :, K:]], 2), torch.where(new, levels, 0))
        u = denoiser(torch.cat([noise, xt[:, :, K:]], 2), torch.where(new, levels, 1000))
        x0_hat = u + w * (c - u)
        return torch.cat([past, x0_hat[:, :, K:]], dim=2)

    return guided

# %% [markdown]
# ## Meet the twin

# %%
past, xt, t = (
    truth[:2, :, :K],
    noise_like(truth[:2]),
    torch.tensor([700, 300], device=device),
)
with torch.no_grad():
    mine = my_guided(denoiser, past, 2.0)(xt, t)
    theirs = history_guidance(denoiser, past, 2.0)(xt, t)
torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)

# %% [markdown]
# And two identities that must hold whatever the network: at $w = 1$ the unconditional branch drops out, and the answer moves along a straight line with $w$.

# %%
with torch.no_grad():
    line = {w: history_guidance(denoiser, past, w)(xt, t) for w in (0.0, 1.0, 3.0)}
straight = line[0.0] + 3 * (line[1.0] - line[0.0])
torch.testing.assert_close(line[3.0], straight, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## What the right answer looks like
#
# Is equation (2) *right*? For digits nobody knows $p(\text{future} \mid \text{past})$. So here is a video model for which everybody does: pixels that are independent of each other and
# wander smoothly in time, as a Gaussian process. Its denoiser is a matrix, and the future given the past is a Gaussian whose mean and spread can be written down. The same method and
# the same sampler run on it unchanged.

# %%
model = GaussianVideo(schedule)
walks = model.sample(8, 10, 16, torch.Generator().manual_seed(0))
known = walks[:, :, :4]
weights = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]
bias, spread = {}, {}
for w in weights:
    start = torch.randn(walks.shape, generator=torch.Generator().manual_seed(1))
    futures = vd.run_sampler(vd.ddim(history_guidance(model, known, w), start, schedule, 60))
    bias[w], spread[w] = posterior_error(futures, known, model)

# %% mystnb={"image": {"alt": "Two curves against the guidance weight for a Gaussian video model: the bias is zero at weight one and grows on both sides; the spread is one at weight one and falls below it for larger weights."}, "figure": {"caption": "History guidance on the Gaussian video model, second new frame. Right: bias 0, spread 1 (dotted). Only w = 1 is both."}}
figure, axis = plt.subplots(figsize=(5.5, 2.8))
viz.plot_lines(
    axis,
    weights,
    {"bias": [bias[w][1] for w in weights], "spread": [spread[w][1] for w in weights]},
    marker="o",
)
for right in (0, 1):
    axis.axhline(right, color="#999999", ls=":")
axis.set(xlabel="guidance weight w", ylabel="in exact standard deviations", ylim=(-0.2, 5));

# %%
print("new frame        ", *(f"{n:5}" for n in range(1, 7)))
for w in (1.0, 2.0):
    print(f"bias   at w = {w:3}", *(f"{x:5.2f}" for x in bias[w]))
    print(f"spread at w = {w:3}", *(f"{x:5.2f}" for x in spread[w]))

# %% [markdown]
# Read it as the truth about guidance: with an exact network the condition in the window, $w = 1$, *is* the posterior, and every other weight is wrong - a larger one too sure of
# itself. If a larger weight helps on digits, it helps because the network is not exact: it under-uses its past, and guidance makes up for it.

# %% [markdown]
# ## On digits
#
# Eight held-out clips, six weights, the same noise. PSNR against the true future says how much of the past was used; motion and ink say what it cost.

# %%
on_digits = {}
for w in (0.0, 1.0, 1.5, 2.5, 4.0, 8.0):
    clips = continue_clips(partial(history_guidance, weight=w), truth, steps=8).cpu()
    score = video_metrics.psnr(clips[:, :, K:].clamp(-1, 1), truth[:, :, K:].cpu()).mean(0)
    on_digits[w] = dict(
        clips=clips,
        psnr=score,
        motion=digit_metrics.motion(clips, truth.cpu()).mean().item(),
        intensity=(
            digit_metrics.intensity(clips[:, :, K:]).mean() / digit_metrics.intensity(truth[:, :, K:].cpu()).mean()
        ).item(),
    )

# %%
print("   w   PSNR at new frame 1, 5, 11   motion   ink   (8 clips)")
for w, row in on_digits.items():
    a, b, c = row["psnr"][[0, 4, 10]].tolist()
    print(f"{w:4}   {a:8.1f} {b:8.1f} {c:8.1f}   {row['motion']:8.2f} {row['ink']:6.2f}")

# %% mystnb={"image": {"alt": "Film strips of one clip for guidance weights 0, 1, 2.5 and 4 below the true clip."}, "figure": {"caption": "One clip, four weights, the same noise. Given: the first five frames (blue)."}}
rows = [0.0, 1.0, 2.5, 4.0]
viz.film_strip(
    [truth[0].cpu()] + [on_digits[w]["clips"][0] for w in rows],
    ["truth"] + [f"w = {w}" for w in rows],
    num_context=[F] + [K] * 4,
);

# %% [markdown]
# Eight clips and a few steps are an impression. Here is the study: 64 held-out clips, 25 steps. *Saturation* (sat.) is the share of the new pixels that end beyond the range of pictures, by more than a tenth, before they are clamped. In brackets: half of the 95% interval over clips.

# %%
about, of_weights = read_table("../data/results/compare_weights.csv")
print(command_of(about), "\n")


def interval(of, metric, **where):
    """Mean over clips, and its 95% interval: (3,)."""
    return torch.tensor(video_metrics.bootstrap(by_clip(of, metric, **where)))


def cell(x, width, digits=2):
    return f"{x[0]:.{digits}f} ({(x[2] - x[1]) / 2:.{digits}f})".rjust(width)


by_weight = {}
for text, of in by_name(of_weights).items():
    row = {f"PSNR {n}": interval(of, "psnr", frame=n) for n in (1, 5, 11)}
    row |= {name: interval(of, name) for name in ("motion", "intensity")}
    by_weight[float(text.split("=")[1])] = row | {"sat. (%)": 100 * interval(of, "saturation")}
print("   w  " + "".join(f"{name:>12}" for name in row) + "    sat. (%)")
for w, row in by_weight.items():
    digits = {name: 1 if "PSNR" in name else 2 for name in row}
    print(f"{w:4g}  " + "".join(cell(x, 12, digits[name]) for name, x in row.items()))

# %% mystnb={"image": {"alt": "Three panels against the guidance weight, with bands: PSNR at new frames 1, 5 and 11; motion and ink as shares of the truth, with a line at one; the percentage of saturated pixels."}, "figure": {"caption": "What the weight does: 64 held-out clips, 25 steps, K = 5 given and 11 made. Bands: 95% intervals over clips. Middle: 1 is right (dotted)."}}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
panels = (("PSNR 1", "PSNR 5", "PSNR 11"), ("motion", "intensity"), ("sat. (%)",))
for axis, names in zip(axes, panels):
    seen = {name: torch.stack([row[name] for row in by_weight.values()]) for name in names}
    viz.plot_lines(axis, list(by_weight), {n: x[:, 0] for n, x in seen.items()}, marker="o")
    for line, x in zip(axis.get_lines(), seen.values()):
        axis.fill_between(list(by_weight), *x[:, 1:].T, color=line.get_color(), alpha=0.2, lw=0)
    axis.set(xlabel="guidance weight w")
axes[0].set(ylabel="dB")
axes[1].axhline(1, color="#999999", ls=":")
axes[1].set(ylabel="share of the truth")
axes[2].set(ylabel="% of the new pixels saturated")
axes[2].legend().remove()

# %% [markdown]
# Between 0 and 1 the network listens too little. A weight somewhat above 1 gains, and most where the past is far away; a large one takes it back, first from the frame next to the past, and pixels begin to leave the range of pictures: so far beyond 1, equation (2) extrapolates.
#
# At every weight from 1 up the digit moves as fast as it should: nothing freezes. Yet {cite:t}`song2025history` saw videos turn static from $w = 3$ on. Perhaps there is nothing to freeze here, since five frames tell the velocity? Give *one*: then nobody can
# know where the digit goes, and standing still would be the cautious answer.

# %%
about, of_one = read_table("../data/results/compare_weights_1.csv")
print(command_of(about), "\n")
print("   w          motion             ink        sat. (%)")
for text, of in by_name(of_one).items():
    row = interval(of, "motion"), interval(of, "intensity"), 100 * interval(of, "saturation")
    print(f"{text.split('=')[1]:>4}" + "".join(cell(x, 16) for x in row))

# %% [markdown]
# It does not stand still either, nor rush; what the weight adds is ink. A network can only be surer of what it has seen, and in this world nothing ever stands still. (That is our reading. Films of people, who often do stand still, may well be another matter.)

# %% [markdown]
# ## Play
#
# The weight, on one clip. Left the truth, right the model. Bright borders: frames that were given. In a running notebook every move samples anew.

# %%
one = truth[5:6]


def play(weight):
    clip = continue_clips(partial(history_guidance, weight=weight), one, steps=8)[0]
    return torch.cat([viz.framed(one[0], F), viz.framed(clip, K)], dim=-1).cpu()


sliders.guidance_slider(
    play,
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0],
    alt="Left the true clip, right the model's continuation of its first five frames.",
    start=2,
    fine=[round(0.1 * i, 1) for i in range(61)],
)

# %% [markdown]
# ## Blurred pasts, and several pasts
#
# Two refinements come from {cite:t}`song2025history`. *Fractional* guidance stresses a past that is partly noised, at a level the network is told: what survives there is the coarse
# content, so the fine pixels are not pushed. *Temporal* guidance adds several terms, one for each of several memories.

# %%
variants = {
    "plain, w = 1": history_guidance,
    "plain, w = 2": partial(history_guidance, weight=2.0),
    "fractional, w = 2, level 500": partial(fractional_history_guidance, weight=2.0, level=500),
    "temporal, 5 and 2 frames": partial(temporal_history_guidance, weights={5: 1.0, 2: 0.5}),
}
print("                               PSNR at new frame 1, 5, 11   (8 clips)")
for name, method in variants.items():
    clips = continue_clips(method, truth, steps=12).cpu()
    a, b, c = (
        video_metrics.psnr(clips[:, :, K:].clamp(-1, 1), truth[:, :, K:].cpu())
        .mean(0)[[0, 4, 10]]
        .tolist()
    )
    print(f"{name:30} {a:8.1f} {b:8.1f} {c:8.1f}")

# %% [markdown]
# ## The past in a few numbers
#
# Clean frames in the window cost as much as new ones: they pass through the network at every step. Many systems give the past in another form, squeezed by an encoder into one
# *embedding* $e(h)$ that the network is told, beside the noise level:
#
# $$c = \hat x_0\big(x_t, t, e(h)\big), \qquad u = \hat x_0\big(x_t, t, 0\big), \qquad e(h) \in \mathbb{R}^{s}. \tag{4}$$
#
# Only the $F - K$ new frames pass through the network, and equation (2) works as before: in training the embedding is dropped now and then.
#
# `HistoryEncoder` lays the past frames one upon the other, as channels, looks at them with three convolutions, and squeezes what it sees to $s$ numbers. From these numbers alone it tells the network two things. A
# vector scales and shifts the channels of every block, as the noise level does; that is the same at every place of a frame, so it can say *what* is there, and hardly *where*. So the numbers are also unpacked into a
# *draft* of each new frame, which is added to what the first stage sees. Embedding and draft are trained first, by the draft's squared error, which is cheap, since no network is in it; then the network, `digits32`,
# learns to listen. All in a few minutes. Here are two encoders, with $s = 8$ and $s = 64$, that read up to ten frames.

# %%
ten = held_out(8, frames=10 + 11, seed=3)
start = noise_like(ten)


def continue_ten(denoiser, method):
    with torch.no_grad():
        return vd.run_sampler(
            vd.ddim(method(denoiser, ten[:, :, :10]), start, schedule, 12)
        ).cpu()


squeezed = {
    "truth": ten.cpu(),
    "ten frames in the window": continue_ten(denoiser, history_guidance),
}
for size in (64, 8):
    heard, encoder = load_history(
        vd.checkpoint.folder() / f"history/digits32_10_{size}", device
    )
    past = ten[:, :, :10]
    with torch.no_grad():
        draft = encoder.draft(encoder.embed(past), range(11))
    squeezed[f"draft, s = {size}"] = torch.cat([past, draft], dim=2).cpu()
    squeezed[f"embedding, s = {size}"] = continue_ten(
        heard, partial(history_encoder, encoder=encoder)
    )

# %% mystnb={"image": {"alt": "Film strips of one clip of 21 frames: the truth, its continuation from ten frames in the window, and from embeddings of 64 and of 8 numbers, each below its blurred draft."}, "figure": {"caption": "Every second frame of 21. Given: the first ten (blue), in the window or as an embedding; eleven are made. A draft is what can be drawn from the embedding without the network."}}
viz.film_strip(
    [clips[0] for clips in squeezed.values()],
    list(squeezed),
    num_context=[21] + [10] * (len(squeezed) - 1),
    every=2,
);

# %% [markdown]
# What is lost, over 64 held-out clips, by the number of frames given (one encoder was trained for each), and what each form costs:

# %%
RESULTS = "../data/results"
lengths, tables = (1, 5, 10), {}
for k in lengths:
    about, tables[k] = read_table(f"{RESULTS}/compare_past_{k}.csv")
    print(command_of(about), "\n")
about, of_drafts = read_table(f"{RESULTS}/histories.csv")
print(command_of(about))

# %%
forms = {"in the window": "history_guidance"}
for size in (64, 8):
    encoder = f"history_encoder:encoder=digits32_{{}}_{size}"
    forms |= {
        f"draft, s = {size}": f"draft:frames={{}} size={size}",
        f"embedding, s = {size}": encoder,
        f"embedding, s = {size}, w = 2": encoder + ",weight=2",
    }
loss_of_detail = {}
print("PSNR at new frame 1, 5, 11, and share of the right digit (64 clips)")
print("frames given             ", *(f"{k:>18}" for k in lengths))
for name, text in forms.items():
    table = {k: of_drafts if "draft" in name else tables[k] for k in lengths}
    of = {k: rows_of(text.format(k)) for k in lengths}
    by_length = [
        [values(table[k], "psnr", **of[k], frame=n).mean() for n in (1, 5, 11)]
        for k in lengths
    ]
    digits = [values(table[k], "identity", **of[k]).mean() for k in lengths]
    loss_of_detail[name] = torch.tensor(by_length)
    cells = (
        f"{a:4.1f} {b:4.1f} {c:4.1f} {d:.2f}" for (a, b, c), d in zip(by_length, digits)
    )
    print(f"{name:25}", " ".join(cells))

# %%
for size in (64, 8):
    extra = values(of_drafts, "parameters", setting=f"frames=10 size={size}")
    print(f"parameters of the encoder with s = {size}: {extra.item() / 1e6:.2f} million")
for what in ("training", "sampling"):
    mb = [
        values(of_drafts, f"memory of {what}", method=m).item()
        for m in ("history_guidance", "history_encoder")
    ]
    print(
        f"memory of {what}: {mb[0]:.0f} MB with the past in the window, {mb[1]:.0f} MB with the embedding"
    )

# %% mystnb={"image": {"alt": "Two panels against the number of past frames: PSNR at new frame 1 and at new frame 11, lines for the past in the window, which lies highest, and for each embedding."}, "figure": {"caption": "What a past is worth, by its length and the form in which the network gets it: in the window, or as an embedding of s numbers. 64 held-out clips, 25 steps, w = 1."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
for axis, column, n in zip(axes, (0, 2), (1, 11)):
    viz.plot_lines(
        axis,
        lengths,
        {
            name: x[:, column]
            for name, x in loss_of_detail.items()
            if "draft" not in name and "w = 2" not in name
        },
        marker="o",
    )
    axis.set(xlabel="frames given", title=f"new frame {n}", xticks=lengths)
axes[0].legend().remove()
axes[1].legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
axes[0].set(ylabel="PSNR (dB)");

# %% [markdown]
# Read the table row by row.
#
# - *The embedding knows roughly where, and not which.* With five frames or ten it lies far below the window at every new frame; and with any number the right digit is seldom on the frames: the strokes did not survive the squeeze.
# - *One frame does not say where it goes.* With one, every form falls to the level of a guess within a few frames; five tell the velocity, ten add little. Which digit it is, one frame in the window tells nearly as well as ten.
# - *Its size matters little here.* Place and velocity are four numbers; eight have room for them. Sixty-four would have room for some of the shape, but a few minutes of training, by a loss that is content with a blur, did
#   not put it there.
# - *Guidance cannot bring back what was left out.* At $w = 2$ an embedding predicts a little better at best, and the right digit is as seldom there: a network can only listen more to what it was told.
# - *The draft* has the higher PSNR, and no digits. Squared error likes a blur in the right place; judge clips by more than one number (chapter 6).
#
# The window keeps what was squeezed out here. Five clean frames hold the strokes five times over, and where they go; attention along time fetches the one, foresight the other (chapter 3).
#
# On memory: an embedding keeps the past out of the window. That saves memory where the network runs, a little in training and, as two branches of guidance would both hold the past, more than half in sampling.

# %% [markdown]
# ## A memory that does not leave
#
# The overlap is all that the next window knows, and after ten windows what it knows is a copy of a copy. But who says that the past in the window must be the *latest* frames only? Some of the
# frames given at the beginning can stay in sight for ever: clean, in front of the window, at positions a dozen frames before it. They are really older. The network is told a distance that it
# knows from training, and takes from them what does not depend on it: not where the digit is, but which one. (Models that stream video for long keep such an anchor in some form:
# {cite:t}`henschel2024streamingt2v`.)

# %%
def my_anchored(denoiser, past, anchor, distance=12):
    n, k = anchor.shape[2], past.shape[2]

    def told(xt, t):
        f = xt.shape[2]
        clip = torch.cat([anchor, past, xt[:, :, k:]], dim=2)
        levels = torch.where(torch.arange(n + f, device=t.device) < n + k, 0, t[:, None])
        positions = torch.cat([torch.arange(n) - n - distance, torch.arange(f)])
        x0_hat = denoiser(clip, levels, positions=positions)
        return torch.cat([past, x0_hat[:, :, n + k :]], dim=2)

    return told


num_context, xt = truth[:, :, :K], noise_like(truth)
anchor, level = truth[:, :, :3], torch.full((len(truth),), 600, device=device)
with torch.no_grad():
    mine = my_anchored(denoiser, num_context, anchor)(xt, level)
    theirs = anchored_history(denoiser, num_context, anchor)(xt, level)
torch.testing.assert_close(mine, theirs)

# %%
far = held_out(6, K + 66, seed=11)
start = far[:, :, :K]
methods = {
    "the last five frames": history_guidance,
    "and five from the beginning": partial(anchored_history, anchor=start),
}
rolled, stretch = {}, F - K
print("share of frames that show the right digit, window by window (6 clips)")
for name, method in methods.items():
    frames = vd.rollout(
        denoiser,
        start,
        66,
        method=method,
        sampler=partial(vd.ddim, steps=6),
        generator=torch.Generator().manual_seed(0),
    )
    rolled[name] = torch.cat([start, torch.stack(list(frames), dim=2)], dim=2).cpu()
    right = digit_metrics.identity(rolled[name], far.cpu())[:, K:].float()
    by_window = right.unfold(1, stretch, stretch).mean(dim=(0, 2))
    print(f"{name:28}", "  ".join(f"{x:4.2f}" for x in by_window))

# %% mystnb={"image": {"alt": "Three long film strips of one clip: the truth, its continuation from the last five frames of each window, and one that also keeps five frames from the beginning in sight."}, "figure": {"caption": "Every fifth frame of 71. Given: the first five (blue). Six windows, begun every eleven frames (orange bar: the first frame shown), F = 16, K = 5."}}
viz.film_strip(
    [far[0].cpu(), *(clips[0] for clips in rolled.values())],
    ["truth", "last five", "with anchor"],
    num_context=[far.shape[2], K, K],
    every=5,
    joins=range(F, far.shape[2], F - K),
);

# %% [markdown]
# Six clips are an anecdote; chapter 10 counts survival over many.

# %% [markdown]
# ## What breaks, and how to see it
#
# Turn the weight up and equation (2) leaves the range that pixels have: $\hat x_0$ is extrapolated, and nothing says that an extrapolated image is one; clamping hides it {cite:p}`saharia2022photorealistic`. Count the pixels that end beyond
# $[-1, 1]$ by more than a tenth, by hand and by the library:

# %%
for w, row in on_digits.items():
    made = row["clips"][:, :, K:]
    beyond = (made.abs() > 1.1).float().mean()
    torch.testing.assert_close(video_metrics.saturation(made).mean(), beyond)
    print(f"w = {w:3}: {100 * beyond:5.2f}% of the new pixels lie beyond the range")

# %% [markdown]
# ## Recap
#
# One noise level per frame makes the past a condition: clean frames in the window, no new weights. Guidance with weight $w$ moves the answer along the line from "no past" to "this past" and
# beyond; the exact answer lies at 1, and what a larger weight gains it gains by making up for a network that listens too little. Its price is twice the work, and pixels out of range. A past
# squeezed into a few numbers tells roughly where things go and forgets what they are.
#
# ## Exercises
#
# 1. **Predict.** In the Gaussian model, what is the spread at $w = 0$, in units of the exact one, for a frame right after the past? Why is it so large?
# 2. **Code.** Give the last given frame a level of 15 instead of 0, and tell the network so. Does a long rollout last longer?
# 3. **Explore.** Let the weight depend on $t$: guide only while $t > 500$. Which of the two halves of the trajectory does the gain come from?
#
# :::{dropdown} Solutions
# 1. Without the past the new frame has the process's own standard deviation, $s$; given the past it is nearly determined. The ratio is what knowing the past is worth - more than ten right
#    after it - and it is exactly the spread that `independent` windows have.
# 2. Put `torch.where(last, 15, 0)` into the levels of the past and `schedule.add_noise` the frame itself. Made frames are slightly wrong, and saying so makes the network trust them less:
#    {cite:t}`chen2024diffusion` use it for stability.
# 3. Wrap two denoisers: `lambda xt, t: (guided if t[0] > 500 else plain)(xt, t)`. Where things are is decided at high noise, so most of the gain comes from there; the pixels out of range
#    come from the low half.
# :::
#
# ## Sources
#
# Classifier-free guidance: {cite:t}`ho2022classifier`. Guidance on history, fractional and temporal: {cite:t}`song2025history`. Noise levels per frame: {cite:t}`chen2024diffusion`. The
# conditional window in video diffusion: {cite:t}`ho2022video`, {cite:t}`harvey2022flexible`. An anchor frame for long videos: {cite:t}`henschel2024streamingt2v`. Saturation: {cite:t}`saharia2022photorealistic`.
