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
# # 4. Training
#
# **What does a loss of 0.03 look like - and is it normal that the first samples are soup?**
#
# We train a small video diffusion model from nothing, here and now, in under a minute, and look at its samples at every stage. Then we
# load the model that the rest of the book uses, which was trained in the same way for longer, and read how it came to be, stage by stage.
#
# *Time to run: about a minute on two CPU cores, about forty seconds on a GPU.*
#
# **You will learn** the training loss in four lines; which noise levels a batch holds and why; how foresight is taught; what averaging the weights does; what normal training looks like;
# how a run survives being killed.
#
# **You need** chapters 1 to 3, and what an optimiser does.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from vdiff_lite.workers import Workers

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.diffusion.losses import draw_noise_levels, v_loss
from vdiff_lite.training import foresight
from vdiff_lite.training.centers import centre_loss, true_centres
from vdiff_lite.training.trainer import DivergedError
from vdiff_lite.viz import sliders

device = vd.pick_device()
vd.prepare_cpu()
shipped = vd.load("digits32", device)

# %% [markdown]
# ## What training ends with

# %%
clips = vd.sample(shipped, 4, steps=20, generator=torch.Generator().manual_seed(11))
viz.show_clips(clips.cpu(), alt="A digit drawn by the shipped model moves in a box")

# %% [markdown]
# **Predict.** The network is asked for $v$, whose variance is 1. What is the loss of a network that always answers zero? And can the loss ever
# reach zero?

# %% [markdown]
# ## The mathematics
#
# Draw a clip, a level and noise; ask the network for $v$; take the squared error:
#
# $$L = \mathbb{E}_{x_0, t, \epsilon} \big\| \hat v(x_t, t) - v \big\|^2, \qquad v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0. \tag{1}$$
#
# The best possible answer is the *average* of $v$ over all clips that could have become this $x_t$. At high noise many could, so the average is a blur and the
# loss cannot reach zero. The blur is right: it is the sampler that turns it, step by step, into one clip.

# %% [markdown]
# ## Build it: the loss

# %%
schedule = vd.NoiseSchedule()


def my_loss(net, x0, t, eps):
    signal, noise = schedule.signal_and_noise(t, x0)
    xt, v = signal * x0 + noise * eps, signal * eps - noise * x0
    error = ((net(xt, t) - v) ** 2).mean(dim=(1, 3, 4))  # one number a frame
    noisy = t > 0
    return (error * noisy).sum() / noisy.sum()

# %% [markdown]
# One line is worth a second look. A frame at $t = 0$ is clean; its $v$ is pure $\epsilon$, of which the frame shows nothing. Asking for it would teach nothing and add
# noise to the gradient, so clean frames do not count.

# %%
x0 = vd.BouncingDigits().sample(4, torch.Generator().manual_seed(0)).video
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
t = draw_noise_levels(4, 16, 1000, (1, 1, 1, 1), generator=torch.Generator().manual_seed(2))
net = shipped.net.cpu()
torch.testing.assert_close(my_loss(net, x0, t, eps), v_loss(net, schedule, x0, t, eps))

print("loss of the shipped network on these clips: %.4f" % my_loss(net, x0, t, eps))
print(
    "loss of answering zero:                     %.4f"
    % my_loss(lambda x, t: torch.zeros_like(x), x0, t, eps)
)

# %% [markdown]
# ## Which errors count?
#
# An error of $v$ is an error of $x_0$ times $\sqrt{\mathrm{SNR} + 1}$. So equation 1 as it stands asks most of the network at *low* noise, for errors of $x_0$ that nobody would see. Motion
# and identity are decided at *high* noise. Weighting each frame by $1/(\mathrm{SNR} + 1)$ makes the loss the plain squared error of $x_0$ at every level
# (`weighting="x0"`); min-SNR weighting is a third choice. Here is the shipped network's error at a few levels, both ways:

# %%
real = vd.BouncingDigits(split="test").sample(8, torch.Generator().manual_seed(3)).video
noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(4))
print("level   as an error of v   of x0")
for level in (50, 200, 400, 600, 800, 1000):
    t = torch.full((8, 16), level)
    as_v, as_x0 = (v_loss(net, schedule, real, t, noise, w).item() for w in ("v", "x0"))
    print(f"{level:5} {as_v:14.4f} {as_x0:12.5f}")

# %% [markdown]
# ## Which noise levels?
#
# To serve every method of Part II, one network has to know four situations: all frames at one level (a clip from noise); every frame at its own; a clean
# past (continuing); and a past that is pure noise (the unconditional half of guidance). A batch mixes them.

# %% mystnb={"image": {"alt": "A matrix of forty clips by sixteen frames, coloured by noise level; some rows are uniform, some random, some start with black clean frames, some with white ones."}, "figure": {"caption": "Noise levels of forty training clips, sorted: one level for all, a past and a future, one level each. Dark: clean. Bright: pure noise."}}
t = draw_noise_levels(
    40, 16, 1000, (0.2, 0.1, 0.65, 0.05), 0.5, torch.Generator().manual_seed(0)
)
changes = (t.diff(dim=1) != 0).sum(
    dim=1
)  # none: same level; one: a past and a future; many: per frame
figure, axis = plt.subplots(figsize=(4, 4))
image = axis.imshow(
    t[changes.argsort(stable=True)], cmap="viridis", vmin=0, vmax=1000, aspect="auto"
)
axis.set(xlabel="frame", ylabel="clip")
figure.colorbar(image, label="noise level t");

# %% [markdown]
# One more choice hides in "random level". Drawn evenly from 1 to 1000, hardly any clip is nearly pure noise - and only there is the past all that the network has to go by: where the digit
# is going, and which digit it is, must be *carried over*, not cleaned up. The recipe crowds half of the clips towards pure noise.

# %%
for high_noise_fraction in (0.0, 0.5):
    t = draw_noise_levels(
        20_000, 1, 1000, (1, 0, 0, 0), high_noise_fraction, torch.Generator().manual_seed(0)
    )
    shares = [f"{100 * (t > level).float().mean():4.1f}%" for level in (500, 900, 970)]
    print(f"high = {high_noise_fraction}: clips above level 500, 900, 970:", *shares)

# %% [markdown]
# ## Which digit is it? Two helps for what is learned last
#
# Motion is learned early; that the digit of the first frame is the digit of the last is learned last, because most of the loss can be had without it: neighbouring frames overlap, and
# copying from a neighbour nearly always works. The recipe makes it needed in two ways. A third of the batches are **time lapses**: every second frame of a clip twice as long,
# so that neighbours overlap less. (The network is told: rotary positions count in frames of the original.) And the decoder is told during training where to look: what it **follows** (chapter 3) is pulled towards the centre of
# mass of the clean frame's brightness,
#
# $$L_c = \mathbb{E}\, \| c - \text{centroid}(x_0) \|^2 / \text{size}^2. \tag{2}$$

# %%
def centre_loss_by_hand(centres, x0):
    intensity = (x0[:, 0] + 1) / 2  # (b, f, h, w)
    places = torch.arange(x0.shape[-1]) - (x0.shape[-1] - 1) / 2
    total = intensity.sum(dim=(2, 3))
    y = (intensity.sum(dim=3) * places).sum(-1) / total
    x = (intensity.sum(dim=2) * places).sum(-1) / total
    off = torch.stack([y, x], dim=1) - centres  # (b, 2, f)
    return (off / x0.shape[-1]).square().sum(1).mean()


guess = 3 * torch.randn(4, 2, 16)
torch.testing.assert_close(centre_loss_by_hand(guess, x0), centre_loss([guess], x0))

# %% [markdown]
# ## Where will it be? Taught from trajectories
#
# Chapter 3 ended its experiment with two numbers a frame: told where the digit is, the network draws it. Foreseeing these two numbers is a small problem, but a hard one to learn beside the other: eight clips a step hold eight
# trajectories, and most of the loss is about strokes. So foresight is taught by itself. Draw many trajectories $c$ - the centres of clean clips - make up what the network would *see* of them, and ask for the truth:
#
# $$\hat c = \text{foresee}(\tilde c), \qquad \tilde c = (c + s_t z)\, \frac{\text{var}(c)}{\text{var}(c) + s_t^2}, \quad z \sim N(0, 1). \tag{3}$$
#
# A sighting is off by $s_t$ pixels, more at higher noise; and where it says little, the best guess lies near the mean, hence the fraction. No image passes a network, so a step costs little.

# %%
def my_sightings(centre, t, generator):
    alpha_bar = schedule.alpha_bar[t][..., None].float()
    s = 0.07 + 0.25 * ((1 - alpha_bar) / alpha_bar.clamp(min=1e-12)).sqrt()
    s = s.clamp(max=1e4)
    z = torch.randn(centre.shape, generator=generator)
    return (centre + s * z) * centre.var() / (centre.var() + s**2)


centre = true_centres(x0)  # (b, f, 2), pixels from the middle
t = draw_noise_levels(4, 16, 1000, (1, 1, 1, 1), generator=torch.Generator().manual_seed(2))
torch.testing.assert_close(
    my_sightings(centre, t, torch.Generator().manual_seed(0)),
    foresight.sightings(centre, t, schedule, torch.Generator().manual_seed(0)),
    rtol=1e-3,
    atol=1e-4,
)

# %% [markdown]
# Is the law $s_t = 0.07 + 0.25\,\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$ true? The tap shows what the shipped network sees in noisy clips, and we know where the digits are:

# %% mystnb={"image": {"alt": "Points on a rising curve: the error of the places that the network sees grows from a tenth of a pixel at low noise to about a pixel at level 850, close to the drawn law."}, "figure": {"caption": "How far the network's sightings are off in each direction, by noise level (points; root mean square, 16 held-out clips), and the law that foresight is taught with (line)."}}
watched = vd.BouncingDigits(split="test").sample(16, torch.Generator().manual_seed(6)).video
places = true_centres(watched)
levels, off = (50, 200, 400, 600, 700, 800, 850), []
for level in levels:
    found, at_level = {}, torch.full((16, 16), level)
    noisy = schedule.add_noise(watched, at_level, torch.randn(watched.shape))
    with torch.no_grad():
        shipped.net.to(device)(noisy.to(device), at_level.to(device), hook=found.setdefault)
    seen = found["decoder.0.temporal.seen"].cpu().mT
    off.append((seen - places).square().mean().sqrt().item())

figure, axis = plt.subplots(figsize=(6, 2.4))
line = torch.arange(20, 900, 10)
law = 0.07 + 0.25 * schedule.snr(line) ** -0.5
axis.plot(line, law, color="#666666", label="law")
axis.plot(levels, off, "o", label="measured")
axis.set(xlabel="noise level t", ylabel="off by (pixels)", yscale="log")
axis.legend(frameon=False);

# %% [markdown]
# What should the loss be? **Predict:** a foresight whose steps are one per cent too short. After a window of eleven new frames the digit is a tenth of a pixel behind, which nobody can see. What is left of its speed after 18 windows, when
# each takes the one before for the truth? And at three per cent? (The next cell prints it.)
#
# A miss of a pixel at one bounce is soon forgotten; a step that is a hundredth too short in every window is not, and the squared error hardly notices it. Two changes make it count: below a small $\beta$ only is the error
# squared, above it is taken as it is, so that rare large misses do not drown the rest; and the *steps* from frame to frame are asked for, too:
#
# $$L_f = \mathbb{E}\; \text{smooth}\ell_1(\hat c - c;\, 0.05) + 5\; \mathbb{E}\; \text{smooth}\ell_1(\Delta\hat c - \Delta c;\, 0.02), \qquad \Delta c_f = c_{f+1} - c_f. \tag{4}$$

# %%
def my_foresight_loss(told, centre):
    steps = told[:, 1:] - told[:, :-1], centre[:, 1:] - centre[:, :-1]
    smooth = lambda a, b, beta: torch.where(
        (a - b).abs() < beta, (a - b) ** 2 / (2 * beta), (a - b).abs() - beta / 2
    ).mean()
    return smooth(told, centre, 0.05) + 5 * smooth(*steps, 0.02)


print({f"{error:.0%} too short": f"{(1 - error) ** 18:.2f}" for error in (0.01, 0.03, 0.1)})
told = centre + 0.05 * torch.randn(centre.shape)
torch.testing.assert_close(
    my_foresight_loss(told, centre), foresight.foresight_loss(told, centre)
)

# %% [markdown]
# Whether it is enough can be seen without drawing a picture: give foresight the centres of five frames, and let it go on from its own, window after window (`foresight.go_on`).

# %% mystnb={"image": {"alt": "Left, the height of four digits over two hundred frames as zigzag lines between two walls, the true ones and those that foresight goes on with; they part slowly. Right, the speed relative to the beginning, which stays close to one over 18 windows."}, "figure": {"caption": "Foresight alone, over 18 windows of eleven new frames. Left: the height of four held-out digits, true (grey) and gone on with from the first five frames (colour). Right: the speed, relative to that of the five given frames; median, and the middle half, of 64 digits."}}
generator = torch.Generator().manual_seed(8)
long = vd.BouncingDigits(split="test", num_frames=203).sample(64, generator).video
truth = true_centres(long)
gone = foresight.go_on(shipped.net.cpu(), truth[:, :5], windows=18)
speed = gone.diff(dim=1).norm(dim=-1)
ratio = [speed[:, n : n + 11].mean(1) / speed[:, :4].mean(1) for n in range(4, 202, 11)]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), gridspec_kw=dict(width_ratios=(2, 1)))
left.plot(truth[:4, :, 0].T, color="#bbbbbb", lw=1)
left.plot(gone[:4, :, 0].T, lw=1)
left.set(xlabel="frame", ylabel="row (pixels)")
low, middle, high_noise_fraction = torch.stack(ratio).quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
right.fill_between(range(1, 19), low, high_noise_fraction, alpha=0.2)
right.plot(range(1, 19), middle)
right.axhline(1, color="#666666", lw=0.5)
right.set(xlabel="window", ylabel="speed", ylim=(0, 1.6))
figure.tight_layout();

# %% [markdown]
# Two things more belong to the lessons. What is far away in time may be of another clip: in every fifth batch the first frames come from elsewhere, placed twelve frames back or more. Chapter 7 keeps such frames in sight for ever, as a memory of *what* is
# shown, and foresight must not take them for the past of the motion. And when the rest of the network has learned, the lessons go on: `foresight.watch` collects what the network really sees in noisy clips, and two batches in five
# are of that instead of equation (3). Paths run backwards in every other batch: a digit that bounces without loss may, and a foresight that shortens its steps has to lengthen them on the way back. What the lessons bought is measured further down.
#
# ## A past with its own mistakes
#
# A clip that goes on for ever has a past that the network drew itself: nearly right, never quite. A network that has seen true pasts alone takes each small error for the digit, and adds to it, window after window. Here is an idea
# to cure that: in some batches the first four frames are the data's, the next four are what the network draws after them, in four coarse steps, and what it has to denoise are the
# *true* frames after those. It never sees more than 16 frames; it only learns not to trust its own hand too far {cite:p}`bengio2015scheduled,huang2025self`. (How the four frames are drawn is the subject of chapters 5 and 7.) Predict what comes of it;
# the answer is further down.

# %% mystnb={"image": {"alt": "Three film strips: the true clip; the same with its fifth to eighth frame drawn by the network, hardly to be told apart; and ten times the difference, in which the edges of the strokes show in those four frames alone."}, "figure": {"caption": "Above a true clip, in the middle the same with frames 5 to 8 as the network draws them after the first four, below ten times the difference."}}
trainer = vd.Trainer(
    vd.VideoUNet().to(device), schedule, vd.BouncingDigits(), device=device
)
trainer.ema = [p.detach().clone() for p in shipped.net.to(device).parameters()]
true = vd.BouncingDigits().sample(4, torch.Generator().manual_seed(5)).video.to(device)
own, levels, _, _ = trainer.self_rollout(
    true, torch.randn_like(true), torch.arange(16), torch.Generator().manual_seed(0)
)
own_frames = true.clone()
own_frames[:, :, 16 - own.shape[2] :] = own
print("noise levels of one clip:", levels[0].tolist())
drawn = (own_frames - true)[:, :, 4:8].square().mean().sqrt()
print(f"the drawn frames are off by {drawn:.3f} (root mean square; pixels span -1 to 1)")

viz.film_strip(
    [x[1].cpu() for x in (true, own_frames, 10 * (own_frames - true).abs() - 1)],
    ["true", "own past", "difference x 10"],
);

# %% [markdown]
# ## Build it: the loop
#
# A smaller world, so that it fits into a minute: frames of 24 by 24, 8 of them, a network of two levels. The optimiser is Muon for matrices and AdamW for the rest: on two cores
# it needs clearly fewer steps. `optimizer.py` has it in forty lines.

# %%
from vdiff_lite.training.optimizer import make_optimizer

config = vd.VideoUNetConfig(size=24, channels=(32, 64), num_middle=1)
data = vd.BouncingDigits(size=24, num_frames=8)
torch.manual_seed(0)
net = vd.VideoUNet(config).to(device)
optimizer = make_optimizer(net, lr=5e-3, matrix_lr=0.03)
ema = [p.detach().clone() for p in net.parameters()]
losses, samples, batch, total = [], {}, 16, 120

def one_step(n):
    generator = torch.Generator().manual_seed(n)
    x0 = data.sample(batch, generator).video
    t = draw_noise_levels(batch, 8, 1000, (0.5, 0.1, 0.4, 0.0), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    factor = min(1, (n + 1) / 20) * min(1, 2.5 * (1 - n / total))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    x0, seen = x0.to(device), {}
    loss = my_loss(
        lambda xt, t: net(xt, t, hook=seen.setdefault), x0, t.to(device), eps.to(device)
    )
    centres = [centre for site, centre in seen.items() if site.endswith(".centre")]
    optimizer.zero_grad()
    (loss + centre_loss(centres, x0)).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return loss.item()

# %% [markdown]
# The last steps of a run jitter around a good place. An exponential average of the weights sits in the middle of the jitter, and is what we sample with.

# %%
def averaged_copy():
    copy = vd.VideoUNet(config).to(device)
    for p, value in zip(copy.parameters(), ema):
        p.data.copy_(value)
    return vd.Denoiser(copy.eval(), schedule)


for n in range(total):
    losses.append(one_step(n))
    torch._foreach_lerp_(
        ema, [p.data for p in net.parameters()], 1 - min(0.98, (1 + n) / (10 + n))
    )
    if n + 1 in (1, 15, 30, 60, 120):
        samples[n + 1] = vd.sample(
            averaged_copy(), 1, 8, steps=15, generator=torch.Generator().manual_seed(2)
        )[0]

# %% mystnb={"image": {"alt": "The loss falls from about one to below a tenth within the first hundred steps, then slowly."}, "figure": {"caption": "The loss of each step and its running mean. The vertical axis is logarithmic."}}
running = torch.tensor(losses).unfold(0, 20, 1).mean(-1)
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.plot(range(1, total + 1), losses, color="#bbbbbb", lw=0.8, label="each step")
viz.plot_lines(axis, range(20, total + 1), {"mean of 20": running})
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %% mystnb={"image": {"alt": "Film strips of samples after 1, 15, 30, 60 and 120 steps: from grey noise over a drifting cloud to a bright blob with the size and motion of a digit."}, "figure": {"caption": "One clip from the same noise, at five stages."}}
viz.film_strip(list(samples.values()), [f"step {n}" for n in samples]);

# %% [markdown]
# :::{admonition} Is this normal?
# :class: tip
#
# Yes. The loss falls fast at first - the network learns that frames are mostly black - and then slowly, while the samples improve most. A flat loss is not
# a stuck run: compare *samples*, and the loss at *high* noise, which is where motion and layout are decided.
#
# | you see | it means |
# |---|---|
# | loss near 1 for hundreds of steps | the network is not learning: check the range of the clips, the levels, the learning rate |
# | loss jumps by a factor of 2 from step to step | normal: each batch draws other noise levels. Look at the running mean |
# | samples are grey clouds, loss 0.1 | normal after a minute; the cloud should already move |
# | good strokes, digit changes along the clip | normal until late: identity is learned last |
# | `nan` | the learning rate is too high; `Trainer` stops and says at which step |
# :::

# %% [markdown]
# ## Meet the twin
#
# `Trainer` is this loop, with warm-up, a schedule, a progress bar, and files. The random numbers of step $n$ depend on the seed and on $n$ alone, so a run that was killed
# and taken up again ends with *the same bytes* as one that was not. One thing differs from the loop above: on a CPU the clips of a batch are shared out among threads, four or more to each (`workers.py`). The gradient of a sum of losses is the sum of their gradients, so each
# thread can take its own from end to end, and they wait for each other once a step instead of after each of its thousands of operations. The answer is the same up to rounding:

# %%
def new_trainer(batch=2):
    torch.manual_seed(0)
    recipe = vd.TrainConfig(steps=4, batch=batch, frames=4, warmup=1, decay=2)
    return vd.Trainer(vd.VideoUNet(config), schedule, data.with_frames(4), recipe)


straight, cut = new_trainer(), new_trainer()
for progress in straight.run(bar=False):
    pass
state = Path(tempfile.mkdtemp()) / "state.safetensors"
for progress in cut.run(bar=False):
    if progress.step == 2:
        cut.save(state)
        break
resumed = new_trainer().resume(state)
for progress in resumed.run(bar=False):
    pass

assert all(torch.equal(a, b) for a, b in zip(straight.ema, resumed.ema))

alone, shared = new_trainer(batch=8), new_trainer(batch=8)
alone.workers, shared.workers = Workers(1), Workers(2)
torch.testing.assert_close(alone.train_step(), shared.train_step())
for a, b in zip(alone.net.parameters(), shared.net.parameters()):
    if a.grad is not None:
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
straight.losses

# %% [markdown]
# ## The shipped model
#
# Its card lies beside the weights and says how it came to be, stage by stage. The first stage is a run from nothing, without foresight. Then foresight is taught, and in the second stage the whole network learns on with it, at a lower rate; half
# of its clips are drawn from noise and a third of its steps are on single frames. At the end foresight is taught once more. `make train` runs the same again, but for
# lessons that were given while the method was still being found: the shipped weights had their first 3,000 with the first term of equation (4) alone and $\beta = 0.5$, and of those at the end only the last 3,000 with paths that run backwards.

# %%
print(f"{shipped.card['parameters']:,} parameters, trained on {shipped.card['data']}")
stages = checkpoint.stages(shipped.card)
for n, stage in enumerate(stages, 1):
    recipe = stage["recipe"]
    print(f"stage {n}: {stage['steps']:,} steps of {recipe['batch']} clips of 16 frames")
    print("  same level, per frame, clean past, dropped past:", recipe["mix"])
    print("  noise levels crowded:", recipe["high"], "  time lapse:", recipe["time_lapse"])
    print("  steps on short clips:", recipe["short_steps"])
    before, after = recipe.get("foresight", 0), recipe.get("foresight_after", [])
    print("  steps of foresight before and after:", before, after)

# %% mystnb={"image": {"alt": "The loss of the shipped model over its training steps; after a steep fall it keeps falling slowly, and once more at the end as the learning rate goes down."}, "figure": {"caption": "The full loss curve of digits32. Grey: steps on clips of 8 frames. Dotted: from here on, the learning rate falls. The second stage draws other noise levels and single frames, so that its loss does not compare with that of the first."}}
figure, axis = plt.subplots(figsize=(7, 2.6))
before = 0
for n, stage in enumerate(stages, 1):
    recipe, (steps, loss) = stage["recipe"], zip(*stage["loss_curve"])
    end = before + stage["steps"]
    axis.axvspan(before, before + recipe["short_steps"], color="#eeeeee")
    axis.axvline(end - recipe["decay"], color="#666666", ls=":")
    axis.plot([before + step for step in steps], loss, label=f"stage {n}")
    before = end
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log")
axis.legend(frameon=False);

# %% [markdown]
# ## What each stage bought
#
# Every stage was judged in the same way (`book/_tools/stages.py`): continued from five frames of held-out clips, drawn from nothing, and rolled out over many windows. Horizon is the frame at which the first check of chapter 6 fails.

# %%
def print_stages(judged, names):
    one = judged[0]
    print(f"{one['clips']} held-out clips, {one['steps']} DDIM steps, rolled out", end=" ")
    print(f"over {one['long']['frames']} frames\n")
    print(f"{'':26}PSNR at new frame   from noise, first = last    rollout   foresight alone,")
    print(f"{'':26} 1     5    11       shape      digit     digit  horizon   speed after 18")
    for name, one in zip(names, judged, strict=True):
        db = "".join(f"{value:6.1f}" for value in one["psnr"].values())
        shape, digit = (one["from_noise"][f"same_{k}"] for k in ("shape", "digit"))
        right, lived = one["long"]["identity"], one["long"]["time_to_first_failure"][0]
        speed = f"{one['speed_after_18']:15.2f}" if one.get("speed_after_18") else ""
        print(f"{name:23}{db} {shape:10.2f} {digit:10.2f} {right:9.2f} {lived:8.1f}{speed}")


judged = json.loads(Path("../data/results/stages.json").read_text())
assert judged[0]["sha256"] == stages[0]["sha256"]
assert judged[-1]["sha256"] == shipped.card["sha256"]
names = ["first stage", "foresight taught", "second stage", "taught once more"]
print_stages(judged, names)

# %% [markdown]
# The second line is the first one's network, weight for weight; nothing was added but minutes of trajectories. The same holds for the last and the third: in the second stage foresight was trained along, eight clips a step, and forgot how to keep
# its speed (last column); the lessons at the end brought that back and put the new frames where they belong. What they could not change is how long the *digit* is read as the same one: over 66 frames it fails before the motion does, and the
# horizon with it.
#
# And training on without foresight? That was tried, too: the first stage was followed by four runs, each from where the one before
# ended, with pasts of the network's own making, with true pasts again, and twice with half of the steps on single frames.

# %%
tried = json.loads(Path("../data/results/own_pasts.json").read_text())
assert tried[0]["sha256"] == stages[0]["sha256"]
names = ["first stage", "own pasts", "true pasts", "half on frames", "half on frames"]
names = [f"{one['recipe']['steps']:6,} {name}" for one, name in zip(tried, names)]
print_stages(tried, names)

# %% [markdown]
# - *Own pasts*: the network did what it was asked, and that was wrong. The drawn pasts were slightly off, and it was told that they were clean (level 0); so it learned to trust no past, true ones included, and
#   the first new frame lost the most. A past that holds errors has to be announced as one, by a noise level of its own.
# - *True pasts* for a few more steps, at a low rate, bring most of it back.
# - *Half on frames*: many more digits in the same time. Shapes that come from nothing now stay what they are; that they are *digits* improves less.
# - And the first column: more than twice as many steps again, and the next frame is predicted no better. What was missing was not training, it was a way to say where things go.
#
# The runs differ in more than one setting, so the tables say what happened, and the causes above are our reading of it.

# %% [markdown]
# ## Play
#
# How good is it at each noise level? The slider shows the network's guess for the same clip and noise from level 100 to 1000. At 1000 there is nothing to see but noise, and
# the guess is the average of all clips.

# %%
real = vd.BouncingDigits(split="test").sample(1, torch.Generator().manual_seed(7)).video
eps = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
levels = list(range(100, 1001, 100))
shipped.net.to(device)
xt = torch.cat([schedule.add_noise(real, torch.tensor([t]), eps) for t in levels])
guess = shipped(xt.to(device), torch.tensor(levels, device=device)).cpu()

both = torch.cat([xt.clamp(-1, 1), guess], dim=-1)
sliders.picture_slider(
    sliders.clip_pictures(both[:, :, ::2]),
    levels,
    "noise level t",
    "Left the noisy clip, right the guess.",
    start=5,
)

# %% [markdown]
# ## What breaks, and how to see it
#
# A learning rate that is far too high. Sometimes the loss falls for a few steps and then stays at a value that looks reasonable if you do not know better; sometimes a gradient is not a
# number any more, and then `Trainer` stops and says at which step. A rate that is only a few times higher can even look *better* over so few steps: short runs flatter high learning rates.

# %% mystnb={"image": {"alt": "Three loss curves over forty steps: the recipe's falls smoothly, five times the rate falls faster at first, a hundred times the rate jumps and breaks off or stays high."}, "figure": {"caption": "Forty steps with the recipe's learning rates, five times and a hundred times as much. A line that ends early is a run that was stopped."}}
def short_run(factor, steps=40):
    torch.manual_seed(0)
    rates = dict(lr=1e-3 * factor, matrix_lr=0.015 * factor)
    recipe = vd.TrainConfig(steps=steps, batch=8, frames=8, warmup=5, decay=1, **rates)
    trainer = vd.Trainer(vd.VideoUNet(config), schedule, data, recipe, device)
    try:
        for progress in trainer.run(bar=False):
            pass
    except DivergedError as stop:
        print(f"lr x {factor} stopped at {stop}")
    return trainer.losses + [float("nan")] * (steps - len(trainer.losses))


runs = {f"lr x {factor}": short_run(factor) for factor in (1, 5, 100)}

figure, axis = plt.subplots(figsize=(7, 2.4))
viz.plot_lines(axis, range(1, 41), runs)
axis.set(xlabel="step", ylabel="loss (per pixel)", yscale="log");

# %% [markdown]
# ## Recap
#
# Training asks for $v$ at random noise levels and takes the squared error over the noisy frames. A batch mixes clips from noise with clips that have a clean past, so that one
# network serves every method later; time lapses and a hint where to look make it learn which digit it is; where things go is learned from trajectories alone, in minutes. A past that it drew itself must be announced as one. Judge a run by its samples: the loss is nearly flat while they get good.
#
# ## Exercises
#
# 1. **Predict.** What happens to clips from noise if the mix holds *only* clean-past clips?
# 2. **Code.** Change `my_loss` so that it counts clean frames too. How does the loss of the shipped network change, and why can no network do better?
# 3. **Explore.** Sample with `net` instead of the averaged copy. What does averaging buy after 120 steps?
#
# :::{dropdown} Solutions
# 1. The network never sees a clip whose first frame is noisy, so it has to guess what it was never asked. Expect clips that flicker between digits: it has learnt to lean on a
#    clean frame that is not there.
# 2. Replace the last line by `return error.mean()`. For a clean frame $v = \epsilon$ is independent of everything the network sees, so its best answer is zero and the error is 1.
# 3. `vd.sample(vd.Denoiser(net, schedule), ...)`. With the learning rate brought down at the end the difference is small; without that it is large. Both remove the jitter.
# :::
#
# ## Sources
#
# The loss: {cite:t}`ho2020denoising`, Eq. 14, in the form of {cite:t}`salimans2022progressive`. Even spread of levels: {cite:t}`kingma2021variational`. Pasts of its own making: {cite:t}`bengio2015scheduled` for sequences,
# {cite:t}`huang2025self` for video. A level per
# frame: {cite:t}`chen2024diffusion`. Muon: {cite:t}`jordan2024muon`; AdamW: {cite:t}`loshchilov2019decoupled`. An optional weighting (`min_snr`): {cite:t}`hang2023efficient`.
