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
# **The network only ever answers "what was the clean clip?" - so how does noise become a clip, and in how few questions?**
#
# We build three samplers, each an algorithm box of a few lines: the ancestral sampler of the first diffusion models, DDIM, and a
# second-order solver. Then we count: quality against the number of questions.
#
# *Time to run: about a minute on two CPU cores, and no less on a GPU: most questions here are about one clip or a few.*

# %% [markdown]
# **You will learn** what DDPM, DDIM and DPM-Solver++ do with the same answer; why the last of the levels must be asked; what few steps cost, measured.
#
# **You need** chapters 2 and 4.

# %%
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vdiff_lite as vd
from vdiff_lite.evaluation import digit_metrics
from vdiff_lite.viz import sliders

vd.prepare_cpu()
device = vd.pick_device()
torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds what a convolution is given to ten bits
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule


def noise(clips, frames=16, seed=0):
    return torch.randn(
        clips, 1, frames, 32, 32, generator=torch.Generator().manual_seed(seed)
    ).to(device)

# %% [markdown]
# ## What we will have at the end

# %%
with torch.no_grad():
    clips = vd.run_sampler(vd.dpmpp_2m(denoiser, noise(4, seed=3), schedule, steps=12))
viz.show_clips(clips.cpu(), alt="A digit drawn from noise in twelve steps moves in a box")

# %% [markdown]
# **Predict.** Training used 1000 levels. How many questions do you think a good clip needs: 1000, 100, 10?
#
# ## The mathematics
#
# At level $t$ we hold $x_t$ and the guess $\hat x_0$. Where to at level $t' < t$? All samplers of this chapter answer with a weighted sum
#
# $$x_{t'} = a\, \hat x_0 + b\, x_t + c\, z, \qquad z \sim \mathcal N(0, 1). \tag{1}$$
#
# *Ancestral* (DDPM) draws from the true posterior $q(x_{t'} \mid x_t, x_0)$ with the guess in place of $x_0$. *DDIM* keeps the noise that is already there,
# $\hat\epsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat x_0)/\sqrt{1 - \bar\alpha_t}$, and only turns it down:
#
# $$x_{t'} = \sqrt{\bar\alpha_{t'}}\, \hat x_0 + \sqrt{1 - \bar\alpha_{t'}}\, \hat\epsilon. \tag{2}$$
#
# *DPM-Solver++(2M)* sees (2) as one Euler step of a differential equation in $\lambda = \log \sqrt{\mathrm{SNR}}$ and takes a second-order step instead, at no extra question, by
# extrapolating the guess from the last two:
#
# $$D = \hat x_0 + \tfrac{h}{2 h_{\text{last}}} \left(\hat x_0 - \hat x_0^{\text{last}}\right), \qquad h = \lambda_{t'} - \lambda_t. \tag{3}$$

# %% [markdown]
# ## Which levels to ask?
#
# If we ask 25 times, which 25 of the 1000 levels? They must begin at 1000, since we begin with pure noise. ("Trailing" spacing. A popular alternative starts at 961 and takes noise for a
# clip with a trace of signal.)

# %%
# NBVAL_CHECK_OUTPUT
def levels(steps, T=1000):
    return [round(T * (steps - i) / steps) for i in range(steps + 1)]


print(levels(8))
assert levels(25) == vd.samplers.trailing_times(1000, 25)

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
        a, b = ab / ab_next, 1 - ab / ab_next
        x0_hat = denoiser(xt, torch.full((len(xt),), t, device=device))
        xt = (ab_next**0.5 * b * x0_hat + a**0.5 * (1 - ab_next) * xt) / (1 - ab)
        if t_next > 0:
            z = torch.randn(xt.shape, generator=generator).to(device)
            xt = xt + (b * (1 - ab_next) / (1 - ab)) ** 0.5 * z
    return xt

# %% [markdown]
# ## Build it: DPM-Solver++(2M)

# %%
@torch.no_grad()
def my_dpmpp(xt, steps):
    lam = lambda t: (
        schedule.alpha_bar[t].sqrt().log() - (1 - schedule.alpha_bar[t]).sqrt().log()
    ).item()
    last = h_last = None
    for t, t_next in zip(levels(steps), levels(steps)[1:]):
        signal, sigma = (
            schedule.alpha_bar[t_next].sqrt().item(),
            (1 - schedule.alpha_bar[[t, t_next]]).sqrt().tolist(),
        )
        x0_hat, h = (
            denoiser(xt, torch.full((len(xt),), t, device=device)),
            lam(t_next) - lam(t),
        )
        d = (
            x0_hat
            if last is None or t_next == 0
            else x0_hat + h / (2 * h_last) * (x0_hat - last)
        )
        xt = sigma[1] / sigma[0] * xt + signal * (1 - torch.tensor(-h).exp().item()) * d
        last, h_last = x0_hat, h
    return xt

# %% [markdown]
# ## Meet the twins
#
# The library's samplers are generators: they yield a `Step(t, xt, x0_hat)` at each level, so that a notebook can look at the trajectory. (They are also tested against the schedulers of the
# `diffusers` library.)

# %%
def seeded():
    return torch.Generator().manual_seed(1)


xt = noise(1)
with torch.no_grad():
    torch.testing.assert_close(
        my_ddim(xt, 6), vd.run_sampler(vd.ddim(denoiser, xt, schedule, 6)), rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        my_dpmpp(xt, 6),
        vd.run_sampler(vd.dpmpp_2m(denoiser, xt, schedule, 6)),
        rtol=1e-3,
        atol=1e-4,
    )
    theirs = vd.run_sampler(vd.ddpm(denoiser, xt, schedule, 6, generator=seeded()))
torch.testing.assert_close(my_ddpm(xt, 6, seeded()), theirs, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## A thousand questions, 800, 100
#
# The published recipe asks all 1000. We do it once, for a clip of 4 frames, and compare with a subset of 800 and of 100 levels.

# %%
made, seconds = {}, {}
for steps in (1000, 800, 100):
    started = time.perf_counter()
    made[f"DDPM {steps}"] = my_ddpm(noise(1, 4, seed=4), steps, seeded())[0]
    seconds[steps] = time.perf_counter() - started
made["DDIM 25"] = my_ddim(noise(1, 4, seed=4), 25)[0]
made["DPM++ 12"] = my_dpmpp(noise(1, 4, seed=4), 12)[0]

# %% mystnb={"image": {"alt": "Film strips of four frames made by DDPM with 1000, 800 and 100 steps, DDIM with 25 and DPM-Solver plus plus with 12; all show a clear digit that moves."}, "figure": {"caption": "The same starting noise. The ancestral samplers draw fresh noise on the way, so each arrives at another clip."}}
viz.film_strip(list(made.values()), list(made));

# %%
print(
    "time of DDPM relative to 100 steps:",
    {n: round(s / seconds[100], 1) for n, s in seconds.items()},
)

# %% [markdown]
# ## Quality against steps, measured
#
# DDIM and DPM-Solver++ follow the same path, so we can say exactly how far off a coarse walk is: take a fine one (64 steps) from the same noise and measure the distance at the
# end. As a yardstick, the distance between two clips of different digits.

# %%
start = noise(4, 8, seed=6)
with torch.no_grad():
    fine = vd.run_sampler(vd.dpmpp_2m(denoiser, start, schedule, 64))
counts, errors = [2, 4, 8, 16, 32], {"DDIM": [], "DPM-Solver++(2M)": []}
coarse = {}
for steps in counts:
    coarse[steps] = my_ddim(start, steps)
    errors["DDIM"].append((coarse[steps] - fine).square().mean().sqrt().item())
    errors["DPM-Solver++(2M)"].append(
        (my_dpmpp(start, steps) - fine).square().mean().sqrt().item()
    )
strangers = (fine - fine.roll(1, 0)).square().mean().sqrt().item()

# %% mystnb={"image": {"alt": "Distance to the fine solution against the number of steps on logarithmic axes; both fall, the second-order solver lies below DDIM for many steps."}, "figure": {"caption": "Root mean squared distance to a walk of 64 steps. The dotted line is the distance between two unrelated clips."}}
figure, axis = plt.subplots(figsize=(6, 3))
viz.plot_lines(axis, counts, errors, marker="o")
axis.axhline(strangers, color="#666666", ls=":")
axis.set(
    xlabel="questions asked (network passes)",
    ylabel="distance",
    xscale="log",
    yscale="log",
    xticks=counts,
    xticklabels=counts,
)
axis.minorticks_off();

# %%
for name, values in errors.items():
    print(
        f"{name:18}",
        {n: round(v, 3) for n, v in zip(counts, values)},
        f"unrelated clips: {strangers:.3f}",
    )

# %% [markdown]
# Being near the fine walk is one thing, being a good clip another. Two things that can be checked on any clip, because our world is simple: is there as much ink as there should be, and
# does the digit move as fast as digits do?

# %%
real = (
    vd.BouncingDigits(split="test", num_frames=8)
    .sample(256, torch.Generator().manual_seed(0))
    .video
)
print("steps   ink   speed      (1 is right)")
for steps, clips in coarse.items():
    intensity = digit_metrics.intensity(clips.cpu()).mean() / digit_metrics.intensity(real).mean()
    speed = digit_metrics.speed(clips.cpu()).mean() / digit_metrics.speed(real).mean()
    print(f"{steps:5} {intensity:6.2f} {speed:6.2f}")

# %% [markdown]
# Four clips of eight frames are a small sample: read differences of a tenth as noise. `vdiff evaluate` does it with 64.
#
# Too little ink, even in many steps: where does it go? **Predict:** does the network guess too faintly at some level? Ask it at each level twice: about real clips under noise, and about what it has drawn itself so far.

# %% mystnb={"image": {"alt": "Ink of the guess against the noise level. For real clips under noise the line stays close to one. Along the walk it starts at one, falls while the noise is high and goes on falling slowly to the end."}, "figure": {"caption": "Ink of the guess $\\hat x_0$ by noise level: for eight real clips under noise, relative to their own, and along the walk of 25 DDIM steps that draws eight clips of 16 frames, relative to the data's. Read from right to left."}}
some = vd.BouncingDigits(split="test").sample(8, torch.Generator().manual_seed(0)).video
hidden, mean = noise(8, seed=4), digit_metrics.intensity(real).mean()
inks = {"real clips under noise": [], "along the walk": []}
with torch.no_grad():
    for step in vd.ddim(denoiser, hidden, schedule, 25):
        if step.t > 0:
            t = torch.full((8,), step.t, device=device)
            seen = denoiser(schedule.add_noise(some.to(device), t, hidden), t).cpu()
            inks["real clips under noise"].append(digit_metrics.intensity(seen).mean() / digit_metrics.intensity(some).mean())
            inks["along the walk"].append(digit_metrics.intensity(step.x0_hat.cpu()).mean() / mean)

figure, axis = plt.subplots(figsize=(6, 2.4))
viz.plot_lines(axis, levels(25)[:-1], inks)
axis.axhline(1, color="#666666", lw=0.5)
axis.set(xlabel="noise level t", ylabel="ink (1 is right)");

# %% [markdown]
# At each level by itself the guess is right, within a few hundredths. Along the walk the network is shown its own drawing: strokes fainter than any that it was trained on, and of what is faint it keeps a little less each time. A guess that is right on the data
# need not be right on itself. Nothing in the loss asks for that, and fewer, larger steps make it worse.
#
# ## Draw the beginning first
#
# **Predict:** would a clip of two frames fade as much as one of sixteen?

# %%
def check(clips):
    intensity, speed = digit_metrics.intensity(clips).mean(), digit_metrics.speed(clips).mean()
    same = digit_metrics.shape_consistency(clips).float().mean()
    return f"{intensity / mean:6.2f} {speed / digit_metrics.speed(real).mean():6.2f} {same:10.2f}"


print("frames   ink   speed   same shape at the end      (16 clips, 25 steps of DDIM)")
for frames in (2, 8, 16):
    at_once = vd.sample(denoiser, 16, frames, steps=25, generator=seeded()).cpu()
    print(f"{frames:6} {check(at_once)}")

# %% [markdown]
# Two frames have nearly all of their ink; eight and sixteen do not. It is lost while the noise is high (the figure above): so many frames have to agree on a shape there while none of them shows one yet, and what they agree on is faint. So let three frames agree, by
# themselves, and draw the rest with these as the past: clean frames, at $t = 0$, in the same window. The network was trained for that (chapter 4).

# %%
def my_grow(clips, frames, first, steps, generator):
    draw = lambda f: torch.randn(clips, 1, f, 32, 32, generator=generator).to(device)
    walk = lambda ask, xt: vd.run_sampler(
        vd.ddim(ask, xt, schedule, steps, eta=0.5, generator=generator)
    )
    begun = walk(denoiser, draw(first))

    def with_the_beginning(xt, t):
        per_frame = t[:, None].repeat(1, frames)
        per_frame[:, :first] = 0
        return denoiser(torch.cat([begun, xt[:, :, first:]], dim=2), per_frame)

    return walk(with_the_beginning, draw(frames))


with torch.no_grad():
    mine = my_grow(1, 16, 3, 6, seeded())
theirs = vd.generate(denoiser, 1, 16, steps=6, first=3, generator=seeded())
torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)

# %%
grown = vd.generate(denoiser, 16, 16, steps=25, generator=seeded()).cpu()
print("                     ink   speed   same shape at the end")
print(f"all at once       {check(at_once)}")
print(f"beginning first   {check(grown)}")

# %% mystnb={"image": {"alt": "Film strips of eight clips drawn from noise; in the upper four, drawn all at once, strokes are faint; in the lower four, drawn beginning first, they are as bright as in real clips. Some shapes of either kind are no digits."}, "figure": {"caption": "Clips from noise, every second frame, not picked: four drawn all at once, four with the first three frames first, with 25 steps each."}}
viz.film_strip(
    [*at_once[:4], *grown[:4]], ["at once"] * 4 + ["beginning first"] * 4, every=2
);

# %% [markdown]
# Two things are different here: the beginning is drawn first, which brings the ink back, and $\eta = 0.5$ adds fresh noise on the way, which mends small errors of the shape (exercise 1). And
# note what `my_grow` does: it *goes on* from frames that it made itself. Nothing stops it at sixteen. That is Part II.
#
# ## Who draws the beginning?
#
# Bright, and in one piece; but some of these shapes are no digits. **Predict:** suppose the first two frames are not drawn but taken from a real clip. How much of what is wrong is still wrong?

# %%
judged = json.loads(Path("../data/results/digits32.json").read_text())
assert judged["sha256"] == denoiser.card["sha256"]
print(f"{judged['clips']} clips a column, {judged['steps']} steps\n")
print(evaluation.table_from_noise(judged))

# %% [markdown]
# With two true frames (last but one column) all is as it should be: as much ink, as fast, the same digit at both ends nearly as often as in real clips, and as near to real clips as other real clips are. `digits32` knows how to go on. All that is
# wrong in its clips was wrong in the beginning already.
#
# Going on and beginning are different tasks. A beginning has no past to look at, and every stroke must be invented; what strokes a digit may have is learned from many digits, and a clip of sixteen frames shows one. Large models
# divide the work, too: Emu Video {cite:p}`girdhar2024emu` has a still drawn first, and gives it to the video model as its first frame; eDiff-I {cite:p}`balaji2022ediffi` trains copies of one network on, each for some of the noise levels.
#
# So let a second network begin. `digits32_begin` has the weights of `digits32`, trained on with nothing given (`make beginner`).
#
# And how should it draw? **Predict:** which is worth more here, a network that knows beginnings, more questions, or more fresh noise on the way?

# %%
first_frame_model = vd.load("digits32_begin", device)
for course in vd.checkpoint.stages(first_frame_model.card)[2:]:
    recipe = course["recipe"]
    batch, frames = recipe["batch"], recipe["frames"]
    single = f"every {recipe['image_every']}nd on {batch * frames} single frames"
    print(
        f"{course['steps']:,} steps of {batch} clips of {frames} frames, {single}"
    )

begins = json.loads(Path("../data/results/digits32_begin.json").read_text())
assert begins["sha256"]["digits32_begin"] == first_frame_model.card["sha256"]


numbers = lambda row: (
    f"{row['ink']:.3f} {row['ink_standard_error']:.3f}"
    f"  {row['speed']:.3f} {row['speed_standard_error']:.3f}"
    f"  {row['distance']:.4f}            {row['spread']:.3f}"
)


def show(rows):
    print("drawn by       eta steps    ink   +-    speed   +-    from handwriting  spread")
    for row in rows:
        how = f"{row['network']:14} {row['eta']:3} {row['steps']:5}"
        print(f"{how}  {numbers(row)}")
    print(f"{'people':24}  {numbers(begins['real'])}")


print(f"\ntwo frames from noise, {begins['clips']} times; from handwriting: the distance")
print("to the nearest training glyph, median; spread: how far from each other\n")
show(begins["drawn"])

# %% [markdown]
# Who draws counts for most: by any walk the second network comes nearer to handwriting than the first by its best. Then the fresh noise: each step of $\eta$ brings ink and brings the shapes nearer, up to $\eta = 1$, which is DDPM. A walk without fresh noise keeps the
# errors that it has made; fresh noise hides them again, and the network gets another look {cite:p}`karras2022elucidating`. Then the number of questions, up to a point: from 25 to 50 there is more ink, from 50 to 100 less is won. Two frames are an eighth of a window, and what is wrong in them is wrong
# to the end; so `vd.grow` lets the second network draw them by DDPM in 50 steps, and goes on by DDIM in 25.
#
# ## Away from a worse version
#
# Of this task we have a good network and a worse one: `digits32_begin`, and `digits32`, which it was before it learned to begin. What the good one gets wrong, the worse one gets more wrong, and mostly in the same direction: both draw shapes that are
# a little too much like everything at once. So the way from the worse guess to the better one points away from the errors that they share. Go on along it, past the better guess {cite:p}`karras2024guiding`:
#
# $$\hat x_0 = \hat x_0^{\text{worse}} + w\, (\hat x_0^{\text{good}} - \hat x_0^{\text{worse}}). \tag{4}$$
#
# With $w = 1$ the good network is alone. This has the form of classifier-free guidance, which chapter 7 builds; but there two *questions* are compared, and here two *networks*. And $w$ may depend on the noise level {cite:p}`kynkaanniemi2024applying`: near pure noise it is decided
# which shape there will be, further down how it looks and how it moves. **Predict:** what does a weight that is too large cost, and at which noise levels would you dare more?

# %%
def my_autoguided(good, worse, early, late):
    def guided(xt, t):
        w = early if t[0] > 600 else late
        return worse(xt, t) + w * (good(xt, t) - worse(xt, t))

    return guided


with torch.no_grad():
    walk_of = lambda guided: vd.run_sampler(
        vd.ddpm(guided, noise(1, 2), schedule, 6, generator=seeded())
    )
    torch.testing.assert_close(
        walk_of(my_autoguided(first_frame_model, denoiser, 3, 1.5)),
        walk_of(vd.autoguided(first_frame_model, denoiser, (3, 1.5))),
        rtol=1e-3,
        atol=1e-3,
    )

print("w > 600 below   same digit  +-      ink   +-    speed   +-    from handwriting  spread")
for row in begins["guided"]:
    w = row["weight"] if isinstance(row["weight"], list) else [row["weight"]] * 2
    same = f"{row['same_digit']:.3f}   {row['same_digit_standard_error']:.3f}"
    print(f"{w[0]:7} {w[1]:5}   {same:18} {numbers(row)}")
people = judged["from_noise"]["real_same_digit"]  # at both ends of clips of sixteen frames
print(f"{'people':15} {people:.3f} {'':12} {numbers(begins['real'])}")

# %% [markdown]
# One weight at all levels first. With $w = 1.5$ ink, speed, the distance to handwriting and the spread say nearly what they say of people. With $w = 3$ the shapes come *nearer* to the training glyphs than people's handwriting does: caricatures, with too much ink, and a third too
# fast, since the step between the two frames is pushed, too. Now guide above level 600 alone: ink is right, the shapes are more decided, and they move too *slowly*. So the two halves of the walk err in opposite ways, and 3 above with 1.5 below is the compromise that `vd.grow` draws by: ink is right, speed is some
# hundredths short, and the digit that is read stays what it is a little more often than with 1.5 everywhere - by less than two standard errors, in these clips. The worse network is the one that goes on; so `begin=` is all that you give it.

# %% mystnb={"image": {"alt": "Film strips of ten clips drawn from noise whose first two frames were drawn by a second network. Upper five: by that network alone, some shapes are blurred or no digits. Lower five, from the same noise: guided away from the first network, most can be read as a digit."}, "figure": {"caption": "Clips from noise, every second frame, not picked: the first two frames by `digits32_begin`, alone and guided away from `digits32`; the others by `digits32`."}}
begun = {
    name: vd.generate(
        denoiser, 5, generator=seeded(), first_frame_model=first_frame_model, first_frame_weight=weight
    ).cpu()
    for name, weight in {"alone": 1, "guided": (3, 1.5)}.items()
}
viz.film_strip(
    [clip for clips in begun.values() for clip in clips],
    [name for name in begun for _ in range(5)],
    every=2,
);

# %% [markdown]
# The upper five are drawn by the second network alone, the lower five from the same noise with guidance: strokes are more decided, and what was no digit has often become one. Of the 32 clips that the page of checkpoints shows, all but a few can be read. In the table of 64 clips (third column) ink, speed and the Fréchet distance are near those of
# real clips, and the shape is kept. The *digit* that is read at the end is still another one more often than in real clips: a shape between two digits may be read as one on one frame and as the other on the next. That is what is left to learn, and the first two frames are where.
#
# `vdiff sample` draws like this; `vdiff evaluate` prints the table. In Part II the first frames are given, and `digits32` works by itself.

# %% [markdown]
# ## Play
#
# One noise, more and more steps of DDIM; another seed is another noise.

# %%
@torch.no_grad()
def walk(steps, seed):
    for step in vd.ddim(denoiser, noise(1, seed=seed), schedule, steps):
        yield step.x0_hat[0].cpu()


sliders.explore_slider(
    walk,
    {"DDIM steps": [1, 2, 4, 8, 25], "seed": [6, 7, 8, 9]},
    "A clip drawn from noise.",
    start=[3, 0],
    fine={"DDIM steps": range(1, 51), "seed": range(20)},
)

# %%
sliders.explore_slider(
    lambda early, late: vd.generate(
        denoiser, generator=seeded(), first_frame_model=first_frame_model, first_frame_weight=(early, late)
    )[0].cpu(),
    {"w above 600": [1, 1.5, 3], "w below": [1.5, 3]},
    "A clip drawn from noise, its beginning guided away from a worse network.",
    start=[2, 0],
    fine={
        "w above 600": [i / 2 for i in range(11)],
        "w below": [i / 2 for i in range(11)],
    },
)

# %% [markdown]
# Above: with one step you see the network's first guess, the average of all clips; each further step commits a little more. Below: the same noise, its beginning drawn with more and more guidance, above and below level 600. With 3 in both, strokes are hard and digits run.
#
# ## What breaks, and how to see it
#
# Start the walk one level too late - tell the network that pure noise is level 900 - and it believes there is a trace of a clip in it. It finds one.

# %%
with torch.no_grad():
    late = vd.run_sampler(
        vd.ddim(
            denoiser, noise(4, seed=6), schedule, steps=[round(t * 0.9) for t in levels(20)]
        )
    )
    right = vd.run_sampler(vd.ddim(denoiser, noise(4, seed=6), schedule, steps=20))
intensity = lambda clips: (digit_metrics.intensity(clips.cpu()).mean() / digit_metrics.intensity(real).mean()).item()
print(f"ink, 1 is right: started at 1000 {intensity(right):.2f}, started at 900 {intensity(late):.2f}")

# %% mystnb={"image": {"alt": "Two film strips from the same noise, one started at level 1000 and one at level 900."}, "figure": {"caption": "From the same noise: started where it belongs, and told that it is at t = 900."}}
viz.film_strip([right[0], late[0]], ["from 1000", "from 900"]);

# %% [markdown]
# ## Recap
#
# A sampler is a rule for going from one level to the next, given the guess. DDPM adds fresh noise and needs many levels; DDIM keeps the noise and needs tens; a second-order
# step needs fewer for the same closeness. All start at pure noise, and the number of questions is the price. Where a worse network is at hand, going on from its guess past the better one mends what both get wrong.
#
# ## Exercises
#
# 1. **Predict.** Is DDIM with $\eta = 1$ the same as DDPM? For which numbers of steps?
# 2. **Code.** In `my_ddim`, replace the guess by `x0_hat.clamp(-1, 1)`. When does it help, and can it hurt?
# 3. **Explore.** Run DDIM *backwards*, from a clean clip to noise, and forwards again. Does the clip come back?
#
# :::{dropdown} Solutions
# 1. Yes, for any subset of levels: with $\eta = 1$, equation 12 of DDIM has the posterior's variance, and the means agree. `tests/test_samplers.py` checks it.
# 2. It helps with few steps and large guidance weights, where guesses overshoot. It hurts exactness: the walk is not the one the network's answers imply.
# 3. Go through the levels in rising order with the same formula. It comes back up to the step error of both walks, which shrinks with more steps; at $t = 1000$ exactly it cannot, since
#    nothing is left of the clip there. Stop at 990.
# :::
#
# ## Sources
#
# {cite:t}`ho2020denoising`, Eq. 6 and 7; {cite:t}`song2021denoising`, Eq. 12; {cite:t}`lu2022dpm`, Algorithm 2. Trailing spacing: {cite:t}`lin2024common`. Autoguidance: {cite:t}`karras2024guiding`.
