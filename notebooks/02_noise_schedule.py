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
# # 2. The noise schedule
#
# **How is noise added so that a network can learn to remove it?**
#
# The schedule says how much of a clip is left at each of 1000 *noise levels*.
#
# *Time to run: about ten seconds on two CPU cores, less on a GPU.*

# %% [markdown]
# **You will learn** why a thousand small steps of noise are one step; what the constants of a schedule do; what the
# signal-to-noise ratio and $v$ are; why the last level must be pure noise; how to give every frame its own level.
#
# **You need** chapter 1, and that variances of independent noises add.

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
import matplotlib.pyplot as plt
import torch
from einops import reduce

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.exercises import check
from vdiff_lite.viz import sliders

clip = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(7)).video
eps = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))

# %% [markdown]
# ## What we will have at the end
#
# One clip with another level of noise on each frame, from clean to pure noise.

# %% mystnb={"image": {"alt": "A film strip in which each frame is noisier than the one before, from a clean digit to gray noise."}, "figure": {"caption": "Sixteen levels of noise, one per frame: t = 0, clean, at the left, and t = 1000, pure noise, at the right."}}
schedule = vd.NoiseSchedule()
ladder = torch.linspace(0, 1000, 16).long()[None]
viz.film_strip(schedule.add_noise(clip, ladder, eps), ["t = 0 ... 1000"]);

# %% [markdown]
# **Predict.** We dim the clip a little and add a little Gaussian noise, a thousand times. Do we have to run 700 steps to see the
# result of step 700?

# %% [markdown]
# ## The mathematics
#
# One step keeps a fraction $\alpha_t = 1 - \beta_t$ of the variance and adds $\beta_t$ of noise:
#
# $$x_t = \sqrt{\alpha_t}\, x_{t-1} + \sqrt{\beta_t}\, \epsilon_t. \tag{1}$$
#
# Sums of Gaussians are Gaussian, and variances add. So $t$ steps are one, with $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$:
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon. \tag{2}$$
#
# $\bar\alpha_t$ is the fraction of the clip's variance that is left, and $\sqrt{\bar\alpha_t}$ the fraction of its contrast. Data of
# variance 1 keep variance 1 at every level (*variance preserving*). Our clips have less (printed below), and theirs rises to 1. How
# much signal is left per unit of noise is the *signal-to-noise ratio*
#
# $$\mathrm{SNR}(t) = \bar\alpha_t / (1 - \bar\alpha_t). \tag{3}$$

# %% [markdown]
# ## Build it: the cosine schedule
#
# The *linear* schedule of the first papers lets $\beta_t$ grow linearly. It destroys a clip early. In the *cosine* schedule of
# {cite:t}`nichol2021improved` $\bar\alpha_t$ is $\cos^2\!\big(\tfrac{t/T + s}{1 + s}\,\tfrac{\pi}{2}\big)$, divided by its value at
# $t = 0$, and falls more evenly. The offset $s$ starts the cosine slightly to the right of its flat top, so that
# the first step adds noise of nearly one gray step of a file. The limit 0.999 on $\beta_t$ keeps the last $\bar\alpha_t$ above zero:
# who predicts $\epsilon$ divides by its root.

# %%
def cosine_alpha_bar(T=1000, s=0.008):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    curve = torch.cos((u + s) / (1 + s) * torch.pi / 2) ** 2
    beta = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


alpha_bar = cosine_alpha_bar()
print("alpha_bar at t = 0, 500, 1000:", [f"{alpha_bar[t]:.2g}" for t in (0, 500, 1000)])
for s in (0.0, 0.008):
    first = (1 - cosine_alpha_bar(s=s)[1]).sqrt() * 127.5
    print(f"noise of the first step for s = {s}: {first:.2f} gray steps")

# %% [markdown]
# Check equation 2 against 700 steps of equation 1. We compare mean and variance of many runs (+- one standard error).

# %%
torch.manual_seed(0)
x = torch.full((20000,), 0.8, dtype=torch.float64)
alpha = alpha_bar[1:] / alpha_bar[:-1]
for step in range(700):
    x = alpha[step].sqrt() * x + (1 - alpha[step]).sqrt() * torch.randn_like(x)

# %%
n = len(x)
errors = x.std() / n**0.5, x.var() * (2 / n) ** 0.5  # standard errors of a mean and of a variance
print("mean     %.3f +- %.3f   closed form %.3f" % (x.mean(), errors[0], alpha_bar[700].sqrt() * 0.8))
print("variance %.3f +- %.3f   closed form %.3f" % (x.var(), errors[1], 1 - alpha_bar[700]))
print("variance of our clip: %.2f" % clip.var())

# %% [markdown]
# ## The last level must be noise
#
# The last $\bar\alpha_t$ above is small, but not zero. So in training a trace of the clip is always left. Sampling starts from pure
# noise, which the network then takes for a clip with a trace. The repair of {cite:t}`lin2024common` is *zero terminal SNR*: shift and
# rescale $\sqrt{\bar\alpha_t}$ so that it ends at zero. The last $\beta_t$ is then 1.

# %%
def zero_terminal_snr(alpha_bar):
    signal = alpha_bar.sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return signal**2


mine = zero_terminal_snr(alpha_bar)

# %% [markdown]
# ## Meet the twin
#
# `NoiseSchedule` holds the rescaled cosine. Other shapes are linear, and *sigmoid*, a logistic curve. The figure has all three,
# rescaled. The linear one falls fastest. Cosine and sigmoid nearly coincide, except at the two ends of the signal-to-noise ratio.

# %%
torch.testing.assert_close(mine, schedule.alpha_bar)
schedule

# %% tags=["nbval-check-output"]
linear = vd.NoiseSchedule(shape="linear", zero_terminal_snr=False)
last = [each.sqrt() for each in (linear.alpha_bar[-1], alpha_bar[-1], schedule.alpha_bar[-1])]
print("signal left at the last level: linear %.4f, cosine %.1e, rescaled %.0f" % tuple(last))

# %% mystnb={"image": {"alt": "Left, three falling curves of alpha-bar; the linear one falls fastest, the other two nearly coincide. Right, their log signal-to-noise ratios: the linear one is lowest, and the other two part only near both ends."}, "figure": {"caption": "Three schedules, rescaled to zero terminal SNR. Left: the fraction of the clip's variance that is left. Right: the signal-to-noise ratio, on a logarithmic axis."}}
shapes = {s: vd.NoiseSchedule(shape=s) for s in ("linear", "cosine", "sigmoid")}
t = torch.arange(1, 1000)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
viz.plot_lines(left, t, {name: s.alpha_bar[1:-1] for name, s in shapes.items()})
viz.plot_lines(right, t, {name: s.snr(t).log10() for name, s in shapes.items()})
left.set(xlabel="noise level t", ylabel=r"$\bar\alpha_t$")
right.set(xlabel="noise level t", ylabel="log10 SNR")
figure.tight_layout()

# %% [markdown]
# ## Three equivalent targets
#
# Given $x_t$, whoever knows $x_0$ knows $\epsilon$, and the reverse. Which should the network predict? $\epsilon$ fails at one end, $x_0$ at the other. At
# $t = 0$ the input is $x_0$ itself: to predict it is to copy, and to get $\epsilon$ from it, equation 2 has to be divided by
# $\sqrt{1 - \bar\alpha_t} = 0$. At $t = 1000$ the input is $\epsilon$ itself, and to get $x_0$ from it, one divides by
# $\sqrt{\bar\alpha_t} = 0$. From the mixture
#
# $$v = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x_0$$
#
# both follow at every level. At $t = 1000$ it is minus the clip. At $t = 0$ it is noise, which nothing can predict, but the clip does
# not depend on it there. A network that predicts it does *v-prediction*:
#
# $$x_0 = \sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, v, \qquad \epsilon = \sqrt{1 - \bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, v.$$
#
# Nothing is divided: $(x_t, v)$ is $(x_0, \epsilon)$ rotated by the angle $\varphi$ with $\cos^2 \varphi = \bar\alpha_t$, and a rotation
# can always be undone.

# %% tags=["nbval-check-output"]
for t in (0, 1, 500, 999, 1000):
    level = torch.tensor([t])
    xt, v = schedule.add_noise(clip, level, eps), schedule.v(clip, level, eps)
    error_x0 = (schedule.x0_from_v(xt, level, v) - clip).abs().max()
    error_eps = (schedule.eps_from_v(xt, level, v) - eps).abs().max()
    print(f"t = {t:4}   x0 and eps recovered to 2e-6:", bool(max(error_x0, error_eps) < 2e-6))

# %% [markdown]
# With $\epsilon$ alone the last level is refused:

# %% tags=["nbval-check-output"]
try:
    schedule.x0_from_eps(eps, torch.tensor([1000]), eps)
except ValueError as error:
    print(error)

# %% [markdown]
# The rest of the book sees one interface. A *denoiser* maps a noisy clip and its level, `(xt, t)`, to an estimate `x0_hat` of the
# clean clip. `vd.Denoiser` makes one of a network: `predicts` says what it outputs, and the formulas above convert it.

# %%
class PerfectNetwork(torch.nn.Module):
    def forward(self, xt, t):
        return schedule.v(clip, t, eps)  # it knows this clip and this noise by heart


denoiser = vd.Denoiser(PerfectNetwork(), schedule, sample_shape=(1, 32, 32), predicts="v")
t = torch.tensor([700])
torch.testing.assert_close(denoiser(schedule.add_noise(clip, t, eps), t), clip, rtol=0, atol=2e-6)

# %% [markdown]
# ## One level per frame
#
# Nothing in equation 2 requires that all frames have the same level. In this book `t` may be `(b, f)`, one level per frame. The noise is
# drawn anew for each frame: shared noise would cancel in the difference of two frames, and motion would show through. A past at $t = 0$
# is a clean condition. A past at $t = 1000$ is pure noise, no condition. A network trained on both serves every method of Part II
# (chapters 7 to 12).

# %% mystnb={"image": {"alt": "Three film strips of the same clip: all frames at level 400; five clean frames then level 700; five frames of pure noise then level 700."}, "figure": {"caption": "The same clip at one level, with a clean past of five frames, and with a past of pure noise."}}
past = torch.arange(16) < 5
levels = [torch.full((1, 16), 400), torch.where(past, 0, 700)[None], torch.where(past, 1000, 700)[None]]
noisy = [schedule.add_noise(clip, t, eps)[0] for t in levels]
viz.film_strip(noisy, ["same level", "clean past", "no past"]);

# %% [markdown]
# ## Play
#
# The level at which you lose sight of the digit depends on its size. The mean of 4 by 4 pixels has $1/4^2$ of the noise variance. So
# `NoiseSchedule(shift=4)` divides the SNR of every level by $4^2$: what a frame four times as wide and high needs to look the same.
# (Noise also averages out over frames that show the same thing, so longer clips keep more signal too.) In the figure the digit on such a frame can
# be made out up to level 800, where the small one is lost.

# %%
def under_noise(t):
    return sliders.frame_pictures(schedule.add_noise(clip, torch.tensor([t]), eps), 8)[0]


levels, fine = list(range(0, 1001, 50)), range(0, 1001, 5)
sliders.guidance_slider(under_noise, levels, "noise level t", "A digit under noise.", start=6, fine=fine)

# %% mystnb={"image": {"alt": "Two rows of noisy frames. In the upper row a bright patch is lost in the noise by level 800. In the lower one the enlarged digit can be made out at 800, hardly at 900, and not at 950."}, "figure": {"caption": "One frame at levels 600 to 950. Top: as it is. Bottom: the same digit on a frame four times as wide and high, averaged back to 32 by 32 for show."}}
torch.manual_seed(0)
small, noise = clip[:, :, 8:9], eps[:, :, 8:9]
large = torch.nn.functional.interpolate(small[:, :, 0], scale_factor=4, mode="bilinear")[:, :, None]
levels = [torch.tensor([t]) for t in (600, 700, 800, 900, 950)]
top = torch.cat([schedule.add_noise(small, t, noise) for t in levels], dim=2)
bottom = torch.cat([schedule.add_noise(large, t, torch.randn_like(large)) for t in levels], dim=2)
bottom = reduce(bottom, "b c f (h 4) (w 4) -> b c f h w", "mean")
titles = [f"t = {t.item()}" for t in levels]
viz.film_strip([top[0], bottom[0]], ["32 x 32", "128 x 128"], titles=titles);

# %% [markdown]
# ## What breaks, and how to see it
#
# If training ends at a level with a trace of the clip, sampling starts wrong. The trace that shows best is the mean brightness. Take the
# simplest data there is: each image is one flat gray tone, drawn at random. Their best denoiser is known: the mean of the pixels, shrunk
# towards medium gray, the more, the more noise there is. We sample with it twice (by DDIM, chapter 5): from level 1000, and from the
# level at which as much signal is left, 0.068, as at the last level of Stable Diffusion {cite:p}`lin2024common`.

# %% mystnb={"image": {"alt": "Three rows of eight flat squares. The data run from nearly black to medium gray. Samples started at level 1000 run from dark to light. Samples started at level 956, with a trace of signal, are all near medium gray."}, "figure": {"caption": "Eight images of one gray tone each: data, samples from pure noise at level 1000, and samples for which pure noise was passed off as a level that still has signal."}}
tone_std, shape, seeded = 0.4, (64, 1, 1, 128, 128), lambda seed: torch.Generator().manual_seed(seed)


def true_denoiser(xt, t):
    """The mean of all tones that could have become xt, where tones are N(0, tone_std^2)."""
    signal, noise = schedule.signal_and_noise(t, xt)
    variance_of_mean = noise**2 / xt[0].numel()
    mean = xt.mean(dim=(1, 2, 3, 4), keepdim=True)
    return (signal * mean / (signal**2 + variance_of_mean / tone_std**2)).expand_as(xt)


flat = vd.Denoiser.from_function(true_denoiser, schedule, (1, 128, 128))
trace = (schedule.alpha_bar.sqrt() - 0.068).abs().argmin().item()
pure_noise = torch.randn(shape, generator=seeded(3))
tones = {"data": tone_std * torch.randn(64, 1, 1, 1, 1, generator=seeded(1)).expand(shape)}
for first in (1000, trace):
    steps = [*range(first, 900, -2), *range(900, -1, -20)]
    tones[f"from {first}"] = vd.run_sampler(vd.ddim(flat, pure_noise, schedule, steps))
deviations = {name: round(x.mean((1, 2, 3, 4)).std().item(), 2) for name, x in tones.items()}
print("standard deviation of 64 tones:", deviations)
viz.film_strip([x[:8, 0, 0][None] for x in tones.values()], list(tones));

# %% [markdown]
# Started at level 1000, the tones vary about as much as those of the data: a standard deviation of 0.37 against 0.41. (Of the eight
# shown, the data happen to be darker.) Started where the denoiser expects a trace, every sample is near medium gray (0.11). The mean of
# pure noise is near zero. A bright or dark image would show at that level, so the denoiser concludes that it is neither. So image models with
# such schedules could not draw a dark night or a white page {cite:p}`lin2024common`.
#
# ## Recap
#
# A thousand small steps are one step with $\bar\alpha_t$. The last level has to be pure noise, because that is what sampling
# starts from, and from $v$ the clip follows even there. Levels may differ from frame to frame, which turns "condition on
# the past" into "set its level to zero".
#
# ## Exercises
#
# 1. **Predict.** At which level of the cosine schedule is SNR = 1?
#
# 2. **Code.** Write `my_eps(xt, t, x0)`, the noise in `xt`, from equation 2. `t` is `(b,)` or `(b, f)`. There is no noise at $t = 0$:
# return 0 there, not 0/0. Hint: `signal, noise = schedule.signal_and_noise(t, xt)` are shaped to multiply clips.

# %% tags=["exercise"]
def my_eps(xt, t, x0):
    """xt, x0: (b, c, f, h, w) -> the noise, of the same shape."""
    return None


def finds_the_noise(answer, t):
    return torch.allclose(answer(schedule.add_noise(clip, t, eps), t, clip), eps, atol=1e-3)


levels_mixed = torch.where(past, 0, 700)[None]
claims = {
    "at level 500": lambda answer: finds_the_noise(answer, torch.tensor([500])),
    "at level 1000": lambda answer: finds_the_noise(answer, torch.tensor([1000])),
    "with one level per frame": lambda answer: finds_the_noise(answer, torch.arange(100, 900, 50)[None]),
    "0 at level 0": lambda answer: (answer(clip, torch.tensor([0]), clip) == 0).all(),
    "0 on the clean frames of a clip": lambda answer: (
        answer(schedule.add_noise(clip, levels_mixed, eps), levels_mixed, clip)[:, :, :5] == 0).all()}
check(my_eps, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(xt, t, x0):
    signal, noise = schedule.signal_and_noise(t, xt)
    return torch.where(noise > 0, (xt - signal * x0) / noise.clamp(min=1e-9), 0.0)


assert check(solution, claims)

# %% [markdown]
# 3. **Code.** Write `shifted(alpha_bar, shift)`: the schedule whose SNR is that of `alpha_bar` divided by `shift**2`. Hint: solve equation 3 for
# $\bar\alpha_t$. The SNR at $t = 0$ is infinite, so find a form that divides by nothing that can be zero.

# %% tags=["exercise"]
def shifted(alpha_bar, shift):
    """(n,) -> (n,), from 1 at the clean end to 0 at the noisy one."""
    return None


snr = lambda alpha_bar: alpha_bar[1:-1] / (1 - alpha_bar[1:-1])
claims = {
    "the ends stay 1 and 0": lambda answer: answer(mine, 2)[[0, -1]].tolist() == [1, 0],
    "shift = 1 changes nothing": lambda answer: torch.allclose(answer(mine, 1), mine),
    "shift = 2 divides the SNR by 4": lambda answer: torch.allclose(snr(answer(mine, 2)), snr(mine) / 4),
    "agrees with the library": lambda answer: torch.allclose(
        answer(alpha_bar, 3), vd.NoiseSchedule(shift=3, zero_terminal_snr=False).alpha_bar)}
check(shifted, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(alpha_bar, shift):
    return alpha_bar / (alpha_bar + shift**2 * (1 - alpha_bar))


assert check(solution, claims)

# %% [markdown]
# 4. **Explore.** Use `vd.NoiseSchedule(shift=4)` in the first figure of this chapter. Which levels are now wasted on this small clip?
#
# :::{dropdown} Solutions
# **1.** Where $\bar\alpha_t = 1/2$, just below 500, where it is 0.49: `(schedule.snr(torch.arange(1, 1000)) - 1).abs().argmin() + 1`.
#
# **4.** The strip turns gray much earlier. Level 500 now has the SNR that the old strip has between its fourth and third frame from
# the right, where no digit can be seen. So the upper half of the levels is wasted.
# :::
#
# ## Sources
#
# Forward process and its closed form: {cite:t}`ho2020denoising`, Eq. 2 and 4. Cosine: {cite:t}`nichol2021improved`, Eq. 17.
# Sigmoid: {cite:t}`jabri2023scalable`. Zero terminal SNR: {cite:t}`lin2024common`. $v$: {cite:t}`salimans2022progressive`.
# Shifting with resolution: {cite:t}`hoogeboom2023simple`. A level per frame: {cite:t}`chen2024diffusion`.
