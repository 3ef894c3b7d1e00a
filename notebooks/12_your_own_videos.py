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
# # 12. Your own videos
#
# **You have a folder of videos. How do you get a long one, and how do you know that it is any good?**
#
# So far the data came from a program that knows the truth. Yours come from a camera. This chapter goes from a folder to a long video,
# with a folder that it makes itself: color clips of bouncing digits, written as mp4 files. One line makes it your folder.
#
# *Time to run: about two minutes on two CPU cores.*

# %% [markdown]
# **You will learn** what size and frame rate decide; how to begin with a trained network that has other channels; which losses
# and first samples are normal; how to try each method; what numbers say where there is no truth.
#
# **You need** chapters 4, 6 and 7.

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
import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vdiff_lite as vd
from vdiff_lite import checkpoint, viz
from vdiff_lite.data import VideoFolder
from vdiff_lite.data.video_index import open_video
from vdiff_lite.diffusion.losses import v_loss
from vdiff_lite.diffusion.samplers import noise_like
from vdiff_lite.evaluation.compare import compare, extend
from vdiff_lite.evaluation.results import FOLDER, intervals, per_clip, read_results
from vdiff_lite.evaluation.video_metrics import boundary_discontinuity
from vdiff_lite.exercises import check
from vdiff_lite.training.run import keep_what_fits
from vdiff_lite.viz import sliders
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
device, seeded = vd.pick_device(), lambda seed: torch.Generator().manual_seed(seed)

# %% [markdown]
# ## A folder
#
# Set `my_folder` to yours. Any file that FFmpeg decodes will do, also in nested folders, and folders of frames. Left empty, the next cell
# writes clips of one bouncing digit each, in a color of its own.

# %%
my_folder = ""  # "my_clips/", say

folder = Path(my_folder or tempfile.mkdtemp())
if not my_folder:
    drawn = vd.BouncingDigits(num_frames=32, size=64, digit_size=24, speed=(0.5, 1.5)).sample(
        60, seeded(1)).video
    for i, clip in enumerate(drawn):
        color = 0.3 + 0.7 * torch.rand(3, generator=seeded(i))
        viz.save_clip((clip + 1) * color[:, None, None, None] - 1, folder / f"clip{i}.mp4", fps=16, enlarge=1)
    print(f"{len(drawn)} clips of {drawn.shape[2]} frames, {clip.shape[-1]} by {clip.shape[-2]} pixels, "
          "16 frames per second")
workplace = Path(tempfile.mkdtemp())  # small frames and tables

# %% [markdown]
# ## Looking at the data
#
# Two things are yours to decide.
#
# *Size.* Frames are cut to the shape of `size` and shrunk to it. A network of chapter 3 costs about four times as much at twice the side.
# Take the smallest size at which *you* can still see what matters. The figure shows the same frame at three sizes, with 64, 32 and
# 16 pixels to a side.

# %% mystnb={"image": {"alt": "One frame of a clip three times, 64, 32 and 16 pixels to a side. At 32 the digit can be read, at 16 hardly."}, "figure": {"caption": "The same frame at three sizes: 64, 32 and 16 pixels to a side."}}
figure, axes = plt.subplots(1, 3, figsize=(7, 2.5))
print("pixels to a side:", sides := (64, 32, 16))
for axis, side in zip(axes, sides):
    frame = VideoFolder(folder, 16, side, 3, cache=workplace).clip(0, 0)[:, 0]
    axis.imshow((frame.permute(1, 2, 0) + 1) / 2, interpolation="nearest")
    axis.set(title=f"{side} x {side}", xticks=[], yticks=[])

# %% [markdown]
# *Frame rate.* A window holds 16 frames. At 16 frames per second that is one second. With `fps=8`, or with every second frame
# (`every=2`), it is two. If hardly anything moves from frame to frame, the network learns to copy. If too much does, no one can predict it.
# The change from frame to frame, against that between frames of different clips, shows where you stand.

# %%
def change(every):
    data = VideoFolder(folder, 8, 32, 3, every=every, cache=workplace)
    video = data.sample(16, seeded(0)).video
    near, far = (video.diff(dim=2).abs().mean() / 2), (video - video.roll(1, 0)).abs().mean() / 2
    return {"seconds in a window": 16 * every / data.videos[0].fps,
            "frame to frame": near.item(), "clip to clip": far.item()}


table = pd.DataFrame({f"every={every}": change(every) for every in (1, 2, 4)}).T
show_table(table, "Mean absolute change of a pixel in [0, 1]",
           digits={"seconds in a window": 1, "frame to frame": 3, "clip to clip": 3})

# %% [markdown]
# Where the change from frame to frame is nearly that from clip to clip, a frame says little about the next one. We take all frames.
#
# ## Build it: which frame is shown at a time
#
# Cameras and browsers do not keep time. A file gives a time $\tau_i$ to each frame, and a clip of `fps` frames per second wants, for each
# $k$, the last frame that has begun:
#
# $$i(k) = \max \{\, i : \tau_i \le k / \text{fps} + \delta \,\}. \tag{1}$$
#
# Times in files are rounded, so a frame may be late by $\delta$: half an interval, of the file's frames or of those asked for, whichever is shorter.

# %%
def my_frames_shown(times, seconds, own_fps, fps):
    late = 0.5 / max(own_fps, fps)
    shown, k = [], 0
    while k / fps < seconds - late:
        shown.append(max(i for i, time in enumerate(times) if time <= k / fps + late))
        k += 1
    return shown

# %% [markdown]
# ## Meet the twin
#
# `Video.frames_shown` does the same for a whole file.

# %%
video = open_video(sorted(folder.rglob("*.*"))[0])
for fps in (4, 8, 16, 24):
    mine, twin = my_frames_shown(video.times, video.seconds, video.fps, fps), video.frames_shown(fps)
    assert mine == list(twin)
    print(f"fps={fps}: frames {mine[:8]} ...")

# %% [markdown]
# ## A network that has learned something already
#
# What fits of a trained network is kept, the rest is new. `rooms32` has only ever seen rooms, but in three channels like these clips: all
# of it fits, but for the layer that is told actions, which is left out. `digits32` has seen bouncing digits, but in one channel. So the
# layers that cut frames into patches, and put them together again, are new. The last tenth of the files is held out.

# %%
size, window, overlap = 32, 16, 5
data = VideoFolder(folder, window, size, 3, split="train", cache=workplace)
held_out = VideoFolder(folder, window, size, 3, split="test", cache=workplace)
torch.manual_seed(0)
config = replace(vd.VideoUNetConfig.preset("tiny"), in_channels=3)
networks = {name: vd.VideoUNet(config) for name in ("from rooms32", "from digits32", "from scratch")}
for name in ("rooms32", "digits32"):
    print(f"from {name}: {keep_what_fits(networks[f'from {name}'], vd.load(name).net)}")
names = sorted({Path(path).name for path in held_out.sample(64, seeded(0)).truth.paths})
print("held out:", ", ".join(names) if len(data) > 3 else "the last tenth of each video")

# %% [markdown]
# `short_steps=0` leaves out the training on short clips that comes first in the book's recipes. The learning rate falls over the last `decay`
# steps, and the average of the weights is a short one, for so few steps. For more, raise `steps` and `decay` together, and leave `ema_decay`
# as it is by default.
#
# **Predict.** All three get the same few steps. Which will have the lowest loss, the one that knows color or the one that knows digits?

# %%
steps = 80
settings = vd.TrainConfig(steps=steps, batch=4, short_steps=0, warmup=10, decay=steps // 2, ema_decay=0.9)
print(f"{settings.steps} steps of {settings.batch} clips each")
losses, denoisers = {}, {}
for name, net in networks.items():
    trainer = vd.Trainer(net, vd.NoiseSchedule(), data, settings, device)
    for _ in trainer.run(bar=False):
        pass
    losses[name], denoisers[name] = trainer.losses, trainer.ema_denoiser()

# %% mystnb={"image": {"alt": "Three curves of the loss against the step, on a logarithmic axis, that fall and waver: of the networks that began with rooms32, with digits32 and from scratch."}, "figure": {"caption": "Loss, mean of ten steps. Three networks, the same clips and noise levels."}}
figure, axis = plt.subplots(figsize=(6.5, 2.8))
means = {name: torch.tensor(loss).view(-1, 10).mean(1) for name, loss in losses.items()}
viz.plot_lines(axis, 10 * torch.arange(1, steps // 10 + 1), means)
axis.set(xlabel="step", ylabel="loss", yscale="log")
for name, mean in means.items():
    print(f"{name}: {mean[0]:.3f} in the first ten steps, {mean[-1]:.3f} in the last")

# %% [markdown]
# The one that knows color has the lower loss, though it had never seen a digit. The next table says at which levels.
#
# ### Is this normal?
#
# The loss of a batch of four jumps about with the clips and noise levels that were drawn: a mean that rises for ten steps says nothing. The
# same clips and the same noise, held out, can be compared. A network that answers zero for everything would have a loss near that of $v$
# itself.


# %%
true = held_out.sample(8, seeded(5)).video.to(device)


def held_out_loss(net):
    rows = {}
    for level in (250, 500, 750, 1000):
        t = torch.full(true.shape[:1] + true.shape[2:3], level, device=device)
        with torch.no_grad():
            rows[f"t = {level}"] = v_loss(net, denoiser.schedule, true, t, noise_like(true, seeded(6))).item()
    return rows


denoiser = denoisers["from rooms32"]
zero = lambda xt, t, **_: torch.zeros_like(xt)
rows = {name: held_out_loss(made.net) for name, made in denoisers.items()}
rows |= {"always zero": held_out_loss(zero)}
show_table(pd.DataFrame(rows).T, "Loss on held-out clips, by noise level", digits=3)

# %% [markdown]
# At pure noise the network that knows color is no better than the one that knows digits, at low noise it is: there the layers next to the
# pixels count, and these were new in the other. So here the channels were worth more than the subject. (At $t = 1000$, $v$ is $-x_0$, and a
# network can only answer with the mean of all clips.)
#
# A held-out loss that stays at that of zero is not normal. One that rises while that of the training clips falls says that the network
# learns these by heart; `vdiff neighbors` looks for copies among its samples. First samples that are soup are normal. The figure shows clips
# that the networks draw from noise after these steps, and a clip of the folder. Where the loss is high at $t = 250$, noise stays in the
# picture: it is taken out last.

# %%
shown = {name: vd.generate(made, 2, 16, steps=12, generator=[seeded(n) for n in (1, 2)]).cpu().clamp(-1, 1)
         for name, made in denoisers.items()}

# %% mystnb={"image": {"alt": "Film strips: clips drawn from noise by the networks that began with rooms32, with digits32 and from scratch, and a clip of the folder."}, "figure": {"caption": "From noise, after 80 steps of 4 clips, every second frame, and a clip of the folder (last row)."}}
rows = [clip for clips in shown.values() for clip in clips[:1]] + [true[0].cpu()]
viz.film_strip(rows, [*shown, "the folder"], every=2);

# %% [markdown]
# ### How long, on what machine?
#
# What the networks of this book took, by their own cards and by the table of `make bench`:

# %%
on_cpu = FOLDER / "recipe_cpu.txt"
times = pd.read_csv(on_cpu, sep=r"\s{2,}", skiprows=1, index_col="recipe", engine="python")
display(show_table(times, on_cpu.read_text().split("\n")[0]))
for name in ("digits32", "rooms32", "digits64x2"):
    card = checkpoint.read_card(name)
    print(f"{name}: {card['parameters']:,} parameters; {card.get('origin', 'no origin in its card')}")
print("By `make bench`, on two threads of a CPU:")
bench = (FOLDER / "bench_cpu.txt").read_text().splitlines()
print("\n".join(line for line in bench if line.startswith(("64x64 in color", "the same"))))

# %% [markdown]
# All of that is for worlds drawn by a program, far simpler than what a camera sees. Watch the loss on held-out clips: as long as it falls,
# more steps help.
#
# The last line is a float32 step. Its memory grows with the clips that are in it at once: four times as many fit into a card of 9 GB
# (computed from that line, not tried on a card). `--accumulate` takes a larger batch in parts.
#
# ### A real film
#
# Without videos of your own, take some that others gave away. `book/_tools/film.py` cuts the film *Big Buck Bunny* (Blender Foundation,
# CC BY 3.0) into its shots, so that no clip crosses a cut; `book/_tools/doom.py` walks through the levels of a real game
# (`pip install -e ".[doom]"`). This is what we did with the film, with the last tenth of the shots held out:
#
# ```bash
# python book/_tools/film.py my_film/
# vdiff train --out film32 --data videos:my_film/ --channels 3 --fps 12 --start-from rooms32 \
#     --set steps=3400 decay=1600 batch=16 warmup=100 short_steps=0
# vdiff compare --checkpoint film32 --methods copy_last history_guidance history_guidance:weight=1.5 injection \
#     reconstruction:weight=10 --clips 32 --out film.csv.gz
# python book/_tools/film.py my_film/ --continue-by film32
# ```
#
# The third line wrote the table, the fourth the clips. The card says how long the second took.

# %%
card = json.loads((FOLDER / "film32.json").read_text())
(_, first), (_, last) = card["loss_curve"][0], card["loss_curve"][-1]
print(f"{card['steps']:,} steps of {card['recipe']['batch']} clips, {card['origin']}; "
      f"loss {first:.3f}, at last {last:.3f}")
film = read_results("compare_film")
columns = {f"PSNR {n}": ("psnr", n) for n in (1, 5, 11)}
columns |= {"boundary discontinuity": ("boundary_discontinuity", None)}
mean, half = intervals(film, columns)
clips = f"{len(per_clip(film, 'psnr'))} clips of held-out shots"
show_table(mean, f"{clips}, PSNR in dB; in brackets half of the 95% interval", digits=1, half=half)

# %%
shown = VideoFolder(FOLDER.parent / "clips" / "film.gif", 38, (72, 180), 3, cache=workplace).clip(0)
alt = ("Five held-out shots of the film, below each its continuation by the model; "
       "a bright border: given frames")
print(f"{shown.shape[1]} frames, of which 5 were given")
viz.show_clips([shown], ["held-out shots, and below them the model's"], alt, fps=12, height=144)

# %% [markdown]
# This is what an hour and a half of one core buys on real footage: grass, trees and sky stay, and whatever moves dissolves within a window.
# No method is ahead of the last frame, copied, and in shots that hardly move that is a strong rival. The methods stand in the order of
# chapter 10 for a network that was trained with pasts: guidance with $w = 1.5$ first, the window and injection next (the same clips),
# reconstruction guidance last. Much more training is needed; how much, we have not measured.
#
# ## Each method, on a clip that was held out
#
# With four videos or more in a folder, whole files are held out; with fewer, the last tenth of each. Windows of one file that overlap
# would be no test: frames of the one are in the other, and a network that learns its clips by heart would pass. The strips show what truly follows, and below it what each
# method made of the same five frames. After so few steps look for the digit's place and color, not for its shape.

# %%
new_frames, sampler_steps = 22, 12
clip = held_out.with_frames(overlap + new_frames).sample(1, seeded(9)).video
methods = ["history_guidance", "history_guidance:weight=1.5", "injection", "reconstruction:weight=10",
           "copy_last"]
made = {name: extend(denoiser, name, clip[:, :, :overlap], new_frames, window, overlap, steps=sampler_steps,
                     seed=3)[0].clamp(-1, 1) for name in methods}
print(f"{new_frames} new frames by {len(methods)} methods, {sampler_steps} steps per window")

# %% mystnb={"image": {"alt": "Film strips of one held-out clip as it is, and continued by five methods, every third frame."}, "figure": {"caption": "A held-out clip, and the same from its sixth frame on by five methods (blue: frames given; orange: a new window begins). Every third frame."}}
viz.film_strip([clip[0], *(x[0] for x in made.values())], ["as it is", *methods],
               [overlap + new_frames] + [overlap] * len(methods), every=3, joins=[5, 16]);

# %% [markdown]
# One clip is an anecdote. `vdiff compare` continues the same clips with each method and writes a table. It measures what applies: PSNR
# and SSIM against what truly follows, and the boundary discontinuity of chapter 6. Identity, motion and failures need a truth that your
# videos do not have.

# %%
path = workplace / "mine.csv.gz"
compare(denoiser, path, methods, clips=6, frames=11, steps=8, data=held_out, bar=False)
columns = {"PSNR 1": ("psnr", 1), "PSNR 11": ("psnr", 11),
           "boundary discontinuity": ("boundary_discontinuity", None)}
mean, half = intervals(read_results(path), columns)
show_table(mean, "Six clips of the held-out files, 8 steps; in brackets half of the 95% interval",
           digits=2, half=half)

# %% [markdown]
# At the first new frame the last one, copied, is ahead of every method. At the eleventh it is behind them all, by less than these few clips
# resolve. After so few steps this is normal. It is the number to beat first.
#
# ## Play
#
# The weight on the past. The same clip, the same noise.

# %%
def with_weight(weight):
    made = extend(denoiser, f"history_guidance:weight={weight}", clip[:, :, :overlap], 11, steps=8, seed=3)[0]
    pictures = viz.framed(clip[0, :, :window], window), viz.framed(made[0].clamp(-1, 1), overlap)
    return torch.cat(pictures, dim=-1)


alt = "Left what truly follows, right the model; a bright border: given frames."
fine = [i / 4 for i in range(13)]
sliders.guidance_slider(with_weight, [0.5, 1, 1.5, 2], "weight w", alt, start=1, fine=fine)

# %% [markdown]
# ## What breaks, and how to see it
#
# Past the end of your video there is no truth. Two numbers are left. The *boundary discontinuity* compares the change across a join with
# the change elsewhere. *Drift* is how far the mean color of a frame has moved from that of the given frames,
#
# $$\text{drift}(f) = \tfrac{1}{2} \, \big\lVert \overline{x}_f - \overline{x}_{\text{given}} \big\rVert_1 / c, \tag{2}$$
#
# with the mean $\overline{x}$ over pixels, of each of the $c$ channels. Neither knows what the video shows. Besides what was made, the
# table has a video that stands still, a true one, and the true one with its frames shuffled.

# %%
def drift(clip, num_context):
    mean = clip.mean((-2, -1))
    return (mean - mean[:, :, :num_context].mean(2, keepdim=True)).abs().mean(1) / 2


sampler = partial(vd.ddim, steps=sampler_steps)
new = list(vd.rollout(denoiser, clip[:, :, :overlap].to(device), 110, generator=seeded(3), sampler=sampler))
long = torch.cat([clip[:, :, :overlap], torch.stack(new, dim=2).cpu()], dim=2).clamp(-1, 1)
other = held_out.with_frames(27).sample(1, seeded(12)).video
whole = {"history_guidance": made["history_guidance"], "the same, 110 new frames": long,
         "the last frame, copied": made["copy_last"], "a true clip": other,
         "its frames, shuffled": other[:, :, torch.randperm(27, generator=seeded(0))]}
joins = {name: range(overlap, x.shape[2], window - overlap) for name, x in whole.items()}
rows = {name: {"boundary discontinuity": boundary_discontinuity(x, joins[name]).item(),
               "drift at the end": drift(x, 5)[0, -1].item()} for name, x in whole.items()}
show_table(pd.DataFrame(rows).T, "Without a truth", digits=3)

# %% mystnb={"image": {"alt": "A film strip of the long video, every tenth frame."}, "figure": {"caption": "The same clip, 110 new frames by the network of this page; every tenth frame. Blue: given."}}
viz.film_strip([long[0]], ["long"], overlap, every=10);

# %% [markdown]
# Read them together with the pictures. A frozen video has no seam and no drift, and shuffled frames have no drift. The figure
# shows the long one, every tenth frame that the network made: the digit fades, and no number says so, since most of a
# frame is black either way. A number can show that something is wrong, never that all is well.
#
# ## Six commands
#
# The same from a shell, with your folder. Each says what it wrote; the first goes on where it was cut off.
#
# ```bash
# vdiff train --out mine --data videos:my_clips/ --channels 3 --start-from rooms32 \
#     --set steps=200 decay=100 short_steps=0 batch=4
# vdiff sample --checkpoint mine --out first.gif
# vdiff extend --checkpoint mine --video my_clips/a.mp4 --at 2 --frames 11 --truth --out beside.gif
# vdiff compare --checkpoint mine --methods history_guidance injection copy_last --clips 8 --out mine.csv.gz
# vdiff neighbors --checkpoint mine --clips 16
# vdiff extend --checkpoint mine --video my_clips/a.mp4 --frames 200 --out long.mp4
# ```
#
# The second shows what was learned, the third a continuation beside the truth, the fourth the methods, the fifth whether clips from noise
# are copies of training frames. The last is your long video. For an honest look continue a file that was held out:
# with four or more, the last tenth in natural order, as printed above.
#
# ## Recap
#
# Size and frame rate decide what a window can show. A trained network lends what fits; here the layers next to the pixels
# mattered most. Without a truth, numbers warn and prove nothing: look, and hold whole files out.
#
# ## Exercises
#
# 1. **Code.** Film ten seconds with your phone, or take any clip. Before you train, choose its `every`: write `best_every`, which takes a clip
#    $(c, f, h, w)$ and returns the smallest step (1, 2, 4 or 8) at which the mean absolute change from one kept frame to the next is at
#    least `least`, and 8 where none is. (Pixels in $[-1, 1]$, the change in units of $[0, 1]$: halve it.)

# %% tags=["exercise"]
def best_every(clip, least=0.02):
    return None


ramp = torch.linspace(-1, 1, 101).view(1, 101, 1, 1).expand(3, 101, 4, 4)  # 0.01 a frame, in [0, 1]
claims = {"a change of 0.01 a frame is enough for 0.009": lambda answer: answer(ramp, 0.009) == 1,
          "for 0.035 it takes every fourth frame": lambda answer: answer(ramp, 0.035) == 4,
          "a clip that stands still gets 8": lambda answer: answer(torch.zeros(3, 40, 4, 4)) == 8}
check(best_every, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
def solution(clip, least=0.02):
    for every in (1, 2, 4):
        if clip[:, ::every].diff(dim=1).abs().mean() / 2 >= least:
            return every
    return 8


assert check(solution, claims)

# %% [markdown]
# 2. **Predict.** Film the same thing twice: once with the phone on a table, once walking. Which of the two will be continued better, and
#    what will the boundary discontinuity say of each?
# 3. **Code.** Write `held_out_files`: it takes the names of a folder's files and returns those to hold out, the last tenth in natural
#    order (`clip10` after `clip9`), at least one.

# %% tags=["exercise"]
def held_out_files(names):
    return None


names = [f"clip{i}.mp4" for i in (10, 9, 2, 1, *range(11, 27))]
claims = {"two of twenty": lambda answer: len(answer(names)) == 2,
          "the last in natural order": lambda answer: sorted(answer(names)) == ["clip25.mp4", "clip26.mp4"],
          "clip10 comes after clip9":
              lambda answer: list(answer(["clip9.mp4", "clip10.mp4"])) == ["clip10.mp4"]}
check(held_out_files, claims);

# %% tags=["hide-cell", "nbval-check-output"] jupyter={"source_hidden": true}
# A solution
import re


def solution(names):
    number = lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    return sorted(names, key=number)[-max(1, round(len(names) / 10)):]


assert check(solution, claims)

# %% [markdown]
# :::{dropdown} Solutions
# 1. and 3. are the folded cells.
#
# 2. On a table most pixels stay as they are, so even the last frame, copied, has a high PSNR, and little is there to be learned of motion.
#    Walking moves every pixel, and shows what no given frame has shown (chapter 11). The boundary discontinuity is a ratio: where little
#    changes from frame to frame, a small error at a join makes it large.
# :::
#
# ## Sources
#
# Clips judged by features where there is no truth: {cite:t}`unterthiner2018towards`. Clips of bouncing digits:
# {cite:t}`srivastava2015unsupervised`. Video prediction as a use of diffusion models: {cite:t}`ho2022video`.
