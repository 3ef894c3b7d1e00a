import pytest
import torch
from conftest import SMALL

from vdiff_lite.models.layers import nonoverlapping_conv_transpose
from vdiff_lite.models.rotary import clean_mask, rotary_angles, rotate
from vdiff_lite.models.video_unet import VideoUNet, VideoUNetConfig


def clip(b=2, f=5, seed=0):
    return torch.randn(b, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_tiny_has_about_two_million_parameters():
    assert 1.5e6 < sum(p.numel() for p in VideoUNet(VideoUNetConfig.preset("tiny")).parameters()) < 2.5e6


def test_base_is_for_64_pixels_and_color_is_a_parameter():
    config = VideoUNetConfig.preset("base")
    assert config.size == 64
    assert VideoUNetConfig(**(config.to_dict() | {"in_channels": 3})).in_channels == 3


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
                     "decoder.1.temporal.centre", "decoder.1.temporal", "decoder.1",
                     "decoder.0.temporal.seen", *(f"decoder.0.temporal.{i}.motion" for i in range(3)),
                     "decoder.0.temporal.centre", "decoder.0.temporal", "decoder.0"]


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
    (dict(size=30), "size=30"), (dict(channels=(33,), size=32), "head_channels=32")])
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
