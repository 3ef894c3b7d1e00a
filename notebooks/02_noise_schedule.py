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
# A diffusion model is trained on noisy data. The schedule says how much of a clip is left at each of 1000 levels.
#
# *Time to run: about ten seconds on two CPU cores, less on a GPU.*

# %% [markdown]
# **You will learn** where the closed form of the noising comes from; what signal-to-noise ratio and $v$ are; why the last
# level must be pure noise; how to give every frame its own level.
#
# **You need** chapter 1, and that variances of independent noises add.

# %%
import matplotlib.pyplot as plt
import torch
from einops import reduce

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.viz import sliders

clip = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(7)).video
eps = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))

# %% [markdown]
# ## What we will have at the end

# %% mystnb={"image": {"alt": "A film strip in which each frame is noisier than the one before, from a clean digit to gray noise."}, "figure": {"caption": "One clip with sixteen noise levels at once, one per frame: t = 0 at the left, t = 1000 at the right."}}
schedule = vd.NoiseSchedule()
ladder = torch.linspace(0, 1000, 16).long()[None]
viz.film_strip(schedule.add_noise(clip, ladder, eps), ["t = 0 ... 1000"]);

# %% [markdown]
# **Predict.** We add a little Gaussian noise a thousand times, and each time shrink the picture a little. Does it take
# 700 additions to see the result of step 700?

# %% [markdown]
# ## The mathematics
#
# One step keeps a fraction $\alpha_t = 1 - \beta_t$ of the variance and adds $\beta_t$ of noise:
#
# $$x_t = \sqrt{\alpha_t}\, x_{t-1} + \sqrt{\beta_t}\, \epsilon_t. \tag{1}$$
#
# The sum of Gaussians is Gaussian and variances add, so $t$ steps are one step with $\bar\alpha_t = \prod_{s \le t} \alpha_s$:
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon. \tag{2}$$
#
# How much signal is left for each unit of noise is the signal-to-noise ratio
#
# $$\mathrm{SNR}(t) = \bar\alpha_t / (1 - \bar\alpha_t). \tag{3}$$

# %% [markdown]
# ## Build it: the cosine schedule
#
# The linear schedule of the first papers destroys a clip early, and its last levels add little. Nichol and Dhariwal's cosine
# schedule spends its steps more evenly: $\bar\alpha$ follows $\cos^2$.

# %%
def cosine_alpha_bar(T=1000, s=0.008):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = torch.cos((u + s) / (1 + s) * torch.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


alpha_bar = cosine_alpha_bar()
print("alpha_bar at t = 0, 500, 1000:", [f"{alpha_bar[t]:.2g}" for t in (0, 500, 1000)])

# %% [markdown]
# Check equation 2 against 700 additions. Not the pictures, which are random, but their mean and variance.

# %%
torch.manual_seed(0)
x = torch.full((20000,), 0.8, dtype=torch.float64)
alpha = alpha_bar[1:] / alpha_bar[:-1]
for step in range(700):
    x = alpha[step].sqrt() * x + (1 - alpha[step]).sqrt() * torch.randn_like(x)

# %%
print("mean     %.3f   closed form %.3f" % (x.mean(), alpha_bar[700].sqrt() * 0.8))
print("variance %.3f   closed form %.3f" % (x.var(), 1 - alpha_bar[700]))

# %% [markdown]
# ## The last level must be noise
#
# The last $\bar\alpha$ above is small, but not zero. So in training the network never sees pure noise: a trace of the clip is
# always left. At sampling time it is given pure noise and takes it for a clip with a faint trace. The repair of
# {cite:t}`lin2024common` is to shift and rescale $\sqrt{\bar\alpha}$ so that it ends at zero.

# %%
def zero_terminal_snr(alpha_bar):
    signal = alpha_bar.sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return signal**2


mine = zero_terminal_snr(alpha_bar)

# %% [markdown]
# ## Meet the twin

# %%
torch.testing.assert_close(mine, schedule.alpha_bar)
schedule

# %% tags=["nbval-check-output"]
linear = vd.NoiseSchedule(shape="linear", zero_terminal_snr=False)
last = [each.sqrt() for each in (linear.alpha_bar[-1], alpha_bar[-1], schedule.alpha_bar[-1])]
print("signal left at the last level: linear %.4f, cosine %.1e, rescaled %.0f" % tuple(last))

# %% mystnb={"image": {"alt": "Left, three falling curves of alpha-bar; the linear one falls fastest. Right, their log signal-to-noise ratios."}, "figure": {"caption": "Left: how much of the clip's variance is left. Right: the same as a signal-to-noise ratio, on a logarithmic axis. Cosine and sigmoid nearly lie on each other."}}
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
# Given $x_t$, knowing $x_0$ is knowing $\epsilon$. What should the network predict? At $t = 0$ there is no noise in $x_t$, so
# $\epsilon$ says nothing about the clip. At $t = 1000$, $x_0$ cannot be recovered from $\epsilon$: solving equation 2 for
# $x_0$ divides by zero there. The mixture
#
# $$v = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x_0$$
#
# is fine at both ends. With $\bar\alpha = \cos^2\varphi$, the pair $(x_t, v)$ is the pair $(x_0, \epsilon)$ rotated by the
# angle $\varphi$, and a rotation can always be undone.

# %% tags=["nbval-check-output"]
for t in (0, 1, 500, 999, 1000):
    level = torch.tensor([t])
    xt, v = schedule.add_noise(clip, level, eps), schedule.v(clip, level, eps)
    error_x0 = (schedule.x0_from_v(xt, level, v) - clip).abs().max()
    error_eps = (schedule.eps_from_v(xt, level, v) - eps).abs().max()
    print(f"t = {t:4}   x0 and eps recovered to 2e-6:", bool(max(error_x0, error_eps) < 2e-6))

# %% [markdown]
# And with $\epsilon$ alone at the end:

# %% tags=["nbval-check-output"]
try:
    schedule.x0_from_eps(eps, torch.tensor([1000]), eps)
except ValueError as error:
    print(error)

# %% [markdown]
# Whatever the network predicts, the rest of the book sees one interface: a `Denoiser` is a PyTorch module that maps
# `(xt, t)` to `x0_hat`. `predicts` names the target, and these formulas do the conversion.

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
# Nothing in equation 2 requires that all frames have the same level. In this book `t` may be `(b, f)`. A past at $t = 0$ is a
# clean condition, a past at $t = 1000$ is no condition at all. Training on both is what lets *one* network serve every method
# of Part II.

# %% mystnb={"image": {"alt": "Three film strips of the same clip: all frames at level 400; five clean frames then level 700; five frames of pure noise then level 700."}, "figure": {"caption": "The same clip at one level, with a clean past of five frames, and with a past of pure noise."}}
past = torch.arange(16) < 5
levels = [torch.full((1, 16), 400), torch.where(past, 0, 700)[None], torch.where(past, 1000, 700)[None]]
noisy = [schedule.add_noise(clip, t, eps)[0] for t in levels]
viz.film_strip(noisy, ["same level", "clean past", "no past"]);

# %% [markdown]
# ## Play
#
# The level at which you lose sight of the digit depends on its size: noise on neighboring pixels averages out. That is why
# larger frames need more noise (`NoiseSchedule(shift=...)`).

# %%
def under_noise(t):
    return sliders.frame_pictures(schedule.add_noise(clip, torch.tensor([t]), eps), 8)[0]


levels, fine = list(range(0, 1001, 50)), range(0, 1001, 5)
sliders.guidance_slider(under_noise, levels, "noise level t", "A digit under noise.", start=6, fine=fine)

# %% mystnb={"image": {"alt": "Two rows of noisy frames; the enlarged digit in the lower row can be made out at levels where the small one is lost."}, "figure": {"caption": "One frame at levels 600 to 950. Top: as it is. Bottom: the same digit on a frame four times larger, averaged back to 32 by 32 for show."}}
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
# Sampling starts from pure noise. If the last level of training was not pure noise, the two disagree: the mean brightness of
# a clip still shows at the last level. Measure it with the linear schedule and with the rescaled one, on a dark clip. We give
# the mean brightness in units of the standard error of one frame's noise: an effect well below 1 cannot be seen in a frame.

# %%
dark = torch.full((1, 1, 16, 32, 32), -0.9)
for name, s in {"linear": linear, "cosine, rescaled": schedule}.items():
    last = s.add_noise(dark, torch.tensor([1000]), torch.zeros_like(dark))
    mean = last.mean() * last[0, 0, 0].numel() ** 0.5
    print(f"{name:18} mean of the last level, in standard errors of one frame's noise: {mean:.2f}")

# %% [markdown]
# With the linear schedule it is 0.18 of a standard error here, too small to see, and with the rescaled one it is gone. The
# standard error falls with the number of pixels. In large images the trace does show, as a wrong overall brightness
# {cite:p}`lin2024common`.
#
# ## Recap
#
# A thousand small steps are one step with $\bar\alpha_t$. The last level has to be pure noise, because that is what sampling
# starts from, and $v$ is the target that stays finite there. Levels may differ from frame to frame, which turns "condition on
# the past" into "set its level to zero".
#
# ## Exercises
#
# 1. **Predict.** At which level of the cosine schedule is SNR = 1? Then find it: `schedule.snr(torch.arange(1, 1000))`.
# 2. **Code.** Write `eps_from_x0` by hand and compare with the library. What should it return at $t = 0$?
# 3. **Explore.** Try `NoiseSchedule(shift=4)` in the ladder at the top. Which levels are now wasted on this small clip?
#
# :::{dropdown} Solutions
# 1. Where $\bar\alpha = 1/2$, near the middle: `(schedule.snr(torch.arange(1, 1000)) - 1).abs().argmin() + 1`.
# 2. `(xt - signal * x0) / noise`; at $t = 0$ there is no noise in $x_t$ and the quotient is 0/0. The library returns 0 there:
#    no direction is better than a random one.
# 3. The ladder turns gray much earlier; most levels above the middle show nothing, and the network would learn nothing from them.
# :::
#
# ## Sources
#
# Forward process and its closed form: {cite:t}`ho2020denoising`, Eq. 2 and 4. Cosine: {cite:t}`nichol2021improved`, Eq. 17.
# Sigmoid: {cite:t}`jabri2023scalable`. Zero terminal SNR: {cite:t}`lin2024common`. $v$: {cite:t}`salimans2022progressive`.
# Shifting with resolution: {cite:t}`hoogeboom2023simple`. A level per frame: {cite:t}`chen2024diffusion`.
