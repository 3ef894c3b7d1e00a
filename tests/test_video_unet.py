import json

import pytest
import torch
from conftest import SMALL

from vdiff_lite.models.layers import Context, SpaceTimeBlock, nonoverlapping_conv_transpose
from vdiff_lite.models.rotary import clean_mask, rotary_angles, rotate, space_time_angles
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig


def clip(b=2, f=5, seed=0):
    return torch.randn(b, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name, size, millions", [("tiny", 32, 2.0), ("base", 64, 8.3)])
def test_the_presets_are_as_large_as_they_say(name, size, millions):
    config = VideoUNetConfig.preset(name)
    assert config.size == (size, size)
    assert round(sum(p.numel() for p in VideoUNet(config).parameters()) / 1e6, 1) == millions


def test_a_number_is_the_size_of_a_square_and_a_config_comes_back_from_json():
    config = VideoUNetConfig(size=16, in_channels=3, channels=[32, 64])
    assert config == VideoUNetConfig(size=(16, 16), in_channels=3, channels=(32, 64))
    assert VideoUNetConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("frames", [1, 3, 16, 21])
def test_any_number_of_frames(small_net, frames):
    with torch.no_grad():
        assert small_net(clip(1, frames), torch.tensor([500])).shape == (1, 1, frames, 16, 16)


def test_a_new_network_predicts_its_last_bias():
    torch.manual_seed(0)
    net = VideoUNet(SMALL)
    out = net(clip(), torch.tensor([5, 900]))
    torch.testing.assert_close(out, net.unpatchify.bias.expand_as(out))


def test_levels_per_clip_are_levels_per_frame(small_net):
    t = torch.tensor([300, 700])
    with torch.no_grad():
        torch.testing.assert_close(small_net(clip(), t), small_net(clip(), t[:, None].expand(2, 5)))


def test_each_frame_depends_on_its_own_level(small_net):
    with torch.no_grad():
        same = small_net(clip(1), torch.full((1, 5), 500))
        other = small_net(clip(1), torch.tensor([[500, 500, 100, 500, 500]]))
    assert (same - other)[:, :, 2].abs().max() > 1e-3


def test_clips_of_a_batch_do_not_mix(small_net):
    x, t = clip(3), torch.tensor([[0, 0, 9, 9, 9], [9, 99, 999, 9, 1], [500] * 5])
    with torch.no_grad():
        together = small_net(x, t)
        for i in range(3):
            alone = small_net(x[i:i + 1], t[i:i + 1])
            torch.testing.assert_close(together[i:i + 1], alone, rtol=1e-3, atol=1e-4)


def test_only_differences_of_position_matter(small_net):
    x, t = clip(1), torch.tensor([400])
    with torch.no_grad():
        plain, shifted, scaled = (small_net(x, t, positions=positions) for positions in (
            None, torch.arange(5) + 40, torch.arange(5) * 2))
    torch.testing.assert_close(plain, shifted, rtol=1e-3, atol=1e-4)
    assert (plain - scaled).abs().max() > 1e-3


def test_clean_frames_never_attend_to_noisy_ones(small_net):
    t = torch.tensor([[0, 0, 600, 600, 600]])
    outputs = [{}, {}]
    for seed in (0, 1):
        x = clip(1, seed=seed)
        x[:, :, :2] = clip(1)[:, :, :2]
        with torch.no_grad():
            out = small_net(x, t, hook=lambda site, y, k=outputs[seed]: k.setdefault(site, y))
        outputs[seed]["out"] = out
    for site, value in outputs[0].items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value[:, :, :2], outputs[1][site][:, :, :2], rtol=1e-4, atol=1e-5)
            assert (value[:, :, 2:] - outputs[1][site][:, :, 2:]).abs().max() > 1e-3


def test_noisy_frames_do_attend_to_clean_ones(small_net):
    t = torch.tensor([[0, 0, 600, 600, 600]])
    x, other = clip(1), clip(1)
    other[:, :, 0] += 1
    with torch.no_grad():
        assert (small_net(x, t) - small_net(other, t))[:, :, 4].abs().max() > 1e-3


def test_cached_keys_and_values_replace_the_past(small_net):
    # As in feature injection: the keys and values of the past, computed once, stand in for the past itself.
    x, t = clip(1, 6), torch.tensor([[0, 0, 0, 600, 600, 600]])
    cache = {}

    def record(site, y):
        if isinstance(y, tuple):
            k, v = y
            past = k.shape[2] // 6 * 3
            cache[site] = k[:, :, :past], v[:, :, :past]
        return y

    def prepend(site, y):
        if not isinstance(y, tuple):
            return y
        return tuple(torch.cat([cached, new], dim=2) for cached, new in zip(cache[site], y))

    with torch.no_grad():
        whole = small_net(x, t, hook=record)
        new = small_net(x[:, :, 3:], t[:, 3:], hook=prepend, positions=torch.arange(3, 6))
    torch.testing.assert_close(new, whole[:, :, 3:], rtol=1e-4, atol=1e-5)


def test_hooks_are_called_at_every_site_and_may_change_it(small_net):
    x, t, sites = clip(1), torch.tensor([400]), []
    with torch.no_grad():
        plain = small_net(x, t)
        same = small_net(x, t, hook=lambda site, y: (sites.append(site), y)[1])
        changed = small_net(x, t, hook=lambda site, y: y * 0 if site == "middle" else y)
    assert torch.equal(plain, same)
    assert not torch.equal(plain, changed)
    assert sites == ["encoder.0.temporal", "encoder.0", "encoder.1.temporal", "encoder.1",
                     "middle.0.joint", "middle",
                     "decoder.1.temporal", "decoder.1", "decoder.0.temporal", "decoder.0"]


def test_frames_may_be_wider_than_high():
    torch.manual_seed(0)
    net = VideoUNet(VideoUNetConfig(size=(8, 24), in_channels=3, channels=(32, 64), num_middle=1))
    torch.nn.init.normal_(net.unpatchify.weight)
    shapes = {}

    def hook(site, y):
        shapes[site] = tuple(y[0].shape if isinstance(y, tuple) else y.shape)
        return y

    with torch.no_grad():
        out = net(torch.randn(2, 3, 5, 8, 24), torch.tensor([400, 20]), hook=hook)
    assert out.shape == (2, 3, 5, 8, 24) and out.std() > 0.1
    assert shapes["encoder.0"] == (2, 32, 5, 4, 12) and shapes["middle"] == (2, 64, 5, 2, 6)
    assert shapes["encoder.0.temporal"] == (2, 4 * 12, 5, 32) and shapes["middle.0.joint"] == (2, 2, 60, 32)
    with pytest.raises(ValueError, match=r"xt has shape .*; this takes \(b, 3, f, 8, 24\)"):
        net(torch.zeros(1, 3, 5, 24, 8), torch.tensor([1]))


def test_rotations_of_joint_attention_are_those_of_each_place():
    temporal = rotary_angles(torch.arange(2), 16)
    angles = space_time_angles(temporal, 2, 3).unflatten(0, (2, 2, 3))
    row, column = (rotary_angles(torch.arange(n), 4, base=10.0) for n in (2, 3))
    for f in range(2):
        for y in range(2):
            for x in range(3):
                expected = torch.cat([temporal[f, ::2], row[y], column[x]])
                torch.testing.assert_close(angles[f, y, x], expected)
    # The same feature everywhere: turned back, every key is the same.
    block, keys = SpaceTimeBlock(32, 8, 16), []
    context = Context(1, torch.zeros(2, 8), temporal, hook=lambda site, kv: keys.append(kv[0]) or kv)
    block(torch.linspace(-1, 1, 32)[None, :, None, None].expand(2, 32, 2, 3), context, "joint")
    same = rotate(keys[0], -angles.flatten(0, 2))
    torch.testing.assert_close(same, same[:, :, :1].expand_as(same))
    assert keys[0].shape == (1, 2, 12, 16) and keys[0].std(dim=2).max() > 0.01


def test_rotation_is_a_complex_product_and_so_is_its_gradient():
    angles = rotary_angles(torch.arange(4), 8).double()
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    pairs = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x, angles), torch.cat([pairs.real, pairs.imag], -1))
    assert torch.autograd.gradcheck(lambda x: rotate(x, angles), x)
    assert torch.autograd.gradgradcheck(lambda x: rotate(x, angles), x)


@pytest.mark.parametrize("k", [2, 3])
def test_nonoverlapping_conv_transpose_is_a_transposed_convolution(k):
    torch.manual_seed(0)
    layer, x = torch.nn.ConvTranspose2d(3, 5, k, stride=k), torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(nonoverlapping_conv_transpose(layer, x), layer(x))


def test_mask_of_mixed_levels():
    assert clean_mask(torch.tensor([[0, 0]])) is None and clean_mask(torch.tensor([[3, 4]])) is None
    assert clean_mask(torch.tensor([[0, 5]]))[0].tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("bad, message", [
    (dict(size=30), r"size=\(30, 30\) does not divide"), (dict(size=(16, 20)), "multiples of 8"),
    (dict(size=(32, 32, 32)), r"choose \(height, width\)"), (dict(size=(0, 32)), r"size\[0\]=0 must be"),
    (dict(channels=(33,), size=32), "head_channels=32")])
def test_bad_configs_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        VideoUNetConfig(**bad)


def test_bad_shapes_are_refused(small_net):
    with pytest.raises(ValueError, match=r"xt has shape \(1, 1, 5, 8, 8\)"):
        small_net(torch.zeros(1, 1, 5, 8, 8), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"t has shape \(1, 4\)"):
        small_net(clip(1), torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="preset 'huge'"):
        VideoUNetConfig.preset("huge")
