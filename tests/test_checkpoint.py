import json
import pickle

import pytest
import torch
from conftest import rounded
from safetensors.torch import save_file

from vdiff_lite import checkpoint, load
from vdiff_lite.checkpoint import CheckpointError
from vdiff_lite.diffusion.schedule import NoiseSchedule


@pytest.fixture
def saved(tmp_path, small_net):
    return checkpoint.save(tmp_path / "mine", small_net, NoiseSchedule(shift=2.0), steps=7)


def test_loading_returns_what_was_saved(saved, small_net):
    denoiser = load(saved)
    x, t = torch.randn(1, 1, 3, 16, 16), torch.tensor([400])
    with torch.no_grad():
        assert torch.equal(denoiser.net(x, t), rounded(small_net)(x, t))
    assert denoiser.card["steps"] == 7 and denoiser.schedule.shift == 2.0
    assert not denoiser.net.training and not any(p.requires_grad for p in denoiser.net.parameters())
    assert load(saved.with_suffix("")).card["sha256"] == denoiser.card["sha256"]


def test_bfloat16_weights_compute_in_float32(saved, small_net):
    assert {value.dtype for value in checkpoint.read_tensors(saved)[0].values()} == {torch.bfloat16}
    for p, original in zip(load(saved).net.parameters(), small_net.parameters()):
        assert p.dtype == torch.float32 and torch.equal(p, original.bfloat16().float())


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_shipped_checkpoints_load_and_are_small(name):
    denoiser = load(name)
    card = denoiser.card
    assert card["parameters"] == sum(p.numel() for p in denoiser.parameters())
    assert card["recipe"] and card["data"] and card["steps"]
    assert card["loss_curve"] or card["origin"], "where the weights come from"
    assert (checkpoint.folder() / f"{name}.safetensors").stat().st_size <= 17e6


def test_the_networks_of_the_book_are_shipped():
    assert {"digits32", "digits32_fixed", "digits64x2"} <= set(checkpoint.shipped())


OLDER = [("noise_embedding.", "time_embedding."), (".attention.", ".")]


def test_a_file_with_older_names_loads(tmp_path, small_net):
    tensors = small_net.state_dict()
    older = {}
    for name, value in tensors.items():
        for new, old in OLDER:
            name = name.replace(new, old)
        older[name] = value
    assert len(set(older) - set(tensors)) > 20
    config = small_net.config.to_dict()
    config["time_channels"] = config.pop("noise_channels")
    schedule = NoiseSchedule().config()
    path = checkpoint.write(tmp_path / "older", older, checkpoint.FORMAT, unet=config, schedule=schedule)
    loaded = load(path)
    xt = torch.randn(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.net(xt, torch.tensor([400])), rounded(small_net)(xt, torch.tensor([400])))


def with_unet(path, **settings):
    """The checkpoint with other settings of its network in the card."""
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"unet": card["unet"] | settings}))
    return path


def test_a_card_with_a_number_for_the_size_loads(saved, small_net):
    assert load(with_unet(saved, size=16)).net.config == small_net.config


@pytest.mark.parametrize("tracking", [dict(follow=1, foresee=0), dict(follow=0, foresee=1),
                                      dict(follow=2, foresee=3)])
def test_a_network_that_tracked_is_refused(saved, tracking):
    message = r"tracked what moves \(follow, foresee\).* load it with vdiff_lite 0\.2, or train again"
    with pytest.raises(CheckpointError, match=message):
        load(with_unet(saved, **tracking))


def test_an_older_card_of_a_network_that_did_not_track_loads(saved, small_net):
    assert load(with_unet(saved, follow=0, foresee=0)).net.config == small_net.config


def test_a_missing_checkpoint_names_the_shipped_ones():
    message = r"no checkpoint at .*nothing.safetensors; shipped ones: .*digits32"
    with pytest.raises(CheckpointError, match=message):
        load("nothing")


def test_a_damaged_file_is_refused(saved):
    data = bytearray(saved.read_bytes())
    data[-5] ^= 1
    saved.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged: its sha256"):
        load(saved)


def test_a_missing_card_is_reported(saved):
    saved.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"mine\.json is missing"):
        load(saved)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '"x"'])
def test_a_foreign_card_is_refused(saved, text):
    saved.with_suffix(".json").write_text(text)
    with pytest.raises(CheckpointError, match=r"mine\.json"):
        load(saved)


def test_foreign_weights_are_refused(saved):
    save_file({"x": torch.zeros(2)}, saved)
    card = json.loads(saved.with_suffix(".json").read_text())
    saved.with_suffix(".json").write_text(json.dumps(card | {"sha256": checkpoint.sha256(saved)}))
    with pytest.raises(CheckpointError, match="does not hold the network"):
        load(saved)


def test_a_pickle_is_never_opened(saved):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    saved.write_bytes(pickle.dumps(Trap()))
    card = json.loads(saved.with_suffix(".json").read_text())
    saved.with_suffix(".json").write_text(json.dumps(card | {"sha256": checkpoint.sha256(saved)}))
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load(saved)


def test_nothing_half_written_is_left(saved):
    assert sorted(p.name for p in saved.parent.iterdir()) == ["mine.json", "mine.safetensors"]
