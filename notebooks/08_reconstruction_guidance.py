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
# # 8. Reconstruction guidance
#
# **Can a model that was never trained with a past be steered by its own error on it?**
#
# We compare the network's estimate of the overlap with the past, and move the new frames along the gradient
# of the error.
#
# *Time to run: about three minutes on two CPU cores, less on a GPU.*

# %% [markdown]
# **You will learn** where the equation comes from, what it leaves out, and whether it converges.
#
# **You need** chapter 7.

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
from vdiff_lite.diffusion.samplers import sdedit_init
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.results import command_of, intervals, per_clip, read_results
from vdiff_lite.exercises import check
from vdiff_lite.methods import GuidanceError, history_guidance, reconstruction, replacement
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
torch.manual_seed(0)  # replacement draws its noise from the global generator
device = vd.pick_device()
torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds what a convolution is given to ten bits
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
window, overlap = 16, 5  # 5 context frames, 11 new ones per window

# %%
def held_out(clips, seed=0):
    source = vd.BouncingDigits(split="test", num_frames=window)
    return source.sample(clips, torch.Generator().manual_seed(seed)).video.to(device)


def noise_like(clip, seed=1):
    return torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed)).to(device)


def continue_clips(method, truth, steps=12, seed=1, sampler=vd.ddim, network=denoiser):
    guided = method(network, truth[:, :, :overlap])
    with torch.no_grad():
        return vd.run_sampler(sampler(guided, noise_like(truth, seed), schedule, steps)).cpu()


def score(clips, truth):
    new, future = clips[:, :, overlap:].clamp(-1, 1), truth[:, :, overlap:].cpu()
    psnr = video_metrics.psnr(new, future).mean(0)
    boundary = video_metrics.boundary_discontinuity(clips, [overlap], truth.cpu()).mean()
    return {f"PSNR {n}": psnr[n - 1].item() for n in (1, 5, 11)} | {"boundary": boundary.item()}


def show_scores(scores, clips, names="digits32"):
    caption = f"PSNR (dB) at new frame 1, 5, 11, and boundary discontinuity; {clips} clips, {names}"
    return show_table(pd.DataFrame(scores).T, caption, digits={"PSNR 1": 1, "PSNR 5": 1, "PSNR 11": 1})

# %% [markdown]
# ## What we will have at the end
#
# One clip, continued three ways. *Replacement* overwrites the overlap with the noised past at every step.

# %% mystnb={"image": {"alt": "Four film strips: the truth, and the continuations of its first five frames by replacement, by reconstruction guidance, and by the past in the window."}, "figure": {"caption": "One clip continued three ways from the same five frames, same noise. Blue: frames given; the truth is given throughout. F = 16, K = 5, stride 11."}}
truth = held_out(6, seed=3)
methods = {
    "replacement": replacement,
    "reconstruction, w = 10": partial(reconstruction, weight=10.0),
    "in the window": history_guidance,
}
continued = {name: continue_clips(method, truth) for name, method in methods.items()}
strips = [truth[0].cpu(), *(clips[0] for clips in continued.values())]
viz.film_strip(strips, ["truth", *continued], num_context=[window] + [overlap] * 3);

# %% [markdown]
# `digits32` was trained with clean pasts, `digits32_fixed` at one level per clip. Boundary discontinuity
# (chapter 6), relative to the truth's, is ideal at 1.

# %%
scores = {f"{name}; digits32": score(clips, truth) for name, clips in continued.items()}
fixed = vd.load("digits32_fixed", device)
for name, method in methods.items():
    scores[f"{name}; digits32_fixed"] = score(continue_clips(method, truth, network=fixed), truth)
show_scores(scores, clips=6, names="two networks")

# %% [markdown]
# By PSNR guidance beats replacement at the first new frame only; its joins are better too. The past in the window is best only with the network
# trained for it.
#
# **Predict.** Is twice the weight always better? Does guidance end at the same clip from other noise?
#
# ## The mathematics
#
# Bayes' rule for the score (chapter 7) of the window $x_t$, whose overlap $a$ should be $h$:
#
# $$\nabla \log p(x_t \mid h) = \nabla \log p(x_t) + \nabla \log p(h \mid x_t). \tag{1}$$
#
# The network knows the first term. For the second, suppose that $h$ is Gaussian around the estimate
# $\hat x_a$, with variance $\sigma_t^2 / (w\,\bar\alpha_t)$ per pixel: that of the noise in
# $x_t / \sqrt{\bar\alpha_t}$, divided by $w$. Then its log density is a squared error. By Tweedie's formula the
# estimate moves by $\sigma_t^2 / \sqrt{\bar\alpha_t}$ times the score, so {cite:t}`ho2022video` arrive at
#
# $$\tilde x_b = \hat x_b - \frac{w\sqrt{\bar\alpha_t}}{2}\, \nabla_{x_{t,b}} \lVert h - \hat x_a \rVert^2 \tag{2}$$
#
# for the new frames $b$. The past replaces the overlap. With $w = 0$ only this is left:
# replacement.
#
# **What does the gradient do?** By the chain rule it is
# $-2\,(\partial \hat x_a / \partial x_{t,b})^\top (h - \hat x_a)$. This Jacobian tells how the estimate of
# the *old* frames changes with the *new* noisy frames. The exact denoiser is a mean of $x_0$, with weights
# proportional to $p(x_0)\, e^{-\lVert x_t - \sqrt{\bar\alpha_t} x_0 \rVert^2 / 2 \sigma_t^2}$. The
# logarithm of a weight has the derivative $(\sqrt{\bar\alpha_t}\, x_0 - x_t) / \sigma_t^2$, and the weighted
# mean of $x_0$ changes by its covariance with this derivative:
#
# $$\frac{\partial \hat x_0}{\partial x_t} = \frac{\sqrt{\bar\alpha_t}}{\sigma_t^2}\, C, \qquad C = \operatorname{Cov}(x_0 \mid x_t).$$
#
# So guidance moves a new frame as far as it varies *together* with the old ones. Compare (2) with the mean
# of a Gaussian whose part $a$ becomes known:
#
# $$\hat x_b + \frac{w\,\bar\alpha_t}{\sigma_t^2}\, C_{ba}\,(h - \hat x_a) \qquad\text{against}\qquad \hat x_b + C_{ba}\, C_{aa}^{-1}\,(h - \hat x_a). \tag{3}$$
#
# Guidance has a number in place of $C_{aa}^{-1}$. But neighboring frames are alike, and $C_{aa}$ is no
# multiple of the identity.
#
# ## Build it

# %%
def my_reconstruction(denoiser, past, w):
    def guided(xt, t):
        with torch.enable_grad():
            xt = xt.detach().requires_grad_(True)
            x0_hat = denoiser(xt, t)
            loss = (past - x0_hat[:, :, :overlap]).square().sum()
            (gradient,) = torch.autograd.grad(loss, xt)
        alpha = schedule.alpha_bar[t.cpu()].sqrt().view(-1, 1, 1, 1, 1).to(xt)
        pushed = x0_hat.detach() - 0.5 * w * alpha * gradient
        return torch.cat([past, pushed[:, :, overlap:]], dim=2)

    return guided

# %% [markdown]
# The push costs a backward pass: nearly twice the time, four times the memory (chapter 10). Without the
# Jacobian the error, which lies on the old frames, would not push the new ones at all.
#
# ## Meet the twin

# %%
past, xt, t = truth[:2, :, :overlap], noise_like(truth[:2]), torch.tensor([700, 300], device=device)
mine, theirs = (method(denoiser, past, 10.0)(xt, t) for method in (my_reconstruction, reconstruction))
torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## The exact posterior
#
# On the Gaussian model of chapter 7 we compare both sides of (3) and two variants:
#
# - *RePaint resampling* {cite:p}`lugmayr2022repaint`: each sampler step is undone, with fresh noise, and repeated.
# - *PiGDM* {cite:p}`song2023pseudoinverse`: $w / \bar\alpha_t$ in place of $w$, so the variance of $h$ is $\sigma_t^2 / w$.

# %%
model = GaussianVideo(schedule)
clips = model.sample(8, 10, 16, torch.Generator().manual_seed(0))
known = clips[:, :, :4]


def posterior_covariance(cov, t):
    """Cov(x0 | xt) of a Gaussian clip whose covariance is cov, at noise level t."""
    ab = schedule.alpha_bar[t].item()
    return torch.linalg.inv(torch.linalg.inv(cov) + ab / (1 - ab) * torch.eye(len(cov)))


def exact_step(model, past):
    k = past.shape[2]

    def guided(xt, t):
        c = posterior_covariance(model.covariance(range(xt.shape[2])), int(t[0]))
        gain = (c[k:, :k] @ torch.linalg.inv(c[:k, :k])).float()
        x0_hat = model(xt, t)
        step = torch.einsum("ba,ncahw->ncbhw", gain, past - x0_hat[:, :, :k])
        return torch.cat([past, x0_hat[:, :, k:] + step], dim=2)

    return guided

# %%
def against_the_posterior(method, sampler=vd.ddim, **options):
    start = torch.randn(clips.shape, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    steps = sampler(method(model, known), start, schedule, 60, generator=generator, **options)
    return posterior_error(vd.run_sampler(steps), known, model)


w10 = partial(reconstruction, weight=10.0)
errors = {"past in the window": against_the_posterior(history_guidance)}
errors["replacement"] = against_the_posterior(replacement)
errors["replacement, 10 repeats"] = against_the_posterior(replacement, vd.repaint, repeats=10)
for w in (1.0, 10.0, 50.0):
    errors[f"reconstruction, w = {w:g}"] = against_the_posterior(partial(reconstruction, weight=w))
errors["w = 10, 10 repeats"] = against_the_posterior(w10, vd.repaint, repeats=10)
errors["PiGDM, w = 1"] = against_the_posterior(partial(reconstruction, weight=1.0, norm="pigdm"))
errors["equation (3), exact"] = against_the_posterior(exact_step)
rows, frames = {"(ideal)": [0.0] * 3 + [1.0] * 3}, (1, 2, 4)
for name, (bias, std_ratio) in errors.items():
    rows[name] = [column[n - 1].item() for column in (bias, std_ratio) for n in frames]
columns = [f"{measure} {n}" for measure in ("bias", "std ratio") for n in frames]
show_table(pd.DataFrame(rows, index=columns).T, "Bias and std ratio (chapter 7) at new frame 1, 2, 4")

# %% [markdown]
# The exact step and the past in the window nearly sample the posterior. Replacement has the largest bias:
# the network averages over all pasts that the *noised* one could have been. Repeats lower it. So does a
# larger $w$, but at 50, or at 10 with repeats, the first frame scatters more than at 10 alone. PiGDM at 1 is
# near (2) at 1. Along each eigenvector of $C_{aa}$ another $w$ makes the two sides of (3) equal:

# %%
rows = {}
for level in (900, 600, 300, 100):
    ab, cov = schedule.alpha_bar[level].item(), posterior_covariance(model.covariance(range(10)), level)
    rows[level] = (1 / (torch.linalg.eigvalsh(cov[:4, :4]).flip(0) * ab / (1 - ab))).tolist()
table = pd.DataFrame(rows, index=["largest", "second", "third", "smallest"]).T.rename_axis("noise level")
show_table(table, "The weight w that is right along each eigenvector of C_aa, by eigenvalue", digits=1)

# %% [markdown]
# The largest eigenvalue belongs to what the frames of this smooth process share. No weight suits all
# eigenvalues, nor all levels: the first column falls from 47.2 to 1.1.
#
# ## On digits: is the descent smooth?
#
# Each step records its loss, the norm of its gradient, and the cosine between the push and the sampler's
# direction, from $x_t$ to $\sqrt{\bar\alpha_t}\, \hat x_0$.

# %%
STEPS = 15


def over_seeds(method, seeds=4, clips=3):
    """The first clips, continued from several initial noises: (seeds, clips, 1, window, 32, 32)."""
    return torch.stack([continue_clips(method, truth[:clips], STEPS, seed) for seed in range(seeds)])


record = []
by_seed = {"reconstruction, w = 10": over_seeds(partial(reconstruction, weight=10.0, record=record))}
descents = [record[i:i + STEPS] for i in range(0, len(record), STEPS)]  # one per seed

# %% mystnb={"image": {"alt": "Three panels against the noise level, one thin line for each clip and seed: the loss of the overlap falls over orders of magnitude, the norm of the gradient varies by orders of magnitude, the cosine begins within the band of random directions and later scatters to both sides of it, mostly below."}, "figure": {"caption": "Reconstruction guidance with w = 10, step by step from pure noise (left) to a clip (right); 3 clips with 4 seeds each. Gray: where 95% of the cosines of random directions lie."}}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
names = {"loss": "loss per pixel", "gradient_norm": "norm of the gradient", "cosine": "cosine"}
for axis, (name, label) in zip(axes, names.items()):
    for descent in descents:
        t, values_at_t = [step["t"] for step in descent], [step[name] for step in descent]
        axis.plot(t, values_at_t, color=viz.COLORS[0], alpha=0.4, lw=0.8)
    yscale = "linear" if name == "cosine" else "log"
    axis.set(xlabel="noise level t", ylabel=label, yscale=yscale, xlim=(1000, 0))
    axis.spines[["top", "right"]].set_visible(False)
random = 1.96 / truth[0].numel() ** 0.5  # the cosine of random directions: std 1 / sqrt(dimensions)
axes[2].axhspan(-random, random, color="#999999", alpha=0.5, lw=0);

# %%
losses = torch.tensor([[step["loss"] for step in descent] for descent in descents])  # seeds, steps, clips
change = losses[:, 1:] / losses[:, :-1]
print(f"the loss rises at {100 * (change > 1).float().mean():.0f}% of the steps")
print(f"it changes by less than 2% at {100 * ((change - 1).abs() < 0.02).float().mean():.0f}% of the steps")
print(f"median of the first loss {losses[:, 0].median():.4f}, of the last {losses[:, -1].median():.4f}")

# %% [markdown]
# The loss falls by more than two orders of magnitude. It seldom rises and hardly ever stalls. But it falls at
# $w = 0$ too: near $t = 0$ the overlap shows the past. The cosines begin as for random
# directions. Later most are negative: the push goes slightly against the sampler.
#
# ## Does it depend on the initial noise?
#
# Five frames nearly always determine the future, so every seed should end at the same clip. *SDEdit
# initialization* {cite:p}`meng2022sdedit` starts, guided as before, from the last context frame, repeated and
# noised to level 600.

# %%
def from_sdedit_init(seed, level=600):
    past, levels = truth[:3, :, :overlap], [*range(level, 0, -40), 0]
    start = sdedit_init(denoiser, past, window, level, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return vd.run_sampler(vd.ddim(reconstruction(denoiser, past, 10.0), start, schedule, levels)).cpu()


by_seed["SDEdit initialization"] = torch.stack([from_sdedit_init(seed) for seed in range(4)])
by_seed["replacement"] = over_seeds(replacement)
by_seed["in the window"] = over_seeds(history_guidance)

# %% [markdown]
# *Apart* is the mean distance of one clip's four last positions from their mean, *position error* from the
# true one. *Distinct ends* counts them, those nearer than 3 px as one.

# %%
true_path = digit_metrics.digit_position(truth[:3].cpu()).flip(-1)  # (x, y)
paths = {name: torch.stack([digit_metrics.digit_position(clip).flip(-1) for clip in clips])[:, :, overlap:]
         for name, clips in by_seed.items()}  # seeds, clips, new frames, 2


def distinct(ends, apart=3.0):
    joined = (torch.cdist(ends, ends) < apart).float()
    for _ in ends:
        joined = (joined @ joined).clamp(max=1)
    return len({tuple(line.tolist()) for line in joined})


rows = {}
for name, path in paths.items():
    ends = path[:, :, -1]  # seeds, clips, 2
    rows[name] = {
        "apart (px)": (ends - ends.mean(0)).norm(dim=-1).mean().item(),
        "distinct ends of 4": sum(map(distinct, ends.transpose(0, 1))) / 3,
        "position error (px)": (ends - true_path[:, -1]).norm(dim=-1).mean().item()}
show_table(pd.DataFrame(rows).T, "The last frame over four seeds; mean of 3 clips of digits32", digits=1)

# %% mystnb={"image": {"alt": "Two rows of four square boards, one column per method: thin lines are the trajectories of the digit for four seeds, a dashed black line the true one. In the window the lines lie on the true trajectory. Under replacement and guidance they fan out. With SDEdit initialization they stay near where they begin."}, "figure": {"caption": "The trajectory of the digit over the eleven new frames for four seeds (colors), two clips. Dashed: the true trajectory, context frames included; the dot is the last context frame."}}
figure, axes = plt.subplots(2, 4, figsize=(8, 4.2), layout="constrained")
for clip, line in zip((0, 2), axes):
    for axis, (name, path) in zip(line, paths.items()):
        last = true_path[clip, overlap - 1]
        for one in path[:, clip]:
            axis.plot(*torch.cat([last[None], one]).T, lw=1, alpha=0.8)
        axis.plot(*true_path[clip].T, color="black", ls="--", lw=1)
        axis.plot(*last, "o", color="black", ms=4)
        axis.set(xlim=(4, 27), ylim=(27, 4), xticks=[], yticks=[], aspect="equal")
        if clip == 0:
            axis.set_title(name, fontsize=9)

# %% [markdown]
# The loss was small, and still four seeds end about as far apart as under replacement. The loss converges, the
# clip does not. SDEdit initialization takes the freedom away, and the movement with
# it.
#
# ## Norms and resampling
#
# The squared norm of (2) is a `sum` over pixels. `mean` divides it by their number. *Diffusion posterior
# sampling* (DPS, {cite:t}`chung2023diffusion`) takes the norm itself, not squared (`root`): its push does not
# shrink with the error.

# %%
scores = {"sum, w = 10": score(continued["reconstruction, w = 10"], truth)}
for norm, w in (("mean", 10.0), ("root", 40.0), ("pigdm", 0.3)):
    clips = continue_clips(partial(reconstruction, weight=w, norm=norm), truth)
    scores[f"{norm}, w = {w:g}"] = score(clips, truth)
show_scores(scores, clips=6)

# %% [markdown]
# At the same $w$, `mean` is next to no guidance. One weight per norm and six clips do not rank the norms.
#
# With resampling:

# %%
rows = {}
for repeats in (1, 3):
    sampler = partial(vd.repaint, repeats=repeats, generator=torch.Generator().manual_seed(2))
    clips = continue_clips(partial(reconstruction, weight=10.0), truth, sampler=sampler)
    new, future = clips[:, :, overlap:].clamp(-1, 1), truth[:, :, overlap:].cpu()
    rows[repeats] = video_metrics.psnr(new, future).mean(1).tolist()
table = pd.DataFrame(rows, index=[f"clip {n}" for n in range(1, 7)]).T.rename_axis("repeats")
show_table(table, "Mean PSNR (dB) of the new frames, clip by clip", digits=1)

# %% [markdown]
# Five of six clips gain, for three times the NFE.
#
# ## A study of the weight
#
# On 16 *training* clips, so that the held-out ones choose nothing. *Identity* is the fraction of new frames
# that show the true digit. Brackets: half of the 95% interval.

# %%
COLUMNS = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)}
COLUMNS |= {"boundary": ("boundary_discontinuity", None), "identity": ("identity", None)}


def study(table, network="digits32"):
    mean, half = intervals(table, COLUMNS)
    caption = f"{network}: PSNR (dB) at new frame 1, 5, 11; boundary discontinuity; identity"
    digits = dict.fromkeys(COLUMNS, 1) | {"boundary": 2, "identity": 2}
    return show_table(mean, caption, half=half, digits=digits)


weights = read_results("compare_tune_reconstruction")
print(command_of(weights))
first = per_clip(weights, "psnr", 1)
gain = video_metrics.bootstrap(first["reconstruction:weight=20"] - first["reconstruction:weight=10"])
print("clips of each weight that did not explode:", first.count().tolist())
print("PSNR 1 of w = 20 minus that of w = 10, clip by clip: {:.1f} dB ({:.1f} to {:.1f})".format(*gain))
study(weights)

# %% [markdown]
# At the first new frame $w = 20$ is ahead of 10, and 1 and 80 are worse by more than the intervals. Later all
# intervals overlap. The examples keep 10.
#
# On the held-out clips of chapter 10, with two other methods:

# %%
for name in ("main", "fixed"):
    table = read_results(f"compare_{name}")
    chosen = table.name.isin(["replacement", "reconstruction:weight=10", "history_guidance"])
    display(study(table[chosen], table.attrs["header"]["checkpoint"]))

# %% [markdown]
# On both networks guidance beats replacement at the first new frame, digit and join. On `digits32` the past in
# the window is far ahead. On `digits32_fixed` guidance is best, until at the eleventh frame all three are about
# equally far from the truth.
#
# ## Play
#
# A white strip is a run whose push exploded (next section).

# %%
def picture(weight):
    record = []
    try:
        clip = continue_clips(partial(reconstruction, weight=weight, record=record), truth[4:5])[0]
    except GuidanceError:
        clip = torch.ones(1, window, 32, 32)  # white: it exploded
    labels = ["truth", f"w = {weight:g}"]
    figure = viz.film_strip([truth[4].cpu(), clip], labels, num_context=[window, overlap])
    figure.set_size_inches(11, 1.6)
    figure.subplots_adjust(right=0.74)
    axis = figure.add_axes([0.82, 0.25, 0.17, 0.6])
    t, loss = [r["t"] for r in record], [r["loss"][0] for r in record]
    axis.semilogy(t, loss, color=viz.COLORS[1], marker=".")
    axis.set(xlim=(1000, 0), ylim=(1e-5, 1), title="loss per pixel", xlabel="t")
    return sliders.figure_picture(figure, dpi=70)


weights = [0.0, 1.0, 3.0, 10.0, 20.0, 40.0, 80.0]
fine = [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0, 80.0]
name, alt = "reconstruction weight w", "The true clip, the continuation, and the loss along the trajectory."
sliders.guidance_slider(picture, weights, name, alt, start=3, fine=fine, width=760)

# %% [markdown]
# ## What breaks, and how to see it
#
# Too large a weight explodes, and the library says where:

# %%
for w in (100.0, 1000.0, 1e5):
    try:
        clips = continue_clips(partial(reconstruction, weight=w), truth[:2])
        beyond = (clips.abs() > 1.1).float().mean()
        print(f"w = {w:g}: {100 * beyond:.1f}% of the pixels beyond the range")
    except GuidanceError as error:
        print(f"w = {w:g}: {error}")


# %% [markdown]
# ## Recap
#
# Reconstruction guidance differentiates through an unconditional model. It moves new frames by their
# covariance with the old ones, with a number in place of an inverse covariance. It keeps join and digit,
# and loses the trajectory within five frames.
#
# ## Exercises
#
# 1. **Predict.** What will the overlap look like for a small weight, when the past does not replace it? Try
# `partial(reconstruction, weight=1.0, replace=False)`.
#
# 2. **Code.** Read $\operatorname{Cov}(x_0 \mid x_t)$ off a denoiser by differentiating it. Pixels of the
# Gaussian model are independent and alike, so one pixel along time is enough. Hint:
# `torch.autograd.functional.jacobian`.

# %% tags=["exercise"]
def covariance_of(denoiser, t):
    """Cov(x0 | xt) along time at level t, from the Jacobian of denoiser: (10, 10)."""
    return None


levels = (300, 600, 900)
covariances = {t: posterior_covariance(model.covariance(range(10)), t).float() for t in levels}
close = lambda a, b: torch.allclose(a.float(), b, rtol=1e-2, atol=1e-4)
claims = {
    "10 by 10": lambda answer: answer(model, 600).shape == (10, 10),
    "symmetric": lambda answer: close(answer(model, 600), answer(model, 600).float().T),
    "the covariance in closed form, at three levels":
        lambda answer: all(close(answer(model, t), c) for t, c in covariances.items()),
}
check(covariance_of, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(denoiser, t):
    level = torch.tensor([t])
    signal, sigma = schedule.signal_and_noise(level, torch.zeros(1, 1, 1, 1, 1))
    pixel = lambda xt: denoiser(xt.view(1, 1, 10, 1, 1), level).flatten()
    return torch.autograd.functional.jacobian(pixel, torch.zeros(10)) * (sigma**2 / signal).item()


assert check(solution, claims)


# %% [markdown]
# 3. **Code.** Write guidance by the norm of DPS, called as `my_reconstruction` is. Each clip of the batch
# has its own norm.

# %% tags=["exercise"]
def my_dps(denoiser, past, w):
    """Returns a function (xt, t) -> x0_hat."""
    return None


noisy, level = model.sample(2, 10, 16, torch.Generator().manual_seed(5)), torch.tensor([700, 300])
context = model.sample(2, 10, 16, torch.Generator().manual_seed(6))[:, :, :4]
estimate = model(noisy, level)
by_library = reconstruction(model, context, 4.0, norm="root")(noisy, level)
farther = estimate[:, :, :4] + 3 * (context - estimate[:, :, :4])  # three times the error
new = lambda answer, past, w=4.0: answer(model, past, w)(noisy, level)[:, :, 4:]
same = lambda a, b: torch.allclose(a, b, rtol=1e-3, atol=1e-4)
claims = {
    "the first frames are the past":
        lambda answer: torch.equal(answer(model, context, 4.0)(noisy, level)[:, :, :4], context),
    "w = 0 leaves the new frames as estimated":
        lambda answer: same(new(answer, context, 0.0), estimate[:, :, 4:]),
    "three times the error, the same push": lambda answer: same(new(answer, context), new(answer, farther)),
    "the library's": lambda answer: same(new(answer, context), by_library[:, :, 4:]),
}
check(my_dps, claims);


# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(denoiser, past, w):
    k = past.shape[2]

    def guided(xt, t):
        with torch.enable_grad():
            xt = xt.detach().requires_grad_(True)
            x0_hat = denoiser(xt, t)
            loss = (past - x0_hat[:, :, :k]).square().sum(dim=(1, 2, 3, 4)).sqrt().sum()
            (gradient,) = torch.autograd.grad(loss, xt)
        alpha = schedule.alpha_bar[t.cpu()].sqrt().view(-1, 1, 1, 1, 1).to(xt)
        pushed = x0_hat.detach() - 0.5 * w * alpha * gradient
        return torch.cat([past, pushed[:, :, k:]], dim=2)

    return guided


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Guide only for $t > 500$, or only below. Which lowers the last loss more, and which raises
# PSNR?
#
# :::{dropdown} Solutions
# **1.** Like another clip: a weak push does not reach the past.
#
# **4.** As in chapter 7, with `plain` as `replacement(denoiser, past)`.
# :::
#
# ## Sources
#
# {cite:t}`ho2022video`, {cite:t}`chung2023diffusion`, {cite:t}`song2023pseudoinverse`,
# {cite:t}`lugmayr2022repaint`, {cite:t}`meng2022sdedit`. Replacement: {cite:t}`song2021score`.
