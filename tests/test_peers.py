"""The networks that ours is measured against: of its size, sound, and trained by the same Trainer."""

import pytest
import torch
from bench import CALLS, CLIPS, OURS, FromDiffusers, summary, time_in_rounds
from peers import DiT, UNet2D, UViT

from vdiff_lite import BouncingDigits, NoiseSchedule, TrainConfig, Trainer, VideoUNet

PEERS = [UViT, lambda: UViT(convolutional=2), DiT, UNet2D]
NAMES = ["UViT", "UViT, lowest level", "DiT", "UNet2D"]
every_peer = pytest.mark.parametrize("make", PEERS, ids=NAMES)


def awake(make):
    """The network with weights that are not zero anywhere."""
    torch.manual_seed(0)
    net = make()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net.eval().requires_grad_(False)


def clips(b, f=16):
    return torch.randn(b, 1, f, 32, 32, generator=torch.Generator().manual_seed(1))


@every_peer
def test_a_peer_has_as_many_parameters_as_ours(make):
    count = lambda net: sum(p.numel() for p in net.parameters())
    assert 0.95 < count(make()) / count(VideoUNet()) < 1.05


@every_peer
def test_clips_of_a_batch_do_not_mix_and_levels_per_clip_are_levels_per_frame(make):
    net, x, t = awake(make), clips(2), torch.tensor([300, 700])
    together = net(x, t)
    assert together.shape == x.shape
    torch.testing.assert_close(net(x, t[:, None].expand(2, 16)), together)
    for i in range(2):
        torch.testing.assert_close(net(x[i:i + 1], t[i:i + 1]), together[i:i + 1], rtol=1e-3, atol=1e-4)


@every_peer
def test_each_frame_has_its_own_level_and_all_frames_meet(make):
    net, x, t = awake(make), clips(1), torch.full((1, 16), 500)
    out = net(x, t)
    other_level, other_frame = t.clone(), x.clone()
    other_level[:, 3], other_frame[:, :, 0] = 100, 0
    assert (net(x, other_level) - out)[:, :, 3].abs().max() > 1e-3
    assert (net(other_frame, t) - out)[:, :, 15].abs().max() > 1e-4


@pytest.mark.parametrize("make", PEERS[:3], ids=NAMES[:3])
def test_frames_joined_by_attention_may_be_any_number(make):
    assert awake(make)(clips(1, 5), torch.tensor([500])).shape == (1, 1, 5, 32, 32)


def test_frames_as_channels_are_of_fixed_number():
    with pytest.raises(ValueError, match="takes clips of 16"):
        UNet2D()(clips(1, 5), torch.tensor([500]))


@every_peer
def test_a_peer_learns(make):
    torch.manual_seed(0)
    config = TrainConfig(steps=24, batch=2, frames=4, short_steps=0, warmup=2, decay=4)
    net = UNet2D(frames=4) if make is UNet2D else make()
    trainer = Trainer(net, NoiseSchedule(), BouncingDigits(), config)
    for _ in trainer.run(bar=False):
        pass
    assert sum(trainer.losses[-6:]) < 0.75 * sum(trainer.losses[:6])


def test_networks_of_diffusers_take_our_clips():
    class Noted(torch.nn.Module):
        def forward(self, xt, timestep, encoder_hidden_states):
            self.seen = timestep.tolist(), tuple(encoder_hidden_states.shape)
            return type("Output", (), dict(sample=xt))

    net, x = FromDiffusers(Noted(), 7), clips(2, 4)
    assert net(x, torch.tensor([5, 9])) is x and net.net.seen == ([5, 9], (2, 1, 7))
    net(x, torch.tensor([[0, 0, 5, 5], [1, 2, 3, 4]]))
    assert net.net.seen[0] == [5, 4]


def test_ratios_of_the_bench_are_per_clip_and_within_a_round():
    class Timed:
        """Every call takes `seconds`; in the second round and the warm-up the machine is ten times slower."""

        def __init__(self, seconds):
            self.seconds, self.calls = seconds, 0

        def shortest(self, call, seconds):
            self.calls += 1
            return self.seconds * (1 if len(CALLS) < self.calls <= 2 * len(CALLS) else 10)

        def parameters(self):
            return 7

    timed = {OURS: Timed(1.0), "DiT": Timed(3.0), "diffusers UNet3D": Timed(1.0)}
    rounds = [*time_in_rounds(timed, 0), *time_in_rounds(timed, 0)]
    ours, dit, unet3d = summary(timed, rounds)
    assert len(rounds) == 2 and ours["clips"] == CLIPS and dit["seconds"] == dict.fromkeys(CALLS, 3.0)
    assert {ratio["median"] for ratio in dit["times_ours"].values()} == {3.0}
    assert unet3d["times_ours"]["forward"]["median"] == 1
    assert unet3d["times_ours"]["step"]["median"] == CLIPS / unet3d["clips"] > 1
