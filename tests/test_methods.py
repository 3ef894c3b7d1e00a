from functools import partial

import pytest
import torch

from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.guidance import autoguided
from vdiff_lite.diffusion.samplers import ddim, ddpm, run_sampler, sample, sdedit_init
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.methods import (
    NORMS,
    FeatureCache,
    GuidanceError,
    anchored_history,
    copy_last,
    fractional_history_guidance,
    history_guidance,
    independent,
    injection,
    reconstruction,
    replacement,
    temporal_history_guidance,
)
from vdiff_lite.models.video_unet import VideoUNet
from vdiff_lite.rollout import generate, rollout


def clip(f, seed=0, b=1):
    return torch.randn(b, 1, f, 16, 16, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


class Recorder(Denoiser):
    """A denoiser that remembers its inputs."""

    def __init__(self):
        super().__init__(torch.nn.Identity(), NoiseSchedule(), (1, 16, 16), "x0")
        self.inputs = []

    def forward(self, xt, t):
        self.inputs.append((xt, t))
        return xt * 0.5


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("sampler", [partial(ddim, steps=3), partial(ddpm, steps=3)])
def test_the_overlap_is_exact(small_denoiser, weight, sampler):
    past = clip(2)
    made = run_sampler(sampler(history_guidance(small_denoiser, past, weight), clip(5, 1), small_denoiser.schedule,
                          generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(made[:, :, :2], past, rtol=1e-5, atol=1e-5)


def test_weight_one_asks_once_with_a_clean_past():
    recorder, past = Recorder(), clip(2)
    history_guidance(recorder, past, 1.0)(clip(5, 1), torch.tensor([700]))
    [(xt, t)] = recorder.inputs
    assert torch.equal(xt[:, :, :2], past) and t.tolist() == [[0, 0, 700, 700, 700]]


def test_both_branches_run_in_one_pass_and_the_forgotten_one_knows_nothing():
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    level = torch.tensor([700])
    noisy = recorder.schedule.add_noise(torch.cat([past, xt[:, :, 2:]], 2), level, clip(5, 2))
    history_guidance(recorder, past, 2.0)(noisy, level)
    [(x, t)] = recorder.inputs
    assert t.tolist() == [[0, 0, 700, 700, 700], [1000, 1000, 700, 700, 700]]
    torch.testing.assert_close(x[1:, :, :2], clip(5, 2)[:, :, :2], rtol=1e-3, atol=1e-3)


def test_weights_are_on_a_line(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    with torch.no_grad():
        u, c, w = (history_guidance(small_denoiser, past, weight)(xt, t) for weight in (0.0, 1.0, 3.0))
    torch.testing.assert_close(w, u + 3 * (c - u), rtol=1e-3, atol=1e-3)
    assert (c - u)[:, :, 2:].abs().max() > 1e-3


def test_independent_changes_nothing():
    recorder = Recorder()
    assert independent(recorder, clip(2)) is recorder


def test_bad_settings_of_guidance():
    with pytest.raises(ValueError, match="weight=nan"):
        history_guidance(Recorder(), clip(2), float("nan"))
    with pytest.raises(ValueError, match="past has 5 frames and leaves no new frames in a window of 5"):
        history_guidance(Recorder(), clip(5))(clip(5), torch.tensor([3]))


def test_copy_last_repeats_the_last_frame():
    past = clip(2)
    made = run_sampler(ddim(copy_last(Recorder(), past), clip(5, 1), NoiseSchedule(), 4))
    torch.testing.assert_close(made, torch.cat([past, past[:, :, -1:].expand(-1, -1, 3, -1, -1)], 2), rtol=1e-5, atol=1e-5)


def test_fractional_history_blurs_the_past_and_says_so():
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    fractional_history_guidance(recorder, past, 1.5, level=400)(xt, torch.tensor([700]))
    [(x, t)] = recorder.inputs
    assert t.tolist() == [[0, 0, 700, 700, 700], [400, 400, 700, 700, 700], [1000, 1000, 700, 700, 700]]
    noise = recorder.schedule.eps_from_x0(xt[:, :, :2], torch.tensor([[700, 700]]), past)
    torch.testing.assert_close(x[1:2, :, :2], recorder.schedule.add_noise(past, torch.tensor([[400, 400]]), noise))
    assert torch.equal(x[:1, :, :2], past)


def test_fractional_history_by_hand(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    noise = small_denoiser.schedule.eps_from_x0(xt[:, :, :2], t[:, None].expand(1, 2), past)

    def branch(level):
        of_past = torch.full((1, 2), level)
        shown = small_denoiser.schedule.add_noise(past, of_past, noise)
        return small_denoiser(torch.cat([shown, xt[:, :, 2:]], 2), torch.cat([of_past, t.expand(1, 3)], 1))[:, :, 2:]

    with torch.no_grad():
        want = branch(0) + 0.5 * (branch(300) - branch(1000))
        got = fractional_history_guidance(small_denoiser, past, 1.5, 300)(xt, t)[:, :, 2:]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_temporal_history_with_all_frames_is_vanilla_history_guidance(small_denoiser):
    past, xt, t = clip(3), clip(6, 1), torch.tensor([500])
    with torch.no_grad():
        temporal = temporal_history_guidance(small_denoiser, past, {3: 1.7})(xt, t)
        vanilla = history_guidance(small_denoiser, past, 1.7)(xt, t)
    torch.testing.assert_close(temporal, vanilla, rtol=1e-4, atol=1e-4)


def test_temporal_history_forgets_the_older_frames():
    recorder = Recorder()
    temporal_history_guidance(recorder, clip(3), {3: 1.0, 1: 0.5})(clip(5, 1), torch.tensor([700]))
    assert recorder.inputs[0][1].tolist() == [[0, 0, 0, 700, 700], [1000, 1000, 0, 700, 700], [1000, 1000, 1000, 700, 700]]


def test_the_sampler_carries_the_noised_past_of_replacement():
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    run_sampler(ddim(replacement(recorder, past), xt, recorder.schedule, 5))
    for x, t in recorder.inputs:
        torch.testing.assert_close(x[:, :, :2], recorder.schedule.add_noise(past, t, xt[:, :, :2]), rtol=1e-4, atol=1e-4)


def test_fresh_replacement_draws_new_noise_of_the_right_size():
    recorder, past = Recorder(), clip(2).expand(-1, -1, 2, 16, 16) * 0 + 0.5
    replace = replacement(recorder, past, fresh=True, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        replace(torch.zeros(1, 1, 5, 16, 16), torch.tensor([500]))
    (a, _), (b, _) = recorder.inputs
    signal, noise = recorder.schedule.signal_and_noise(torch.tensor([500]), a)
    assert not torch.equal(a, b) and torch.equal(a[:, :, 2:], torch.zeros(1, 1, 3, 16, 16))
    assert abs((a[:, :, :2] - signal * 0.5).std() / noise - 1).item() < 0.1


@pytest.mark.parametrize("norm", NORMS)
def test_reconstruction_guidance_by_finite_differences(norm):
    schedule, past, t = NoiseSchedule(), clip(2).double(), torch.tensor([600])
    xt = clip(4, 1).double()
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    linear = Denoiser.from_function(lambda xt, t: torch.einsum("fg,bcghw->bcfhw", matrix, xt).tanh(), schedule,
                                    (1, 16, 16))

    def distance(z):
        squares = (past - linear(z, t)[:, :, :2]).square()
        return dict(sum=squares.sum(), mean=squares.mean(), root=squares.sum().sqrt(), pigdm=squares.sum())[norm]

    got = reconstruction(linear, past, 2.0, norm, replace=False)(xt, t) - linear(xt, t)
    signal = schedule.alpha_bar[600].sqrt().item() ** (-1 if norm == "pigdm" else 1)
    for pixel in ((0, 0, 3, 4, 5), (0, 0, 1, 7, 7)):
        step = torch.zeros_like(xt)
        step[pixel] = 1e-5
        slope = (distance(xt + step) - distance(xt - step)) / 2e-5
        torch.testing.assert_close(got[pixel], -signal * slope, rtol=1e-3, atol=1e-7)


def test_reconstruction_replaces_the_overlap_only_when_asked(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    with_it, without = (reconstruction(small_denoiser, past, 3.0, replace=replace)(xt, t) for replace in (True, False))
    assert torch.equal(with_it[:, :, :2], past) and torch.equal(with_it[:, :, 2:], without[:, :, 2:])
    assert not torch.equal(without[:, :, :2], past)


def test_reconstruction_without_weight_is_replacement_and_keeps_a_record(small_denoiser):
    past, xt, record = clip(2, b=2), clip(5, 1, b=2), []
    with torch.no_grad():
        a = run_sampler(ddim(reconstruction(small_denoiser, past, 0.0, record=record), xt, small_denoiser.schedule, 3))
        b = run_sampler(ddim(replacement(small_denoiser, past), xt, small_denoiser.schedule, 3))
    assert torch.equal(a, b)
    assert [step["t"] for step in record] == [1000, 667, 333]
    assert all(len(step[name]) == 2 for step in record for name in ("loss", "gradient_norm", "cosine"))


def test_sdedit_init_holds_the_past_and_its_last_frame(small_denoiser):
    past = clip(2).abs()
    start = sdedit_init(small_denoiser, past, 5, 300, torch.Generator().manual_seed(0))
    signal, noise = small_denoiser.schedule.signal_and_noise(torch.tensor([300]), start)
    rest = (start - signal * torch.cat([past, past[:, :, -1:].expand(-1, -1, 3, -1, -1)], 2)) / noise
    assert abs(rest.mean()) < 0.05 and abs(rest.std() - 1) < 0.05


def test_reconstruction_says_where_it_exploded(small_denoiser):
    with pytest.raises(GuidanceError, match=r"t=500 with weight=1000000000000\.0: the push reaches"):
        reconstruction(small_denoiser, clip(2), 1e12)(clip(5, 1), torch.tensor([500]))
    with pytest.raises(ValueError, match="norm='max'"):
        reconstruction(small_denoiser, clip(2), norm="max")


def test_clean_keys_and_values_are_the_in_window_condition(small_denoiser):
    past, xt = clip(2, b=2), clip(6, 1, b=2)
    with torch.no_grad():
        a, b = (run_sampler(ddim(method(small_denoiser, past), xt, small_denoiser.schedule, 4)) for method in (injection, history_guidance))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [dict(sites="decoder"), dict(sites=("encoder", "middle"), source="same"), dict(sites="attention"),
                                     dict(sites="temporal", source="same"), dict(sites="input", source="same"), dict(sites="decoder.0")])
def test_no_blend_injects_nothing_bit_for_bit(small_denoiser, options):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    with torch.no_grad():
        plain = small_denoiser(xt, t)
        assert torch.equal(injection(small_denoiser, past, prepend=False, blend=0.0, **options)(xt, t), plain)
        assert not torch.equal(injection(small_denoiser, past, prepend=False, blend=0.5, **options)(xt, t), plain)


def test_a_whole_blend_at_the_same_level_puts_the_past_s_own_features(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    cache = FeatureCache(small_denoiser, past, torch.Generator().manual_seed(0))
    noised = small_denoiser.schedule.add_noise(past, t, torch.randn(past.shape, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        made = injection(small_denoiser, past, "decoder.0", prepend=False, source="same", cache=cache)(xt, t)
        v = small_denoiser.net(noised, t)  # after the last stage's output there is nothing that joins frames
    torch.testing.assert_close(made[:, :, :2], small_denoiser.schedule.x0_from_v(xt[:, :, :2], t, v), rtol=1e-4, atol=1e-4)


def test_cached_features_are_computed_once(small_denoiser):
    past, xt = clip(2), clip(5, 1)
    cache = FeatureCache(small_denoiser, past)
    with torch.no_grad():
        for sites in ("attention", "temporal", "joint"):
            run_sampler(ddim(injection(small_denoiser, past, sites, cache=cache), xt, small_denoiser.schedule, 3))
        assert cache.nfe == 1
        for blend in (0.3, 0.6):
            run_sampler(ddim(injection(small_denoiser, past, "decoder", blend, prepend=False, source="same", fraction=0.5, cache=cache), xt,
                        small_denoiser.schedule, 4))
        assert cache.nfe == 3  # levels 1000 and 750; 500 and 250 lie outside the fraction


def test_injection_stops_after_its_fraction(small_denoiser):
    past, xt = clip(2), clip(5, 1)
    cache = FeatureCache(small_denoiser, past)
    injected, level = injection(small_denoiser, past, fraction=0.8, cache=cache), torch.tensor([200])
    noised = torch.cat([cache.input(200), xt[:, :, 2:]], 2)
    with torch.no_grad():
        made = injected(xt, level)
        assert cache.nfe == 0
        torch.testing.assert_close(made, replacement(small_denoiser, past)(noised, level))
        injected(xt, level + 1)
    assert cache.nfe == 1


@pytest.mark.parametrize("options, says", [
    (dict(blend=1.5, prepend=False), "blend=1.5"), (dict(fraction=-0.1), "fraction=-0.1"), (dict(source="old"), "source='old'"),
    (dict(sites=("decoder",)), "prepend=False"), (dict(blend=0.5), "prepend=False"), (dict(sites=("nowhere",)), "nowhere"),
    (dict(sites=("encoder.7",), prepend=False), r"encoder.7; .* encoder.0.temporal"), (dict(sites=()), "nothing"),
    (dict(sites=("decoder.0",)), "prepend=False"), (dict(sites=("middle.0",), prepend=False), "middle.0; ")])
def test_bad_settings_of_injection(small_denoiser, options, says):
    with pytest.raises(ValueError, match=says):
        injection(small_denoiser, clip(2), **options)


def frames_of(denoiser, past, n, **options):
    options = dict(window=6, overlap=2, sampler=partial(ddim, steps=2), generator=torch.Generator().manual_seed(0)) | options
    return list(rollout(denoiser, past, n, **options))


def test_rollout_makes_as_many_frames_as_asked(small_denoiser):
    made = frames_of(small_denoiser, clip(3, b=2), 9)
    assert len(made) == 9 and made[0].shape == (2, 1, 16, 16)
    assert torch.equal(torch.stack(made), torch.stack(frames_of(small_denoiser, clip(3, b=2), 9)))
    assert frames_of(small_denoiser, clip(3), 0) == []


def test_rollout_by_hand(small_denoiser):
    generator, past = torch.Generator().manual_seed(0), clip(2)
    made = []
    for _ in range(2):
        xt = torch.randn(1, 1, 6, 16, 16, generator=generator)
        with torch.no_grad():
            window = run_sampler(ddim(history_guidance(small_denoiser, past), xt, small_denoiser.schedule, 2))
        made += list(window[:, :, 2:].unbind(2))
        past = window[:, :, -2:]
    torch.testing.assert_close(torch.stack(frames_of(small_denoiser, clip(2), 8)), torch.stack(made))


def test_rollout_without_end_is_lazy(small_denoiser):
    frames = rollout(small_denoiser, clip(2), None, window=4, overlap=2, sampler=partial(ddim, steps=1))
    assert len([next(frames) for _ in range(7)]) == 7


@pytest.mark.parametrize("options, says", [
    (dict(overlap=6), "overlap=6 does not fit a window of 6"), (dict(overlap=0), "overlap=0"), (dict(overlap=4), "k >= 4"),
    (dict(n=-1), "num_frames=-1"), (dict(method=partial(history_guidance, weight=float("inf"))), "weight=inf")])
def test_bad_settings_of_rollout_come_before_any_work(options, says):
    with pytest.raises(ValueError, match=says):
        rollout(Recorder(), clip(3), options.pop("n", 5), **(dict(window=6, overlap=2) | options))


def test_generate_by_hand(small_denoiser):
    draw, options = torch.Generator().manual_seed(0), dict(first=2, window=5, overlap=3)
    sampler = partial(ddim, eta=0.5, steps=2)
    clip = sample(small_denoiser, 2, 2, ddim, 2, draw, eta=0.5)
    for num_context, new in ((2, 3), (3, 2), (3, 1)):  # the first window, and two of the rollout
        frames = rollout(small_denoiser, clip, new, 5, num_context, sampler=sampler, generator=draw)
        clip = torch.cat([clip, torch.stack(list(frames), dim=2)], dim=2)
    made = generate(small_denoiser, 2, 8, steps=2, generator=torch.Generator().manual_seed(0), **options)
    torch.testing.assert_close(made, clip)
    short = generate(small_denoiser, 2, 4, steps=2, generator=torch.Generator().manual_seed(0), **options)
    torch.testing.assert_close(short, made[:, :, :4])
    assert generate(small_denoiser, 1, 1, steps=2, **options).shape == (1, 1, 1, 16, 16)


@pytest.mark.parametrize("weight", [1, 1.5, (3, 1.5)])
def test_a_first_frame_model_draws_the_first_frames(weight, small_denoiser):
    torch.manual_seed(1)
    other = Denoiser(VideoUNet(small_denoiser.net.config).requires_grad_(False), NoiseSchedule())
    torch.nn.init.normal_(other.net.unpatchify.weight)
    options, draw = dict(steps=2, window=5, overlap=3), torch.Generator().manual_seed(0)
    made = generate(small_denoiser, 2, 6, generator=torch.Generator().manual_seed(0), first_frame_model=other, first_frame_steps=3, first_frame_weight=weight, **options)
    steps = ddpm(autoguided(other, small_denoiser, weight), torch.randn(2, 1, 2, 16, 16, generator=draw), other.schedule, 3, generator=draw)
    clip = run_sampler(steps)
    for num_context, new in ((2, 3), (3, 1)):  # the first window, and one of the rollout, by the network itself
        frames = rollout(small_denoiser, clip, new, 5, num_context, sampler=partial(ddim, eta=0.5, steps=2), generator=draw)
        clip = torch.cat([clip, torch.stack(list(frames), dim=2)], dim=2)
    torch.testing.assert_close(made, clip)
    own = generate(small_denoiser, 2, 6, first=2, generator=torch.Generator().manual_seed(0), **options)
    assert (made - own).abs().amax() > 0.1


@pytest.mark.parametrize("options", [dict(first=0), dict(first=16), dict(num_frames=0)])
def test_generate_names_what_does_not_fit(options, small_denoiser):
    with pytest.raises(ValueError, match="={}".format(*options.values())):
        generate(small_denoiser, **options)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_anchor_stands_clean_before_the_window(weight):
    inputs, past, anchor = [], clip(2, b=3), clip(2, seed=8, b=3)

    class Ask(Recorder):
        def forward(self, xt, t, positions):
            inputs.append((xt, t, positions))
            return xt * 0.5

    made = anchored_history(Ask(), past, anchor, weight, distance=12)(clip(5, 1, b=3), torch.full((3,), 700))
    [(xt, t, positions)] = inputs
    assert made.shape[2] == 5 and torch.equal(made[:, :, :2], past)
    assert positions.tolist() == [-14, -13, 0, 1, 2, 3, 4] and (t[:, :2] == 0).all()
    for branch in xt.split(3):
        assert torch.equal(branch[:, :, :2], anchor)


def test_the_anchor_is_seen(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([700])
    a, b = (anchored_history(small_denoiser, past, clip(2, seed=seed))(xt, t) for seed in (8, 9))
    assert (a - b)[:, :, 2:].abs().max() > 1e-4


@pytest.mark.parametrize("anchor, options, says", [(clip(2, b=2), {}, "anchor has shape"), (clip(2)[:, :, :0], {}, "anchor has shape"),
                                                   (clip(2), dict(distance=-1), "distance=-1")])
def test_a_bad_anchor_is_refused(small_denoiser, anchor, options, says):
    with pytest.raises(ValueError, match=says):
        anchored_history(small_denoiser, clip(2), anchor, **options)
