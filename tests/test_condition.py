"""What a network is told beside its frames: actions, as the condition of every frame."""

from functools import partial

import pytest
import torch

import vdiff_lite as vd
from vdiff_lite.data.rooms import Rooms, told
from vdiff_lite.diffusion.guidance import conditioned
from vdiff_lite.methods import anchored_history, history_guidance, injection, reconstruction, replacement
from vdiff_lite.training.optimizer import make_optimizer

CONFIG = vd.VideoUNetConfig(in_channels=3, size=16, channels=(32,), num_middle=1, condition=3)


def seeded(n=0):
    return torch.Generator().manual_seed(n)


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    net = vd.VideoUNet(CONFIG)
    for weights in net.parameters():
        weights.data += 0.1 * torch.randn_like(weights)  # some start at zero and would hide their branch
    return vd.Denoiser(net.eval().requires_grad_(False), vd.NoiseSchedule())


def clip(f, b=2):
    return torch.randn(b, 3, f, 16, 16, generator=seeded()).clamp(-1, 1)


def actions(f, b=2, n=1):
    return told(torch.randint(-1, 2, (b, f, 2), generator=seeded(n)).float())


@torch.no_grad()
def test_nothing_told_is_no_condition_and_each_frame_hears_its_own(denoiser):
    xt, t, act = clip(4), torch.full((2, 4), 500), actions(4)
    net = denoiser.net
    torch.testing.assert_close(net(xt, t, condition=torch.zeros_like(act)), net(xt, t))
    by_clip = net(xt, t, condition=act[:, 0])
    torch.testing.assert_close(by_clip, net(xt, t, condition=act[:, :1].expand(-1, 4, -1)))
    assert not torch.allclose(by_clip, net(xt, t), atol=1e-3)
    clean = torch.tensor([[0, 0, 0, 500]]).repeat(2, 1)  # known frames do not see the last one
    other = torch.cat([act[:, :3], 1 - act[:, 3:]], dim=1)
    first, second = net(xt, clean, condition=act), net(xt, clean, condition=other)
    torch.testing.assert_close(first[:, :, :3], second[:, :, :3])
    assert not torch.allclose(first[:, :, 3], second[:, :, 3], atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 3), (1, 4, 3), (2, 4, 2)])
def test_a_condition_that_does_not_fit_is_refused(denoiser, shape):
    with pytest.raises(ValueError, match=r"condition has shape"):
        denoiser.net(clip(4), torch.full((2,), 500), condition=torch.zeros(shape))


@torch.no_grad()
def test_guidance_on_the_condition(denoiser):
    xt, t, act = clip(4), torch.full((2,), 500), actions(4)
    c, u = denoiser(xt, t, condition=act), denoiser(xt, t)
    torch.testing.assert_close(conditioned(denoiser, act)(xt, t), c)
    guided = conditioned(denoiser, act, 2.5)(xt, t)
    torch.testing.assert_close(guided, u + 2.5 * (c - u), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight", [1.0, 2.0])
@torch.no_grad()
def test_methods_continue_what_is_told(denoiser, weight):
    past, xt, t, act = clip(2), clip(6), torch.full((2,), 500), actions(6)
    inner = conditioned(denoiser, act, weight)
    other = conditioned(denoiser, torch.cat([act[:, :5], 1 - act[:, 5:]], dim=1), weight)
    methods = [history_guidance, lambda d, p: history_guidance(d, p, 2), reconstruction, replacement,
               lambda d, p: anchored_history(d, p, clip(1))]
    if weight == 1:
        methods += [injection, lambda d, p: injection(d, p, source="same")]
    for method in methods:
        frames = method(inner, past)(xt, t)
        assert frames.shape == xt.shape and frames.isfinite().all()
        assert not torch.allclose(frames[:, :, 5], method(other, past)(xt, t)[:, :, 5], atol=1e-4)


@torch.no_grad()
def test_frames_apart_are_told_what_belongs_to_them(denoiser):
    xt, t, act = clip(6), torch.full((2,), 500), actions(6)
    late, early = torch.arange(2, 6), torch.arange(-2, 4)
    part = conditioned(denoiser, act)(xt[:, :, 2:], t, positions=late)
    torch.testing.assert_close(part, denoiser(xt[:, :, 2:], t, condition=act[:, 2:], positions=late))
    before = conditioned(denoiser, act)(xt, t, positions=early)
    shifted = torch.cat([torch.zeros(2, 2, 3), act[:, :4]], dim=1)
    torch.testing.assert_close(before, denoiser(xt, t, condition=shifted, positions=early))


def test_a_network_that_hears_nothing_says_so(small_denoiser, denoiser):
    with pytest.raises(ValueError, match=r"told nothing; train one with VideoUNetConfig\(condition=n\)"):
        conditioned(small_denoiser, actions(4))
    with pytest.raises(ValueError, match=r"this network is told \(b, f, 3\)"):
        conditioned(denoiser, torch.zeros(2, 4, 2))


def trainer(net=None, data=None, **settings):
    torch.manual_seed(0)
    config = vd.TrainConfig(**dict(steps=3, batch=4, frames=4, short_steps=0, decay=0, warmup=0) | settings)
    return vd.Trainer(net or vd.VideoUNet(CONFIG), vd.NoiseSchedule(), data or Rooms(size=16), config)


def test_training_tells_the_network_and_leaves_it_out_in_some_clips():
    run, heard = trainer(batch=64, condition_dropout=0.2), []
    *_, condition = run._batch(0)
    assert condition.shape == (64, 4, 3)
    known = condition[..., 2]
    assert (known == known[:, :1]).all() and 4 <= (known[:, 0] == 0).sum() <= 24  # by clip, about a fifth
    assert (condition[known == 0] == 0).all()
    hear = lambda _, args, kwargs: heard.append(kwargs["condition"])
    run.net.register_forward_pre_hook(hear, with_kwargs=True)
    run.train_step()
    assert torch.equal(heard[0], condition)
    assert len(trainer(condition_dropout=1.0)._batch(0)) == 5
    assert trainer(condition_dropout=1.0)._batch(0)[-1].abs().max() == 0


def test_training_moves_the_weights_of_the_condition():
    run = trainer(condition_dropout=0.0)
    before = run.net.condition.weight.clone()
    for _ in range(3):  # blocks begin as identities: what they are told reaches the loss after a step or two
        run.train_step()
    assert not torch.equal(before, run.net.condition.weight)
    outside = make_optimizer(run.net, 1e-3, 0.01).param_groups[1]["params"]
    assert any(p is run.net.condition.weight for p in outside)  # AdamW's, not Muon's


def test_data_without_a_condition_is_refused():
    with pytest.raises(ValueError, match=r"condition=3 numbers per frame .* the data brings none"):
        config = vd.VideoUNetConfig(size=16, channels=(32,), num_middle=1, condition=3)
        trainer(vd.VideoUNet(config), vd.BouncingDigits(size=16, digit_size=8))


def test_a_checkpoint_keeps_the_condition(denoiser, tmp_path):
    about = dict(recipe={}, steps=0, data="", loss_curve=[])
    vd.checkpoint.save(tmp_path / "told", denoiser.net, denoiser.schedule, **about)
    net, before = vd.load(tmp_path / "told").net, denoiser.net.condition.weight
    assert net.config.condition == 3
    torch.testing.assert_close(net.condition.weight, before, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_rollout_tells_each_window_what_belongs_to_it(denoiser):
    act, heard = actions(2 + 7), []
    listen = lambda d, past: heard.append(d.condition) or history_guidance(d, past)
    run = partial(vd.rollout, denoiser, clip(3), 7, window=6, overlap=2, method=listen,
                  sampler=partial(vd.ddim, steps=2))
    assert len(list(run(condition=act, generator=seeded()))) == 7
    assert len(heard) == 2
    assert torch.equal(heard[0], act[:, :6])
    assert torch.equal(heard[1], torch.cat([act[:, 4:], act[:, -1:]], dim=1))  # the last action goes on
    with pytest.raises(ValueError, match=r"it must be \(b, 3 or more, n\)"):
        run(condition=act[:, :2])
