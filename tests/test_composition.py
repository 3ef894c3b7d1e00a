"""What wraps a denoiser is a denoiser: everything composes, with any network."""

import copy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from conftest import rounded
from diffusers import UNet3DConditionModel
from torch import nn

import vdiff_lite as vd
from vdiff_lite.diffusion.denoiser import Denoiser, DenoiserWrapper, NFECounter
from vdiff_lite.methods import (
    METHODS,
    anchored_history,
    copy_last,
    fractional_history_guidance,
    history_guidance,
    independent,
    injection,
    reconstruction,
    replacement,
    temporal_history_guidance,
)

T = torch.tensor([500])
HOOKLESS = {"independent": independent, "copy_last": copy_last,
            "history_guidance": history_guidance,
            "vanilla, weight 2": lambda d, past: history_guidance(d, past, 2.0),
            "fractional": fractional_history_guidance,
            "temporal": lambda d, past: temporal_history_guidance(d, past, {2: 1.5, 1: 0.5}),
            "replacement": replacement,
            # A small weight: an untrained eps at alpha_bar near 0 gives a very large x0_hat.
            "reconstruction": lambda d, past: reconstruction(d, past, 1e-4)}


def clip(f, seed=0, b=1):
    return torch.randn(b, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


@pytest.fixture
def weak(small_denoiser):
    net = copy.deepcopy(small_denoiser.net)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.9)
    return Denoiser(net, small_denoiser.schedule)


def wrappers(denoiser, weak):
    past = clip(2)
    return {"clip_denoised": vd.clip_denoised(denoiser), "autoguided": vd.autoguided(denoiser, weak, 1.5),
            "counter": NFECounter(denoiser), "anchored": anchored_history(denoiser, past, clip(2, seed=5)),
            "injection": injection(denoiser, past),
            **{name: method(denoiser, past) for name, method in HOOKLESS.items()}}


def test_every_wrapper_is_a_denoiser_of_the_same_schedule_shape_and_device(small_denoiser, weak):
    for name, wrapped in wrappers(small_denoiser, weak).items():
        assert isinstance(wrapped, nn.Module) and isinstance(wrapped, Denoiser), name
        assert wrapped.schedule is small_denoiser.schedule, name
        assert wrapped.sample_shape == (1, 16, 16) and wrapped.device == small_denoiser.device, name
        with torch.no_grad():
            assert wrapped(clip(5, 1), T).shape == (1, 1, 5, 16, 16), name


def test_a_wrapper_moves_and_counts_its_parameters_as_a_module(small_denoiser):
    wrapped = history_guidance(vd.clip_denoised(small_denoiser), clip(2), 2.0)
    count = lambda module: sum(p.numel() for p in module.parameters())
    assert count(wrapped) == count(small_denoiser) and wrapped.net is small_denoiser.net
    assert next(wrapped.to(torch.float64).parameters()).dtype == torch.float64


def test_guidance_on_a_clipped_denoiser_is_guidance_on_clipped_estimates(small_denoiser):
    past, xt = clip(2), 3 * clip(5, 1)
    with torch.no_grad():
        a, b = (history_guidance(vd.clip_denoised(small_denoiser), past, w)(xt, T) for w in (0.0, 1.0))
        both = history_guidance(vd.clip_denoised(small_denoiser), past, 3.0)(xt, T)
        plain = history_guidance(small_denoiser, past, 3.0)(xt, T)
    assert max(a.abs().max(), b.abs().max()) <= 1 and (plain - both).abs().max() > 1e-3
    torch.testing.assert_close(both, a + 3 * (b - a), rtol=1e-4, atol=1e-4)


def test_guidance_on_an_autoguided_denoiser_guides_both_networks(small_denoiser, weak):
    past, xt = clip(2), clip(5, 1)
    with torch.no_grad():
        made = history_guidance(vd.autoguided(small_denoiser, weak, 2.0), past, 1.5)(xt, T)
        good, bad = (history_guidance(d, past, 1.5)(xt, T) for d in (small_denoiser, weak))
    torch.testing.assert_close(made, bad + 2 * (good - bad), rtol=1e-3, atol=1e-3)


def test_reconstruction_around_history_guidance_has_no_error_left_to_guide_by(small_denoiser):
    past, xt, record = clip(2), clip(5, 1), []
    guided = history_guidance(small_denoiser, past, 1.5)
    made = reconstruction(guided, past, 10.0, record=record)(xt, T)
    torch.testing.assert_close(made, guided(xt, T).detach())
    assert record[0]["gradient_norm"] == [0.0]


def test_rollout_and_sample_take_wrappers(small_denoiser, weak):
    seeded = lambda: torch.Generator().manual_seed(0)
    sampler = lambda *args, **kwargs: vd.ddim(*args, steps=3, **kwargs)
    clipped = vd.clip_denoised(small_denoiser)
    frames = list(vd.rollout(clipped, clip(2), 5, 5, 2, sampler=sampler, generator=seeded()))
    assert len(frames) == 5 and max(frame.abs().max() for frame in frames) <= 1
    both = vd.autoguided(small_denoiser, weak)
    made = vd.sample(both, 2, 3, steps=3, generator=seeded())
    xt = torch.randn(2, 1, 3, 16, 16, generator=seeded())
    with torch.no_grad():
        torch.testing.assert_close(made, vd.run_sampler(vd.ddim(both, xt, both.schedule, 3)))


def test_the_counter_counts_frames_through_whatever_it_wraps(small_denoiser):
    counter = NFECounter(small_denoiser)
    vd.sample(vd.clip_denoised(counter), 2, 3, steps=4)
    assert counter.frames == 2 * 3 * 4


class ForeignNet(nn.Module):
    """A network from elsewhere: no hooks, no positions, no config."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, xt, t):
        return self.conv(xt) * (1 + t.view(len(t), 1, -1, 1, 1) / 1000)


EPS = vd.NoiseSchedule(zero_terminal_snr=False)
HALF = lambda xt, t: 0.5 * xt
FOREIGN = {"function": lambda: Denoiser.from_function(HALF, vd.NoiseSchedule(), (1, 16, 16)),
           "v": lambda: Denoiser(ForeignNet(), vd.NoiseSchedule(), (1, 16, 16)),
           "eps": lambda: Denoiser(ForeignNet(), EPS, (1, 16, 16), predicts="eps"),
           "x0": lambda: Denoiser(ForeignNet(), vd.NoiseSchedule(), (1, 16, 16), predicts="x0")}


@pytest.mark.parametrize("network", FOREIGN)
@pytest.mark.parametrize("method", HOOKLESS)
def test_any_network_runs_in_every_method_that_needs_no_hooks(network, method):
    denoiser, past = FOREIGN[network](), clip(2)
    assert vd.sample(denoiser, 1, 3, steps=2).shape == (1, 1, 3, 16, 16)
    sampler = lambda *args, **kwargs: vd.ddim(*args, steps=2, **kwargs)
    made = torch.stack(list(vd.rollout(denoiser, past, 4, 5, 2, HOOKLESS[method], sampler)))
    assert made.shape == (4, 1, 1, 16, 16) and made.isfinite().all()


@pytest.mark.parametrize("network", FOREIGN)
def test_methods_that_need_hooks_refuse_a_network_without_them(network):
    denoiser, remedy = FOREIGN[network](), "give its network's forward a parameter `hook`"
    with pytest.raises(ValueError, match=rf"injection .* offers no hooks: {remedy}"):
        injection(denoiser, clip(2))
    with pytest.raises(ValueError, match=r"history_encoder .* offers no hooks"):
        METHODS["history_encoder"](denoiser, clip(2), None)


def test_every_kind_of_prediction_gives_the_same_clip(small_denoiser):
    schedule, xt, t = EPS, clip(4, 1), torch.tensor([700])
    v = lambda xt, t: small_denoiser.net(xt, t)
    x0 = lambda xt, t: schedule.x0_from_v(xt, t, v(xt, t))
    eps = lambda xt, t: schedule.eps_from_v(xt, t, v(xt, t))
    with torch.no_grad():
        made = [Denoiser.from_function(f, schedule, (1, 16, 16), predicts)(xt, t)
                for f, predicts in ((v, "v"), (x0, "x0"), (eps, "eps"))]
    torch.testing.assert_close(made[1], made[0])
    torch.testing.assert_close(made[2], made[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options, message", [
    (dict(predicts="score"), "predicts='score'"), (dict(sample_shape=None), "sample_shape=None must be"),
    (dict(predicts="eps"), "zero_terminal_snr=False")])
def test_bad_adapters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Denoiser(ForeignNet(), vd.NoiseSchedule(), **(dict(sample_shape=(1, 16, 16)) | options))


def test_a_network_of_diffusers_runs():
    net = UNet3DConditionModel(
        sample_size=16, in_channels=1, out_channels=1, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock3D",) * 2, up_block_types=("UpBlock3D",) * 2,
        norm_num_groups=8, cross_attention_dim=8, attention_head_dim=8)
    text = torch.zeros(1, 1, 8)

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, xt, t):
            return self.net(xt, t if t.ndim == 1 else t.amax(1), text.expand(len(xt), 1, 8)).sample

    denoiser = Denoiser(Adapted(), EPS, (1, 16, 16), predicts="eps")
    made = list(vd.rollout(vd.clip_denoised(denoiser), clip(2), 3, 5, 2, replacement,
                           lambda *args, **kwargs: vd.ddim(*args, steps=2, **kwargs)))
    assert len(made) == 3 and all(frame.abs().max() <= 1 for frame in made)


def test_a_subclass_of_the_wrapper_needs_only_a_forward(small_denoiser):
    class Darker(DenoiserWrapper):
        def forward(self, xt, t, **model_kwargs):
            return self.inner(xt, t, **model_kwargs) - 0.1

    darker = Darker(small_denoiser)
    with torch.no_grad():
        torch.testing.assert_close(darker(clip(3), T), small_denoiser(clip(3), T) - 0.1)
    assert injection(darker, clip(2))(clip(5, 1), T).shape == (1, 1, 5, 16, 16)  # hooks pass through


def test_the_trainer_takes_a_network_without_hooks():
    data = vd.BouncingDigits(size=16, digit_size=6)
    config = vd.TrainConfig(steps=40, batch=4, frames=4, short_steps=0, warmup=1, decay=10)
    trainer = vd.Trainer(ForeignNet(), vd.NoiseSchedule(), data, config)
    losses = [progress.loss for progress in trainer.run(bar=False)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert vd.sample(trainer.ema_denoiser(), 1, 3, steps=2).shape == (1, 1, 3, 16, 16)


@dataclass(frozen=True)
class ColoredDigits:
    """Bouncing digits in a box that is wider than high, each clip in a color of its own."""

    digits: vd.BouncingDigits

    def sample(self, batch, generator=None):
        color = torch.rand(batch, 3, 1, 1, 1, generator=generator)
        return vd.Batch(color * (self.digits.sample(batch, generator).video + 1) - 1)

    def with_frames(self, num_frames):
        return ColoredDigits(self.digits.with_frames(num_frames))


@pytest.fixture
def wide():
    """A trainer of a network for frames that are wider than high, in color."""
    torch.manual_seed(0)
    config = vd.VideoUNetConfig(size=(16, 24), in_channels=3, channels=(32, 64), num_middle=1)
    recipe = vd.TrainConfig(steps=2, batch=2, frames=4, short_steps=0, warmup=1, decay=1)
    data = ColoredDigits(vd.BouncingDigits(size=(16, 24), digit_size=6))
    return vd.Trainer(vd.VideoUNet(config), vd.NoiseSchedule(), data, recipe)


def test_wide_clips_in_color_are_learned_sampled_continued_saved_and_loaded(wide, tmp_path):
    before = [p.clone() for p in wide.net.parameters()]
    for _ in wide.run(save_to=tmp_path / "state.safetensors", bar=False):
        pass
    assert len(wide.losses) == 2 and any(not torch.equal(p, q) for p, q in zip(before, wide.net.parameters()))
    trained = wide.ema_denoiser()
    path = vd.checkpoint.save(tmp_path / "wide", trained.net, trained.schedule)
    loaded, seeded = vd.load(path), lambda: torch.Generator().manual_seed(0)
    assert loaded.net.config == trained.net.config and loaded.sample_shape == (3, 16, 24)
    rounded(trained.net)
    one, two = (vd.sample(d, 2, 3, steps=2, generator=seeded()) for d in (trained, loaded))
    assert one.shape == (2, 3, 3, 16, 24) and torch.equal(one, two)
    made = vd.generate(loaded, 2, 6, steps=2, window=4, overlap=2, generator=seeded())
    assert made.shape == (2, 3, 6, 16, 24)


@pytest.mark.parametrize("method", [*HOOKLESS.values(), injection, anchored_history],
                         ids=[*HOOKLESS, "injection", "anchored"])
def test_every_method_continues_wide_clips_in_color(wide, method):
    past = wide.data.with_frames(2).sample(2, torch.Generator().manual_seed(0)).video
    if method is anchored_history:
        method = partial(method, anchor=past)
    frames = list(vd.rollout(wide.ema_denoiser(), past, 4, 5, 2, method, partial(vd.ddim, steps=2)))
    assert len(frames) == 4 and all(frame.shape == (2, 3, 16, 24) for frame in frames)
    assert torch.stack(frames).isfinite().all()


class Hooked(ForeignNet):
    """One that takes a hook, but cannot be told where frames stand in time."""

    def forward(self, xt, t, hook=None):
        x = super().forward(xt, t)
        return hook("out", x) if hook else x


def test_what_needs_positions_says_so():
    denoiser, past = Denoiser(Hooked(), vd.NoiseSchedule(), (1, 16, 16)), clip(2)
    with pytest.raises(ValueError, match=r"anchored_history .* cannot be told: .* parameter `positions`"):
        anchored_history(denoiser, past, past)
    with pytest.raises(ValueError, match=r"injection with prepend=True .* parameter `positions`"):
        injection(denoiser, past)
    blended = injection(denoiser, past, sites="out", prepend=False)
    with torch.no_grad():
        assert blended(clip(5, 1), T).shape == (1, 1, 5, 16, 16)
