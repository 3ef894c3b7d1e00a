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
# **Three ways past the context limit, one checkpoint, the same clips and the same noise: which one should you
# use?**
#
# The large study was run beforehand by `vdiff compare`, and its results are in `data/results/`. This chapter
# reads them, and runs a small live version of the main comparison. All results are of one network,
# `digits32`.
#
# *Time to run: about a minute on two CPU cores, half of that on a GPU.*
#
# **You will learn** how to compare methods of different cost; what the interval around a mean means; which
# method to use with a network like `digits32`, and on what evidence.
#
# **You need** chapters 7 to 9.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch

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
denoiser = vd.load("digits32", device)
window, overlap = 16, 5
stride = window - overlap  # 5 context frames, 11 new ones per window

# %% [markdown]
# ## What we will have at the end
#
# One held-out clip, continued by every method from the same five context frames and the same noise. The three
# ways are those of the last three chapters. The others are baselines and variants:
#
# | name in the tables | method | chapter |
# |---|---|---|
# | in the window; guided, $w$; with an anchor | history guidance with $w = 1$; with a larger $w$; with an anchor | 7 |
# | fractional; embedding of the past | fractional history guidance; history encoder | 7 |
# | replacement; reconstruction; recon. | replacement; reconstruction guidance, $w = 10$ unless named | 8 |
# | injection, K, V; other rows with K, V; outputs of all stages | feature injection: prepended keys and values; variants | 9 |
# | independent windows; copy the last frame | baselines that ignore the past, or repeat its last frame | |

# %%
CONTENDERS = {
    "independent windows": "independent",
    "copy the last frame": "copy_last",
    "replacement": "replacement",
    "reconstruction": "reconstruction:weight=10",
    "in the window": "history_guidance",
    "guided, w = 1.5": "history_guidance:weight=1.5",
    "with an anchor": "anchored_history",
    "injection, K, V": "injection",
}
source = vd.BouncingDigits(split="test", num_frames=27)
truth = source.sample(4, torch.Generator().manual_seed(7)).video
past, live = truth[:, :, :overlap].to(device), {}
for name, text in CONTENDERS.items():
    live[name], _ = extend(denoiser, text, past, 22, window, overlap, steps=12, seed=1)

# %% mystnb={"image": {"alt": "Film strips of 27 frames: the truth and its continuation by every method from the first five frames; in independent windows the digit jumps at the joins, repeated it stands still, in the window it follows the true path longest."}, "figure": {"caption": "Blue: frames given (the first five; the truth is given throughout). Two windows of eleven new frames each, begun at frames 5 and 16 (orange bar); every second frame is shown. F = 16, K = 5, stride 11."}}
strips, num_context = [truth[0], *(clips[0] for clips in live.values())], [27] + [overlap] * len(live)
viz.film_strip(strips, ["truth", *live], num_context=num_context, every=2, joins=[window]);

# %% [markdown]
# **Predict.** Rank the methods by how well they predict the first new frame, and then by how well they
# predict the eleventh. Are the two orders the same?

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
# A frame *fails* when a check of intensity, motion, jump or identity fails there (`digit_metrics.failures`, with
# the limits in the table below), and is *valid* otherwise. The *time to first failure* $\tau$ of a clip is the
# number of new frames before the first failure. The fraction of clips without a failure up to frame $n$ is
# the survival curve
#
# $$S(n) = \frac{1}{N} \sum_{i=1}^{N} \mathbb{1}[\tau_i \geq n]. \tag{2}$$
#
# In (2) a digit that stalls for seven frames and then moves on has failed for ever. The milder measure is the
# fraction of clips that are valid *at* frame $n$, whatever happened before.
#
# A mean over clips is a random number. Drawing the clips again with replacement shows its uncertainty (the
# seeds of a clip count as one clip, by their mean). The 95% interval holds the middle 95% of many
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

# %%
def my_bootstrap(x, draws=2000):
    again = torch.randint(len(x), (draws, len(x)), generator=torch.Generator().manual_seed(0))
    means = x[again].mean(1).sort().values
    return x.mean().item(), means[int(0.025 * draws)].item(), means[int(0.975 * draws)].item()

# %% [markdown]
# ## Meet the twin

# %%
main = read_results("compare_main")
first_frame = per_clip(main, "psnr", frame=1)["history_guidance"]
mine = torch.tensor(my_bootstrap(torch.tensor(first_frame.to_numpy())))
theirs = torch.tensor(video_metrics.bootstrap(first_frame))
torch.testing.assert_close(mine, theirs, atol=0.25, rtol=0)
mean, low, high = mine.tolist()
print(f"mean {mean:.2f} dB, 95% interval {low:.2f} to {high:.2f}, from {len(first_frame)} clips")

# %% [markdown]
# ## How the settings were chosen
#
# Each method with a setting got the same budget: six values, 64 clips of the *training* split. The tables
# show the mean PSNR over the eleven new frames, and by how much it lies below the best, clip by clip, with
# its interval. Where that interval holds 0, these clips cannot tell the two apart. The other columns are
# checks of chapter 6, relative to the truth.

# %%
def interval_text(scores):
    return "{:.2f} ({:.2f} to {:.2f})".format(*video_metrics.bootstrap(scores.dropna()))


def short(text):
    setting = text.partition(":")[2].replace("=", " = ").replace("weight", "w")
    return setting or text  # without a setting: the method's defaults


checks = ("motion", "intensity", "identity")
for name in ("history", "reconstruction", "injection"):
    tuning = read_results(f"compare_tune_{name}")
    psnr = per_clip(tuning, "psnr")
    mean, _ = intervals(tuning, {"mean PSNR": ("psnr", None)} | {m: (m, None) for m in checks})
    best = mean["mean PSNR"].idxmax()
    mean.insert(1, "below the best", [interval_text(psnr[best] - psnr[text]) for text in mean.index])
    caption = f"{name}, {tuning.attrs['header']['split']} split: PSNR (dB), and checks that are ideal at 1"
    display(show_table(mean.rename(index=short), caption, best={"mean PSNR": "max"}))

# %% [markdown]
# The settings that are best by their mean, $w = 2$ and $w = 40$, were run on held-out clips too and have rows
# in the main table. The methods compared in this chapter use the smaller weights 1.5 and 10. On the tuning
# split the interval does not tell these from the best. A larger weight of reconstruction guidance has a price
# in the other columns, and with $w = 40$ some runs even exploded (see its row in the main table). Injection
# gains nothing by injecting less, nor from a noisy source. What helped reconstruction guidance most in
# chapter 8, RePaint resampling with three repeats per step, has its own row.

# %% [markdown]
# ## The main table
#
# Each number is a mean over held-out clips and seeds, with half of its 95% interval over clips in brackets.
# First the prediction, as PSNR in dB, and the fraction of clips that are valid at the last frame:

# %%
print(command_of(main), "\ncheckpoint", main.attrs["header"]["sha256"][:12])
ROWS = CONTENDERS | {
    "guided, w = 2": "history_guidance:weight=2",
    "fractional, level 500": "fractional_history_guidance:weight=1.5,level=500",
    "embedding of the past": "history_encoder:encoder=digits32_5_8",
    "recon., w = 40": "reconstruction:weight=40",
    "recon., 3 repeats": "reconstruction:weight=10,repeats=3",
    "K, V along time": "injection:sites=temporal",
    "K, V of both kinds": "injection:sites=temporal+motion",
    "outputs of all stages": "injection:sites=encoder+middle+decoder,prepend=False,source=same",
}


def named(frame, rows):
    """The rows of these methods, under the names of this chapter."""
    return frame.reindex(rows.values()).set_axis(list(rows))


runs = main[main.metric == "time_to_first_failure"].groupby("name").size()
fewer = {text: f" ({n} of {runs.max()} runs)" if n < runs.max() else "" for text, n in runs.items()}
LABELED = {name + fewer[text]: text for name, text in ROWS.items()}


def show(columns, caption, best):
    mean, half = (named(numbers, LABELED) for numbers in intervals(main, columns))
    return show_table(mean, caption, best, half=half)


columns = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)} | {"valid at 11": ("valid", 11)}
caption = "digits32: PSNR (dB) at new frame 1, 5, 11, and the fraction of valid clips at the last"
show(columns, caption, dict.fromkeys(columns, "max"))

# %% [markdown]
# A run is one clip with one seed. Where a row names fewer runs than the study has, the guidance exploded in the
# others and was stopped. All rows are of the same clips, so that a difference of two rows is more certain than their intervals say.
# Then the checks over the whole clip, each of which is ideal at 1:

# %%
columns = {"boundary": ("boundary_discontinuity", None)}
columns |= {name: (name, None) for name in ("motion", "intensity", "identity")}
show(columns, "digits32: checks over the whole clip, ideal at 1", dict.fromkeys(columns, 1))

# %% mystnb={"image": {"alt": "PSNR by new frame for the methods; all fall; the past guided or injected lies highest; reconstruction guidance begins between it and replacement and soon falls to the level of independent windows."}, "figure": {"caption": "PSNR against the true future by lead time, digits32, held-out clips, K = 5 of F = 16. The past in the window and the anchored one lie on the line of injection."}}
psnr = main[main.metric == "psnr"].pivot_table(index="frame", columns="name", values="value")
hidden = ("in the window", "with an anchor")
curves = {name: psnr[text].to_list() for name, text in CONTENDERS.items() if name not in hidden}
figure, axis = plt.subplots(figsize=(6.5, 3.4))
viz.plot_lines(axis, list(psnr.index), curves, marker="o", ms=3)
axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
axis.set(xlabel="new frame", ylabel="PSNR (dB)");

# %% [markdown]
# The two orders are not the same. Copying the last frame begins above replacement and reconstruction
# guidance, and ends below all others.
#
# ## Distribution-level metrics
#
# PSNR compares each clip with *its* future. The Fréchet distance of chapter 6 compares the set of clips with
# real clips, and does not penalize another future than the true one. It is taken of windows of 16 frames that
# end with a new frame. Those that end with frame 11 begin with the context and contain the join. (Papers
# differ on whether context frames count.) **Predict.** Which method predicts badly and generates clips that
# look real all the same? Which does the opposite?

# %%
real = real_clip_features(frames=window)


def distances(name, clips, frames):
    """Frechet distances to real clips: of the true futures, and of what each method generated."""
    table = read_results(name)
    print(command_of(table))
    length = overlap + table.attrs["header"]["frames"]
    truth = torch.cat([true_clips(n, 16, length) for n in range(0, clips, 16)])
    result = {}
    for n in frames:
        features = features_at(table, n)
        features["truth"] = clip_features(truth[:, :, overlap + n - window : overlap + n])
        result[f"new frame {n}"] = {text: frechet(x, real) for text, x in features.items()}
    result = pd.DataFrame(result).assign(**{"mean PSNR": per_clip(table, "psnr").mean()})
    result = named(result, {"truth": "truth"} | ROWS).dropna(how="all")
    caption = f"Frechet distance of {clips} clips by digits32, by the last frame of a window; PSNR (dB)"
    return show_table(result, caption, best={"mean PSNR": "max"}, digits=1)


display(distances("compare_distribution", 128, frames=[11]))
display(distances("compare_distribution_long", 64, frames=[11, 110, 198]))

# %% [markdown]
# Read distance and PSNR together. On `digits32` every method with the past in the window has the distance of
# the true futures of the same clips. Reconstruction guidance predicts hardly better than a repeated frame,
# and its distance is not far from that of real clips: it generates *another* future, joined to the same past.
# With three repeats per step, its distance is that of the truth. The embedding of the past does the
# opposite. Its PSNR is higher than that of reconstruction guidance, and its distance is as large as that of
# independent windows: a blur at the true position has a high PSNR and does not look real. The distance has blind spots
# too: clips that stand still from the fifth frame on lie nearer to real ones than those of *replacement*.
#
# Over 200 frames the anchored clips stay at the distance of the truth. For the window without anchor, guided or
# not, the distance is higher at frame 198. One set of 64 clips cannot rule out chance.
#
# ## What it costs
#
# NFE are exact. Seconds depend on the machine, so read them as ratios. Memory is the peak above that of the
# loaded network, each method in a fresh process, four clips in one batch.

# %%
costs = read_results("compare_costs")
print(command_of(costs), "\ncheckpoint", costs.attrs["header"]["sha256"][:12])
smallest = costs.pivot_table(index="name", columns="metric", values="value", aggfunc="min")
smallest = named(smallest, CONTENDERS)
seconds = smallest["seconds"] / smallest.loc["in the window", "seconds"]
table = {"NFE per new frame": smallest["nfe"], "time": seconds, "memory (MB)": smallest["memory"]}
caption = f"Cost at {costs.attrs['header']['steps']} DDIM steps; time relative to the past in the window"
show_table(pd.DataFrame(table), caption, digits={"memory (MB)": 0})

# %% [markdown]
# ## At equal NFE, and at equal time
#
# A method that costs more per step may take fewer steps. Each line below is one method with 6, 12, 25 and 50
# DDIM steps, on the same clips. Compare two methods above the same point of the axis: the one that lies
# higher predicts better for the same cost.

# %%
BY_STEPS = ("replacement", "reconstruction", "recon., 3 repeats", "in the window", "guided, w = 1.5",
            "with an anchor", "injection, K, V")
by_steps = {n: read_results(f"compare_steps_{n}") for n in (6, 12, 25, 50)}


def over_steps(metric):
    """The mean of a metric: one row per method, one column per number of steps."""
    means = {n: table[table.metric == metric].groupby("name").value.mean() for n, table in by_steps.items()}
    return named(pd.DataFrame(means), {name: ROWS[name] for name in BY_STEPS})


psnr, cost = over_steps("psnr"), {metric: over_steps(metric) for metric in ("nfe", "seconds")}
table = psnr.map("{:.1f}".format) + " at " + cost["nfe"].map("{:.2f}".format)
caption = "Mean PSNR of the new frames (dB), at NFE per new frame, by DDIM steps of digits32"
show_table(table.rename(columns="{} steps".format), caption)

# %% mystnb={"image": {"alt": "Two panels with one line per method: mean PSNR of the new frames against NFE per new frame, and against seconds."}, "figure": {"caption": "Mean PSNR over all eleven new frames against cost, for 6, 12, 25 and 50 DDIM steps of digits32. Injection generates the same clips as the window; its line is the window's, further left. Left: NFE per new frame. Right: seconds per new frame, forward and backward, on the machine of the study."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
ticks = dict(nfe=[0.5, 1, 2, 4, 8], seconds=[0.01, 0.03, 0.1, 0.3])
for axis, metric, label in zip(axes, ticks, ("NFE", "seconds")):
    for name, color, dashes in zip(BY_STEPS, viz.COLORS, viz.STYLES):
        style = dict(color=color, ls=dashes, marker="o", ms=3, label=name)
        axis.plot(cost[metric].loc[name], psnr.loc[name], **style)
    axis.set(xlabel=f"{label} per new frame", xscale="log")
    axis.minorticks_off()
    axis.set_xticks(ticks[metric], ticks[metric])
axes[0].set(ylabel="mean PSNR (dB)")
axes[1].legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left");

# %% [markdown]
# ## RePaint resampling
#
# As published, with one evaluation per step, reconstruction guidance lies far below the window. Chapter 8
# repeated each step, and its line above rises. How far does that go? Here are ten repeats per step, on the 64
# clips and 5 seeds of the main table, beside other rows of it:

# %%
repeats = read_results("compare_repeats")
print(command_of(repeats))
both = pd.concat([main, repeats])
TEN = "reconstruction:weight=10,repeats=10"
beside = ("reconstruction", "recon., 3 repeats", "recon., 10 repeats", "in the window", "guided, w = 1.5")
beside = {name: (ROWS | {"recon., 10 repeats": TEN})[name] for name in beside}
columns = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)} | {"valid at 11": ("valid", 11)}
mean, half = (named(numbers, beside) for numbers in intervals(both, columns))
mean["NFE per new frame"] = named(both[both.metric == "nfe"].groupby("name").value.median(), beside)
caption = "digits32: PSNR (dB) at new frame 1, 5, 11, valid clips at the last, and cost"
psnr = per_clip(both, "psnr")
gain = psnr[TEN] - psnr["history_guidance"]
better = f"{(gain > 0).sum()} of {len(gain)} clips"
print(f"PSNR of 10 repeats minus that of the window: {interval_text(gain)} dB, higher in {better}")
show_table(mean, caption, dict.fromkeys(columns, "max"), half=half)

# %% [markdown]
# Guided by its own errors alone, `digits32` predicts about as well as with the condition that it was trained
# for: the interval of the difference holds 0. The price is resampling at every step, ten times the NFE of the
# window, and a backward pass with each. This network has seen clean pasts in training, which may help here
# too: it has learned how frames go together.
#
# ## The published setting: a thousand steps
#
# Feature injection is published with DDPM and all 1000 levels, with features injected at the first 800
# {cite:p}`tumanyan2023plug`. Here it is beside vanilla history guidance with $w = 1$ and $1.5$: ten new
# frames, five of overlap, sixteen held-out clips. The same follows with 25 steps of DDIM.

# %%
SETTINGS = {"history_guidance": "in the window", "history_guidance:weight=1.5": "guided, w = 1.5",
            "injection:fraction=0.8": "injection, 0.8 of the levels", "injection": "injection, K, V"}
by_sampler = {}
for label, name in (("DDPM, 1000 steps", "reference"), ("DDIM, 25 steps", "reference_25")):
    table = by_sampler[label] = read_results(f"compare_{name}")
    print(command_of(table))
    psnr = per_clip(table, "psnr")
    mean, _ = intervals(table, {f"PSNR {n}": ("psnr", n) for n in (1, 5, 10)})
    gains = [interval_text(psnr[text] - psnr["history_guidance"]) for text in mean.index]
    mean["minus the window (95%)"] = gains
    mean["NFE per new frame"] = table[table.metric == "nfe"].groupby("name").value.median()
    caption = f"digits32, {label}: PSNR (dB) at new frame 1, 5, 10"
    display(show_table(mean.rename(index=SETTINGS), caption, digits=dict.fromkeys(mean, 1)))

# %% mystnb={"image": {"alt": "Two panels, DDPM with 1000 steps and DDIM with 25: PSNR against the number of the new frame, 1 to 10, for history in the window, history guidance with w = 1.5, and injection at the first 800 levels."}, "figure": {"caption": "The published setting on digits32: K = 5 context frames, ten generated (F = 15), sixteen held-out clips, the mean over clips. Injection stops at level 200 of 1000."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), sharex=True, sharey=True, layout="constrained")
for axis, (label, table) in zip(axes, by_sampler.items()):
    psnr = table[table.metric == "psnr"].pivot_table(index="frame", columns="name", values="value")
    frames = list(psnr.index)
    shown = [text for text in table.name.unique() if text != "injection"]
    lines = {SETTINGS[text]: psnr[text].to_list() for text in shown}
    viz.plot_lines(axis, frames, lines, marker=".")
    axis.set(xlabel="new frame", title=label, xticks=frames)
axes[0].set(ylabel="PSNR (dB)")
axes[1].legend().remove();

# %% [markdown]
# The order is the same as with 25 steps, at forty times the NFE. No interval of guidance, or of injection
# that stops at 800, holds 0. A thousand steps predict no better, and guidance gains less from them. (Our
# reading: a trajectory with fresh noise at every step ends at one of the possible futures, and a short one
# stays nearer to their mean.) Injection that stops at 800 lies a little below the window: in the last 200
# levels, which draw the strokes, the past is in the window under noise (chapter 9). Injection at all levels,
# in the table of 25 steps, equals the window.

# %% [markdown]
# ## Which survives longest?

# %%
def survival(table):
    """Fractions of clips valid until, and at, the last frame of every window: one column per method."""
    rows = {name: text for name, text in ROWS.items() if text in set(table.name)}
    joins = [0, *range(stride, table.attrs["header"]["frames"] + 1, stride)]
    lasted = per_clip(table, "time_to_first_failure")
    until = pd.DataFrame({frame: (lasted >= frame).mean() for frame in joins})
    valid = table[table.metric == "valid"].pivot_table(index="name", columns="frame", values="value")
    return named(until, rows).T, named(valid.reindex(columns=joins, fill_value=1.0), rows).T


def show_survival(table, until):
    """How long clips last, in a table, and how much longer than those of the window, clip by clip."""
    frame, rows = until.index[-1], {name: ROWS[name] for name in until}
    columns = {"first failure": ("time_to_first_failure", None), f"valid at {frame}": ("valid", frame)}
    mean, half = (named(numbers, rows) for numbers in intervals(table, columns))
    lasted = per_clip(table, "time_to_first_failure")
    gains = {name: lasted[text] - lasted["history_guidance"] for name, text in rows.items()}
    texts = {name: "{:+.0f} ({:+.0f} to {:+.0f})".format(*video_metrics.bootstrap(x))
             for name, x in gains.items() if x.any()}
    mean.insert(1, "minus the window (95%)", pd.Series(texts))
    caption = "Frames to the first failure, digits32; a clip without failure counts as "
    caption += f"{table.attrs['header']['frames']}"
    return show_table(mean, caption, digits={"first failure": 1}, half=half)


long = read_results("compare_long")
print(command_of(long))
until, now = survival(long)
show_survival(long, until)

# %% mystnb={"image": {"alt": "Two panels over the frame number, one line per method: the fraction of clips in which no check has failed so far, and the fraction in which none fails at that frame."}, "figure": {"caption": "Fraction of valid clips at the last frame of every window (digits32). Left: valid there and at every frame before. Right: valid at that frame. The window without guidance lies under injection: they generate the same clips. Independent windows and the repeated frame fail at once and are left out."}}
def plot_survival(until, now, **style):
    _, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axis, title, curves in zip(axes, ("valid until now", "valid now"), (until, now)):
        curves = curves.drop(columns=["independent windows", "copy the last frame"], errors="ignore")
        for name, color, dashes in zip(curves, viz.COLORS, viz.STYLES):
            axis.plot(curves[name], color=color, ls=dashes, label=name, **style)
        axis.set(xlabel="new frame", title=title, ylim=(0, 1.02))
    axes[0].set(ylabel="fraction of clips")
    axes[1].legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")


plot_survival(until, now, marker="o", ms=2);

# %%
REASONS = ("", "identity", "intensity", "motion", "jump")
failed = long[long.metric.str.startswith("failed:")].groupby(["name", "metric"]).size().unstack(fill_value=0)
counts = named(failed, {name: ROWS[name] for name in until})
counts = pd.DataFrame({reason or "nothing": counts[f"failed:{reason}"] for reason in REASONS})
display(show_table(counts, "What failed first, in how many clips of digits32"))

long_ten = read_results("compare_long_ten")
print(command_of(long_ten))
sixteen = pd.concat([long[long["clip"].isin(long_ten["clip"].dropna())], long_ten])
rows = {"reconstruction": ROWS["reconstruction"], "recon., 3 repeats": ROWS["recon., 3 repeats"],
        "recon., 10 repeats": TEN, "in the window": "history_guidance"}
columns = {"frames to first failure": ("time_to_first_failure", None), "intensity": ("intensity", None)}
mean, half = (named(numbers, rows) for numbers in intervals(sixteen, columns))
lasted = per_clip(sixteen, "time_to_first_failure")
gain = interval_text(lasted[TEN] - lasted["history_guidance"])
print(f"frames to first failure of 10 repeats minus those of the window: {gain}")
show_table(mean, "The same sixteen clips by digits32; intensity over 200 frames", half=half)

# %% [markdown]
# With three repeats per step the clips of reconstruction guidance last five times as long as with one, and
# half as long as those of the window. Over one window the checks find next to nothing wrong with them (main
# table). But what each window leaves over, such as a little too much intensity or a trajectory that bends, is
# the past of the next, and no single failure ends most of these clips. With ten repeats they last about as
# long as those of the window, as far as sixteen clips can tell, and the excess of intensity is smaller too.
# For this method on `digits32` more NFE make its clips last longer.
#
# The rollouts above take 12 steps per window. **Predict:** do 25 steps let more clips survive, or fewer? And
# how much of the last point of a curve is chance? Here are the last five joins together, with their interval:

# %%
joins = until.index[-5:]
five = f"{joins[0]} to {joins[-1]}"


def at_the_end(table):
    """Fractions of valid clips: at the last five joins together, at the last join alone, at frame 200."""
    last_five = table[table.frame.isin(joins)]
    alone = {f"at {n}": ("valid", n) for n in (joins[-1], 200)}
    parts = zip(intervals(last_five, {five: ("valid", None)}), intervals(table, alone))
    return (pd.concat(part, axis=1) for part in parts)


fine = read_results("compare_long_25")
ends = [(long, {f"{name}, 12 steps": ROWS[name] for name in until}),
        (fine, {"with an anchor, 25 steps": "anchored_history"})]
parts = zip(*([named(numbers, rows) for numbers in at_the_end(table)] for table, rows in ends))
mean, half = map(pd.concat, parts)
show_table(mean, f"Fraction of valid clips at the joins {five} together, and later", half=half)

# %% [markdown]
# With the anchor, 25 steps have the higher mean, and the intervals overlap. PSNR did not predict this: over
# one window, fewer steps have the higher PSNR. With the anchor and 25 steps nine clips of ten are valid at
# the end.

# %% [markdown]
# ## A thousand frames
#
# Ninety-one windows, one after the other, each conditioned on the last five frames of the one before (and,
# with an anchor, on the first context frames). **Predict:** if a fraction $p$ of the clips of a method is
# valid after 18 windows, is it $p^5$ after 91?

# %%
longest = read_results("compare_longest")
print(command_of(longest))
until, now = survival(longest)
p = long[(long.metric == "valid") & (long.frame == 198)].groupby("name").value.mean()
for name, fraction in named(p, {name: ROWS[name] for name in until}).items():
    print(f"{name}: p = {fraction:.2f} of the 64 clips above at frame 198, p^5 = {fraction**5:.2f}")
show_survival(longest, until)

# %% mystnb={"image": {"alt": "Two panels over a thousand frames, one line per method: the fraction of clips in which no check has failed so far, and the fraction in which none fails at that frame."}, "figure": {"caption": "As the figure before, over a thousand new frames. Left: valid at every frame until then. Right: valid at that frame."}}
plot_survival(until, now, lw=1.2);

# %% [markdown]
# For the window alone $p^5$ fits what the table shows at frame 990, within its interval: each stretch of 18 windows
# loses about the same fraction of the clips that are left. For the anchor $p^5$ is far too low. (The fraction $p$
# is of 64 clips over 200 frames, the table of 16 other clips over a thousand, so the test is rough.) A window that
# sees only the last five frames copies a copy of a copy. A shape that is lost is not restored, and in the end it is
# lost in nearly every clip. The anchor shows the original again in every window. On the left its curve stops
# falling: clips without an early failure do not fail later either,
# which suggests that some digits are hard, and not the length. On the right most clips are valid at any given
# time, at the last frame as at the two hundredth, since a failure passes. The anchor preserves what does not
# change, the shape, and leaves the motion to the last frames.

# %% [markdown]
# ## Play
#
# Method against method, in step. Choose what plays on either side. Bright borders mark context frames. The
# border is bright above and below for one frame when the second window begins.

# %%
framed = [viz.framed(truth[1], 27), *(viz.framed(clips[1], overlap, [window]) for clips in live.values())]
alt = "A clip with five context frames:"
sliders.versus_slider(sliders.clip_pictures(framed), ["truth", *live], alt=alt, start=(0, 4))

# %% [markdown]
# ## What breaks, and how to see it
#
# A comparison on too few clips. Does reconstruction guidance predict the fifth new frame better than copying
# the last frame? Compare groups of 1, 2, 4, 8 and 16 clips of the study:

# %%
fifth = main[(main.metric == "psnr") & (main.frame == 5)]
psnr = fifth.pivot_table(index=["seed", "clip"], columns="name", values="value")
gain = torch.tensor((psnr["reconstruction:weight=10"] - psnr["copy_last"]).to_numpy())
print(f"on all {len(gain)} clips and seeds: better by {gain.mean():.2f} dB")
for size in (1, 2, 4, 8, 16):
    better = gain.unfold(0, size, size).mean(1) > 0
    print(f"groups of {size:2}: better in {better.sum()} of {len(better)}")

# %% [markdown]
# One clip with one seed gives the order of the whole study in about six cases of ten, little better than a coin.
# Groups of eight still miss it now and then, and groups of sixteen rarely do, for a difference of this size. A
# smaller difference needs more clips. The 320 values are five seeds of the same 64 clips, so the groups are not
# independent of each other.
#
# ## Which one should I use?
#
# All evidence is of `digits32`, a network trained with a noise level per frame and clean pasts.
#
# | you have | use | evidence |
# |---|---|---|
# | a network trained with noise levels per frame | the past in the window, by **injection of clean keys and values** | the same clips as `history_guidance` at $w = 1$, at seven tenths of the NFE (chapter 9, cost table above) |
# | that, and twice the NFE to spend | history guidance, $w = 1.5$ | higher PSNR in the main table, and a line above the window's at equal NFE too. For one window: over many, intensity accumulates (the rollouts above, and what failed first there) |
# | a clip that must keep its identity for long | an anchor: first context frames that stay in the window | the rollouts above: a later first failure than the window's, clip by clip, and after a thousand frames most clips valid, where few are without it. It costs a few frames more per evaluation |
# | a network that never saw a clean past | reconstruction guidance, with as many RePaint repeats as you can pay | its line rises with repeats at equal NFE. With ten repeats it predicts about as well as the window, over one window (the section on RePaint resampling) and over 200 frames (sixteen clips, the rollouts above). With three it falls behind over many windows. Not tested on such a network |
# | a network that you cannot differentiate through | replacement | in PSNR above independent windows only near the join; the digit survives more often (main table) |
#
# Is the order "injection, then guidance, then reconstruction"? For *quality* on `digits32` it is not.
# Injection of clean keys and values and the window with $w = 1$ are exactly equal, by construction, whenever clean frames never attend to noisy ones. Guidance predicts better than both, with twice the NFE.
# (The window with $w = 1$ predicts a little better with fewer steps: one step estimates the mean of the
# futures, many steps choose one.) Reconstruction guidance is far behind with one evaluation per step, as
# published, and beside the others with ten repeats. For *price* the order holds. It could hold for quality in
# a network that has never seen a clean past in its window and whose features can be injected as they are.
# `digits32` was trained with such pasts, and the best features to inject are just what it computes for them.

# %% [markdown]
# ## Recap
#
# Every method got the same clips, noise and network. For `digits32`, which was trained with a past, it is
# best to give it the past, or what it computed for the past, and the cheapest way to do so is to inject keys
# and values. Methods that steer from outside are far behind at that price, and predict as well only at ten
# times the NFE of the window.
#
# ## Exercises
#
# 1. **Predict.** Which rows of the main table lose most if the overlap is 1 instead of 5? Which does not change?
# 2. **Code.** Compare at equal *NFE*: give injection 25 steps and reconstruction guidance 17, each about 1.6 NFE
#    per new frame. Does the order change?
# 3. **Explore.** Add a method of your own: a denoiser and a past in, a denoiser out. Add it to `METHODS` in
#    `vdiff_lite/methods/__init__.py` and run `vdiff compare` on it, with an `--out` of your own.
#
# :::{dropdown} Solutions
# 1. The rows with the past in the window, by injection too: with one frame they lose the velocity, and their
#    PSNR at new frame 11 falls to about that of independent windows (chapter 7). Methods that are near that level
#    already have less to lose. `independent` ignores the past and does not change.
# 2. `extend(denoiser, "injection", past, 11, window, overlap, steps=25)` and
#    `extend(denoiser, "reconstruction:weight=10", past, 11, window, overlap, steps=17)`. It does not: in the
#    table by steps, the gap between the two is larger than what any number of steps buys.
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
