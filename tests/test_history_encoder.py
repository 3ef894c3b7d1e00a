import copy
import json

import pytest
import torch
from conftest import DEVICES, rounded

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


def test_an_untrained_encoder_changes_nothing(small_denoiser, encoder):
    past, xt, t = clip(3), clip(6, 1), torch.tensor([500, 900])
    with torch.no_grad():
        made = history_encoder(small_denoiser, past, encoder)(xt, t)
        plain = small_denoiser(xt[:, :, 3:], t)
    assert torch.equal(made[:, :, :3], past)
    torch.testing.assert_close(made[:, :, 3:], plain)


@pytest.mark.parametrize("output", ["tell", "show"])
def test_the_past_and_its_order_matter_once_an_output_is_not_zero(small_denoiser, encoder, output):
    torch.nn.init.normal_(getattr(encoder, output).weight)

    def denoise(past, w=1.0):
        guided = history_encoder(small_denoiser, past, encoder, w)
        return guided(clip(6, 1), torch.tensor([500, 900]))[:, :, 3:]

    with torch.no_grad():
        a, b, backwards = denoise(clip(3)), denoise(clip(3, 2)), denoise(clip(3).flip(2))
        u, guided = denoise(clip(3), 0.0), denoise(clip(3), 2.0)
    assert (a - b).abs().max() > 1e-4 and (a - backwards).abs().max() > 1e-5
    torch.testing.assert_close(guided, u + 2 * (a - u), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_listens_too(small_denoiser, encoder, device, dtype):
    torch.nn.init.normal_(encoder.show.weight)
    encoder.to(device)
    small_denoiser.to(device)
    past, xt, t = clip(3).to(device), clip(6, 1).to(device), torch.tensor([500, 900], device=device)
    half = Denoiser(copy.deepcopy(small_denoiser.net).to(dtype), small_denoiser.schedule)
    with torch.no_grad():
        near, exact = (history_encoder(d, past, encoder)(xt, t)
                       for d in (half, small_denoiser))
    assert near.dtype == torch.float32 and (near - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_a_dropped_past_is_encoded_as_zero(encoder):
    torch.nn.init.normal_(encoder.show.weight)
    vector, feature_map = encoder(clip(3), 5, keep=torch.tensor([True, False]))
    assert feature_map.shape == (2, 32, 5, 8, 8) and vector.shape == (2, 32)
    assert feature_map[0].abs().max() > 0 and feature_map[1].abs().max() == 0


def test_a_hook_of_the_user_is_still_called(small_denoiser, encoder):
    sites, guided = [], history_encoder(small_denoiser, clip(3), encoder)
    with torch.no_grad():
        guided(clip(6, 1), torch.tensor([500, 900]), hook=lambda site, x: sites.append(site) or x)
    assert {"encoder.0", "middle"} <= set(sites)


def test_a_long_past_is_cut_and_an_empty_one_refused(small_denoiser, encoder):
    guided = history_encoder(small_denoiser, clip(5), encoder)
    with torch.no_grad():
        assert guided(clip(7, 1), torch.tensor([5, 5])).shape[2] == 7
    with pytest.raises(ValueError, match="past has 5 frames; this encoder reads 1 to 4"):
        encoder(clip(5), 3)
    with pytest.raises(ValueError, match="new frame 33 is too far; this encoder drafts 32"):
        encoder(clip(3), 33)
    with pytest.raises(ValueError, match="weight=inf"):
        history_encoder(small_denoiser, clip(2), encoder, float("inf"))


def test_training_changes_the_encoder_and_the_modulation_alone(small_denoiser, encoder, data):
    before = {name: p.clone() for name, p in small_denoiser.net.named_parameters()}
    step_numbers = []
    trained, trained_encoder, losses = train_history(
        small_denoiser, encoder, data, steps=4, batch=2, new=3, draft_steps=2, draft_batch=4,
        on_step=lambda n, loss: step_numbers.append(n))
    unchanged = all(torch.equal(p, before[name]) for name, p in small_denoiser.net.named_parameters())
    assert unchanged, "the network passed in must not be trained"
    changed = {name for name, p in trained.net.named_parameters() if not torch.equal(p, before[name])}
    assert changed and changed <= set(trained_parts(trained.net))
    assert len(losses) == 4 and step_numbers == [1, 2, 3, 4, 5, 6]
    assert all(p.weight.abs().max() > 0 for p in (trained_encoder.tell, trained_encoder.show))


def test_an_embedding_learns_to_predict_new_frames(data):
    torch.manual_seed(0)
    learner = HistoryEncoder(size=16, frames=4, image=16, noise_channels=32, width=32)
    net = VideoUNet(VideoUNetConfig(size=16, channels=(32,), num_middle=1, noise_channels=32))
    denoiser = Denoiser(net, NoiseSchedule())
    train_history(denoiser, learner, data, steps=0, new=3, draft_steps=150, draft_batch=32)
    test = data.with_frames(7).sample(32, torch.Generator().manual_seed(9)).video
    error = lambda past: (learner.draft(learner.embed(past), range(3)) - test[:, :, 4:]).square().mean()
    with torch.no_grad():
        right, wrong = error(test[:, :, :4]), error(test[:, :, :4].roll(1, 0))
    assert right < 0.8 * wrong, "a draft from the past of another clip must be worse"


def test_saved_and_loaded_and_refused(small_denoiser, encoder, data, tmp_path, monkeypatch):
    monkeypatch.setenv("VDIFF_CHECKPOINTS", str(tmp_path))
    checkpoint.save(tmp_path / "small", small_denoiser.net, small_denoiser.schedule)
    *trained, _ = train_history(small_denoiser, encoder, data, steps=2, batch=2, new=3, draft_steps=1,
                                draft_batch=2)
    path = save_history(tmp_path / "history", *trained, "small", recipe=dict(steps=2))
    denoise = lambda d, e: history_encoder(d, clip(3), e)(clip(6, 1), torch.tensor([500, 900]))
    rounded(trained[0].net), rounded(trained[1])
    assert torch.equal(denoise(*trained), denoise(*load_history(path)))
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"base_sha256": "0" * 64}))
    with pytest.raises(checkpoint.CheckpointError, match="another small"):
        load_history(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        load_history(path)
