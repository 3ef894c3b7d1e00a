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
# # Use your own network
#
# **You have a denoiser. One line makes it run in every sampler, in `rollout`, and in every method that it has the parts for.**
#
# The page adapts a bare function, networks that predict $x_0$, $\epsilon$ or $v$, and a UNet from `diffusers`. It continues a clip with each
# of them, composes them with guidance, and trains a small network of its own.
#
# *Time to run: about twenty-five seconds on two CPU cores.*

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
import textwrap

import pandas as pd
import torch
from torch import nn

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.methods import METHODS, history_guidance, injection, reconstruction, replacement
from vdiff_lite.viz.tables import show_table

vd.prepare_cpu()
seeded = lambda seed: torch.Generator().manual_seed(seed)
schedule = vd.NoiseSchedule()

# %% [markdown]
# ## A denoiser to adapt
#
# So that there is something to see without a long training, our first network knows twelve films by heart: windows $c_i$ of 16 frames, cut
# from clips of 49. If these were all the videos in the world, the right answer to a noisy clip would be their average, each weighted by how
# well it explains what is seen:
#
# $$\hat x_0 = \sum_i w_i\, c_i, \qquad w_i \propto \exp\Big(-\sum_f \frac{\lVert x_{t,f} - \sqrt{\bar\alpha_f}\, c_{i,f}\rVert^2}{2\,(1 - \bar\alpha_f)}\Big).$$
#
# The sum runs over frames $f$, each at its own noise level. That is one plain function of `xt` and `t`. It knows nothing of this library.

# %%
window, overlap = 16, 5
films = vd.BouncingDigits(num_frames=49).sample(12, seeded(0)).video
windows = films.unfold(2, window, window - overlap)  # (films, 1, starts, h, w, window)
windows = windows.permute(0, 2, 1, 5, 3, 4).flatten(0, 1).contiguous()


def recall(xt, t, sharpness=1.0):
    """The exact denoiser of a world that holds `windows` and nothing else: xt (b, 1, f, h, w) -> x0_hat."""
    t = t[:, None].expand(-1, xt.shape[2]) if t.ndim == 1 else t
    signal, noise = schedule.signal_and_noise(t, xt)
    known = windows[:, :, :xt.shape[2]].flatten(1)
    precision = 1 / noise.clamp(min=1e-2) ** 2
    cross = (precision * signal * xt).flatten(1) @ known.T
    power = (precision * signal**2).expand_as(xt).flatten(1) @ (known**2).T
    return ((sharpness * (cross - power / 2)).softmax(dim=1) @ known).view_as(xt)


windows.shape

# %% [markdown]
# ## One line: a function
#
# `Denoiser.from_function` needs the noise schedule and the shape of one frame, `(c, h, w)`. What comes out is a denoiser like any other.
# `sample` draws clips from noise with it. `rollout` continues one for as long as you like.

# %%
denoiser = vd.Denoiser.from_function(recall, schedule, sample_shape=(1, 32, 32))
drawn = vd.sample(denoiser, clips=2, num_frames=window, steps=10, generator=seeded(1))
past = films[:6, :, :overlap]
frames = list(vd.rollout(denoiser, past, num_frames=44, window=window, overlap=overlap, generator=seeded(2)))
rolled = torch.cat([past, torch.stack(frames, dim=2)], dim=2)
drawn.shape, rolled.shape

# %% mystnb={"image": {"alt": "Four film strips: two clips drawn from noise, each a moving digit; then a true film of 49 frames and the same film continued from its first five frames, which look alike."}, "figure": {"caption": "Rows 1 and 2: two clips from noise, all their frames. Rows 3 and 4: a film of 49 frames and its continuation from its first five frames, every third frame (column n is frame 3n; blue: frames given). The function knows the film, so the continuation is the film."}}
viz.film_strip([drawn[0], drawn[1], films[0, :, ::3][:, :16], rolled[0, :, ::3][:, :16]],
               ["noise 1", "noise 2", "true film", "rollout"], num_context=[0, 0, 0, 2]);

# %% [markdown]
# The function knows the film, so every continuation has a right answer. We use it to check each adapter below: the root mean squared error
# (RMSE) of the new frames, in pixels that span $[-1, 1]$. 0 is right. Another film is off by about 0.4.

# %%
def rmse(clip):
    error = clip[:, :, overlap:] - films[:len(clip), :, overlap:clip.shape[2]]
    return error.square().mean().sqrt().item()


round(rmse(rolled), 3), round(rmse(films[6:, :, :window]), 3)

# %% [markdown]
# ## One line: a network that predicts $x_0$, $\epsilon$ or $v$
#
# A network may say the same thing in three ways (chapter 2). Here are three modules that do:

# %%
class PredictsX0(nn.Module):
    def forward(self, xt, t):
        return recall(xt, t)


class PredictsEps(nn.Module):
    def forward(self, xt, t):
        return eps_schedule.eps_from_x0(xt, t, recall(xt, t))


class PredictsV(nn.Module):
    def forward(self, xt, t):
        x0_hat = recall(xt, t)
        return schedule.v(x0_hat, t, schedule.eps_from_x0(xt, t, x0_hat))

# %% [markdown]
# `predicts=` names what comes out. One thing to know about $\epsilon$: at $\bar\alpha_t = 0$ the noise says nothing about the clip. A network
# that predicts $\epsilon$ therefore needs a schedule that stops just short of pure noise. The library checks this:

# %%
try:
    vd.Denoiser(PredictsEps(), schedule, sample_shape=(1, 32, 32), predicts="eps")
except ValueError as error:
    print(textwrap.fill(str(error), 84))

# %%
eps_schedule = vd.NoiseSchedule(zero_terminal_snr=False)
shape = (1, 32, 32)
denoisers = {
    "function": denoiser,
    "x0": vd.Denoiser(PredictsX0(), schedule, shape, predicts="x0"),
    "eps": vd.Denoiser(PredictsEps(), eps_schedule, shape, predicts="eps"),
    "v": vd.Denoiser(PredictsV(), schedule, shape, predicts="v"),
}
t = torch.tensor([600])
xt = schedule.add_noise(films[:1, :, :window], t, torch.randn(1, 1, window, 32, 32, generator=seeded(3)))
for name in ("x0", "eps", "v"):
    torch.testing.assert_close(denoisers[name](xt, t), denoiser(xt, t), rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## Every method that needs no hooks
#
# A method takes a denoiser and the past, and returns a denoiser. We give each method to each of the four and continue six films by one
# window. The table holds the RMSE of the new frames.

# %%
def try_method(name, denoiser, **settings):
    """RMSE of one continued window over six films."""
    method = METHODS[name](denoiser, past, **settings)
    xt = torch.randn(6, 1, window, 32, 32, generator=seeded(4))
    with torch.no_grad():
        return rmse(vd.run_sampler(vd.ddim(method, xt, denoiser.schedule, steps=12)))


settings = {"copy_last": {}, "independent": {}, "history_guidance": dict(weight=1.5),
            "fractional_history_guidance": {}, "temporal_history_guidance": dict(weights={5: 1.2, 2: 0.3}),
            "replacement": {}, "reconstruction": dict(weight=2.0)}
table = pd.DataFrame({kind: {name: try_method(name, each, **kwargs) for name, kwargs in settings.items()}
                      for kind, each in denoisers.items()})
show_table(table, "RMSE of one continued window over six films")

# %% [markdown]
# The four columns agree, which is the point of the table. The rows differ, as they should. History guidance puts the clean past into
# the window, and this function knows what to do with it. Replacement and reconstruction guidance use only what the function says about whole
# clips at one noise level, and here that is often another film. Chapters 7 and 8 measure the same methods on a trained network.

# %% [markdown]
# ## They compose
#
# What wraps a denoiser is a denoiser: clipping, autoguidance, a method bound to a past. *Autoguidance* {cite:p}`karras2024guiding` goes from the
# estimate of a worse network past that of the better one, $\hat x_\text{worse} + w\,(\hat x_\text{good} - \hat x_\text{worse})$.

# %%
less_sure = lambda xt, t: recall(xt, t, sharpness=0.1)  # of which film it is
weak = vd.Denoiser.from_function(less_sure, schedule, shape)
composed = {
    "history_guidance(clip_denoised(d), past)": history_guidance(vd.clip_denoised(denoiser), past, 1.5),
    "history_guidance(autoguided(d, weak), past)": history_guidance(vd.autoguided(denoiser, weak, 1.2), past),
    "reconstruction(clip_denoised(d), past)": reconstruction(vd.clip_denoised(denoiser), past, 2.0),
}
xt = torch.randn(6, 1, window, 32, 32, generator=seeded(4))
with torch.no_grad():
    clips = {name: vd.run_sampler(vd.ddim(each, xt, schedule, steps=12)) for name, each in composed.items()}
show_table(pd.DataFrame({"RMSE": {name: rmse(clip) for name, clip in clips.items()}}), "Composed denoisers")

# %% [markdown]
# ## Train a network of your own
#
# `Trainer` takes any `nn.Module` called as `net(xt, t)`. It trains $v$ with the loss of chapter 4. `t` comes as `(b, f)`, one level per frame,
# because a network that has seen clean frames beside noisy ones in training can use a clean past later. Here is one in a few lines, trained
# for thirty steps. That is enough to see the loss fall and far too little for a digit. Of the settings,
# `short_steps` is how many steps train on clips of half the length first, and `noise_mix` (below) gives the fractions of clips with one level
# for all frames, a level per frame, a clean past, and a past of pure noise.

# %%
class TinyNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.enter = nn.Conv3d(2, c, 3, padding=1)
        self.middle = nn.Conv3d(c, c, 3, padding=1)
        self.leave = nn.Conv3d(c, 1, 3, padding=1)

    def forward(self, xt, t):
        t = t[:, None].expand(-1, xt.shape[2]) if t.ndim == 1 else t
        level = (t / 1000)[:, None, :, None, None].expand_as(xt)
        x = self.enter(torch.cat([xt, level], dim=1)).relu()
        return self.leave(self.middle(x).relu())


torch.manual_seed(0)
config = vd.TrainConfig(steps=30, batch=4, frames=8, short_steps=0, warmup=5, decay=20, lr=3e-3)
trainer = vd.Trainer(TinyNet(), schedule, vd.BouncingDigits(), config)
for progress in trainer.run(bar=False):
    pass
own = trainer.ema_denoiser()
[round(loss, 2) for loss in (trainer.losses[0], trainer.losses[-1])]

# %% [markdown]
# ## What needs hooks says so
#
# Feature injection reads and changes features *inside* the network, so the network has to offer them.

# %%
try:
    injection(own, past)
except ValueError as error:
    print(textwrap.fill(str(error), 84))

# %% [markdown]
# A hook is one parameter and one line. `forward` takes `hook=None`, and where a feature is ready it calls `hook(name, feature)` and goes on with
# what comes back. The feature has the frames in dimension 2: here `(b, c, f, h, w)`.

# %%
class HookedNet(TinyNet):
    def forward(self, xt, t, hook=None):
        t = t[:, None].expand(-1, xt.shape[2]) if t.ndim == 1 else t
        level = (t / 1000)[:, None, :, None, None].expand_as(xt)
        x = self.enter(torch.cat([xt, level], dim=1)).relu()
        x = self.middle(x).relu()
        x = hook("middle", x) if hook else x
        return self.leave(x)


net = HookedNet()
net.load_state_dict(own.net.state_dict())
hooked = vd.Denoiser(net, schedule, shape)
torch.testing.assert_close(hooked(xt, torch.full((6,), 500)), own(xt, torch.full((6,), 500)))

# %% [markdown]
# The same weights now run with injection. `sites` is the name that our hook gives; `prepend=False` because this feature is an output, not keys
# and values.

# %%
injected = injection(hooked, past, sites="middle", prepend=False, blend=1.0)
level = torch.full((6,), 500)
with torch.no_grad():
    change = (injected(xt, level) - hooked(xt, level)).abs().amax((0, 1, 3, 4))
show_table(pd.DataFrame({"change": change[:8]}).rename_axis("frame"),
           "Largest change of x0_hat, frame by frame")

# %% [markdown]
# The five frames of the overlap change, and the sixth, which a convolution of three frames reaches. Beyond it nothing does (the later frames are not listed): this
# network has no attention to carry the past further.

# %% [markdown]
# ## A UNet from diffusers
#
# `UNet2DModel` takes images with any number of channels. We give it the frames of a clip as channels. It knows one noise level per clip, so
# the adapter takes the highest, and it counts levels from 0 where we count from 1. The module around it is all there is to do.
#
# What this does not cover: frames as channels fix the length of the window. Clips are pixels in $[-1, 1]$, without latents and without a text
# condition. The schedule must be one that `NoiseSchedule` can make: an array of your own, such as `alphas_cumprod`, is not read yet. Most
# pretrained UNets of diffusers predict $\epsilon$: give `predicts="eps"` and a schedule with `zero_terminal_snr=False`, as above.

# %%
from diffusers import UNet2DModel


class FramesAsChannels(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, xt, t):
        level = (t.amax(1) if t.ndim == 2 else t).clamp(min=1) - 1
        return self.unet(xt[:, 0], level).sample[:, None]


torch.manual_seed(0)
unet = UNet2DModel(sample_size=32, in_channels=8, out_channels=8, block_out_channels=(32, 64),
                   down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
                   layers_per_block=1, norm_num_groups=8)
config = vd.TrainConfig(steps=40, batch=8, frames=8, short_steps=0, warmup=5, decay=30,
                        noise_mix=(1, 0, 0, 0))
trainer = vd.Trainer(FramesAsChannels(unet), schedule, vd.BouncingDigits(), config)
for progress in trainer.run(bar=False):
    pass
# The weights, averaged; without averaging: vd.Denoiser(FramesAsChannels(unet), schedule, (1, 32, 32), "v")
adapted = trainer.ema_denoiser()  # trained here, so it predicts v; a pretrained UNet mostly predicts eps

# %%
method = lambda d, past: replacement(vd.clip_denoised(d), past)
frames = list(vd.rollout(adapted, past[:1], num_frames=3, window=8, overlap=5, method=method,
                         generator=seeded(5)))
drawn = vd.sample(adapted, clips=1, num_frames=8, steps=25, generator=seeded(6))
continued = torch.cat([past[:1], torch.stack(frames, dim=2)], dim=2)

# %% mystnb={"image": {"alt": "Two film strips of eight frames by a UNet from diffusers after forty training steps: speckles on black; after five given frames of a digit a brighter patch of speckles follows where the digit was."}, "figure": {"caption": "The adapted UNet after forty steps: a clip from noise, and five given frames (blue) with the three that follow. It runs. It needs proper training before it draws a digit."}}
viz.film_strip([drawn[0], continued[0]], ["noise", "continued"], num_context=[0, 5]);

# %% [markdown]
# ## What your network has to offer
#
# | it accepts | then these run |
# |---|---|
# | `net(xt, t)` with `t` of shape `(b,)`: one level per clip | every sampler, `independent`, `copy_last`, `replacement`, `reconstruction` |
# | `t` of shape `(b, f)`, trained with clean frames beside noisy ones | also `history_guidance`, its fractional and temporal forms, and `rollout` as it stands |
# | `hook=None` | also `injection` |
# | `positions=None`, where the frames stand in time | also `injection` of prepended keys and values, `anchored_history` |
# | `hook` and `condition` | also `history_encoder`, once an encoder is trained |
#
# `positions` holds the time index of each frame: `denoiser(clip, t, positions=torch.tensor([-14, -13, 0, 1, 2]))` is a window of three frames
# behind two that are older. A network uses them in its attention along time (chapter 3).
#
# The defaults of `rollout` put a clean past into the window. A network that knows one level per clip wants another `method=`, as in the last
# example.
