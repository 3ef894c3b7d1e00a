import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL
from einops import rearrange

from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.diffusion.schedule import NoiseSchedule
from vdiff_lite.models.follow import Follow, Foresee, MotionBlock
from vdiff_lite.models.layers import Context
from vdiff_lite.models.rotary import clean_mask, rotary_angles
from vdiff_lite.models.video_unet import VideoUNet
from vdiff_lite.training import foresight
from vdiff_lite.training.centers import true_centres

SLOW = BouncingDigits(size=16, digit_size=6, speed=(0.5, 1.0))


def test_followed_by_pixels_a_moving_thing_stands_still():
    # A patch of features drawn two and five pixels away: a shift there puts it in the middle.
    follow = Follow(8, cell=2)
    picture = torch.zeros(3, 16, 16, 2)
    picture[:, 4:8, 6:10] = torch.randn(4, 4, 2, generator=torch.Generator().manual_seed(0))
    pictures = torch.stack([picture[0], picture[0].roll((2, 3), (0, 1)), picture[0].roll((1, -2), (0, 1))])
    tokens = rearrange(pictures, "n (h p) (w q) c -> n h w (p q c)", p=2, q=2)
    centre = torch.tensor([[-2.0, 0.0], [0.0, 3.0], [-1.0, -2.0]])
    seen = follow.shift(tokens, centre)
    torch.testing.assert_close(seen, seen[:1].expand_as(seen))
    torch.testing.assert_close(follow.shift(seen, -centre), tokens)


def test_a_shift_between_pixels_interpolates():
    follow = Follow(4, cell=1)
    line = torch.arange(8.0).expand(1, 4, 8)[..., None].expand(1, 4, 8, 4)
    shifted = follow.shift(line, torch.tensor([[0.0, 0.25]]))
    torch.testing.assert_close(shifted[:, :, :-1], (line + 0.25)[:, :, :-1])


def test_a_shift_and_its_gradients_are_those_of_grid_sample():
    generator = torch.Generator().manual_seed(0)
    follow = Follow(8, cell=2)
    tokens, outside = (torch.randn(3, 4, 4, 8, generator=generator) for _ in range(2))
    centre = 4 * torch.randn(3, 2, generator=generator)

    def theirs(tokens, centre):
        picture = rearrange(tokens, "n h w (p q c) -> n c (h p) (w q)", p=2, q=2)
        rows, columns = ((2 * (torch.arange(8) + centre[:, [axis]]) + 1) / 8 - 1 for axis in (0, 1))
        grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
        shifted = F.grid_sample(picture, grid, align_corners=False)
        return rearrange(shifted, "n c (h p) (w q) -> n h w (p q c)", p=2, q=2)

    answers = []
    for shift in (follow.shift, theirs):
        inputs = [tokens.clone().requires_grad_(), centre.clone().requires_grad_()]
        made = shift(*inputs)
        answers.append([made, *torch.autograd.grad(made, inputs, outside)])
    for ours, other in zip(*answers):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


def test_centre_is_where_the_score_is():
    follow = Follow(1, cell=2)
    torch.nn.init.zeros_(follow.score.weight)
    y = torch.zeros(2, 8, 8, 1)
    torch.testing.assert_close(follow.find(y), torch.zeros(2, 2))
    follow.score.weight.data[0, 0, 1, 1] = 1
    y[0, 1, 6], y[1, 5, 2] = 100, 100
    torch.testing.assert_close(follow.find(y), torch.tensor([[-5.0, 5.0], [3.0, -3.0]]))


def context(t, positions=None):
    """The context of a block for clips at levels t: (b, f)."""
    positions = torch.arange(t.shape[1]) if positions is None else positions
    return Context(len(t), None, rotary_angles(positions, 32), clean_mask(t), level=t / 1000)


@pytest.fixture
def restless():
    """A foresight with weights that are not zero anywhere."""
    torch.manual_seed(0)
    foresee = Foresee(32, 2)
    with torch.no_grad():
        for p in foresee.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return foresee


def test_a_new_foresight_changes_nothing(restless):
    new, centre = Foresee(32, 2), torch.randn(2 * 6, 2)
    t = torch.full((2, 6), 500)
    assert not new.taught and torch.equal(new(centre, context(t), "x"), centre)
    assert restless.taught and not torch.equal(restless(centre, context(t), "x"), centre)


def test_a_known_frame_does_not_depend_on_what_is_seen_in_noise(restless):
    t = torch.tensor([[0, 0, 700, 700]])
    a, b = torch.randn(2, 4, 2)
    b[:2] = a[:2]
    a, b = (restless(x, context(t), "x") for x in (a, b))
    torch.testing.assert_close(a[:2], b[:2])
    assert (a[2:] - b[2:]).abs().min() > 1e-4


def test_each_axis_is_foreseen_alone_and_alike(restless):
    t, centre = torch.tensor([[0, 300, 700, 1000]]), torch.randn(4, 2)
    foreseen, flipped, moved = (restless(x, context(t), "x") for x in (
        centre, centre.flip(1), centre + torch.tensor([1.0, 0.0])))
    torch.testing.assert_close(flipped, foreseen.flip(1))
    torch.testing.assert_close(moved[:, 1], foreseen[:, 1])


def test_only_differences_of_time_matter_to_foresight(restless):
    t, centre = torch.tensor([[0, 300, 700, 1000]]), torch.randn(4, 2)
    frames = torch.arange(4)
    here, later, slower = (restless(centre, context(t, p), "x") for p in (frames, frames + 30, 2 * frames))
    torch.testing.assert_close(here, later, rtol=1e-4, atol=1e-4)
    assert (here - slower).abs().max() > 1e-3


def test_rotated_values_hold_the_distance_they_come_from():
    # One frame may attend to one other: it gets that value, rotated by the distance.
    block = MotionBlock(32, 32)
    torch.nn.init.eye_(block.v.weight)
    torch.nn.init.eye_(block.out.weight)
    block.mlp = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(32, 32))
    torch.nn.init.zeros_(block.mlp[1].weight)
    torch.nn.init.zeros_(block.mlp[1].bias)
    x, only = torch.randn(1, 5, 32), torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    only[..., 1] = True
    attended = (block(x, context(torch.full((1, 5), 9)), only, "x") - x - block.out.bias)[0]
    value = block.norm1(x)[0, 1]
    for i, angle in enumerate(rotary_angles(1 - torch.arange(5), 32)):
        pairs = torch.complex(*value.chunk(2)) * torch.polar(torch.ones_like(angle), angle)
        torch.testing.assert_close(attended[i], torch.cat([pairs.real, pairs.imag]), rtol=1e-4, atol=1e-4)


def test_sightings_are_sharp_on_clean_frames_and_worth_nothing_in_pure_noise():
    schedule, g = NoiseSchedule(), torch.Generator().manual_seed(0)
    centre = 5 * torch.randn(4000, 3, 2, generator=g)
    seen = foresight.sightings(centre, torch.tensor([0, 500, 1000]).expand(4000, 3), schedule, g)
    off = (seen - centre).square().mean((0, 2)).sqrt()
    assert abs(off[0] - 0.07) < 0.005
    ratio = schedule.snr(torch.tensor(500)).item() ** -0.5
    assert abs(off[1] - (0.07 + 0.25 * ratio)) < 0.02
    assert seen[:, 2].abs().max() < 0.05


def test_true_centres_are_those_of_the_data():
    clip = BouncingDigits(num_frames=5).sample(3, torch.Generator().manual_seed(0))
    expected = clip.truth.positions[:, 0] - 15.5
    torch.testing.assert_close(true_centres(clip.video), expected, rtol=1e-3, atol=1e-3)


def test_foresight_learns_where_things_go_and_touches_nothing_else():
    torch.manual_seed(0)
    net, schedule = VideoUNet(SMALL), NoiseSchedule()
    data = BouncingDigits(size=16, digit_size=6, speed=(0.5, 1.0))
    before = {name: p.clone() for name, p in net.named_parameters() if "foresee" not in name}
    losses = foresight.teach(net, schedule, data, steps=200, batch=16, frames=8, bar=False)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters() if name in before)
    assert sum(losses[-30:]) < 0.8 * sum(losses[:30])
    g = torch.Generator().manual_seed(9)
    centre = true_centres(data.with_frames(8).sample(200, g).video)
    t = torch.where(torch.arange(8) < 5, 0, 1000).expand(200, 8)
    seen = foresight.sightings(centre, t, schedule, g)
    with torch.no_grad():
        foreseen = foresight.foresee(net, seen, t, torch.arange(8))
    still = centre[:, 4:5].expand(-1, 3, -1)  # the last known position
    assert (foreseen - centre)[:, 5:].square().mean() < 0.7 * (still - centre[:, 5:]).square().mean()


def test_what_the_network_sees_does_not_depend_on_its_foresight():
    torch.manual_seed(0)
    net, schedule = VideoUNet(SMALL), NoiseSchedule()
    data = BouncingDigits(size=16, digit_size=6, speed=(0.5, 1.0))
    settings = dict(frames=4, frame_stride=(1, 2), bar=False)
    see = lambda: foresight.watch(net, schedule, data, clips=12, batch=3, **settings)
    before = see()
    foresight.teach(net, schedule, data, steps=3, batch=4, watched=before, **settings)
    assert net.decoder[0].temporal.foresee.taught
    after = see()
    assert before.keys() == after.keys() == {1, 2} and sum(len(t) for _, t, _ in before.values()) == 12
    for stride, (seen, t, centre) in before.items():
        assert seen.shape == centre.shape == (len(t), 4, 2) and t.shape == (len(t), 4)
        assert torch.equal(seen, after[stride][0]) and not torch.equal(seen, centre)


def test_going_on_gives_each_window_the_last_frames_of_the_one_before():
    torch.manual_seed(0)
    net = VideoUNet(SMALL)
    torch.nn.init.normal_(net.decoder[0].temporal.foresee.leave.weight, std=0.3)
    past = torch.randn(3, 2, 2)
    path = foresight.go_on(net, past, windows=3, window=6)
    assert path.shape == (3, 2 + 3 * 4, 2) and torch.equal(path[:, :2], past)
    torch.testing.assert_close(foresight.go_on(net, path[:, 4:6], windows=2, window=6), path[:, 4:])


def test_the_second_term_of_the_foresight_loss_counts_steps_and_not_positions():
    path = torch.arange(12.0)[None, :, None].expand(1, 12, 2)
    slow, beside = path * 0.99, path + 0.1
    assert foresight.foresight_loss(path, path) == 0
    along = lambda x: foresight.foresight_loss(x, path) - F.smooth_l1_loss(x, path, beta=0.05)
    assert along(slow) > 0.01 and abs(along(beside)) < 1e-6
