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
# **A model that was never shown a past: can its own mistakes about the past steer it to the right future?**
#
# Let the network denoise the whole window as one clip, look at what it takes the overlap for, and push the window along the gradient of that error. It needs no training at all. We build
# it, ask the Gaussian model how right it can be, and then watch it step by step: loss, gradient, and how much the outcome depends on the noise it starts from.
#
# *Time to run: about a minute on two CPU cores, half of that on a GPU.*

# %% [markdown]
# **You will learn** where Ho's equation comes from and what it leaves out; why its weights do not carry over from one norm to another; how to tell whether guidance converges.
#
# **You need** chapter 7.

# %%
from functools import partial

import matplotlib.pyplot as plt
import torch

import vdiff_lite as vd
from vdiff_lite.diffusion.oracle import GaussianVideo, posterior_error
from vdiff_lite.diffusion.samplers import sdedit_init
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.compare import true_clips
from vdiff_lite.evaluation.results import by_clip, by_name, command_of, read_table, rows_of, values
from vdiff_lite.methods import GuidanceError, history_guidance, reconstruction, replacement
from vdiff_lite.viz import sliders

vd.prepare_cpu()
device = vd.pick_device()
torch.backends.cudnn.allow_tf32 = False  # else a GPU rounds what a convolution is given to ten bits
denoiser = vd.load("digits32", device)
schedule = denoiser.schedule
F, K = 16, 5  # window and overlap: 5 frames given, 11 made


# %%
def held_out(clips, seed=0):
    data = vd.BouncingDigits(split="test", num_frames=F)
    return data.sample(clips, torch.Generator().manual_seed(seed)).video.to(device)


def noise_like(clip, seed=1):
    return torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed)).to(device)


def continue_clips(method, truth, steps=12, seed=1, sampler=vd.ddim):
    start = noise_like(truth, seed)
    with torch.no_grad():
        return vd.run_sampler(
            sampler(method(denoiser, truth[:, :, :K]), start, schedule, steps)
        ).cpu()


def score(clips, truth):
    psnr = video_metrics.psnr(clips[:, :, K:].clamp(-1, 1), truth[:, :, K:].cpu()).mean(0)
    boundary_discontinuity = video_metrics.boundary_discontinuity(clips, [K], truth.cpu()).mean()
    return "  ".join(f"{x:5.1f}" for x in psnr[[0, 4, 10]]) + f"   {boundary_discontinuity:5.2f}"

# %% [markdown]
# ## What we will have at the end

# %% mystnb={"image": {"alt": "Four film strips: the truth, and the continuations of its first five frames by replacement, by reconstruction guidance, and by the past in the window."}, "figure": {"caption": "One clip continued three ways from the same five frames (blue), same noise. F = 16, K = 5, stride 11."}}
truth = held_out(6, seed=3)
methods = {
    "replacement": replacement,
    "reconstruction, w = 10": partial(reconstruction, weight=10.0),
    "in the window": history_guidance,
}
made = {name: continue_clips(method, truth) for name, method in methods.items()}
viz.film_strip(
    [truth[0].cpu()] + [clips[0] for clips in made.values()],
    ["truth", *made],
    num_context=[F, K, K, K],
);

# %%
print("                          PSNR at new frame 1, 5, 11    seam   (6 clips)")
for name, clips in made.items():
    print(f"{name:24}   {score(clips, truth)}")

# %% [markdown]
# **Predict.** A larger weight listens harder. Will twice the weight always be better? And if the method starts from another noise, will it end at the same clip?

# %% [markdown]
# ## The mathematics
#
# Bayes' rule for the score of the window $z = x_t$, given that its first $K$ frames should be $h$:
#
# $$\nabla_z \log p(z \mid h) = \nabla_z \log p(z) + \nabla_z \log p(h \mid z). \tag{1}$$
#
# The first term is what the network knows. For the second, suppose that given $z$ the past is Gaussian around the network's own guess $\hat x_a(z)$, with the same variance for every
# pixel. Then it is a squared error, and since $\hat x_0$ moves by $\sigma_t^2 / \alpha_t$ times the score, {cite:t}`ho2022video` arrive at
#
# $$\tilde x_b = \hat x_b(z) - \frac{w\,\alpha_t}{2}\, \nabla_{z_b} \lVert h - \hat x_a(z) \rVert^2, \tag{2}$$
#
# with $\alpha_t = \sqrt{\bar\alpha_t}$ as in their paper, $a$ the overlap and $b$ the new frames; $w$ stands for everything that was supposed. The overlap itself is put in, noised, at every level:
# that alone is *replacement*. How good is the supposition? Exactly, the step would be
#
# $$\hat x_b + C_{ba}\, C_{aa}^{-1}\,(h - \hat x_a), \qquad C = \operatorname{Cov}(x_0 \mid z), \tag{3}$$
#
# and (2) puts $w\,\bar\alpha_t / \sigma_t^2$ times the identity where $C_{aa}^{-1}$ belongs. Neighbouring frames of a video are alike, so $C_{aa}$ is far from the identity. Keep that in mind.

# %% [markdown]
# ## Build it

# %%
def my_reconstruction(denoiser, past, w):
    def guided(xt, t):
        with torch.enable_grad():
            z = xt.detach().requires_grad_(True)
            x0_hat = denoiser(z, t)
            loss = (past - x0_hat[:, :, :K]).square().sum()
            (gradient,) = torch.autograd.grad(loss, z)
        alpha = schedule.alpha_bar[t.cpu()].sqrt().view(-1, 1, 1, 1, 1).to(xt)
        pushed = x0_hat.detach() - 0.5 * w * alpha * gradient
        return torch.cat([past, pushed[:, :, K:]], dim=2)

    return guided

# %% [markdown]
# Nothing in it puts the noised past into the window. It need not: the answer at the overlap *is* the past, so the sampler carries $\alpha_t h + \sigma_t \epsilon$ along there by itself.

# %% [markdown]
# ## Meet the twin

# %%
past, xt = truth[:2, :, :K], noise_like(truth[:2])
t = torch.tensor([700, 300], device=device)
torch.testing.assert_close(
    my_reconstruction(denoiser, past, 10.0)(xt, t),
    reconstruction(denoiser, past, 10.0)(xt, t),
    rtol=1e-3,
    atol=1e-3,
)

# %% [markdown]
# ## What the right answer looks like
#
# The Gaussian model again, in which the future given the past is known. Replacement, guidance with growing weights, and replacement with resampling - going back up and coming down again
# several times at each level {cite:p}`lugmayr2022repaint`, which costs that many times as much.

# %%
model = GaussianVideo(schedule)
walks = model.sample(8, 10, 16, torch.Generator().manual_seed(0))
known = walks[:, :, :4]


def against_the_truth(method, sampler=vd.ddim, **options):
    start = torch.randn(walks.shape, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    steps = sampler(
        method(model, known), start, schedule, 60, generator=generator, **options
    )
    return posterior_error(vd.run_sampler(steps), known, model)


rows = {"past in the window": against_the_truth(history_guidance)}
rows["replacement"] = against_the_truth(replacement)
rows["replacement, resampled 10 x"] = against_the_truth(
    replacement, vd.repaint, repeats=10
)
for w in (1.0, 10.0, 50.0):
    rows[f"reconstruction, w = {w:g}"] = against_the_truth(
        partial(reconstruction, weight=w)
    )
rows["w = 10, resampled 10 x"] = against_the_truth(
    partial(reconstruction, weight=10.0), vd.repaint, repeats=10
)
rows["PiGDM, w = 1"] = against_the_truth(partial(reconstruction, weight=1.0, norm="pigdm"))

# %% [markdown]
# And equation (3) itself, which the Gaussian model lets us write down:

# %%
def exact_step(model, past):
    k = past.shape[2]

    def guided(xt, t):
        ab, cov = schedule.alpha_bar[int(t[0])].item(), model.covariance(range(xt.shape[2]))
        information = torch.linalg.inv(cov) + ab / (1 - ab) * torch.eye(len(cov))
        c = torch.linalg.inv(information)  # Cov(x0 | z)
        gain = (c[k:, :k] @ torch.linalg.inv(c[:k, :k])).float()
        x0_hat = model(xt, t)
        step = torch.einsum("ba,ncahw->ncbhw", gain, past - x0_hat[:, :, :k])
        return torch.cat([past, x0_hat[:, :, k:] + step], dim=2)

    return guided


rows["equation (3), exact"] = against_the_truth(exact_step)

# %%
print(f"{'':27} bias at new frame 1, 2, 4   spread at 1, 2, 4")
print(f"{'(right)':27}   0.00    0.00    0.00     1.00    1.00    1.00")
for name, (bias, spread) in rows.items():
    a, b = ("  ".join(f"{x:6.2f}" for x in column[[0, 1, 3]]) for column in (bias, spread))
    print(f"{name:27} {a}   {b}")

# %% [markdown]
# The exact step arrives, as it must. None of the others does, and the order is plain. Replacement does worst: the network sees a noised past but is asked about the whole clip, and what it says about the
# new frames is averaged over all pasts that the *noised* one could have been. Guidance closes most of the gap, and then overshoots on the first frame before it has arrived on the later
# ones. Resampled, guidance comes nearest, but for the spread of the first frame. No single $w$ does it, and here is why - the eigenvalues of what equation (3) has and equation (2) replaces by one number:

# %%
print("noise level    eigenvalues of Cov(past | z), largest to smallest, x snr")
for level in (900, 600, 300, 100):
    cov, ab = model.covariance(range(10)), schedule.alpha_bar[level].item()
    num_context = torch.linalg.inv(torch.linalg.inv(cov) + ab / (1 - ab) * torch.eye(10))
    eigenvalues = torch.linalg.eigvalsh(num_context[:4, :4]).flip(0) * ab / (1 - ab)
    print(f"{level:11}    ", "  ".join(f"{v:9.6f}" for v in eigenvalues.tolist()))

# %% [markdown]
# The right weight in each direction is one over the number printed. It ranges over orders of magnitude at every level: near one, once the noise is low, for what the frames share, and
# thousands for how neighbouring frames differ, which the model knows to be next to nothing. That is the trouble of reconstruction guidance in one table: the number that suits
# one direction is far too small, or explodes, in another.

# %% [markdown]
# ## On digits: is the descent smooth?
#
# With `record`, each step leaves its loss, the norm of its gradient and the cosine between the push and the direction in which the sampler moves anyway. Three clips, four seeds each.

# %%
def recorded(weight, seeds=4, norm="sum", steps=25, clips=3):
    ends, records = [], []
    for seed in range(seeds):
        record = []
        method = partial(reconstruction, weight=weight, norm=norm, record=record)
        ends.append(continue_clips(method, truth[:clips], steps, seed))
        records.append(record)
    return torch.stack(ends), records


ends, records = recorded(10.0)

# %% mystnb={"image": {"alt": "Three panels against the noise level, one thin line for each clip and seed: the loss of the overlap falls over orders of magnitude, the norm of the gradient varies by orders of magnitude, the cosine scatters around small values."}, "figure": {"caption": "Reconstruction guidance with w = 10, step by step from pure noise (left) to a clip (right); 3 clips with 4 seeds each."}}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
names = {
    "loss": "loss per pixel",
    "gradient_norm": "norm of the gradient",
    "cosine": "cosine",
}
for axis, (name, label) in zip(axes, names.items()):
    for record in records:
        axis.plot(
            [r["t"] for r in record],
            [r[name] for r in record],
            color=viz.COLORS[0],
            alpha=0.4,
            lw=0.8,
        )
    axis.set(
        xlabel="noise level t",
        ylabel=label,
        yscale="linear" if name == "cosine" else "log",
        xlim=(1000, 0),
    )
    axis.spines[["top", "right"]].set_visible(False)

# %%
losses = torch.tensor([[step["loss"] for step in record] for record in records])
rises = (losses.diff(dim=1) > 0).float().mean().item()
print(f"the loss rises at {100 * rises:.0f}% of the steps")

# %% [markdown]
# Read the three panels together. The loss goes down, so guidance "works": the network takes the overlap for what it should be. The gradient is largest at the top, where the network
# knows least, and what it does there cannot be taken back. And the cosine is near zero throughout: the push has next to nothing to do with where the sampler goes.
#
# Twelve lines are an impression. The study took 16 held-out clips with 8 seeds each, and `vdiff compare --details` wrote down every step of them. Besides rising, a loss can stand still: here a *plateau* is a step in
# which it changes by less than 2%.

# %%
about, rows = read_table("../data/results/compare_seeds.csv")
print(command_of(about))
runs = by_name(rows)


def losses_of(text):
    """The loss of every clip and seed at every step, from the highest level down: (runs, steps)."""
    kinds = [row["metric"] for row in runs[text] if row["metric"].startswith("loss at")]
    levels = sorted({int(kind.split()[-1]) for kind in kinds}, reverse=True)
    return torch.stack([values(runs[text], f"loss at {t}") for t in levels], dim=1)


GUIDED = "reconstruction:weight=10"
print(f"\n{'':20} rises at  plateau at  loss at first, last step  runs")
for text in (GUIDED, "reconstruction:weight=40", f"{GUIDED},start=600"):
    loss = losses_of(text)
    change = loss[:, 1:] / loss[:, :-1]
    share = [f"{100 * x.float().mean():.0f}%" for x in (change > 1, (change - 1).abs() < 0.02)]
    ends_of = "   ".join(f"{loss[:, i].median():.4f}" for i in (0, -1))
    name = text.removeprefix("reconstruction:")
    print(f"{name:20} {share[0]:>8} {share[1]:>11}        {ends_of} {len(loss):8}")

# %% [markdown]
# The descent is smooth: the loss rises seldom, stands still hardly ever, and ends far below where it began. A smaller loss of the overlap is not a better future, though.
#
# ## Does it matter where it starts?
#
# The future is determined, so every seed should end at the same clip. How far apart do they end, compared with the condition in the window? And does it help to begin with a noised
# still instead of pure noise?

# %%
def spread_over_seeds(ends):
    return ends[:, :, :, K:].std(dim=0).square().mean(dim=(1, 3, 4)).sqrt().mean(0)


def from_a_still(seed, level=600):
    """Begin at level 600 with the last given frame repeated and noised, instead of with pure noise."""
    past, levels = truth[:3, :, :K], [*range(level, 0, -40), 0]
    start = sdedit_init(denoiser, past, F, level, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return vd.run_sampler(
            vd.ddim(reconstruction(denoiser, past, 10.0), start, schedule, levels)
        ).cpu()

# %%
reference = torch.stack(
    [continue_clips(history_guidance, truth[:3], 12, seed) for seed in range(4)]
)
still = torch.stack([from_a_still(seed) for seed in range(4)])
apart = {
    "reconstruction, w = 10": ends,
    "from a noised still": still,
    "in the window": reference,
}
print("first seed                PSNR at new frame 1, 5, 11    seam")
for name, clips in apart.items():
    print(f"{name:24}   {score(clips[0], truth[:3])}")

# %% mystnb={"image": {"alt": "Three curves of the spread over seeds against the new frame, which grow along the clip."}, "figure": {"caption": "Standard deviation of pixels over four seeds, by new frame. A method that is sure of the right future would lie at zero; so does one that is sure of a wrong one."}}
spreads = {name: spread_over_seeds(clips) for name, clips in apart.items()}
figure, axis = plt.subplots(figsize=(5.5, 2.6))
viz.plot_lines(axis, range(1, F - K + 1), spreads, marker="o")
axis.set(xlabel="new frame", ylabel="spread over seeds", ylim=0)
axis.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8);

# %% [markdown]
# A spread of pixels does not say whether a clip is a little off or somewhere else altogether. So follow the digit: where is it on each new frame, for eight seeds of one clip? From the study again. (The last column but one takes back what the others cannot; how, is told
# below.)

# %%
SHOWN = {
    "replacement": "replacement",
    "reconstruction, w = 10": GUIDED,
    "from a noised still": f"{GUIDED},start=600",
    "each step 3 times": f"{GUIDED},repeats=3",
    "in the window": "history_guidance",
}
true_path = digit_metrics.digit_position(true_clips(frames=F))  # of the 16 clips of the study


def paths_of(text, clip):
    """Where the digit is on the new frames, for each seed: (seeds, 11, 2)."""
    of = [r for r in runs[text] if r["clip"] == str(clip) and r["metric"] in ("x", "y")]
    seeds = sorted({row["seed"] for row in of})  # those that did not explode
    xy = [[values(of, axis, seed=s) for axis in "xy"] for s in seeds]
    return torch.stack([torch.stack(pair, dim=-1) for pair in xy])


# %% mystnb={"image": {"alt": "Two rows of five square boards, one column a method: thin lines are the ways the digit takes for eight seeds, a dashed black line the true way. In the window the lines lie on the true way; under replacement and guidance they fan out; from a still they stay where they began."}, "figure": {"caption": "The way of the digit over the eleven new frames for eight seeds (colours), two clips of the study. Dashed: the true way, given frames included; the dot is the last given frame."}}
figure, axes = plt.subplots(2, 5, figsize=(10, 4.2), layout="constrained")
for clip, line in zip((0, 2), axes):
    for axis, (label, text) in zip(line, SHOWN.items()):
        given_end = true_path[clip, K - 1]
        for path in paths_of(text, clip):
            axis.plot(*torch.cat([given_end[None], path]).T, lw=1, alpha=0.8)
        axis.plot(*true_path[clip].T, color="black", ls="--", lw=1)
        axis.plot(*given_end, "o", color="black", ms=4)
        axis.set(xlim=(4, 27), ylim=(27, 4), xticks=[], yticks=[], aspect="equal")
        if clip == 0:
            axis.set_title(label, fontsize=9)

# %% [markdown]
# And in numbers, for all 16 clips: how far the last frame's digit lies from its true place; how far the seeds of one clip lie from their own mean; and how many *different* ends eight seeds come to, where two ends count as one when a chain of ends
# no more than three pixels apart joins them.

# %%
def distinct(places, apart=3.0):
    joined = (torch.cdist(places, places) < apart).float()
    for _ in places:
        joined = (joined @ joined).clamp(max=1)
    return len({tuple(line.tolist()) for line in joined})


print(f"{'':23} off (px)  apart (px)  ends of 8    PSNR at 1, 5, 11")
for label, text in SHOWN.items():
    last = [paths_of(text, clip)[:, -1] for clip in range(16)]
    apart = sum((x - x.mean(0)).norm(dim=-1).mean() for x in last) / len(last)
    ends_of = sum(map(distinct, last)) / len(last)
    off = by_clip(rows, "off", frame=F - K, **rows_of(text)).mean()
    db = (by_clip(rows, "psnr", frame=n, **rows_of(text)).mean() for n in (1, 5, 11))
    print(f"{label:23} {off:8.1f} {apart:11.1f} {ends_of:10.1f}  ", *(f"{x:5.1f}" for x in db))

# %% [markdown]
# So the seed decides, and the loss does not see it. All these runs came down to a small loss, and still eight seeds of one clip come to several different ends: the overlap allows them all, as long as nothing but its own error is asked. The *still* takes that freedom away, and
# with it the movement: all seeds come to one end, and it is a wrong one, near to where the digit stood. Being sure and being right are two things. Only the window is both; the steps taken three times come nearer to it than all others.
#
# ## Norms and weights
#
# "The weight" means nothing without the norm. Divide the sum by the number of pixels and $w$ must grow by that number; take the root and the step no longer fades as the error does.

# %%
pixels = K * 32 * 32
settings = [("sum", 10.0), ("mean", 10.0), ("mean", 10.0 * pixels)]
print("norm      weight    PSNR at new frame 1, 5, 11    seam   (6 clips)")
for norm, w in settings:
    clips = continue_clips(partial(reconstruction, weight=w, norm=norm), truth)
    print(f"{norm:6} {w:10g}      {score(clips, truth)}")

# %% [markdown]
# Each step of the descent was final so far. What if it could be taken back? *Resampling* (`vd.resampled`, {cite:t}`lugmayr2022repaint`) noises the window up to the level before and comes down again, with guidance, several times a step:

# %%
print("repeats    mean PSNR of the new frames, clip by clip")
for repeats in (1, 3):
    walk = partial(
        vd.repaint, repeats=repeats, generator=torch.Generator().manual_seed(2)
    )
    clips = continue_clips(partial(reconstruction, weight=10.0), truth, sampler=walk)
    db = video_metrics.psnr(clips[:, :, K:].clamp(-1, 1), truth[:, :, K:].cpu()).mean(1)
    print(f"{repeats:7}    ", "  ".join(f"{x:4.1f}" for x in db.tolist()))

# %% [markdown]
# Six clips and 12 steps hardly tell. Which norm, then, and what helps? The study gave the other norms three weights each, and the sum (six weights of it are in chapter 10) everything that is said to help: guiding the overlap instead of putting it in, starting from a noised still, and
# taking each step again (`repeats`; once is DDPM, fresh noise and no way back). 32 clips of training handwriting, 25 steps. *Better by* is the difference to the first row in mean PSNR over the new frames, clip by clip, with its interval.

# %%
about, rows = read_table("../data/results/compare_norms.csv")
print(command_of(about))
mean_psnr = {text: by_clip(of, "psnr") for text, of in by_name(rows).items()}
clips = len(mean_psnr[GUIDED])
better = {
    text: video_metrics.bootstrap(db - mean_psnr[GUIDED])
    for text, db in mean_psnr.items()
    if len(db) == clips and text != GUIDED
}
print(f"\n{'':21}PSNR at 1, 5, 11  better by (95%)     seam same passes")
for text, db in mean_psnr.items():
    of, name = rows_of(text), text.removeprefix("reconstruction:").replace("weight", "w")
    if len(db) < clips:
        print(f"{name:21} exploded in {clips - len(db)} of {clips} clips")
        continue
    frames = "".join(f"{by_clip(rows, 'psnr', frame=n, **of).mean():5.1f}" for n in (1, 5, 11))
    gain = "{:+5.1f} ({:+.1f} to {:+.1f})".format(*better.get(text, (0, 0, 0)))
    checks = "".join(f"{values(rows, m, **of).mean():5.2f}" for m in ("boundary_discontinuity", "identity"))
    passes = values(rows, "passes", **of).median()
    print(f"{name:21}{frames}  {gain:21}{checks}{passes:7.2f}")

# %% mystnb={"image": {"alt": "Horizontal bars of difference in mean PSNR to reconstruction guidance with the sum and w = 10, one line a variant, with intervals and a line at zero."}, "figure": {"caption": "How much better or worse each variant predicts than the sum with w = 10, in mean PSNR over the eleven new frames; 95% intervals over clips. Left of the line: worse."}}
figure, axis = plt.subplots(figsize=(6, 0.27 * len(better) + 0.6))
names = [text.removeprefix("reconstruction:").replace("weight", "w") for text in better]
viz.plot_intervals(axis, dict(zip(names, better.values())))
axis.axvline(0, color="#666666", lw=0.8)
axis.set_xlabel("better by (dB)");

# %%
for text in (GUIDED, *(f"{GUIDED},repeats={n}" for n in (1, 3, 10))):
    found = (mean_psnr[text] > 25).float().mean()
    print(f"{text:35} above 25 dB in {100 * found:3.0f}% of the clips")

# %% [markdown]
# No norm beats the sum, once each has a weight that suits it; guidance alone, with the overlap not put in, may explode. A noised still makes the join a little smoother and the future no better. One thing helps, and by far: to take each step again. What one pass decides at high noise cannot be taken back; going up again
# loosens it, and guidance meets a window whose new frames have begun to agree with the overlap. Clips that went astray find the way (above 25 dB, say): more of them with three passes a step, and with ten all of these. (For replacement, for which resampling was invented, it mends the join and the digit, and does not find the way:
# nothing there says in which *direction* the new frames are wrong.) The price is that many times the passes; chapter 10 compares at equal price.
#
# ## Play
#
# The weight, and beside the clip what the loss does. From left to right along the axis the noise falls.

# %%
def picture(weight):
    record = []
    try:
        clip = continue_clips(
            partial(reconstruction, weight=weight, record=record), truth[4:5]
        )[0]
    except GuidanceError:
        clip = torch.ones(1, F, 32, 32)  # white: it exploded
    figure = viz.film_strip(
        [truth[4].cpu(), clip], ["truth", f"w = {weight:g}"], num_context=[F, K]
    )
    figure.set_size_inches(11, 1.6)
    figure.subplots_adjust(right=0.74)
    axis = figure.add_axes([0.82, 0.25, 0.17, 0.6])
    axis.semilogy(
        [r["t"] for r in record],
        [r["loss"][0] for r in record],
        color=viz.COLORS[1],
        marker=".",
    )
    axis.set(xlim=(1000, 0), ylim=(1e-5, 1), title="loss per pixel", xlabel="t")
    return sliders.figure_picture(figure, dpi=70)


weights = [0.0, 1.0, 3.0, 10.0, 20.0, 40.0, 80.0]
sliders.guidance_slider(
    picture,
    weights,
    "reconstruction weight w",
    "The true clip, the continuation, and the loss along the trajectory.",
    start=3,
    fine=[0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0, 80.0],
    width=760,
)

# %% [markdown]
# ## What breaks, and how to see it
#
# Turn it up and the push becomes larger than the picture. The library stops and says where:

# %%
for w in (100.0, 1000.0, 1e5):
    try:
        clips = continue_clips(partial(reconstruction, weight=w), truth[:2])
        print(
            f"w = {w:g}: {100 * (clips.abs() > 1.1).float().mean():.1f}% of the pixels beyond the range"
        )
    except GuidanceError as error:
        print(f"w = {w:g}: {error}")

# %% [markdown]
# ## Recap
#
# Reconstruction guidance turns a model without a condition into a conditional one by differentiating through it. It replaces an inverse covariance by a number, and for video no number
# suits all directions: what is enough for the stiffest makes the others explode. It holds the join and the digit better than replacement, and loses the way the digit goes after a frame or two - unless
# each step is taken several times. Taken ten times it finds the way, for ten times the passes, and each with a pass backward. What it then is beside a network that was trained with its past in the window, chapter 10 tells.
#
# ## Exercises
#
# 1. **Predict.** With `replace=False` the overlap is not put in. What will the overlap look like for a small weight?
# 2. **Code.** In `exact_step`, keep only the diagonal of $C_{aa}$. Where between (2) and (3) does it land, and why?
# 3. **Explore.** Guide only for $t > 500$, or only below. Where does guidance earn its price?
#
# :::{dropdown} Solutions
# 1. Like another clip: a weak push does not reach the past, and the overlap is only nearly right. Try `partial(reconstruction, weight=1.0, replace=False)` and look at the seam *inside*.
# 2. `gain = c[k:, :k] / c[:k, :k].diagonal()`. It lands near guidance with a moderate weight. What the diagonal leaves out is how past frames *differ* from each other, and that is what
#    tells where they are going.
# 3. Give `weight=0` where `t` is on the other side. At high noise the Jacobian is small and so is the push, but what is decided there stays.
# :::
#
# ## Sources
#
# Reconstruction guidance and its use for extending videos: {cite:t}`ho2022video`. The unsquared norm: {cite:t}`chung2023diffusion`. The pseudo-inverse weighting:
# {cite:t}`song2023pseudoinverse`. Resampling: {cite:t}`lugmayr2022repaint`. Replacement: {cite:t}`song2021score`.
