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
# # A tour in five minutes
#
# **How can a model that has only ever seen 16 frames make a video that does not end?**
#
# This page walks through the whole book once, quickly. You meet a clip, drown it in noise, let a small network pull it out
# again, and then push the network past the end of the clips it was trained on. Every later chapter takes one of these
# steps apart and builds it by hand.
#
# *Time to run: under a minute on two CPU cores; about twenty seconds on one GPU.*

# %% [markdown]
# **You will learn** what a video diffusion model does, in pictures; what a sampler shows on the way; what a window, an overlap
# and a guidance weight are.
#
# **You need** a little Python. No knowledge of diffusion models: that is what the book is for.

# %%
import torch

import vdiff_lite as vd
from vdiff_lite.methods import history_guidance
from vdiff_lite.viz import sliders

torch.manual_seed(0)
device = vd.pick_device()
denoiser = vd.load("digits32", device)

# %% [markdown]
# ## 1. A clip
#
# Our world is small on purpose: one handwritten digit bounces in a box of 32 by 32 pixels, for 16 frames. It can be
# trained on a laptop, and, since we make it ourselves, we know the truth about every frame: where the digit is, how fast
# it moves, and which digit it is.

# %%
real = vd.BouncingDigits(split="test").sample(3, torch.Generator().manual_seed(7))
viz.show_clips(
    real.video,
    [f"a {n}" for n in real.truth.labels.flatten().tolist()],
    alt="A handwritten digit bounces in a box",
)

# %% mystnb={"image": {"alt": "Three film strips of sixteen frames; in each a white handwritten digit drifts over a black ground and bounces off the walls."}, "figure": {"caption": "Three held-out clips, frame by frame. Time runs to the right."}}
viz.film_strip(real.video, [f"a {n}" for n in real.truth.labels.flatten().tolist()]);

# %% [markdown]
# ## 2. Noise
#
# A **noise schedule** mixes a clip with Gaussian noise. The level $t$ runs from 0, the clean clip, to 1000, pure noise.
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$$
#
# **Predict:** at which level do you stop seeing the digit? Then move the slider.

# %%
eps = torch.randn(real.video[:1].shape, generator=torch.Generator().manual_seed(0))
levels = list(range(0, 1001, 100))
noisy = torch.cat(
    [denoiser.schedule.add_noise(real.video[:1], torch.tensor([t]), eps) for t in levels]
)
sliders.picture_slider(
    sliders.frame_pictures(noisy),
    levels,
    "noise level t",
    "One frame of a bouncing digit under noise.",
    start=3,
)

# %% [markdown]
# ## 3. Denoising
#
# The network of this book, a space-time UNet, was trained on one question: *here is a noisy clip and its noise level;
# what was the clean clip?* It answers with `x0_hat`, its best guess.

# %%
t = torch.tensor([600])
x600 = denoiser.schedule.add_noise(real.video[:1], t, eps)
guess = denoiser(x600.to(device), t.to(device)).cpu()

# %% mystnb={"image": {"alt": "Three film strips: the true clip, the same clip under heavy noise, and the network's guess, in which the digit is back in place."}, "figure": {"caption": "The truth, what the network was given at t = 600, and what it took it for."}}
viz.film_strip([real.video[0], x600[0], guess[0]], ["truth", "given, t=600", "guess"]);

# %% [markdown]
# ## 4. A clip from nothing
#
# Start from pure noise, ask for a guess, step a little towards it, ask again. That is a **sampler**. After 25 questions
# there is a clip that nobody ever recorded.

# %%
noise = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(3)).to(device)
steps = list(vd.ddim(denoiser, noise, denoiser.schedule, steps=25))
len(steps), steps[0].t, steps[-1].t

# %% mystnb={"image": {"alt": "Film strips of the sampler's guess at six noise levels; it starts as a grey cloud and sharpens into a moving digit."}, "figure": {"caption": "What the network believes on the way from pure noise (top) to the finished clip (bottom)."}}
shown = [0, 4, 8, 12, 18, 25]
viz.film_strip([steps[i].x0_hat[0] for i in shown], [f"t={steps[i].t}" for i in shown]);

# %% [markdown]
# Move along the trajectory yourself. Motion is decided early, at high noise; detail comes last.

# %%
pictures = sliders.clip_pictures([step.x0_hat[0] for step in steps])
sliders.picture_slider(
    pictures,
    [step.t for step in steps],
    "noise level t",
    "The network's guess of the whole clip, playing.",
    start=12,
)

# %% [markdown]
# ## 5. Past the end of the window
#
# The network sees a **window** of 16 frames. To go on, we slide the window: the last 5 frames made become the first 5 of the
# next window, held clean, and the network makes the 11 that follow. The number of shared frames is the **overlap**.
#
# Compare with what happens without that: windows that know nothing of each other.

# %%
past = real.video[:1, :, :5].to(device)


def go_on(method, seed=1, frames=33):
    made = vd.rollout(
        denoiser, past, frames, method=method, generator=torch.Generator().manual_seed(seed)
    )
    return torch.cat([past, torch.stack(list(made), dim=2)], dim=2).cpu()


with_history = go_on(history_guidance)
without = go_on(lambda denoiser, past: denoiser)
with_history.shape

# %% mystnb={"image": {"alt": "Two long film strips from the same five given frames. With the past in the window the same digit moves on without a jump; without it, the digit and its place change at every join."}, "figure": {"caption": "Every second frame of 38; the frames in blue were given. New windows begin at frames 16 and 27 (orange bar: the first one shown)."}}
viz.film_strip(
    [with_history[0], without[0]],
    ["overlap of 5", "no memory"],
    num_context=5,
    every=2,
    joins=[16, 27],
);

# %%
viz.show_clips(
    [viz.framed(clip[0], num_context=5, joins=[16, 27]) for clip in (with_history, without)],
    ["overlap of 5 frames", "no memory"],
    alt="A digit goes on bouncing past the window",
)

# %% [markdown]
# Bright borders: the frames that were given, and for a moment (above and below) each join. Without memory the digit is swapped and jumps there. With five clean frames in the window it moves on without a jump. Look at the
# strokes, too: are they still those of the digit that was given? And are those that the model draws from nothing as well formed? What is kept, for how
# long, by which method and at what price is the subject of the rest of the book.
#
# ## 6. How hard should it listen?
#
# **Classifier-free guidance** runs the network twice, with the past and without it, and moves further in the direction of the
# difference: $\hat x_0 = u + w\,(c - u)$. The weight $w$ is the slider that this book is most about. At $w = 0$ the past
# is ignored, at $w = 1$ it is used as trained, beyond that it is exaggerated.

# %%
weights = [0.0, 0.5, 1.0, 1.5, 2.5, 4.0]
xt = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(5)).to(device)


@torch.no_grad()
def listen(weight):
    method = history_guidance(denoiser, past, weight)
    for step in vd.ddim(method, xt, denoiser.schedule, 12):
        yield viz.framed(step.x0_hat[0].cpu(), num_context=5)


sliders.guidance_slider(
    listen,
    weights,
    alt="A clip continued from five given frames.",
    start=2,
    fine=[round(0.25 * i, 2) for i in range(25)],
)

# %% [markdown]
# In JupyterLab the slider samples anew wherever you put it; on the site it holds six clips made beforehand.

# %% mystnb={"image": {"alt": "Film strips for six guidance weights; at weight zero the made frames do not follow the given ones, from one upwards they do."}, "figure": {"caption": "The same noise, six weights. Frames 0 to 4 (blue) were given."}}
guided = [list(listen(w))[-1] for w in weights]
viz.film_strip(guided, [f"w = {w}" for w in weights], num_context=5);

# %% [markdown]
# ## Recap
#
# A diffusion model answers one question - what was the clean clip? - at every noise level, and a sampler turns the
# answers into a clip. A window is all that the network sees, so going on means telling the next window what the last
# one made. How to tell it, and how loudly, is the subject of this book.
#
# ## Exercises
#
# 1. **Predict.** In the strip of section 4, at which level could you first tell which way the digit moves? And which digit it is?
# 2. **Code.** Continue the clip with an overlap of 1 instead of 5 (`rollout(..., overlap=1)`). What is lost, and why?
# 3. **Explore.** Try `steps=5` in section 4. What kind of error do few steps make?
#
# :::{dropdown} Solutions
# 1. The way it moves shows first, in the blurred guess at high noise; the strokes that tell the digit come later, at lower
#    levels. Coarse things are settled at high noise because only they are still visible through it.
# 2. One frame shows where the digit is but not where it is going, so the direction is drawn afresh at each join: the digit
#    keeps its shape and changes its course.
# 3. The digit may be smeared or change its shape within the clip: each step follows a guess that averages over several clips,
#    and too few corrections remain.
# :::
#
# ## Sources
#
# Diffusion models: {cite:t}`ho2020denoising`. Video diffusion: {cite:t}`ho2022video`. Classifier-free guidance:
# {cite:t}`ho2022classifier`; on history: {cite:t}`song2025history`. Noise levels per frame: {cite:t}`chen2024diffusion`.
