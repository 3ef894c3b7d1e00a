import threading

import pytest
import torch
from conftest import SMALL

from vdiff_lite.data import BouncingDigits
from vdiff_lite.schedule import NoiseSchedule
from vdiff_lite.training import TrainConfig, Trainer
from vdiff_lite.unet import VideoUNet
from vdiff_lite.workers import CLIPS, Workers


def gradients(number, batch=7):
    # Seven clips do not divide among the workers, and their levels leave each clip another number of noisy frames.
    torch.manual_seed(0)
    data = BouncingDigits(size=16, digit_size=6, num_frames=4)
    trainer = Trainer(VideoUNet(SMALL), NoiseSchedule(), data, TrainConfig(steps=6, batch=batch, frames=4, warmup=1, clip=1e9))
    for p in trainer.net.parameters():
        p.data.add_(0.1 * torch.randn(p.shape))
    trainer.workers = Workers(number)
    loss = trainer.take_step()
    return loss, [p.grad for p in trainer.net.parameters()]


@pytest.mark.parametrize("number", [2, 3])
def test_workers_find_the_gradient_that_one_thread_finds(number):
    loss, alone = gradients(1)
    shared_loss, shared = gradients(number)
    assert shared_loss == pytest.approx(loss, rel=1e-5)
    assert any(gradient is None for gradient in alone) and any(gradient is not None for gradient in alone)
    for one, other in zip(alone, shared):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5 * one.abs().max().item() + 1e-7)


def test_workers_give_the_same_bytes_again():
    for one, other in zip(gradients(3)[1], gradients(3)[1]):
        assert one is None or torch.equal(one, other)


def test_each_worker_has_threads_and_clips_of_its_own():
    ran, before = {}, torch.get_num_threads()
    meet = threading.Barrier(2)  # passed only when both are at work at once

    def loss(x):
        meet.wait(60)
        ran[threading.get_ident()] = len(x), torch.get_num_threads()
        return (w * x).sum(), x.sum()

    w = torch.ones(1, requires_grad=True)
    (grad, unused), (total, reported) = Workers(2).gradient(loss, [w, torch.ones(1, requires_grad=True)], torch.arange(5.0))
    assert sorted(ran.values()) == [(2, max(1, before // 2)), (3, max(1, before // 2))] and torch.get_num_threads() == before
    assert (grad.item(), unused, total.item(), reported.item()) == (10, None, 10, 10) and not total.requires_grad


def test_there_is_one_worker_for_a_small_batch_and_on_a_gpu():
    threads = torch.get_num_threads()
    assert [Workers.of(batch, "cpu").number for batch in (1, CLIPS, 2 * CLIPS)] == [1, 1, min(2, threads)]
    assert Workers.of(64, torch.device("cuda")).number == 1


def test_what_fails_in_a_worker_fails():
    def loss(x):
        raise ValueError(f"x has {len(x)} clips")

    with pytest.raises(ValueError, match="x has 2 clips"):
        Workers(2).gradient(loss, [], torch.zeros(4))
