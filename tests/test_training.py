import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import SMALL

from vdiff_lite import checkpoint
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.diffusion.losses import draw_noise_levels, v_loss
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.models.video_unet import VideoUNet
from vdiff_lite.training.loop import fit, lr_factor
from vdiff_lite.training.optimizer import Muon, make_optimizer, orthogonalize
from vdiff_lite.training.recipe import TrainConfig
from vdiff_lite.training.trainer import DivergedError, Trainer


def trainer(data, **config):
    torch.manual_seed(0)
    settings = dict(steps=6, batch=2, frames=4, short_steps=0, warmup=2, decay=2) | config
    return Trainer(VideoUNet(SMALL), NoiseSchedule(), data, TrainConfig(**settings))


def seeded():
    return torch.Generator().manual_seed(0)


def test_noise_levels_are_of_the_four_kinds():
    draw = lambda noise_mix: draw_noise_levels(4000, 8, 1000, noise_mix, generator=seeded())
    same, each, prefix, dropped = (draw(tuple(float(i == k) for i in range(4))) for k in range(4))
    assert (same == same[:, :1]).all() and same.min() >= 1 and same.max() == 1000
    assert (each.float().std(dim=1) > 0).all() and each.min() >= 1
    assert (prefix[:, 0] == 0).all() and (prefix[:, -1] > 0).all()
    lengths = (prefix == 0).sum(1)
    assert lengths.unique().tolist() == list(range(1, 8))
    assert (dropped[:, 0] == 1000).all()
    mixed = draw((0.5, 0.0, 0.5, 0.0))
    assert abs((mixed[:, 0] == 0).float().mean() - 0.5) < 0.05


def test_levels_are_stratified_over_a_batch():
    t = draw_noise_levels(10, 1, 1000, (1, 0, 0, 0), generator=seeded())[:, 0].sort().values
    assert ((t.diff() >= 95) & (t.diff() <= 105)).all()


def test_a_high_noise_fraction_of_the_levels_lies_near_pure_noise():
    t = draw_noise_levels(20_000, 1, 1000, (1, 0, 0, 0), 0.5, seeded())
    for level in (500, 900, 970):
        u = level / 1000
        assert abs((t > level).float().mean().item() - 0.5 * (1 - u) - 0.5 * (1 - u) ** (1 / 3)) < 0.01


def test_the_loss_by_brute_force_leaves_clean_frames_out():
    schedule, net = NoiseSchedule(), lambda xt, t: 0.5 * xt
    x0, eps = torch.randn(2, 2, 1, 3, 4, 4)
    t = torch.tensor([[0, 400, 900], [100, 100, 100]])
    errors = []
    for b in range(2):
        for f in range(3):
            if t[b, f] > 0:
                a = schedule.alpha_bar[t[b, f]].item()
                xt = a**0.5 * x0[b, :, f] + (1 - a) ** 0.5 * eps[b, :, f]
                v = a**0.5 * eps[b, :, f] - (1 - a) ** 0.5 * x0[b, :, f]
                errors.append(((0.5 * xt - v) ** 2).mean())
    torch.testing.assert_close(v_loss(net, schedule, x0, t, eps), torch.stack(errors).mean())


def test_min_snr_reduces_the_weight_of_low_noise():
    schedule, net = NoiseSchedule(), lambda xt, t: torch.zeros_like(xt)
    x0, eps = torch.randn(1, 1, 1, 8, 8), torch.randn(1, 1, 1, 8, 8)
    for t, expected in ((50, 5 / (schedule.snr(50) + 1)), (900, schedule.snr(900) / (schedule.snr(900) + 1))):
        level = torch.tensor([[t]])
        ratio = v_loss(net, schedule, x0, level, eps, "min_snr") / v_loss(net, schedule, x0, level, eps)
        torch.testing.assert_close(ratio, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("t", [50, 500, 999, 1000])
def test_x0_weighting_is_the_error_of_x0(t):
    schedule, net = NoiseSchedule(), lambda xt, t: 0.3 * xt
    x0, eps, level = torch.randn(1, 1, 1, 8, 8), torch.randn(1, 1, 1, 8, 8), torch.tensor([[t]])
    xt = schedule.add_noise(x0, level, eps)
    error = ((schedule.x0_from_v(xt, level, net(xt, level)) - x0) ** 2).mean()
    torch.testing.assert_close(v_loss(net, schedule, x0, level, eps, "x0"), error, rtol=1e-3, atol=1e-6)


def test_orthogonalize_brings_singular_values_near_one():
    for shape in ((16, 48), (48, 16), (3, 16, 16)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape, generator=seeded())))
        assert values.max() < 1.3 and values.median() > 0.6


def test_orthogonalize_is_that_of_torch():
    from torch.optim._muon import _zeropower_via_newtonschulz

    matrix = torch.randn(16, 48, generator=seeded())
    theirs = _zeropower_via_newtonschulz(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    # torch computes in bfloat16.
    torch.testing.assert_close(orthogonalize(matrix), theirs.float(), atol=0.05, rtol=0)


def test_parameters_other_than_matrices_take_the_steps_of_adamw():
    mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    a = Muon([dict(params=[mine], lr=0.01, matrices=False)], betas=(0.9, 0.99), weight_decay=0.1)
    b = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for i in range(5):
        for p, optimizer in ((mine, a), (theirs, b)):
            p.grad = torch.cos(p.detach() * (i + 1))
            optimizer.step()
    torch.testing.assert_close(mine, theirs)


def test_every_parameter_is_optimized_once(small_net):
    groups = make_optimizer(small_net, 1e-3, 1e-3).param_groups
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in small_net.parameters())
    assert all(p.ndim >= 2 for p in groups[0]["params"])


def test_the_loss_falls(small_data):
    run = trainer(small_data, steps=60, batch=4, warmup=5, lr=5e-3, matrix_lr=1e-2)
    losses = [progress.loss for progress in run.run(bar=False)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_short_clips_come_first(small_data):
    run = trainer(small_data, short_steps=2)
    assert run._batch(0)[0].shape == (4, 1, 2, 16, 16) and run._batch(2)[0].shape == (2, 1, 4, 16, 16)


@pytest.mark.parametrize("more", [{}, dict(short_steps=4)])
def test_resume_gives_the_same_bytes(small_data, tmp_path, more):
    straight, cut = trainer(small_data, **more), trainer(small_data, **more)
    for _ in straight.run(bar=False):
        pass
    for progress in cut.run(bar=False):
        if progress.step == 3:
            break
    cut.save(tmp_path / "state.safetensors")
    resumed = trainer(small_data, **more).resume(tmp_path / "state.safetensors")
    for _ in resumed.run(bar=False):
        pass
    assert resumed.losses == straight.losses
    weights = lambda run: [*run.ema.module.parameters(), *run.net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(resumed)))


SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from conftest import SMALL
from pathlib import Path
from vdiff_lite import BouncingDigits, NoiseSchedule, Trainer, TrainConfig, VideoUNet, checkpoint
torch.manual_seed(0)
run = Trainer(VideoUNet(SMALL), NoiseSchedule(), BouncingDigits(size=16, digit_size=6, num_frames=4),
              TrainConfig(steps=12, batch=2, frames=4, warmup=2, decay=4, short_steps=0))
state = Path(sys.argv[1])
if state.exists():
    run.resume(state)
for progress in run.run(save_to=state, save_every=0, bar=False):
    print(progress.step, flush=True)
"""


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    command = [sys.executable, "-c", SCRIPT.format(tests=os.path.dirname(__file__))]
    subprocess.run(command + [tmp_path / "straight.safetensors"], check=True, capture_output=True)
    command_killed = command + [tmp_path / "killed.safetensors"]
    killed = subprocess.Popen(command_killed, stdout=subprocess.PIPE, text=True)
    while killed.stdout.readline().strip() != "5":
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed = subprocess.run(command_killed, check=True, capture_output=True, text=True)
    assert 3 <= int(resumed.stdout.split()[0]) <= 12, "it should resume, not start again"
    one, two = (checkpoint.read_tensors(tmp_path / f"{name}.safetensors")[0]
                for name in ("straight", "killed"))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_ctrl_c_stops_between_two_steps_and_saves_there(small_data, tmp_path, default_sigint):
    state, before = tmp_path / "state.safetensors", signal.getsignal(signal.SIGINT)
    straight, run = trainer(small_data), trainer(small_data)
    for _ in straight.run(bar=False):
        pass
    with pytest.raises(KeyboardInterrupt, match="stopped after step 2, saved in "):
        for progress in run.run(save_to=state, bar=False):
            if progress.step == 2:
                signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = trainer(small_data).resume(state)
    assert resumed.step == 2
    for _ in resumed.run(bar=False):
        pass
    pairs = zip(straight.ema.module.parameters(), resumed.ema.module.parameters())
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_second_ctrl_c_does_not_wait(small_data, tmp_path, default_sigint):
    for progress in (run := trainer(small_data).run(save_to=tmp_path / "state.safetensors", bar=False)):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        break
    run.close()
    assert not (tmp_path / "state.safetensors").exists()


def test_nan_stops_training_names_the_step_and_is_not_saved(small_data, tmp_path):
    state, run = tmp_path / "state.safetensors", trainer(small_data)
    with pytest.raises(DivergedError, match=r"step 1: loss nan.* lower matrix_lr than 0\.015"):
        for _ in run.run(save_to=state, save_every=0, bar=False):
            with torch.no_grad():
                run.net.patchify.weight.fill_(float("nan"))
    resumed = trainer(small_data).resume(state)
    assert resumed.step == 1 and all(p.isfinite().all() for p in resumed.net.parameters())
    resumed.train_step()
    assert len(resumed.losses) == 2


def test_a_state_of_another_network_is_refused(small_data, tmp_path):
    trainer(small_data).save(tmp_path / "state.safetensors")
    other = Trainer(VideoUNet(), NoiseSchedule(), BouncingDigits())
    message = r"another run \(network\.size: \[16, 16\] there, \[32, 32\] here"
    with pytest.raises(checkpoint.CheckpointError, match=message):
        other.resume(tmp_path / "state.safetensors")


def test_a_run_resumes_only_with_the_same_recipe_data_and_seed(small_data, tmp_path):
    state = tmp_path / "state.safetensors"
    run = trainer(small_data)
    run.train_step()
    run.save(state)
    faster = BouncingDigits(size=16, digit_size=6, num_frames=4, speed=(1.0, 2.0))
    with pytest.raises(checkpoint.CheckpointError) as error:
        trainer(faster, matrix_lr=0.02, seed=3).resume(state)
    for part in ("recipe.matrix_lr: 0.015 there, 0.02 here", "recipe.seed: 0 there, 3 here", "data: ",
                 "--anyway"):
        assert part in str(error.value)
    assert trainer(faster, matrix_lr=0.02, seed=3).resume(state, anyway=True).step == 1
    assert trainer(small_data).resume(state).step == 1


def test_progress_reports_the_time_left(small_data):
    progress = next(trainer(small_data).run(bar=False))
    assert progress.step == 1 and progress.seconds_left > 0 and progress.clips_per_second > 0


def test_the_ema_denoiser_does_not_change_with_training(small_data):
    run = trainer(small_data)
    run.train_step()
    before = run.ema_denoiser().net.patchify.weight.clone()
    copy = run.ema_denoiser()
    run.train_step()
    assert torch.equal(copy.net.patchify.weight, before)
    assert not any(p.requires_grad for p in copy.net.parameters())


def test_learning_rate_warms_up_holds_and_falls():
    factors = [lr_factor(n, 100, warmup=10, decay=20) for n in range(101)]
    assert factors[0] == 0.1 and factors[9:80] == [1.0] * 71
    assert all(a > b for a, b in zip(factors[80:], factors[81:])) and abs(factors[100] - 0.02) < 1e-9
    assert lr_factor(50, 100, warmup=1) == lr_factor(50, 100, warmup=1, decay=100)


def test_fit_takes_the_steps_of_adamw_at_the_scheduled_rate():
    mine, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    loss = lambda p, n: (p - torch.cos(torch.arange(7) * (n + 1))).square().sum()
    calls = []
    losses = fit(torch.optim.AdamW([mine], lr=0.1), lambda n: loss(mine, n), 6, warmup=2, decay=3, clip=1.0,
                 bar=False, on_step=lambda n, value: calls.append((n, value)))
    optimizer = torch.optim.AdamW([theirs], lr=0.1)
    for n in range(6):
        optimizer.param_groups[0]["lr"] = 0.1 * lr_factor(n, 6, 2, 3)
        optimizer.zero_grad()
        loss(theirs, n).backward()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        optimizer.step()
    torch.testing.assert_close(mine, theirs)
    assert calls == list(enumerate(losses, 1))


def test_ema_is_the_exponential_average_with_a_ramp(small_data):
    run = trainer(small_data, ema_decay=0.3)
    expected = run.net.patchify.weight.detach().clone()
    for n in range(1, 7):
        run.train_step()
        expected.lerp_(run.net.patchify.weight.detach(), 1 - min(0.3, n / (9 + n)))
    torch.testing.assert_close(run.ema.module.patchify.weight, expected)


@pytest.mark.parametrize("bad, message", [
    (dict(steps=0), "steps=0"), (dict(lr=-1), "lr=-1"), (dict(clip=0), "clip=0"),
    (dict(noise_mix=(1, 0)), "noise_mix"), (dict(noise_mix=(0, 0, 0, 0)), "noise_mix"),
    (dict(weighting="eps"), "weighting='eps'"),
    (dict(betas=0.9), "betas=0.9 must be several numbers"), (dict(short_steps=9999), "short_steps=9999"),
    (dict(seed=True), "seed=True must be a whole number")])
def test_bad_recipes_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**bad)
