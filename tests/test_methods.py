import copy
from functools import partial

import pytest
import torch
from conftest import DEVICES

from vdiff_lite.diffusion.denoiser import Denoiser
from vdiff_lite.diffusion.samplers import ddim, ddpm, run_sampler, sample, sdedit_init
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.methods import (
    METHODS,
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
from vdiff_lite.methods.injection import LEVELS_KEPT
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
    guided, generator = history_guidance(small_denoiser, past, weight), torch.Generator().manual_seed(0)
    made = run_sampler(sampler(guided, clip(5, 1), small_denoiser.schedule, generator=generator))
    torch.testing.assert_close(made[:, :, :2], past, rtol=1e-5, atol=1e-5)


def test_weight_one_is_one_evaluation_with_a_clean_past():
    recorder, past = Recorder(), clip(2)
    history_guidance(recorder, past, 1.0)(clip(5, 1), torch.tensor([700]))
    [(xt, t)] = recorder.inputs
    assert torch.equal(xt[:, :, :2], past) and t.tolist() == [[0, 0, 700, 700, 700]]


def test_both_branches_run_in_one_call_and_the_unconditional_one_sees_noise_for_the_past():
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    level = torch.tensor([700])
    noisy = recorder.schedule.add_noise(torch.cat([past, xt[:, :, 2:]], 2), level, clip(5, 2))
    history_guidance(recorder, past, 2.0)(noisy, level)
    [(x, t)] = recorder.inputs
    assert t.tolist() == [[0, 0, 700, 700, 700], [1000, 1000, 700, 700, 700]]
    torch.testing.assert_close(x[1:, :, :2], clip(5, 2)[:, :, :2], rtol=1e-3, atol=1e-3)


def test_guidance_is_linear_in_its_weight(small_denoiser):
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
    expected = torch.cat([past, past[:, :, -1:].expand(-1, -1, 3, -1, -1)], 2)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_fractional_history_noises_the_past_and_passes_its_level():
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    fractional_history_guidance(recorder, past, 1.5, level=400)(xt, torch.tensor([700]))
    [(x, t)] = recorder.inputs
    assert t.tolist() == [[0, 0, 700, 700, 700], [400, 400, 700, 700, 700], [1000, 1000, 700, 700, 700]]
    noise = recorder.schedule.eps_from_x0(xt[:, :, :2], torch.tensor([[700, 700]]), past)
    noisy_past = recorder.schedule.add_noise(past, torch.tensor([[400, 400]]), noise)
    torch.testing.assert_close(x[1:2, :, :2], noisy_past)
    assert torch.equal(x[:1, :, :2], past)


@pytest.mark.parametrize("weight, levels", [(1, [20]), (1.5, [20, 1000])])
def test_stabilized_history_is_a_little_noisy_and_the_network_told_so(weight, levels):
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    made = history_guidance(recorder, past, weight, level=20)(xt, torch.tensor([700]))
    [(x, t)] = recorder.inputs
    assert t.tolist() == [[level, level, 700, 700, 700] for level in levels]
    noise = recorder.schedule.eps_from_x0(xt[:, :, :2], torch.tensor([[700, 700]]), past)
    noisy_past = recorder.schedule.add_noise(past, torch.tensor([[20, 20]]), noise)
    torch.testing.assert_close(x[:1, :, :2], noisy_past)
    assert torch.equal(made[:, :, :2], past)


def test_fractional_history_by_hand(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    noise = small_denoiser.schedule.eps_from_x0(xt[:, :, :2], t[:, None].expand(1, 2), past)

    def branch(level):
        past_level = torch.full((1, 2), level)
        noisy_past = small_denoiser.schedule.add_noise(past, past_level, noise)
        levels = torch.cat([past_level, t.expand(1, 3)], 1)
        return small_denoiser(torch.cat([noisy_past, xt[:, :, 2:]], 2), levels)[:, :, 2:]

    with torch.no_grad():
        expected = branch(0) + 0.5 * (branch(300) - branch(1000))
        actual = fractional_history_guidance(small_denoiser, past, 1.5, 300)(xt, t)[:, :, 2:]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_temporal_history_with_all_frames_is_vanilla_history_guidance(small_denoiser):
    past, xt, t = clip(3), clip(6, 1), torch.tensor([500])
    with torch.no_grad():
        temporal = temporal_history_guidance(small_denoiser, past, {3: 1.7})(xt, t)
        vanilla = history_guidance(small_denoiser, past, 1.7)(xt, t)
    torch.testing.assert_close(temporal, vanilla, rtol=1e-4, atol=1e-4)


def test_temporal_history_replaces_the_older_frames_with_noise():
    recorder = Recorder()
    temporal_history_guidance(recorder, clip(3), {3: 1.0, 1: 0.5})(clip(5, 1), torch.tensor([700]))
    [(_, t)] = recorder.inputs
    assert t.tolist() == [[0, 0, 0, 700, 700], [1000, 1000, 0, 700, 700], [1000, 1000, 1000, 700, 700]]


def test_replacement_noises_the_past_to_each_level_of_the_sampler():
    recorder, past, xt = Recorder(), clip(2), clip(5, 1)
    run_sampler(ddim(replacement(recorder, past), xt, recorder.schedule, 5))
    for x, t in recorder.inputs:
        noisy_past = recorder.schedule.add_noise(past, t, xt[:, :, :2])
        torch.testing.assert_close(x[:, :, :2], noisy_past, rtol=1e-4, atol=1e-4)


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
    mixed = lambda xt, t: torch.einsum("fg,bcghw->bcfhw", matrix, xt).tanh()
    denoiser = Denoiser.from_function(mixed, schedule, (1, 16, 16))

    def distance(z):
        squares = (past - denoiser(z, t)[:, :, :2]).square()
        total = squares.sum()
        return dict(sum=total, mean=squares.mean(), root=total.sqrt(), pigdm=total)[norm]

    guidance = reconstruction(denoiser, past, 2.0, norm, replace=False)(xt, t) - denoiser(xt, t)
    signal = schedule.alpha_bar[600].sqrt().item() ** (-1 if norm == "pigdm" else 1)
    for pixel in ((0, 0, 3, 4, 5), (0, 0, 1, 7, 7)):
        step = torch.zeros_like(xt)
        step[pixel] = 1e-5
        slope = (distance(xt + step) - distance(xt - step)) / 2e-5
        torch.testing.assert_close(guidance[pixel], -signal * slope, rtol=1e-3, atol=1e-7)


def test_reconstruction_replaces_the_overlap_only_with_replace(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    replaced, kept = (reconstruction(small_denoiser, past, 3.0, replace=replace)(xt, t)
                      for replace in (True, False))
    assert torch.equal(replaced[:, :, :2], past) and torch.equal(replaced[:, :, 2:], kept[:, :, 2:])
    assert not torch.equal(kept[:, :, :2], past)


def test_reconstruction_without_weight_is_replacement_and_keeps_a_record(small_denoiser):
    past, xt, record = clip(2, b=2), clip(5, 1, b=2), []
    with torch.no_grad():
        a, b = (run_sampler(ddim(method, xt, small_denoiser.schedule, 3)) for method in (
            reconstruction(small_denoiser, past, 0.0, record=record), replacement(small_denoiser, past)))
    assert torch.equal(a, b)
    assert [step["t"] for step in record] == [1000, 667, 333]
    assert all(len(step[name]) == 2 for step in record for name in ("loss", "gradient_norm", "cosine"))


def test_sdedit_init_holds_the_past_and_its_last_frame(small_denoiser):
    past = clip(2).abs()
    start = sdedit_init(small_denoiser, past, 5, 300, torch.Generator().manual_seed(0))
    signal, noise = small_denoiser.schedule.signal_and_noise(torch.tensor([300]), start)
    rest = (start - signal * torch.cat([past, past[:, :, -1:].expand(-1, -1, 3, -1, -1)], 2)) / noise
    assert abs(rest.mean()) < 0.05 and abs(rest.std() - 1) < 0.05


def test_reconstruction_names_the_level_where_it_diverges(small_denoiser):
    with pytest.raises(GuidanceError, match=r"t=500 with weight=1000000000000\.0: the push reaches"):
        reconstruction(small_denoiser, clip(2), 1e12)(clip(5, 1), torch.tensor([500]))
    with pytest.raises(ValueError, match="norm='max'"):
        reconstruction(small_denoiser, clip(2), norm="max")


def test_clean_keys_and_values_are_the_in_window_condition(small_denoiser):
    past, xt = clip(2, b=2), clip(6, 1, b=2)
    with torch.no_grad():
        a, b = (run_sampler(ddim(method(small_denoiser, past), xt, small_denoiser.schedule, 4))
                for method in (injection, history_guidance))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [
    dict(sites="decoder"), dict(sites=("encoder", "middle"), source="same"), dict(sites="attention"),
    dict(sites="temporal", source="same"), dict(sites="input", source="same"), dict(sites="decoder.0")])
def test_a_blend_of_zero_injects_nothing_bit_for_bit(small_denoiser, options):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    with torch.no_grad():
        plain = small_denoiser(xt, t)
        none, half = (injection(small_denoiser, past, prepend=False, blend=blend, **options)(xt, t)
                      for blend in (0.0, 0.5))
    assert torch.equal(none, plain)
    assert not torch.equal(half, plain)


def test_a_full_blend_at_the_same_level_copies_the_features_of_the_past(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    seeded, schedule = lambda: torch.Generator().manual_seed(0), small_denoiser.schedule
    cache = FeatureCache(small_denoiser, past, seeded())
    noisy_past = schedule.add_noise(past, t, torch.randn(past.shape, generator=seeded()))
    with torch.no_grad():
        made = injection(small_denoiser, past, "decoder.0", prepend=False, source="same", cache=cache)(xt, t)
        v = small_denoiser.net(noisy_past, t)  # nothing after the output of the last stage mixes frames
    torch.testing.assert_close(made[:, :, :2], schedule.x0_from_v(xt[:, :, :2], t, v), rtol=1e-4, atol=1e-4)


def test_cached_features_are_computed_once(small_denoiser):
    past, xt, schedule = clip(2), clip(5, 1), small_denoiser.schedule
    cache = FeatureCache(small_denoiser, past)
    with torch.no_grad():
        for sites in ("attention", "temporal", "joint"):
            run_sampler(ddim(injection(small_denoiser, past, sites, cache=cache), xt, schedule, 3))
        assert cache.nfe == 1
        for blend in (0.3, 0.6):
            blended = injection(small_denoiser, past, "decoder", blend, prepend=False, source="same",
                                fraction=0.5, cache=cache)
            run_sampler(ddim(blended, xt, schedule, 4))
        assert cache.nfe == 3  # levels 1000 and 750; 500 and 250 lie outside the fraction


def test_injected_statistics_are_those_of_the_past(small_denoiser):
    past, xt, t, seen = clip(2), clip(5, 1), torch.tensor([500]), {}
    injected = injection(small_denoiser, past, "encoder", prepend=False, source="clean", statistics=True)
    hook, features = injected._blending(cached := injected.cache.at(0)), {}

    def watch(site, feature):
        features[site] = feature
        return seen.setdefault(site, hook(site, feature))

    with torch.no_grad():
        small_denoiser(xt, t, hook=watch)
    site = next(name for name in seen if name.startswith("encoder") and torch.is_tensor(seen[name]))
    spread_and_mean = lambda x: torch.stack(torch.std_mean(x.transpose(0, 1).flatten(1), dim=1))
    before, after, past_ones = (spread_and_mean(x[site]) for x in (features, seen, cached))
    torch.testing.assert_close(after, past_ones, rtol=2e-2, atol=2e-2)
    assert not torch.allclose(before, past_ones, rtol=2e-2, atol=2e-2)


def test_fresh_features_have_another_noise_at_every_step(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([500])
    with torch.no_grad():
        fresh, same = (injection(small_denoiser, past, source=source) for source in ("fresh", "same"))
        assert not torch.equal(fresh(xt, t), fresh(xt, t))
        assert torch.equal(same(xt, t), same(xt, t))
    assert (fresh.cache.nfe, same.cache.nfe) == (2, 1)


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


@pytest.mark.parametrize("options, message", [
    (dict(blend=1.5, prepend=False), "blend=1.5"), (dict(fraction=-0.1), "fraction=-0.1"),
    (dict(source="old"), "source='old'"), (dict(blend=0.5), "prepend=False"),
    (dict(sites=("decoder",)), "prepend=False"), (dict(sites=("decoder.0",)), "prepend=False"),
    (dict(sites=("nowhere",)), "nowhere"), (dict(sites=()), "nothing"),
    (dict(sites=("encoder.7",), prepend=False), r"encoder.7; .* encoder.0.temporal"),
    (dict(sites=("middle.0",), prepend=False), "middle.0; "),
    (dict(statistics=True), "statistics=True is for"),
    (dict(sites="attention", prepend=False, statistics=True), "statistics=True is for"),
    (dict(sites="input", prepend=False, statistics=True), "statistics=True is for")])
def test_bad_settings_of_injection(small_denoiser, options, message):
    with pytest.raises(ValueError, match=message):
        injection(small_denoiser, clip(2), **options)


def rollout_frames(denoiser, past, n):
    sampler, generator = partial(ddim, steps=2), torch.Generator().manual_seed(0)
    return list(rollout(denoiser, past, n, window=6, overlap=2, sampler=sampler, generator=generator))


def test_rollout_makes_num_frames_frames(small_denoiser):
    made = rollout_frames(small_denoiser, clip(3, b=2), 9)
    assert len(made) == 9 and made[0].shape == (2, 1, 16, 16)
    again = rollout_frames(small_denoiser, clip(3, b=2), 9)
    assert torch.equal(torch.stack(made), torch.stack(again))
    assert rollout_frames(small_denoiser, clip(3), 0) == []


def test_rollout_by_hand(small_denoiser):
    generator, past = torch.Generator().manual_seed(0), clip(2)
    made = []
    for _ in range(2):
        xt = torch.randn(1, 1, 6, 16, 16, generator=generator)
        with torch.no_grad():
            window = run_sampler(ddim(history_guidance(small_denoiser, past), xt, small_denoiser.schedule, 2))
        made += list(window[:, :, 2:].unbind(2))
        past = window[:, :, -2:]
    torch.testing.assert_close(torch.stack(rollout_frames(small_denoiser, clip(2), 8)), torch.stack(made))


def test_rollout_without_end_is_lazy(small_denoiser):
    frames = rollout(small_denoiser, clip(2), None, window=4, overlap=2, sampler=partial(ddim, steps=1))
    assert len([next(frames) for _ in range(7)]) == 7


@pytest.mark.parametrize("options, message", [
    (dict(overlap=6), "overlap=6 does not fit a window of 6"), (dict(overlap=0), "overlap=0"),
    (dict(overlap=4), "past has 3 frames; overlap=4 wants 4 or more"), (dict(n=-1), "num_frames=-1"),
    (dict(method=partial(history_guidance, weight=float("inf"))), "weight=inf")])
def test_bad_settings_of_rollout_come_before_any_work(options, message):
    with pytest.raises(ValueError, match=message):
        rollout(Recorder(), clip(3), options.pop("n", 5), **(dict(window=6, overlap=2) | options))


def test_generate_by_hand(small_denoiser):
    seeded, options = lambda: torch.Generator().manual_seed(0), dict(first=2, window=5, overlap=3, steps=2)
    generator, sampler = seeded(), partial(ddim, eta=0.5, steps=2)
    clip = sample(small_denoiser, 2, 2, ddim, 2, generator, eta=0.5)
    for num_context, new in ((2, 3), (3, 2), (3, 1)):  # the first window, and two of the rollout
        frames = rollout(small_denoiser, clip, new, 5, num_context, sampler=sampler, generator=generator)
        clip = torch.cat([clip, torch.stack(list(frames), dim=2)], dim=2)
    made = generate(small_denoiser, 2, 8, generator=seeded(), **options)
    torch.testing.assert_close(made, clip)
    short = generate(small_denoiser, 2, 4, generator=seeded(), **options)
    torch.testing.assert_close(short, made[:, :, :4])
    assert generate(small_denoiser, 1, 1, **options).shape == (1, 1, 1, 16, 16)


@pytest.mark.parametrize("options", [dict(first=0), dict(first=16), dict(num_frames=0)])
def test_generate_names_what_does_not_fit(options, small_denoiser):
    with pytest.raises(ValueError, match="={}".format(*options.values())):
        generate(small_denoiser, **options)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_anchor_is_prepended_clean_at_its_distance(weight):
    inputs, past, anchor = [], clip(2, b=3), clip(2, seed=8, b=3)

    class PositionRecorder(Recorder):
        def forward(self, xt, t, positions):
            inputs.append((xt, t, positions))
            return xt * 0.5

    anchored = anchored_history(PositionRecorder(), past, anchor, weight, distance=12)
    made = anchored(clip(5, 1, b=3), torch.full((3,), 700))
    [(xt, t, positions)] = inputs
    assert made.shape[2] == 5 and torch.equal(made[:, :, :2], past)
    assert positions.tolist() == [-14, -13, 0, 1, 2, 3, 4] and (t[:, :2] == 0).all()
    for branch in xt.split(3):
        assert torch.equal(branch[:, :, :2], anchor)


def test_the_anchor_changes_the_new_frames(small_denoiser):
    past, xt, t = clip(2), clip(5, 1), torch.tensor([700])
    a, b = (anchored_history(small_denoiser, past, clip(2, seed=seed))(xt, t) for seed in (8, 9))
    assert (a - b)[:, :, 2:].abs().max() > 1e-4


@pytest.mark.parametrize("anchor, options, message", [
    (clip(2, b=2), {}, "anchor has shape"), (clip(2)[:, :, :0], {}, "anchor has shape"),
    (clip(2), dict(distance=-1), "distance=-1")])
def test_a_bad_anchor_is_refused(small_denoiser, anchor, options, message):
    with pytest.raises(ValueError, match=message):
        anchored_history(small_denoiser, clip(2), anchor, **options)


def test_features_of_a_long_trajectory_do_not_pile_up(small_denoiser):
    past, levels = torch.zeros(1, 1, 2, 16, 16), range(1, LEVELS_KEPT + 9)
    cache = FeatureCache(small_denoiser, past, torch.Generator().manual_seed(0))
    first = cache.at(1)
    for t in levels:
        cache.at(t)
    assert len(cache._cached) == LEVELS_KEPT
    assert cache.at(levels[-1]) is cache.at(levels[-1]) and cache.nfe == len(levels)
    again = cache.at(1)  # the same noise as before
    assert all(torch.equal(x, y) for x, y in zip(first["encoder.0"], again["encoder.0"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"history_encoder"}))
def test_a_network_in_half_precision_rolls_out(small_denoiser, name, device, dtype):
    past, options = clip(3).to(device), dict(temporal_history_guidance=dict(weights={2: 1.0}))
    options |= dict(anchored_history=dict(anchor=past))
    small_denoiser.to(device)
    half = Denoiser(copy.deepcopy(small_denoiser.net).to(dtype), small_denoiser.schedule)
    method = partial(METHODS[name], **options.get(name, {}))
    go_on = lambda d: list(rollout(d, past, 2, 6, 3, method, partial(ddim, steps=2),
                                   torch.Generator().manual_seed(0)))
    near, exact = (torch.stack(go_on(d)) for d in (half, small_denoiser))
    assert near.dtype == torch.float32 and (near - exact).abs().mean() < 0.1 * exact.abs().mean()
