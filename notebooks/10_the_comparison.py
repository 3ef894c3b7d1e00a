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
# # 10. The comparison
#
# **Three ways past the context limit, the same clips and the same noise: which one should you use?**
#
# The answer depends on the network. Every method runs on two: `digits32`, which was trained with clean pasts,
# and `digits32_fixed`, the same network trained on clips of fixed length only. The study was run beforehand
# by `vdiff compare`, and its tables are in `data/results/`. This chapter reads them, and draws a few clips
# live.
#
# *Time to run: about two minutes on two CPU cores, less than one on a GPU.*
#
# **You will learn** how to compare methods of different cost; what the interval around a mean means; which
# method to use with which network, and on what evidence.
#
# **You need** chapters 7 to 9.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from scipy.stats import binomtest

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.evaluation import digit_metrics, video_metrics
from vdiff_lite.evaluation.compare import extend, true_clips
from vdiff_lite.evaluation.feature_net import clip_features, frechet, real_clip_features
from vdiff_lite.evaluation.results import command_of, features_at, intervals, per_clip, read_results
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
device = vd.pick_device()
networks = {name: vd.load(name, device) for name in ("digits32", "digits32_fixed")}
window, overlap = 16, 5
stride = window - overlap  # 5 context frames, 11 new ones per window

# %% [markdown]
# ## What we will have at the end
#
# One held-out clip, continued from the same five context frames and the same noise, by both networks.
#
# | name in the tables | method | chapter |
# |---|---|---|
# | in the window; guided, $w$ | history guidance with $w = 1$; with a larger $w$ | 7 |
# | fractional; with an anchor; embedding of the past | fractional guidance; context frames that stay in the window; history encoder | 7 |
# | replacement; reconstruction, $w$ | replacement; reconstruction guidance | 8 |
# | injection, K, V | clean keys and values of the past, prepended | 9 |
# | other rows with K, V; outputs of all stages; input | variants of injection. "Same level": the past is noised to the sampler's level | 9 |
# | independent windows; copy the last frame | baselines that ignore the past, or repeat its last frame | |

# %%
ROWS = {
    "independent windows": "independent",
    "copy the last frame": "copy_last",
    "replacement": "replacement",
    "reconstruction, w = 10": "reconstruction:weight=10",
    "reconstruction, w = 20": "reconstruction:weight=20",
    "in the window": "history_guidance",
    "guided, w = 1.5": "history_guidance:weight=1.5",
    "fractional, level 500": "fractional_history_guidance:weight=1.5,level=500",
    "with an anchor": "anchored_history",
    "embedding of the past": "history_encoder:encoder=digits32_5_8",
    "injection, K, V": "injection",
    "K, V, same level": "injection:source=same",
    "K, V along time": "injection:sites=temporal",
    "K, V overwritten, same level": "injection:prepend=False,source=same",
    "outputs of all stages": "injection:sites=encoder+middle+decoder,prepend=False,source=same",
    "input, same level": "injection:sites=input,prepend=False,source=same",
}

# %%
LIVE = ("independent windows", "copy the last frame", "replacement", "reconstruction, w = 10",
        "in the window", "injection, K, V", "outputs of all stages")
truth = true_clips(0, 16, window)[:2]
past = truth[:, :, :overlap].to(device)
live = {network: {name: extend(denoiser, ROWS[name], past, stride, window, overlap, steps=25, seed=1)[0]
                  for name in LIVE} for network, denoiser in networks.items()}

# %% mystnb={"image": {"alt": "Film strips of 16 frames: the truth and seven continuations by digits32; in the window and by injection of keys and values the digit follows the true path, by reconstruction guidance it keeps its shape, by replacement and injected outputs another shape appears, in independent windows another digit elsewhere."}, "figure": {"caption": "By digits32, trained with pasts. Blue: frames given (the first five; the truth is given throughout). F = 16, K = 5."}}
def strips(clips):
    rows, num_context = [truth[0], *(x[0] for x in clips.values())], [window] + [overlap] * len(clips)
    return viz.film_strip(rows, ["truth", *clips], num_context=num_context)


strips(live["digits32"]);

# %% mystnb={"image": {"alt": "Film strips of 16 frames: the truth and seven continuations by digits32_fixed; only reconstruction guidance and the repeated frame keep the digit, in the window and by injection of keys and values it blurs at the join and becomes another."}, "figure": {"caption": "The same by digits32_fixed, which never saw a past."}}
strips(live["digits32_fixed"]);

# %% [markdown]
# **Predict.** On which network is injection better than reconstruction guidance? On which is it worse?

# %% [markdown]
# ## The mathematics
#
# A method is measured by the clips it generates and by its cost. The cost is the number of network
# evaluations (NFE) per new frame, where one evaluation is that of a whole window of $F$ frames,
#
# $$\text{NFE per new frame} = \frac{\text{frames passed through the network}}{F \cdot \text{new frames}}, \tag{1}$$
#
# so that a second branch counts double and a cached past counts what it saves. A backward pass is not
# counted, but it is in the seconds.
#
# A frame *fails* when a check of intensity, motion, jump or identity fails there, and is *valid* otherwise
# (`digit_metrics.failures`, with the limits in the table below). The *time to first failure* $\tau$ of a clip
# is the number of new frames before the first failure. The fraction of clips without a failure up to frame
# $n$ is the survival curve
#
# $$S(n) = \frac{1}{N} \sum_{i=1}^{N} \mathbb{1}[\tau_i \geq n]. \tag{2}$$
#
# A mean over clips is a random number. Drawing the clips again with replacement shows its uncertainty. The
# 95% interval holds the middle 95% of many
#
# $$\bar x^{*} = \frac{1}{N}\sum_i x_{i^{*}}, \qquad i^{*} \sim \text{uniform}(1 .. N). \tag{3}$$

# %%
LIMITS = digit_metrics.LIMITS
limits = {
    "intensity": ("median of 7 frames / mean of the context", "{} to {}".format(*LIMITS["intensity"])),
    "motion": ("median speed of 7 frames / mean of the truth", "{} to {}".format(*LIMITS["motion"])),
    "jump": ("movement of the digit in one frame", f"at most {LIMITS['jump']:g} px"),
    "identity": ("digit read most often on 7 frames", "that of the truth"),
}
table = pd.DataFrame(limits, index=["measure", "valid"]).T.rename_axis("check")
show_table(table, "The checks of a frame; the 7 frames are those nearest to it")

# %% [markdown]
# ## Build it: the interval
#
# Equation (3) in a few lines.

# %%
def my_bootstrap(x, draws=2000):
    again = torch.randint(len(x), (draws, len(x)), generator=torch.Generator().manual_seed(0))
    means = x[again].mean(1).sort().values
    return x.mean().item(), means[int(0.025 * draws)].item(), means[int(0.975 * draws)].item()

# %% [markdown]
# ## Meet the twin
#
# `video_metrics.bootstrap` is scipy's. The two draw other random numbers, so they agree within a quarter of a
# dB.

# %%
main = read_results("compare_main")
first_frame = per_clip(main, "psnr", frame=1)["history_guidance"]
mine = torch.tensor(my_bootstrap(torch.tensor(first_frame.to_numpy())))
theirs = torch.tensor(video_metrics.bootstrap(first_frame))
torch.testing.assert_close(mine, theirs, atol=0.25, rtol=0)
mean, low, high = mine.tolist()
print(f"mean {mean:.2f} dB, 95% interval {low:.2f} to {high:.2f}, from {len(first_frame)} clips")

# %% [markdown]
# ## The claim, on two networks
#
# This project began with a claim about video networks of fixed length: feature injection gives stronger
# results than guidance, and guidance than reconstruction. Here the methods are the rows and the two networks
# the columns ("fixed" is `digits32_fixed`). Each number is a mean over the same held-out clips, one seed
# each, with half of its 95% interval in brackets. Empty cells were not measured.

# %%
STUDY = {"digits32": main, "fixed": read_results("compare_fixed")}


def named(frame, rows):
    """The rows of these methods, under the names of this chapter."""
    return frame.reindex(rows.values()).set_axis(list(rows))


def both_networks(columns, caption, **style):
    parts = [[named(numbers, ROWS).add_prefix(f"{network} ") for numbers in intervals(table, columns)]
             for network, table in STUDY.items()]
    mean, half = (pd.concat(part, axis=1) for part in zip(*parts))
    return show_table(mean, caption, half=half, **style)


for table in STUDY.values():
    print(command_of(table), "\ncheckpoint", table.attrs["header"]["sha256"][:12])
COLUMNS = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)}
COLUMNS |= {"identity": ("identity", None), "seam": ("boundary_discontinuity", None)}
digits = {f"{network} {title}": 1 if "PSNR" in title else 2 for network in STUDY for title in COLUMNS}
both_networks(COLUMNS, "PSNR (dB) at new frames 1, 5, 11; identity and seam are ideal at 1", digits=digits)

# %% [markdown]
# An interval of width 0 says that all clips have the same value, not that the value is certain. A repeated
# frame has no seam because nothing changes. All rows are of the same clips, so a difference of two rows is
# more certain than their intervals say. Here are differences clip by clip:

# %%
def interval_text(scores, digits=1):
    values = [round(x, digits) + 0.0 for x in video_metrics.bootstrap(scores)]  # + 0.0: never "-0.0"
    return "{:+.{n}f} ({:+.{n}f} to {:+.{n}f})".format(*values, n=digits)


def difference(table, a, b, frame=None):
    """PSNR of one method minus that of another, clip by clip; empty where one was not measured."""
    psnr = per_clip(table, "psnr", frame).reindex(columns=[ROWS[a], ROWS[b]])
    return psnr.iloc[:, 0].sub(psnr.iloc[:, 1]).dropna()


PAIRS = [("injection, K, V", "in the window"), ("injection, K, V", "guided, w = 1.5"),
         ("injection, K, V", "reconstruction, w = 10"), ("K, V, same level", "reconstruction, w = 10"),
         ("outputs of all stages", "reconstruction, w = 10"), ("outputs of all stages", "replacement")]
gains = pd.DataFrame(index=[f"{a} \N{MINUS SIGN} {b}" for a, b in PAIRS])
for network, table in STUDY.items():
    for title, frame in (("PSNR 1", 1), ("PSNR 11", 11), ("mean PSNR", None)):
        scores = [difference(table, *pair, frame) for pair in PAIRS]
        gains[f"{network} {title}"] = [interval_text(x) if len(x) else None for x in scores]
show_table(gains, "Differences of PSNR (dB), clip by clip, with their 95% intervals")

# %% [markdown]
# **The verdict.** On neither network is the order "injection, then guidance, then reconstruction". On
# `digits32` injection of clean keys and values *is* the window, guidance with $w = 1.5$ predicts better than
# both, and reconstruction guidance is far below. On `digits32_fixed` reconstruction guidance leads at the
# join: at new frame 1 its PSNR is far above that of every injection, the digit keeps its identity more often,
# and the seam is smaller.
#
# Not more than that. At new frame 11 on `digits32_fixed` all methods are near independent windows, and
# reconstruction guidance is a little below some injections. No injection there is clearly better than
# replacement at frame 1. (At the same level, to overwrite keys and values gives the same clips as to prepend
# them.) This is one seed, one window, and one network of each kind. Guidance with $w > 1$ and a compressed
# past were measured on `digits32` alone. There the embedding of the past, of 8 numbers, keeps something of
# the path and loses the digit: its identity is that of independent windows. The anchor, with which `digits32`
# was never trained, makes it worse.

# %% mystnb={"image": {"alt": "Two panels of PSNR by new frame, digits32 and digits32_fixed; on digits32 the window, guided and not, stays high for all eleven frames and the other methods fall; on digits32_fixed all fall to one level, and reconstruction guidance begins highest."}, "figure": {"caption": "PSNR against the true future by lead time, held-out clips, K = 5 of F = 16. Injection of clean keys and values lies on the line of the window. Guidance with w = 1.5 was measured on digits32 alone."}}
LINES = ("independent windows", "copy the last frame", "replacement", "reconstruction, w = 10",
         "in the window", "guided, w = 1.5", "outputs of all stages")


def two_panels(curves_of, ylabel):
    """One panel per network, one line per method that was measured on it."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    for axis, network, table in zip(axes, networks, STUDY.values()):
        curves = curves_of(table).reindex(columns=[ROWS[name] for name in LINES])
        lines = dict(zip(LINES, curves.T.to_numpy()))
        viz.plot_lines(axis, curves.index, lines, marker="o", ms=3).legend().remove()
        axis.set(xlabel="new frame", title=network)
    axes[0].set(ylabel=ylabel)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)


def psnr_by_frame(table):
    return table[table.metric == "psnr"].pivot_table(index="frame", columns="name", values="value")


two_panels(psnr_by_frame, "PSNR (dB)")

# %% mystnb={"image": {"alt": "Two panels of the fraction of clips without a failure by new frame; on digits32 nearly all clips in the window survive; on digits32_fixed reconstruction guidance loses the fewest clips, and injected outputs, the window and replacement lie below it."}, "figure": {"caption": "Survival curves S(n) over one window, as in equation (2). A repeated frame fails at once, since it does not move."}}
def survival(table):
    lasted = per_clip(table, "time_to_first_failure")
    return pd.DataFrame({n: (lasted >= n).mean() for n in range(stride + 1)}).T


two_panels(survival, "fraction of clips without a failure")

# %% [markdown]
# Last, motion and intensity over the whole clip, and the fraction of clips that are valid *at* the last
# frame, whatever happened before. A fraction of clips gets Wilson's interval (by scipy), which does not
# shrink to nothing where all clips pass.

# %%
def wilson(passed):
    """A fraction of clips, with the 95% interval of Wilson (scipy)."""
    k, n = int(passed.sum()), len(passed)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return f"{k / n:.2f} ({interval.low:.2f} to {interval.high:.2f})"


columns = {}
for network, table in STUDY.items():
    for metric in ("motion", "intensity"):
        mean, _ = intervals(table, {metric: (metric, None)})
        columns[f"{network} {metric}"] = named(mean, ROWS)[metric].map("{:.2f}".format, na_action="ignore")
    valid = per_clip(table, "valid", 11).apply(wilson)
    columns[f"{network} valid at 11"] = named(valid, ROWS)
show_table(pd.DataFrame(columns), "Motion and intensity, ideal at 1; fraction of valid clips at new frame 11")

# %% [markdown]
# On `digits32` with the past in the window, nearly all clips pass. On `digits32_fixed` most clips of
# reconstruction guidance pass, and they move a little too fast on average.
#
# ## How the settings were chosen
#
# On `digits32`, from six values for each method, with clips of the *training* split. The tables show the mean
# PSNR over the eleven new frames, and by how much it lies below the best, clip by clip, with its interval.
# Where that interval holds 0, these clips cannot tell the two apart. On `digits32_fixed` nothing was tuned.

# %%
def short(text):
    setting = text.partition(":")[2].replace("=", " = ").replace("weight", "w")
    return setting or text  # without a setting: the method's defaults


for name in ("history", "reconstruction", "injection"):
    tuning = read_results(f"compare_tune_{name}")
    psnr = per_clip(tuning, "psnr")
    columns = {"mean PSNR": ("psnr", None), "motion": ("motion", None), "identity": ("identity", None)}
    mean, _ = intervals(tuning, columns)
    best = mean["mean PSNR"].idxmax()
    mean.insert(1, "below the best (95%)", [interval_text(psnr[best] - psnr[text], 2) for text in mean.index])
    caption = f"{name}, digits32, {len(psnr)} clips of the {tuning.attrs['header']['split']} split"
    display(show_table(mean.rename(index=short), caption, best={"mean PSNR": "max"}))

# %% [markdown]
# The weight of reconstruction guidance in the table of `digits32` is 10, a little below the best of these.
# Next to the distance to the other methods the difference is small. Injection loses by injecting for a
# smaller fraction of the trajectory, and far more by leaving out one kind of attention or by a noisy source.
#
# ## Distribution-level metrics
#
# PSNR compares each clip with *its* future. The Fréchet distance of chapter 6 compares the set of clips with
# real clips, and does not penalize another future than the true one. It is taken of windows of 16 frames that
# begin with the context and contain the join. Few clips make it large, so the cell prints what sets of as
# many real clips get. **Predict.** Which method predicts badly and generates clips that look real all the
# same?

# %%
real = real_clip_features(frames=window)
chance = real_clip_features(frames=window, clips=64 * 32, seed=98).split(32)
low, high = torch.tensor([frechet(x, real) for x in chance]).quantile(torch.tensor([0.025, 0.975]))
print(f"sets of 32 real clips: {low:.1f} to {high:.1f} (95% of {len(chance)} sets)")
features = {"truth": clip_features(torch.cat([true_clips(n, 16, window) for n in (0, 16)]))}
features |= features_at(main, 11)
result = pd.DataFrame({"Frechet distance": {text: frechet(x, real) for text, x in features.items()},
                       "mean PSNR": per_clip(main, "psnr").mean()})
result = named(result, {"truth": "truth"} | ROWS).dropna(how="all")
show_table(result, "32 clips by digits32: distance from real clips, PSNR (dB)", digits=1)

# %% [markdown]
# Read distance and PSNR together. With the past in the window, guided or not, and by injection of clean keys
# and values, the distance lies in the range of real clips, like that of the true futures. Reconstruction
# guidance predicts hardly better than a repeated frame, and its distance lies just above that range: it
# generates *another* future, joined to the same past. The embedding of the past does the opposite: its PSNR
# is the higher one, and its distance is as large as that of independent windows. Clips whose digit changes
# (keys and values along time alone) are far from real too. The distance has blind spots. Clips that stand
# still lie nearer to real ones than those of replacement, and so do the anchored clips, most of which fail a
# check.
#
# ## What it costs
#
# NFE are exact. Seconds depend on the machine, so read them as ratios. Memory is the peak above that of the
# loaded network, each method in a fresh process, four clips in one batch.

# %%
costs = read_results("compare_costs")
print(command_of(costs), "\ncheckpoint", costs.attrs["header"]["sha256"][:12])
smallest = costs.pivot_table(index="name", columns="metric", values="value", aggfunc="min")
smallest = named(smallest, ROWS).dropna(how="all")
seconds = smallest["seconds"] / smallest.loc["in the window", "seconds"]
table = {"NFE per new frame": smallest["nfe"], "time": seconds, "memory (MB)": smallest["memory"]}
caption = f"Cost at {costs.attrs['header']['steps']} DDIM steps; time relative to the past in the window"
show_table(pd.DataFrame(table), caption, digits={"NFE per new frame": 2, "time": 2, "memory (MB)": 0})

# %% [markdown]
# Guidance pays for two branches, injection of keys and values saves the past frames. Reconstruction guidance
# makes no more evaluations than the window, but each has a backward pass, which costs time and memory.

# %% [markdown]
# ## At equal NFE
#
# A method that costs more per step may take fewer steps. Each line below is one method on `digits32` with 6,
# 12, 25 and 50 DDIM steps, on the same clips. Compare two methods above the same point of the axis.

# %% mystnb={"image": {"alt": "One line per method: mean PSNR of the new frames against NFE per new frame; the guided window and the window lie far above reconstruction guidance and replacement at every cost."}, "figure": {"caption": "Mean PSNR over all eleven new frames against cost, for 6, 12, 25 and 50 DDIM steps of digits32 (from left to right). Injection generates the same clips as the window: its line is the window's, further left."}}
BY_STEPS = ("replacement", "reconstruction, w = 10", "in the window", "guided, w = 1.5", "injection, K, V")
by_steps = {n: read_results(f"compare_steps_{n}") for n in (6, 12, 25, 50)}
print(command_of(by_steps[6]), "\nand with 12, 25 and 50 steps")
mean = {}
for metric in ("psnr", "nfe"):
    means = {n: table[table.metric == metric].groupby("name").value.mean() for n, table in by_steps.items()}
    mean[metric] = named(pd.DataFrame(means), {name: ROWS[name] for name in BY_STEPS})
display(show_table(mean["psnr"].rename(columns="{} steps".format), "Mean PSNR (dB) by DDIM steps", digits=1))
guided = per_clip(by_steps[6], "psnr")[ROWS["guided, w = 1.5"]]
gain = guided - per_clip(by_steps[12], "psnr")[ROWS["in the window"]]
print("guided, 6 steps, minus in the window, 12 steps:", interval_text(gain), "dB")
figure, axis = plt.subplots(figsize=(6.5, 3))
for name, color, dashes, marker in zip(BY_STEPS, viz.COLORS, viz.STYLES, "os^Dv"):
    axis.plot(mean["nfe"].loc[name], mean["psnr"].loc[name], color=color, ls=dashes, marker=marker, label=name)
axis.set(xlabel="NFE per new frame", ylabel="mean PSNR (dB)", xscale="log")
axis.set_xticks([0.5, 1, 2, 4, 8], [0.5, 1, 2, 4, 8], minor=False)
axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left");

# %% [markdown]
# The gap to reconstruction guidance is larger than what any of these numbers of steps buys. Guidance with 6
# steps costs as much as the window with 12, and predicts better. More steps raise the PSNR of neither.

# %% [markdown]
# ## Which survives longest?
#
# Eighteen windows, one after the other, each conditioned on the last five frames of the one before, on
# `digits32`. The table tells when clips first fail and which check it is. A clip without a failure counts
# with all its frames, so these means are too low where clips survive.

# %%
long = read_results("compare_long")
print(command_of(long))
REASONS = ("", "identity", "intensity", "motion", "jump")
failed = long[long.metric.str.startswith("failed:")].groupby(["name", "metric"]).size().unstack(fill_value=0)
mean, half = intervals(long, {"frames to first failure": ("time_to_first_failure", None)})
lasted = per_clip(long, "time_to_first_failure")
table = mean["frames to first failure"].map("{:.0f}".format) + half.iloc[:, 0].map(" ({:.0f})".format)
table = table.to_frame()
table["never failed"] = (lasted == long.attrs["header"]["frames"]).apply(wilson)
table["valid at 198"] = per_clip(long, "valid", 198).apply(wilson)
for reason in REASONS[1:]:
    table[reason] = failed.get(f"failed:{reason}")
rows = {name: text for name, text in ROWS.items() if text in table.index}
caption = f"digits32, {len(lasted)} clips: when they fail, and in how many which check fails first"
show_table(named(table, rows).fillna({reason: 0 for reason in REASONS}), caption, digits=0)

# %% mystnb={"image": {"alt": "Two panels over the frame number, one line per method: the fraction of clips in which no check has failed so far, and the fraction in which none fails at that frame."}, "figure": {"caption": "Fraction of valid clips at the last frame of every window (digits32). Left: valid there and at every frame before. Right: valid at that frame. The window lies under injection: they generate the same clips. Independent windows and the repeated frame fail at once and are left out."}}
joins = range(stride, long.attrs["header"]["frames"] + 1, stride)
valid = long[(long.metric == "valid") & long.frame.isin(joins)]
valid = valid.pivot_table(index="frame", columns="name", values="value")
until = pd.DataFrame({n: (lasted >= n).mean() for n in joins}).T
lines = {name: text for name, text in rows.items() if name not in LIVE[:2]}
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for axis, title, curves in zip(axes, ("valid until now", "valid now"), (until, valid)):
    viz.plot_lines(axis, curves.index, {name: curves[text] for name, text in lines.items()}).legend().remove()
    axis.set(xlabel="new frame", title=title, ylim=(-0.02, 1.02))
axes[0].set(ylabel="fraction of clips")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False);

# %% [markdown]
# In the window clips last for most of the run, by injection of clean keys and values too. The guided ones
# last about as long. This many clips do not tell the two apart. Clips of reconstruction guidance fail much
# earlier, and replacement fails in the first windows. The anchored clips all fail in the first window. (The
# anchor needs a network that was trained with one, which `digits32` was not.) On the right some failures
# pass, so that more clips are valid at a frame than have never failed.

# %% [markdown]
# ## Play
#
# Method against method, and network against network, in step. Bright borders mark context frames.

# %%
played = {f"{network}: {name}": x for network, clips in live.items() for name, x in clips.items()}
framed = [viz.framed(truth[1], window), *(viz.framed(x[1], overlap) for x in played.values())]
alt = "A clip with five context frames:"
sliders.versus_slider(sliders.clip_pictures(framed), ["truth", *played], alt=alt, start=(0, 5))

# %% [markdown]
# ## What breaks, and how to see it
#
# A comparison on too few clips. The fifth new frame on `digits32`, in groups of 1, 2, 4, 8 and 16 of the
# clips of the study: once for two methods whose difference the study resolves, and once for two that it does
# not.

# %%
rows = {}
for pair in (("guided, w = 1.5", "in the window"), ("reconstruction, w = 10", "copy the last frame")):
    gain = difference(main, *pair, frame=5)
    row = rows[" minus ".join(pair)] = {"all clips (dB)": interval_text(gain)}
    for size in (1, 2, 4, 8, 16):
        higher = torch.tensor(gain.to_numpy()).unfold(0, size, size).mean(1) > 0
        row[f"groups of {size}"] = f"{higher.sum()} of {len(higher)}"
show_table(pd.DataFrame(rows).T, "The difference, and in how many groups it is above 0")

# %% [markdown]
# Where the interval lies far from 0, single clips still disagree with the mean, and groups of sixteen do not.
# Where it holds 0, groups of any size disagree with each other. Most small differences in this chapter are of
# the second kind: one seed and this many clips do not resolve them.
#
# ## Which one should I use?
#
# | network | use | evidence |
# |---|---|---|
# | trained with a noise level per frame and clean pasts (`digits32`) | the past in the window, by **injection of clean keys and values** | the same clips as in the window (table of differences), at seven tenths of the NFE |
# | the same, with more NFE to spend | history guidance, $w = 1.5$ | higher PSNR than the window, clip by clip, at equal NFE too (fewer steps). Over many windows not told apart |
# | never saw a past (`digits32_fixed`) | **reconstruction guidance** | PSNR at the join, identity and seam in the first table. No method here predicts the last frames of the window |
# | the same, without a backward pass | replacement | above independent windows at the join and in identity. At the join no injection measured is clearly better |
#
# The decision comes before the method: was the network trained to have a past? If it can be trained again,
# that buys more than any method here buys on the network that was not. All of this is one digit and one seed.
# Two digits, and networks that see pasts for a small part of their training, are not measured yet.
#
# ## Recap
#
# Every method got the same clips and the same noise, on a network trained with pasts and on one that never
# saw any. The first is best given its past, or the keys and values of it, and guidance improves on that. The
# second is best steered from outside by reconstruction guidance, and predicts the near future only.
#
# ## Exercises
#
# 1. **Predict.** Which row of the first table is the same on both networks, whatever their weights?
# 2. **Code.** Give the row "guided, w = 1.5" of `digits32` the bootstrap interval of its fraction of valid
#    clips. Why does it say less than Wilson's?
# 3. **Explore.** Add a method of your own: a denoiser and a past in, a denoiser out. Add it to `METHODS` in
#    `vdiff_lite/methods/__init__.py` and run `vdiff compare` on it, with an `--out` of your own.
#
# :::{dropdown} Solutions
# 1. "Copy the last frame": no network is asked.
# 2. `video_metrics.bootstrap(per_clip(main, "valid", 11)["history_guidance:weight=1.5"])`. All clips are
#    valid, so every set drawn from them is too, and the interval has width 0. Wilson asks which true fraction
#    could have given such clips.
# 3. Define `def mine(denoiser, past): ...` in that file and append `mine` to the tuple of `METHODS`: `vdiff`
#    starts a new process, where a line typed in a notebook has no effect. Then
#    `vdiff compare --methods mine independent copy_last --out mine.csv.gz`: the last two are the baselines.
# :::
#
# ## Sources
#
# The methods: {cite:t}`ho2022video`, {cite:t}`song2025history`, {cite:t}`lugmayr2022repaint`,
# {cite:t}`tumanyan2023plug`. Published results disagree on which wins, since they differ in whether the
# network was trained with a past: {cite:t}`harvey2022flexible`, {cite:t}`huang2025self`.
