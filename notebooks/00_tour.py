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
# This page goes through the whole book once, quickly. You meet a clip and bury it in noise. A small network recovers it.
# Then you push the network past the length of the clips that it was trained on. Every later chapter takes one of these
# steps apart and builds it by hand.
#
# *Time to run: under a minute on two CPU cores; about twenty seconds on one GPU.*

# %% [markdown]
# **You will learn** what a video diffusion model does, in pictures; how a clip comes out of noise; what a window, an overlap and a
# guidance weight are.
#
# **You need** a little Python. You need not know anything about diffusion models: that is what the book is for.

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
import torch

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.methods import history_guidance, independent
from vdiff_lite.viz import sliders

torch.manual_seed(0)
device = vd.pick_device()
denoiser = vd.load("digits32", device)

# %% [markdown]
# ## 1. A clip
#
# Our world is small on purpose: one handwritten digit bounces in a box of 32 by 32 pixels, for 16 frames. Such a **clip** is
# small enough that a model of it can be trained on a laptop. And since we make the clips ourselves, we know the truth about every
# frame: where the digit is, how fast it moves, and which digit it is. Here are three, first playing and then frame by frame.

# %%
real = vd.BouncingDigits(split="test").sample(3, torch.Generator().manual_seed(7))
labels = [f"a {n}" for n in real.truth.labels.flatten().tolist()]
viz.show_clips(real.video, labels, alt="A handwritten digit bounces in a box")

# %% mystnb={"image": {"alt": "Three film strips of sixteen frames; in each a white handwritten digit drifts over a black background and bounces off the walls."}, "figure": {"caption": "Three held-out clips of a handwritten digit, frame by frame. Time runs to the right."}}
viz.film_strip(real.video, labels);

# %% [markdown]
# ## 2. Noise
#
# A **noise schedule** mixes a clip with Gaussian noise. The **noise level** $t$ runs from 0, the clean clip, to 1000, pure noise.
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$$
#
# Here $x_0$ is the clip and $\epsilon$ the noise. $\bar\alpha_t$ falls from 1 to 0 and says how much of the clip is left (chapter 2).
#
# **Predict:** at which level do you stop seeing the digit? Then move the slider.

# %%
eps = torch.randn(real.video[:1].shape, generator=torch.Generator().manual_seed(0))
levels = list(range(0, 1001, 100))
noisy = torch.cat([denoiser.schedule.add_noise(real.video[:1], torch.tensor([t]), eps) for t in levels])
pictures = sliders.frame_pictures(noisy)
alt = "One frame of a bouncing digit under noise."
sliders.picture_slider(pictures, levels, "noise level t", alt, start=3)

# %% [markdown]
# ## 3. Denoising
#
# The network of this book, a space-time UNet, was trained for one task: *given a noisy clip and its noise level, estimate
# the clean clip.* Its estimate is called `x0_hat`.

# %%
t = torch.tensor([600])
x600 = denoiser.schedule.add_noise(real.video[:1], t, eps)
x0_hat = denoiser(x600.to(device), t.to(device)).cpu()

# %% mystnb={"image": {"alt": "Three film strips: the true clip, the same clip under heavy noise, and the network's estimate, in which the digit is back where it was."}, "figure": {"caption": "The truth, the input at t = 600, and the network's estimate of the clean clip."}}
viz.film_strip([real.video[0], x600[0], x0_hat[0]], ["truth", "input, t=600", "estimate"]);

# %% [markdown]
# ## 4. A clip from noise
#
# Start from pure noise, estimate the clean clip, step a little towards it, estimate again. That is a **sampler**. After 25
# network evaluations there is a clip that nobody ever recorded. (We chose the seed so that the digit can be read. Many others
# give a shape that is no digit, as chapter 5 shows.)

# %%
noise = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(2)).to(device)
steps = list(vd.ddim(denoiser, noise, denoiser.schedule, steps=25))
len(steps), steps[0].t, steps[-1].t

# %% mystnb={"image": {"alt": "Film strips of the sampler's estimate at six noise levels; it starts as a gray cloud and sharpens into a moving digit."}, "figure": {"caption": "The estimate of the clean clip on the way from pure noise (top) to the sampled clip (bottom)."}}
shown = [0, 4, 8, 12, 18, 25]
viz.film_strip([steps[i].x0_hat[0] for i in shown], [f"t={steps[i].t}" for i in shown]);

# %% [markdown]
# Move along the trajectory yourself. Motion is decided early, at high noise; detail comes last.

# %%
pictures = sliders.clip_pictures([step.x0_hat[0] for step in steps])
alt = "The network's estimate of the whole clip, playing."
sliders.picture_slider(pictures, [step.t for step in steps], "noise level t", alt, start=12)

# %% [markdown]
# ## 5. Past the end of the window
#
# The network sees a **window** of 16 frames. To continue a video, we slide the window: the last 5 frames become the first 5 of the
# next window, held clean, and the network makes the 11 that follow. The frames that are known are called **the past**. The number
# of frames that two windows share is the **overlap**.
#
# Compare that with independent windows, which know nothing of each other.

# %%
past = real.video[:1, :, :5].to(device)


def continue_clip(method, seed=1, frames=33):
    generator = torch.Generator().manual_seed(seed)
    new_frames = list(vd.rollout(denoiser, past, frames, method=method, generator=generator))
    return torch.cat([past, torch.stack(new_frames, dim=2)], dim=2).cpu()


with_history = continue_clip(history_guidance)
without = continue_clip(independent)
with_history.shape

# %% mystnb={"image": {"alt": "Two long film strips from the same five given frames. With the past in the window the same digit moves on without a jump; without it, the digit and its position change at every join."}, "figure": {"caption": "Every second frame of 38; the frames in blue were given. New windows start at frames 16 and 27. An orange bar stands before the first frame shown of each new window."}}
clips, labels = [with_history[0], without[0]], ["overlap of 5", "independent windows"]
viz.film_strip(clips, labels, num_context=5, every=2, joins=[16, 27]);

# %%
framed = [viz.framed(clip[0], num_context=5, joins=[16, 27]) for clip in (with_history, without)]
viz.show_clips(framed, labels, alt="A digit keeps bouncing past the window")

# %% [markdown]
# In the clips above, bright borders mark the frames that were given, and bright bars flash at each join. Without the past in the
# window, the digit changes and jumps there. With it, the digit moves on without a jump. Compare the strokes, too. Are they still
# those of the digit that was given? What is kept, for how long, by which method and at what price is the subject of the rest of
# the book.
#
# ## 6. How much should the past count?
#
# **Classifier-free guidance** evaluates the network twice, with the past and without it, and moves further in the direction
# of the difference: $\hat x_0 = u + w\,(c - u)$, where $c$ is the estimate conditioned on the past and $u$ the unconditional one.
# The factor $w$ is the **guidance weight**. At $w = 0$ the past is ignored. At $w = 1$ it is used as trained. Larger weights
# exaggerate it.

# %%
weights = [0.0, 0.5, 1.0, 1.5, 2.5, 4.0]
xt = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(5)).to(device)


@torch.no_grad()
def guided_clip(weight):
    guided = history_guidance(denoiser, past, weight)
    for step in vd.ddim(guided, xt, denoiser.schedule, 12):
        yield viz.framed(step.x0_hat[0].cpu(), num_context=5)


fine = [round(0.25 * i, 2) for i in range(25)]
alt = "A clip continued from five given frames."
sliders.guidance_slider(guided_clip, weights, alt=alt, start=2, fine=fine)

# %% [markdown]
# In JupyterLab the slider samples anew wherever you put it. On the site it holds six clips made beforehand. Here they are as
# strips, one weight per row. At $w = 0$ the given frames are ignored. From $w = 1$ on the rows look alike.

# %% mystnb={"image": {"alt": "Film strips for six guidance weights; at weight zero the new frames do not follow the given ones, at all others they do."}, "figure": {"caption": "The same noise, six weights. Frames 0 to 4 (blue) were given. With w = 0.5 the new frames are a little fainter. Chapter 7 measures what larger weights do."}}
guided = [list(guided_clip(w))[-1] for w in weights]
viz.film_strip(guided, [f"w = {w}" for w in weights], num_context=5);

# %% [markdown]
# ## Recap
#
# A diffusion model estimates the clean clip at every noise level, and a sampler turns these estimates into a clip. The network
# sees one window at a time. So to continue a video, the next window must be told what the last one made. How to tell it, and how
# strongly, is the subject of this book.
#
# ## Exercises
#
# 1. **Predict.** In the strips of section 4, in which row can you first tell which way the digit moves? And which digit it is?
#
# 2. **Explore.** Continue the clip with an overlap of 1 instead of 5 (`rollout(..., overlap=1)`). What is lost, and why?
#
# 3. **Explore.** Try `steps=5` in section 4. What kind of error do few steps make?
#
# :::{dropdown} Solutions
# **1.** In the second row the blur already moves along its way, and a 2 can be guessed. From there on the strokes only get sharper.
# Coarse things are settled at high noise because only they are still visible through it.
#
# **2.** One frame shows where the digit is but not where it is going, so the direction is drawn afresh at each join: the digit keeps
# its shape and changes its direction.
#
# **3.** The digit may be smeared or change its shape within the clip. Each step follows an estimate that averages over several
# clips, and too few corrections remain.
# :::
#
# ## Sources
#
# Diffusion models: {cite:t}`ho2020denoising`. Video diffusion: {cite:t}`ho2022video`. Classifier-free guidance:
# {cite:t}`ho2022classifier`; on history: {cite:t}`song2025history`. Noise levels per frame: {cite:t}`chen2024diffusion`.
