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
# **Three ways over the wall, one checkpoint, the same clips and the same noise: which one should you use?**
#
# The large study was run beforehand by `vdiff compare` and lies in `data/results/`; this chapter reads it, and runs a small live version of each claim.
#
# *Time to run: about a minute on two CPU cores, half of that on a GPU.*

# %% [markdown]
# **You will learn** how to compare methods that cost different amounts; what the interval around a mean is worth; which method to use, and on what evidence.
#
# **You need** chapters 7 to 9.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vdiff_lite as vd
from vdiff_lite.evaluation import video_metrics
from vdiff_lite.evaluation.compare import extend, true_clips
from vdiff_lite.evaluation.feature_net import clip_features, frechet, real_clip_features
from vdiff_lite.evaluation.results import (
    by_clip,
    by_name,
    command_of,
    features_of,
    read_table,
    rows_of,
    values,
)
from vdiff_lite.viz import sliders

vd.prepare_cpu()
device = vd.pick_device()
denoiser = vd.load("digits32", device)
F, K = 16, 5  # window and overlap: 5 frames given, 11 made
RESULTS = Path("../data/results")

# %% [markdown]
# ## What we will have at the end
#
# One held-out clip, continued by every method from the same five frames and the same noise:

# %%
CONTENDERS = {
    "no memory": "independent",
    "copy the last frame": "copy_last",
    "replacement": "replacement",
    "reconstruction": "reconstruction:weight=10",
    "in the window": "history_guidance",
    "guided, w = 1.5": "history_guidance:weight=1.5",
    "with an anchor": "anchored_history",
    "injection, K and V": "injection",
}
truth = (
    vd.BouncingDigits(split="test", num_frames=27)
    .sample(4, torch.Generator().manual_seed(7))
    .video
)
live = {}
for name, text in CONTENDERS.items():
    live[name], _ = extend(
        denoiser, text, truth[:, :, :K].to(device), 22, F, K, steps=12, seed=1
    )

# %% mystnb={"image": {"alt": "Film strips of 27 frames: the truth and its continuation by every method from the first five frames; without memory the digit jumps at the joins, repeated it stands still, in the window it follows the true path longest."}, "figure": {"caption": "Given: the first five frames (blue). Two windows of eleven new frames each, begun at frames 5 and 16 (orange bar); every second frame is shown. F = 16, K = 5, stride 11."}}
viz.film_strip(
    [truth[0], *(clips[0] for clips in live.values())],
    ["truth", *live],
    num_context=[27] + [K] * len(live),
    every=2,
    joins=[F],
);

# %% [markdown]
# **Predict.** Rank them by how well they predict the first new frame, and then by how well they predict the eleventh. Are the two orders the same?

# %% [markdown]
# ## The mathematics
#
# A method is judged by what it makes and by what it costs. The cost of a new frame is counted in passes of a whole window through the network,
#
# $$\text{passes per new frame} = \frac{\text{frames sent through the network}}{F \cdot \text{new frames}}, \tag{1}$$
#
# so that a second branch counts double and a cached past counts what it saves; a backward pass is not in it, but it is in the seconds. How long a clip lives is its *horizon*, the first
# frame at which any check fails (chapter 6), and the share of clips that live past frame $n$ is the survival curve
#
# $$S(n) = \frac{1}{N} \sum_{i=1}^{N} \mathbb{1}[\text{horizon}_i \geq n]. \tag{2}$$
#
# A digit that stalls for seven frames at a wall and goes on is dead in (2) for ever. The milder question is whether the clip is *right at frame $n$*: whether no check fails there, whatever was before.
#
# A mean over clips is a random number. Drawing the clips again with replacement shows how far it may be off (several seeds of a clip count as one clip: their mean): the interval holds the middle 95% of many
#
# $$\bar x^{*} = \frac{1}{N}\sum_i x_{i^{*}}, \qquad i^{*} \sim \text{uniform}(1 .. N). \tag{3}$$

# %% [markdown]
# ## Build it: the interval

# %%
def my_bootstrap(x, draws=2000):
    again = torch.randint(
        len(x), (draws, len(x)), generator=torch.Generator().manual_seed(0)
    )
    means = x[again].mean(1).sort().values
    return (
        x.mean().item(),
        means[int(0.025 * draws)].item(),
        means[int(0.975 * draws)].item(),
    )

# %% [markdown]
# ## Meet the twin

# %%
header, rows = read_table(RESULTS / "compare_main.csv")
first_frame = by_clip(rows, "psnr", frame=1, **rows_of("history_guidance"))
mine, theirs = (torch.tensor(f(first_frame)) for f in (my_bootstrap, video_metrics.bootstrap))
torch.testing.assert_close(mine, theirs, atol=0.25, rtol=0)
print(
    f"mean {mine[0]:.2f} dB, 95% interval {mine[1]:.2f} to {mine[2]:.2f}, from {len(first_frame)} clips"
)

# %% [markdown]
# ## How the settings were chosen
#
# Each method with a knob got the same budget: six settings, 64 clips of *training* handwriting. First column: mean PSNR over the eleven new frames. Second: by how much it lies below the best, clip by clip, with its interval; where that holds 0, the two cannot be
# told apart by these clips. The last column, *same*, is identity.

# %%
for name in ("history", "reconstruction", "injection"):
    tune_header, tried = read_table(RESULTS / f"compare_tune_{name}.csv")
    settings = dict.fromkeys((row["method"], row["setting"]) for row in tried)
    db = {(m, s): by_clip(tried, "psnr", method=m, setting=s) for m, s in settings}
    best = max(db, key=lambda key: db[key].mean())
    print(
        f"\n{'split ' + tune_header['split']:25} PSNR   below the best      motion   ink  same"
    )
    for (method, setting), x in db.items():
        gap = "{:5.2f} ({:5.2f} to {:5.2f})".format(*video_metrics.bootstrap(db[best] - x))
        broken = [
            values(tried, m, method=method, setting=setting).mean()
            for m in ("motion", "intensity", "identity")
        ]
        print(
            f"{method + ':' + setting:24}{x.mean():6.2f}  {gap}  ",
            *(f"{x:5.2f}" for x in broken),
        )

# %% [markdown]
# What is best by its mean, $w = 2$ and $w = 40$, was run on held-out handwriting as the rule wants, and has its rows in the main table. The contenders of this chapter take the smaller weights, 1.5 and 10: on the tuning split the mean does not tell them from the best,
# and a larger weight costs what the other columns show; of $w = 40$ some guidance even explodes (the star in the main table). Injection has nothing to win by doing less than all of it, nor by a noisy source. What
# chapter 8 found to help reconstruction guidance most, to take each step three times, has its own row.

# %% [markdown]
# ## The main table
#
# Each number is a mean over held-out clips and seeds, in brackets half of its 95% interval over clips. First what was predicted, in dB, and the share of clips in which no check fails at the last frame:

# %%
print(command_of(header), "\ncheckpoint", header["sha256"][:12], "\n")
ROWS = CONTENDERS | {
    "guided, w = 2": "history_guidance:weight=2",
    "fractional, level 500": "fractional_history_guidance:weight=1.5,level=500",
    "embedding of the past": "history_encoder:encoder=digits32_5_8",
    "recon., w = 40": "reconstruction:weight=40",
    "recon., 3 x a step": "reconstruction:weight=10,repeats=3",
    "K and V along time": "injection:sites=temporal",
    "  and of foresight": "injection:sites=temporal+motion",
    "outputs of all stages": "injection:sites=encoder+middle+decoder,prepend=False,source=same",
}


runs = len(values(rows, "time_to_first_failure", **rows_of("history_guidance")))


def show(columns):
    print(f"{'':23}" + "".join(title.rjust(13) for title in columns))
    for name, text in ROWS.items():
        cells = []
        for metric, where in columns.values():
            mean, low, high = video_metrics.bootstrap(by_clip(rows, metric, **where, **rows_of(text)))
            cells.append(f"{mean:.2f} ({(high - low) / 2:.2f})".rjust(13))
        got = len(values(rows, "time_to_first_failure", **rows_of(text)))
        star = "" if got == runs else f" * {got}"
        print(f"{name + star:23}" + "".join(cells))


last = dict(frame=header["frames"])
predicted = {f"new frame {n}": ("psnr", dict(frame=n)) for n in (1, 5, 11)}
show(predicted | {"right at 11": ("right", last)})

# %% [markdown]
# A star: so many clips and seeds have a result; in the others the guidance exploded, and was stopped. All rows are of the same clips, so that a difference of two rows is surer than their intervals say. Then the checks over the whole clip, each of which is right at 1:

# %%
show({name: (name, {}) for name in ("boundary_discontinuity", "motion", "intensity", "identity")})

# %%
def by_frame(text, frames):
    of = [values(rows, "psnr", frame=n, **rows_of(text)) for n in frames]
    return torch.stack([x.mean() for x in of])


frames = range(1, header["frames"] + 1)
shown = {
    n: t for n, t in CONTENDERS.items() if n not in ("in the window", "with an anchor")
}
shown = {n: by_frame(t, frames) for n, t in shown.items()}

# %% mystnb={"image": {"alt": "PSNR by new frame for the methods; all fall; the past guided or injected lies highest; reconstruction guidance begins between it and replacement and soon falls to the level of clips without memory."}, "figure": {"caption": "Prediction of the true future by horizon, held-out clips, K = 5 of F = 16. The plain window and the anchored one lie on the line of injection."}}
figure, axis = plt.subplots(figsize=(6.5, 3.4))
viz.plot_lines(axis, frames, shown, marker="o", ms=3)
axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
axis.set(xlabel="new frame", ylabel="PSNR (dB)");

# %% [markdown]
# The two orders are not the same: repeating the last frame begins above replacement and reconstruction guidance, and ends below all others.
#
# ## As a crowd
#
# PSNR asks each clip for *its* future. The Fréchet distance of chapter 6 asks all of them together whether they could be real clips, and does not mind if a clip takes another way than the true one. It is of windows of 16 frames that end with a new frame: those that end with
# frame 11 begin with the given ones and hold the join. (Papers differ on whether given frames count.) **Predict.** Which method predicts badly and makes real clips all the same? Which is it the other way around?

# %%
about_real = real_clip_features(frames=F)


def crowds(path, clips, at):
    """Distances from real clips: of the true futures, and of what each method made."""
    header, table = read_table(RESULTS / path)
    print(command_of(header), "\n")
    blocks = range(0, clips, 16)
    true = torch.cat([true_clips(n, 16, K + header["frames"]) for n in blocks])
    seen = {"truth": [clip_features(true[:, :, K + n - F : K + n]) for n in at]}
    made = by_name(table)
    for name, text in ROWS.items():
        if text in made:
            seen[name] = [features_of(made[text], n) for n in at]
    print(f"{clips} clips{'':14}" + "".join(f"{f'at {n}':>8}" for n in at) + "   mean PSNR")
    for name, of in seen.items():
        away = "".join(f"{frechet(x, about_real):8.1f}" for x in of)
        db = f"{values(made[ROWS[name]], 'psnr').mean():12.1f}" if name in ROWS else ""
        print(f"{name:22}{away}{db}")


crowds("compare_crowd.csv", 128, at=[11])
print()
crowds("compare_crowd_long.csv", 64, at=[11, 110, 198])

# %% [markdown]
# Read distance and PSNR against each other. Everything that has its past in the window makes a crowd that cannot be told from the true futures of the same clips. Reconstruction guidance predicts hardly better than a still, and its crowd is not far from real: it makes *another* future, joined to the
# same past; each step taken three times, the crowd shows nothing wrong at all. The embedding of the past is the other way around: its PSNR is higher, and its crowd as unreal as that of clips without memory. A blur in the right place pleases PSNR and
# deceives nobody. The distance has blind spots, too: clips that stand still from the fifth frame on lie nearer to real ones than all that *replacement* makes.
#
# Over 200 frames only the anchored crowd stays where the truth is. That of the plain window has begun to leave it by the end, and so has the guided one.
#
# ## What it costs
#
# Passes are exact; seconds depend on the machine, so read them as ratios; memory is the peak above that of the loaded network, each method in a fresh process, four clips in one batch.

# %%
cost_header, cost_rows = read_table(RESULTS / "compare_costs.csv")
print(command_of(cost_header), "\ncheckpoint", cost_header["sha256"][:12], "\n")
cost_of = lambda text, metric: values(cost_rows, metric, **rows_of(text)).min()
base = cost_of(CONTENDERS["in the window"], "seconds")
print(f"{'':22} passes per new frame   time   memory (MB)")
for name, text in CONTENDERS.items():
    passes, seconds, memory = (
        cost_of(text, m) for m in ("passes", "seconds", "memory")
    )
    print(f"{name:22} {passes:20.2f} {seconds / base:6.2f} {memory:13.0f}")

# %% [markdown]
# ## At equal passes, and at equal time
#
# A method that is dearer a step may take fewer steps. Each line below is one method with 6, 12, 25 and 50 DDIM steps, on the same clips; compare two methods where they lie above the same point of the axis. A method is better when its line runs
# further up and to the left.

# %%
BY_STEPS = (
    "replacement",
    "reconstruction",
    "recon., 3 x a step",
    "in the window",
    "guided, w = 1.5",
    "with an anchor",
    "injection, K and V",
)
by_steps = {
    n: read_table(RESULTS / f"compare_steps_{n}.csv")[1] for n in (6, 12, 25, 50)
}


def over_steps(text, metric):
    return [
        values(table, metric, **rows_of(text)).mean().item()
        for table in by_steps.values()
    ]


print("mean PSNR of new frames (dB), at passes per new frame")
print(f"{'':19}" + "".join(f"{n:8} steps" for n in by_steps))
for name in BY_STEPS:
    pairs = zip(
        over_steps(ROWS[name], "psnr"), over_steps(ROWS[name], "passes")
    )
    print(f"{name:19}" + "".join(f"{db:5.1f} at {passes:5.2f}" for db, passes in pairs))

# %% mystnb={"image": {"alt": "Two panels with one line a method: mean PSNR of the new frames against passes per new frame, and against seconds."}, "figure": {"caption": "Mean PSNR over all eleven new frames against what it costs, for 6, 12, 25 and 50 DDIM steps. Injection makes the same clips as the window; its line is the window's, further left. Left: network passes per new frame. Right: seconds per new frame, forward and backward, on the machine of the study."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
ticks = dict(passes=[0.5, 1, 2, 4, 8], seconds=[0.01, 0.03, 0.1, 0.3])
for axis, metric in zip(axes, ticks):
    for name in BY_STEPS:
        cost, db = (over_steps(ROWS[name], m) for m in (metric, "psnr"))
        axis.plot(cost, db, marker="o", ms=3, label=name)
    axis.set(xlabel=f"{metric} per new frame", xscale="log")
    axis.minorticks_off()
    axis.set_xticks(ticks[metric], ticks[metric])
axes[0].set(ylabel="mean PSNR (dB)")
axes[1].legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left");

# %% [markdown]
# ## Steps taken back
#
# Once a step, as published, reconstruction guidance lies far below the window. Chapter 8 took each step again, and its line above rises. How far does that go? Ten times a step, on the 64 clips and 5 seeds of the main table, beside other rows of it:

# %%
repeats_header, repeats_rows = read_table(RESULTS / "compare_repeats.csv")
print(command_of(repeats_header), "\n")
TEN = "reconstruction:weight=10,repeats=10"
beside = {
    "reconstruction": (rows, "reconstruction:weight=10"),
    "recon., 3 x a step": (rows, "reconstruction:weight=10,repeats=3"),
    "recon., 10 x a step": (repeats_rows, TEN),
    "in the window": (rows, "history_guidance"),
    "guided, w = 1.5": (rows, "history_guidance:weight=1.5"),
}
print(f"{'':20} PSNR at new frame 1, 5, 11  right at 11  passes a frame")
for name, (table, text) in beside.items():
    of = rows_of(text)
    db = "".join(f"{values(table, 'psnr', frame=n, **of).mean():7.1f}" for n in (1, 5, 11))
    right = values(table, "right", frame=11, **of).mean()
    passes = values(table, "passes", **of).median()
    print(f"{name:20}{db} {right:14.2f} {passes:13.2f}")
ten = by_clip(repeats_rows, "psnr", **rows_of(TEN))
window = by_clip(rows, "psnr", **rows_of("history_guidance"))
gain = "{:+.2f} dB ({:+.2f} to {:+.2f})".format(*video_metrics.bootstrap(ten - window))
print(f"\n10 x a step is better than the window by {gain},")
print(f"and in {(ten > window).sum()} of {len(ten)} clips")

# %% [markdown]
# Steered from outside, by nothing but its own errors, a network gets as far as with the condition that it was trained for. What it takes is going back at every step, ten times the passes of the window, and a backward pass with each. (That this network has seen clean pasts in
# training may help it here, too: it has learned how frames go together across them.)
#
# ## The published setting: a thousand steps
#
# Feature injection is published with DDPM, all 1000 levels, features put in at the first 800 {cite:p}`tumanyan2023plug`. Here is that beside plain and guided history: ten new frames, five of overlap, sixteen held-out clips; and the same with 25 steps of DDIM.

# %%
by_step, gone_on = {}, range(1, 11)
for label, table in (("DDPM, 1000 steps", "reference"), ("DDIM, 25 steps", "reference_25")):
    header, of_reference = read_table(RESULTS / f"compare_{table}.csv")
    by_step[label] = by_name(of_reference)
    print(command_of(header))
    print(f"\n{label:23}  PSNR at 1, 5, 10   better than the window by  passes")
    for text, of in by_step[label].items():
        db = "".join(f"{values(of, 'psnr', frame=n).mean():6.1f}" for n in (1, 5, 10))
        window = by_clip(by_step[label]["history_guidance"], "psnr")
        gain, low, high = video_metrics.bootstrap(by_clip(of, "psnr") - window)
        passes = values(of, "passes").median()
        print(f"{text:23}{db}{gain:8.2f} dB ({low:.2f} to {high:.2f}) {passes:9.1f}")
    print()

# %% mystnb={"image": {"alt": "Two panels, DDPM with 1000 steps and DDIM with 25: PSNR against the number of the new frame, 1 to 10, for history in the window, history guidance with w = 1.5, and injection at the first 800 levels."}, "figure": {"caption": "The reference setting: K = 5 frames given, ten made (F = 15), sixteen held-out clips, the mean over clips. Injection stops at 200 of 1000."}}
figure, axes = plt.subplots(
    1, 2, figsize=(8, 2.9), sharex=True, sharey=True, layout="constrained"
)
for axis, (label, methods) in zip(axes, by_step.items()):
    lines = {
        text: [values(of, "psnr", frame=n).mean() for n in gone_on]
        for text, of in methods.items()
        if text != "injection"
    }
    viz.plot_lines(axis, gone_on, lines, marker=".")
    axis.set(xlabel="new frame", title=label, xticks=gone_on)
axes[0].set(ylabel="PSNR (dB)")
axes[1].legend().remove();

# %% [markdown]
# The order is that of 25 steps, at forty times the passes: no interval of guidance or of injection at 800 holds zero. A thousand steps predict no better, and guidance gains less from them. (Our reading: a walk with fresh noise at every step ends at one of the futures that are possible, a short one stays nearer to their
# mean.) Injection that stops at 800 lies a little below the window: in the last 200 levels, which draw the strokes, the past stands in the window under noise (chapter 9). Injected all the way, it is the window's equal.

# %% [markdown]
# ## Which survives longest?

# %%
def survive(path):
    """Print how long clips live; the shares of clips right until, and at, the last frame of every window, by method."""
    header, rows = read_table(path)
    print(command_of(header), "\n")
    joins, until, now = range(F - K, header["frames"] + 1, F - K), {}, {}
    print(f"{'':22} mean horizon (95% interval)    right at frame {joins[-1]}")
    for name, text in ROWS.items():
        of = rows_of(text)
        lived = values(rows, "time_to_first_failure", **of)
        if len(lived):
            until[name] = [(lived >= f).float().mean().item() for f in (0, *joins)]
            now[name] = [1] + [
                values(rows, "right", frame=f, **of).mean().item() for f in joins
            ]
            mean, low, high = video_metrics.bootstrap(lived)
            interval = f"({low:.1f} to {high:.1f})"
            share = f"{now[name][-1]:.2f} of {len(lived)} clips"
            print(f"{name:22} {mean:6.1f} {interval:18} {share:>20}")
    return rows, (0, *joins), until, now


long_rows, at, survival, right = survive(RESULTS / "compare_long.csv")

# %% mystnb={"image": {"alt": "Two panels over the frame number, one line a method: the share of clips in which no check has failed so far, and the share in which none fails at that frame."}, "figure": {"caption": "Share of clips in which ink, motion, continuity and identity are right, at the last frame of every window. Left: and were so at every frame before. Right: at that frame. The plain window lies under injection: they make the same clips."}}
def plot_survival(at, until, now, **style):
    _, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axis, title, curves in zip(axes, ("right until now", "right now"), (until, now)):
        for name, curve in curves.items():
            axis.plot(at, curve, label=name, **style)
        axis.set(xlabel="new frame", title=title, ylim=(0, 1.02))
    axes[0].set(ylabel="share of clips")
    axes[1].legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")


plot_survival(at, survival, right, marker="o", ms=2);

# %%
REASONS = ("", "identity", "intensity", "motion", "jump")
print("what failed first, in how many clips")
print(" " * 22 + "".join(f"{reason or 'nothing':>10}" for reason in REASONS))
for name in right:
    counts = [values(long_rows, f"failed:{why}", **rows_of(ROWS[name])) for why in REASONS]
    print(f"{name:22}" + "".join(f"{len(x):10}" for x in counts))

header, ten_rows = read_table(RESULTS / "compare_long_ten.csv")
print(f"\n{command_of(header)}\n")
numbers = {row["clip"] for row in ten_rows}
sixteen = [row for row in long_rows if row["clip"] in numbers] + ten_rows
print("mean horizon of the same sixteen clips (95% interval), and ink over 200 frames")
GUIDED = "reconstruction:weight=10"
lived = {}
for text in (GUIDED, f"{GUIDED},repeats=3", f"{GUIDED},repeats=10", "history_guidance"):
    lived[text] = by_clip(sixteen, "time_to_first_failure", **rows_of(text))
    mean, low, high = video_metrics.bootstrap(lived[text])
    intensity = values(sixteen, "intensity", **rows_of(text)).mean()
    print(f"{text:37} {mean:6.1f} ({low:.1f} to {high:.1f})   ink {intensity:.2f}")
gain, low, high = video_metrics.bootstrap(lived[f"{GUIDED},repeats=10"] - lived["history_guidance"])
print(f"10 x a step lives longer than the window by {gain:.1f} ({low:.1f} to {high:.1f})")

# %% [markdown]
# Steps taken three times carry reconstruction guidance several times as far as once, and half as far as the window. Over one window the checks find next to nothing wrong with it (main table). But what each window leaves over - a little too much ink, a way that bends - is the past of the next, and no single fault ends its clips.
# Taken ten times, they carry it as far as the window, as far as sixteen clips can tell: the ink that is left over is less, too. With this method it is the passes that decide how long its clips live.
#
# The rollouts above take 12 steps a window. **Predict:** do 25 steps let more clips live, or fewer? And how much of the last point of a curve is luck? Here are the last five joins together, with their interval:

# %%
def at_the_end(rows, text):
    last = [by_clip(rows, "right", frame=f, **rows_of(text)) for f in at[-5:]]
    mean, low, high = video_metrics.bootstrap(torch.stack(last).mean(0))
    end = by_clip(rows, "right", frame=200, **rows_of(text)).mean()
    return f"{mean:.2f} ({low:.2f} to {high:.2f})   {last[-1].mean():.2f}   {end:.2f}"


print(
    f"share of clips right at frames {at[-5]} to {at[-1]} (95%), at {at[-1]} alone, at 200"
)
for name in right:
    print(f"{name:22} 12 steps   {at_the_end(long_rows, ROWS[name])}")
fine_header, fine_rows = read_table(RESULTS / "compare_long_25.csv")
print(
    f"{'with an anchor':22} {fine_header['steps']} steps   {at_the_end(fine_rows, 'anchored_history')}"
)

# %% [markdown]
# More steps help here, and PSNR did not foresee it: over one window, fewer steps predicted better. Strokes that are drawn with more care survive being copied more often. With the anchor and 25 steps nine clips of ten are right to the end.

# %% [markdown]
# ## A thousand frames
#
# Ninety-one windows, one after the other, each built on nothing but the last five frames of the one before (and, with an anchor, on the frames of the beginning). **Predict:** a method of which a share $p$ of clips is right after 18 windows, is it $p^5$ after 91?

# %% mystnb={"image": {"alt": "Two panels over a thousand frames, one line a method: the share of clips in which no check has failed so far, and the share in which none fails at that frame."}, "figure": {"caption": "As the figure before, over a thousand new frames. Left: right at every frame until then. Right: right at that frame."}}
_, *curves = survive(RESULTS / "compare_longest.csv")
plot_survival(*curves, lw=1.2);

# %% [markdown]
# No power law. A window that knows nothing but the last five frames copies a copy of a copy; a shape once lost is lost, and in the end it is lost in nearly every clip. The anchor shows the original again in every window. At the left its curve stops falling: digits in which nothing went wrong early
# are not lost later either, so that what is hard is the digit and not the length. At the right most clips are right at any given time, the last frame no less than the two hundredth, since a fault passes. What the anchor holds is what can be remembered, the shape; motion it leaves to the
# last frames.

# %% [markdown]
# ## Play
#
# Method against method, in step. Choose what plays on either side. Bright borders: given frames; a flash above and below: the second window begins.

# %%
sliders.versus_slider(
    sliders.clip_pictures(
        [viz.framed(truth[1], 27), *(viz.framed(x[1], K, [F]) for x in live.values())]
    ),
    ["truth", *live],
    alt="A clip whose first five frames were given:",
    start=(0, 4),
)

# %% [markdown]
# ## What breaks, and how to see it
#
# A comparison on too few clips. Does reconstruction guidance beat repeating the last frame at the fifth new frame? Ask groups of 1, 2, 4, 8 and 16 clips of the study:

# %%
a = values(rows, "psnr", frame=5, **rows_of("copy_last"))
b = values(rows, "psnr", frame=5, **rows_of("reconstruction:weight=10"))
print(f"on all {len(a)} clips and seeds: better by {(b - a).mean():.2f} dB")
for size in (1, 2, 4, 8, 16):
    wins = (b - a).unfold(0, size, size).mean(1) > 0
    print(f"groups of {size:2}: {wins.sum()} of {len(wins)} say yes")

# %% [markdown]
# ## Which one should I use?
#
# | you have | use | evidence |
# |---|---|---|
# | a network trained with noise levels per frame | the past in the window, by **injection of clean keys and values** | the same clips as `history_guidance`, at two thirds of the passes (chapter 9, table above) |
# | that, and twice the passes to spend | history guidance, $w = 1.5$ | PSNR in the main table, and its line above the window's at equal passes too. For one window: over many, ink is added to ink (the rollouts above, and what failed first there) |
# | a clip that must stay itself for long | an anchor: frames from the beginning that stay in the window | the rollouts above: the longest mean horizon, and after a thousand frames right in most clips, where the plain window is in few; a few frames more in each pass |
# | a network that never saw a clean past | reconstruction guidance, each step taken as often as you can pay | its line above that of one pass a step at equal passes; ten times a step, about as good as the window, over one window (the section on steps taken back) and over 200 frames (sixteen clips, the rollouts above); three times a step it falls behind over many windows |
# | nothing but a sampler | replacement | above independent clips only near the join |
#
# Does "injection, then guidance, then reconstruction" hold? As an order of *quality* it does not. Injection of clean keys and values and the unguided window are equal, by identity and not by chance, whenever clean
# frames never look at noisy ones; and guidance goes above both, for it asks the network twice. (The unguided window predicts a little better with fewer steps: one guess is the mean of the futures, many steps choose one.) Reconstruction guidance is far behind once a step, as published, and beside the others ten times a step. As an order of *price* it holds. It could hold for quality where guidance has nothing to stand on: in a network that
# has never seen a clean past in its window, and whose inner features can be taken over as they are. This one was trained with such pasts, and what can be injected best is just what it computes for them.

# %% [markdown]
# ## Recap
#
# Every method was given the same clips, noise and network. What decides is whether the network was trained to have a past: if so, giving it the past, or what it computed for the past, wins, and the
# cheapest way to do so is to inject keys and values. Methods that steer from outside are far behind at that price, and come as far only at ten times the window's.
#
# ## Exercises
#
# 1. **Predict.** Which row of the table changes most if the overlap is 1 instead of 5? Which not at all?
# 2. **Code.** Compare at equal *passes*: give injection 25 steps and reconstruction guidance 12. Does the order change?
# 3. **Explore.** Add a method of your own: past and denoiser in, denoiser out. Register it in `vdiff_lite.methods.METHODS` and run `vdiff compare` on it.
#
# :::{dropdown} Solutions
# 1. Reconstruction guidance and the window both lose the velocity with one frame; `independent` ignores the past and does not change.
# 2. `extend(denoiser, "injection", past, 11, steps=25)` and `extend(denoiser, "reconstruction:weight=10", past, 11, steps=12)`; the gap in the figure is larger than what steps buy (chapter 5).
# 3. `METHODS["mine"] = lambda denoiser, past: ...`; the first two rows of every table, `independent` and `copy_last`, are what it has to beat.
# :::
#
# ## Sources
#
# The methods: {cite:t}`ho2022video`, {cite:t}`song2025history`, {cite:t}`lugmayr2022repaint`, {cite:t}`tumanyan2023plug`. Published results disagree on which wins, since they differ in whether the
# network was trained with a past: {cite:t}`harvey2022flexible`, {cite:t}`huang2025self`.
