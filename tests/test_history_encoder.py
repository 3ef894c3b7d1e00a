import json

import pytest
import torch

from vdiff_lite import BouncingDigits, Denoiser, NoiseSchedule, VideoUNet, VideoUNetConfig, checkpoint
from vdiff_lite.methods import history_encoder, load_history, save_history
from vdiff_lite.methods.history_encoder import trained_parts
from vdiff_lite.models.history_encoder import HistoryEncoder
from vdiff_lite.training.history import train_history


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return HistoryEncoder(size=8, frames=4, image=16, noise_channels=32, channels=32, width=32)


@pytest.fixture
def data():
    return BouncingDigits(size=16, digit_size=6)


def clip(f, seed=0):
    return torch.randn(2, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def test_an_untrained_encoder_is_silent(small_denoiser, encoder):
    past, xt, t = clip(3), clip(6, 1), torch.tensor([500, 900])
    with torch.no_grad():
        told = history_encoder(small_denoiser, past, encoder)(xt, t)
        plain = small_denoiser(xt[:, :, 3:], t)
    assert torch.equal(told[:, :, :3], past)
    torch.testing.assert_close(told[:, :, 3:], plain)


@pytest.mark.parametrize("speaks", ["tell", "show"])
def test_the_past_and_its_order_matter_once_the_encoder_speaks(small_denoiser, encoder, speaks):
    torch.nn.init.normal_(getattr(encoder, speaks).weight)

    def ask(past, w=1.0):
        return history_encoder(small_denoiser, past, encoder, w)(clip(6, 1), torch.tensor([500, 900]))[:, :, 3:]

    with torch.no_grad():
        a, b, backwards = ask(clip(3)), ask(clip(3, 2)), ask(clip(3).flip(2))
        u, guided = ask(clip(3), 0.0), ask(clip(3), 2.0)
    assert (a - b).abs().max() > 1e-4 and (a - backwards).abs().max() > 1e-5
    torch.testing.assert_close(guided, u + 2 * (a - u), rtol=1e-3, atol=1e-4)


def test_what_is_told_of_a_dropped_past_is_nothing(encoder):
    torch.nn.init.normal_(encoder.show.weight)
    vector, shown = encoder(clip(3), 5, keep=torch.tensor([True, False]))
    assert shown.shape == (2, 32, 5, 8, 8) and vector.shape == (2, 32)
    assert shown[0].abs().max() > 0 and shown[1].abs().max() == 0


def test_a_users_tap_is_still_asked(small_denoiser, encoder):
    sites = []
    with torch.no_grad():
        history_encoder(small_denoiser, clip(3), encoder)(clip(6, 1), torch.tensor([500, 900]), hook=lambda site, x: sites.append(site) or x)
    assert {"encoder.0", "middle"} <= set(sites)


def test_a_long_past_is_cut_and_an_empty_one_refused(small_denoiser, encoder):
    with torch.no_grad():
        assert history_encoder(small_denoiser, clip(5), encoder)(clip(7, 1), torch.tensor([5, 5])).shape[2] == 7
    with pytest.raises(ValueError, match="past has 5 frames; this encoder reads 1 to 4"):
        encoder(clip(5), 3)
    with pytest.raises(ValueError, match="new frame 33 is too far; this encoder drafts 32"):
        encoder(clip(3), 33)
    with pytest.raises(ValueError, match="weight=inf"):
        history_encoder(small_denoiser, clip(2), encoder, float("inf"))


def test_training_changes_the_encoder_and_the_modulation_alone(small_denoiser, encoder, data):
    before = {name: p.clone() for name, p in small_denoiser.net.named_parameters()}
    seen = []
    trained, heard, losses = train_history(small_denoiser, encoder, data, steps=4, batch=2, new=3, draft_steps=2, draft_batch=4,
                                           on_step=lambda n, loss: seen.append(n))
    assert all(torch.equal(p, before[name]) for name, p in small_denoiser.net.named_parameters()), "the given network is left alone"
    changed = {name for name, p in trained.net.named_parameters() if not torch.equal(p, before[name])}
    assert changed and changed <= set(trained_parts(trained.net))
    assert len(losses) == 4 and seen == [1, 2, 3, 4, 5, 6]
    assert heard.tell.weight.abs().max() > 0 and heard.show.weight.abs().max() > 0


def test_an_embedding_learns_to_foresee(data):
    torch.manual_seed(0)
    learner = HistoryEncoder(size=16, frames=4, image=16, noise_channels=32, width=32)
    net = VideoUNet(VideoUNetConfig(size=16, channels=(32,), follow=0, num_middle=1, noise_channels=32))
    train_history(Denoiser(net, NoiseSchedule()), learner, data, steps=0, new=3, draft_steps=150, draft_batch=32)
    test = data.with_frames(7).sample(32, torch.Generator().manual_seed(9)).video
    error = lambda past: (learner.draft(learner.embed(past), range(3)) - test[:, :, 4:]).square().mean()
    with torch.no_grad():
        assert error(test[:, :, :4]) < 0.8 * error(test[:, :, :4].roll(1, 0)), "a draft from another clip's past must be worse"


def test_saved_and_loaded_and_refused(small_denoiser, encoder, data, tmp_path, monkeypatch):
    monkeypatch.setenv("VDIFF_CHECKPOINTS", str(tmp_path))
    checkpoint.save(tmp_path / "small", small_denoiser.net, small_denoiser.schedule)
    trained, heard, _ = train_history(small_denoiser, encoder, data, steps=2, batch=2, new=3, draft_steps=1, draft_batch=2)
    path = save_history(tmp_path / "history", trained, heard, "small", recipe=dict(steps=2))
    again, read = load_history(path)
    ask = lambda d, e: history_encoder(d, clip(3), e)(clip(6, 1), torch.tensor([500, 900]))
    assert torch.equal(ask(trained, heard), ask(again, read))
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"base_sha256": "0" * 64}))
    with pytest.raises(checkpoint.CheckpointError, match="another small"):
        load_history(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        load_history(path)
