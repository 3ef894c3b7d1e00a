"""What a GPU asks of a training step, tested on a CPU: no value of a tensor is read, bfloat16, compiled."""

import copy
import functools
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vdiff_lite import NoiseSchedule, TrainConfig, Trainer
from vdiff_lite.training.compute import WARM_UP, CapturedStep, Compute
from vdiff_lite.training.loop import DivergedError

READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_is_all_true", "masked_select", "unique")


class NoReads(TorchDispatchMode):
    """Raises where a step would have to wait for a GPU: where Python or a shape depends on a value."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in READS:
            raise AssertionError(f"{func} reads a tensor's value")
        return func(*args, **(kwargs or {}))


def trainer(net, data, **settings):
    how = {name: settings.pop(name) for name in ("precision", "compiled", "accumulate", "recompute")
           if name in settings}
    config = TrainConfig(**dict(steps=12, batch=2, frames=4, short_steps=0, warmup=1, decay=6) | settings)
    return Trainer(copy.deepcopy(net).train(), NoiseSchedule(), data, config, compute=Compute(**how))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_reads_no_value(small_net, small_data, precision):
    run = trainer(small_net, small_data, precision=precision)
    run.train_step()  # makes what the optimizer remembers
    batch = run._batch(1)
    before = [p.clone() for p in run.net.parameters()]
    # Where a value is at hand on a CPU but not on a GPU, the library asks is_cuda or is_compiling.
    with mock.patch("torch.compiler.is_compiling", lambda: True), NoReads():
        run.update(*batch)
    assert any(not torch.equal(a, b) for a, b in zip(before, run.net.parameters()))


def test_the_check_for_reads_sees_one(small_net, small_data):
    run = trainer(small_net, small_data)
    batch = run._batch(0)
    with pytest.raises(AssertionError, match="reads a tensor's value"), NoReads():
        run.update(*batch)  # on a CPU the range of t is checked


def test_bfloat16_follows_the_loss_of_float32_and_keeps_weights_and_average_in_float32(small_net, small_data):
    exact, rounded = (trainer(small_net, small_data, precision=p) for p in ("float32", "bf16"))
    for run in (exact, rounded):
        list(run.run(bar=False))
    torch.testing.assert_close(torch.tensor(rounded.losses), torch.tensor(exact.losses), rtol=0.02, atol=0)
    assert rounded.losses != exact.losses
    for net in (rounded.net, rounded.ema.module):
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="precision='half' is unknown"):
        trainer(small_net, small_data, precision="half")


def test_a_compiled_run_has_the_losses_of_one_that_is_not(small_net, small_data):
    # The graph is taken and differentiated as on a GPU; making C++ of it would take a minute more.
    quick_to_compile = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    with mock.patch("torch.compile", quick_to_compile):
        plain, quick = (trainer(small_net, small_data, steps=3, decay=3, compiled=c) for c in (False, True))
    for run in (plain, quick):
        list(run.run(bar=False))
    torch.testing.assert_close(torch.tensor(quick.losses), torch.tensor(plain.losses), rtol=1e-4, atol=1e-5)
    assert "_orig_mod" in dir(quick.forward)
    assert quick.ema_denoiser().net.state_dict().keys() == plain.net.state_dict().keys()


def test_losses_that_are_read_later_are_the_same_and_a_divergence_is_found_when_they_are(small_net,
                                                                                        small_data):
    at_once, late = (trainer(small_net, small_data) for _ in range(2))
    late.device = mock.Mock(type="cuda")  # as far as reading goes
    late._batch, late._predict = at_once._batch, late.net
    for _ in range(4):
        at_once.train_step()
        late.train_step()
    assert len(late._losses) == 0 and late.losses == at_once.losses and len(late._losses) == 4
    with torch.no_grad():
        next(late.net.parameters()).fill_(float("nan"))
    late.train_step()
    with pytest.raises(DivergedError, match=r"step 4: loss nan.*lower matrix_lr than 0\.015"):
        late.losses  # noqa: B018
    with pytest.raises(DivergedError):
        late.save("never.safetensors")


def test_a_captured_step_runs_as_it_is_then_captures_once_per_shape_and_replays():
    """The order of calls, with a stand-in for CUDA graphs: this machine may have no GPU."""
    calls = []

    class Graph:
        def replay(self):
            calls.append("replay")

    def step(x):
        calls.append("step")
        return 2 * x

    with mock.patch.multiple("torch.cuda", CUDAGraph=Graph, graph=mock.MagicMock(), Stream=mock.MagicMock(),
                             stream=mock.MagicMock(), current_stream=mock.MagicMock()):
        quick = CapturedStep(step)
        for _ in range(WARM_UP + 2):
            quick(torch.ones(2))
        quick(torch.ones(3))
    assert calls == ["step"] * (WARM_UP + 1) + ["replay", "replay", "step"]
    _, (held,), _ = quick.graphs[(2,)]
    assert torch.equal(held, torch.ones(2))


@pytest.mark.parametrize("how", [dict(accumulate=2), dict(recompute=True),
                                 dict(accumulate=4, recompute=True)])
def test_parts_and_recomputing_change_memory_alone(small_net, small_data, how):
    plain, other = (trainer(small_net, small_data, batch=4, **kw) for kw in ({}, how))
    for run in (plain, other):
        list(run.run(bar=False))
    torch.testing.assert_close(torch.tensor(other.losses), torch.tensor(plain.losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.by_level, plain.by_level, rtol=1e-3, atol=1e-4)
    assert other.by_level[1].sum() > 0


def test_a_batch_must_divide(small_net, small_data):
    with pytest.raises(ValueError, match="batch=2 does not divide into 1 processes with accumulate=3"):
        trainer(small_net, small_data, accumulate=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
def test_on_a_gpu_the_captured_step_has_the_losses_of_one_that_is_not(small_net, small_data):
    config = TrainConfig(steps=12, batch=2, frames=4, short_steps=0, warmup=1, decay=6)
    make = lambda: Trainer(copy.deepcopy(small_net).train(), NoiseSchedule(), small_data, config, "cuda",
                           Compute("float32", False))
    quick, plain = make(), make()
    plain.run_update = plain.update
    for run in (quick, plain):
        list(run.run(bar=False))
    torch.testing.assert_close(torch.tensor(quick.losses), torch.tensor(plain.losses), rtol=1e-3, atol=1e-4)
