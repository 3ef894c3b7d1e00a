"""What a clip looks like to a small video network trained on the labels, and how far two sets of clips are apart in its eyes."""

import functools

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from tqdm.auto import tqdm

from vdiff_lite import checkpoint
from vdiff_lite.data.bouncing_digits import BouncingDigits

FORMAT = "vdiff_lite-features-1"
SHIPPED = "clips32"  # in data/checkpoints/features


class ClipFeatures(nn.Module):
    """A clip -> 2 x width numbers that say which digit it shows, where, how that moves, and how much all this changes on the way.

        y = [mean over frames, deviation over frames] of `by_frame`;   forward: (y - mean of real clips) / deviation over real clips

    Convolutions within frames, then two along time: (b, 1, f, 32, 32) in [-1, 1] -> `by_frame` (b, f, width) >= 0, each five frames wide.
    forward: (b, 2 width); a number that is the same for all real clips is left out (0).  `digit`, `place` and `velocity` are the heads
    that it is trained by. Which real clips: `calibrate`.
    """

    def __init__(self, width=32):
        super().__init__()
        down = lambda a, b: (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.ReLU())
        self.frames = nn.Sequential(*down(1, 32), *down(32, 64), *down(64, 64), nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU())
        self.time = nn.Sequential(nn.Conv1d(128, 64, 3, padding=1), nn.ReLU(), nn.Conv1d(64, width, 3, padding=1), nn.ReLU())
        self.digit, self.place, self.velocity = (nn.Linear(width, n) for n in (10, 2, 2))
        self.register_buffer("usual", torch.zeros(2 * width))
        self.register_buffer("scale", torch.ones(2 * width))
        self.to(memory_format=torch.channels_last)

    def by_frame(self, clip):
        x = rearrange(clip, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        return rearrange(self.time(rearrange(self.frames(x), "(b f) c -> b c f", b=len(clip))), "b c f -> b f c")

    def forward(self, clip):
        seen = self.by_frame(clip)
        return (torch.cat([seen.mean(dim=1), seen.std(dim=1, correction=0)], dim=-1) - self.usual) * self.scale

    def read(self, clip):
        """What it says of every frame: digit (b, f, 10) as logits, place (b, f, 2) in pixels, velocity (b, f, 2) in pixels a frame."""
        seen, size = self.by_frame(clip), clip.shape[-1]
        return self.digit(seen), (size - 1) / 2 + size / 4 * self.place(seen), self.velocity(seen)

    def calibrate(self, clip):
        """Take these clips for the real ones: afterwards their numbers have mean 0 and deviation 1."""
        self.usual.zero_()
        self.scale.fill_(1)
        with torch.no_grad():
            numbers = torch.cat([self(part) for part in clip.split(64)])
        deviation = numbers.std(dim=0)
        self.usual.copy_(numbers.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-3, 1 / deviation, 0))


def label_loss(net, clips):
    """What the network is trained by, on every frame: which digit (cross entropy), and where it is and how it moves (squared errors).

    clips: data.Clips of one digit; places count from the middle in units of a quarter of the frame, velocities in pixels a frame.
    Returns the three losses.
    """
    seen, size = net.by_frame(clips.video), clips.video.shape[-1]
    place = (clips.truth.positions[:, 0] - (size - 1) / 2) / (size / 4)
    labels = clips.truth.labels.expand(-1, seen.shape[1])
    return (F.cross_entropy(rearrange(net.digit(seen), "b f n -> (b f) n"), labels.flatten()),
            F.mse_loss(net.place(seen), place), F.mse_loss(net.velocity(seen), clips.truth.velocities[:, 0]))


def train_features(steps=3000, batch=64, lr=2e-3, seed=0, bar=True):
    """Train a ClipFeatures on training handwriting (about eight minutes on two CPU cores) and calibrate it there. Returns it in eval mode."""
    torch.manual_seed(seed)
    net, data = ClipFeatures().train(), BouncingDigits()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    shown = tqdm(range(steps), disable=not bar, desc="features")
    for n in shown:
        losses = label_loss(net, data.sample(batch, torch.Generator().manual_seed(seed * 1_000_003 + n)))
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()
        shown.set_postfix({name: f"{loss.item():.3f}" for name, loss in zip(("digit", "place", "velocity"), losses)})
    net.eval().requires_grad_(False).calibrate(data.sample(4096, torch.Generator().manual_seed(seed)).video)
    return net


def save_features(path, net, **about):
    """Write the network and its card beside it. Returns the path of the weights."""
    return checkpoint.write(path, net.state_dict(), FORMAT, width=len(net.usual) // 2,
                            parameters=sum(p.numel() for p in net.parameters()), **about)


@functools.cache
def load_features(name=SHIPPED):
    """The shipped ClipFeatures with `.card`, in eval mode, on the CPU. Raises CheckpointError when it is missing or damaged."""
    path, card = checkpoint.verified(checkpoint.folder() / "features" / name, FORMAT)
    net = ClipFeatures(card["width"])
    net.load_state_dict(checkpoint.read_tensors(path)[0])
    net.card = card
    return net.eval().requires_grad_(False)


def clip_features(clip):
    """The numbers of clips by the shipped network: (b, 1, f, 32, 32) -> (b, 64). Pixels beyond [-1, 1] are clamped, as when shown.

    Raises ValueError for clips of another kind.
    """
    if clip.ndim != 5 or clip.shape[1] != 1 or clip.shape[-2:] != (32, 32):
        raise ValueError(f"clip has shape {tuple(clip.shape)}; the network behind the Frechet distance reads (b, 1, f, 32, 32)")
    net = load_features()
    return torch.cat([net(part) for part in clip.cpu().clamp(-1, 1).split(64)])


@functools.cache
def real_clip_features(frames=16, clips=2048, split="test", seed=99):
    """The numbers of so many real clips of `frames` frames, to compare with: (clips, 64). Computed once."""
    return clip_features(BouncingDigits(num_frames=frames, split=split).sample(clips, torch.Generator().manual_seed(seed)).video)


def frechet(a, b):
    """Frechet distance between the Gaussians that two sets of features have: 0 for equal ones.

        d^2 = | mean_a - mean_b |^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))           (Heusel et al. 2017; torchmetrics)

    a, b: (n, d) and (m, d), two or more of each. As in the field, the square is what is called the distance. It falls as n grows, so compare
    only what was made of equally many clips, and show what as many real ones get. Returns a float.
    Raises ValueError for features that do not go together.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features have shapes {tuple(a.shape)} and {tuple(b.shape)}; two sets of two or more, equally wide, are wanted")
    through = nn.Identity()
    through.num_features = a.shape[1]
    distance = FrechetInceptionDistance(feature=through)
    for x, real in ((a, False), (b, True)):
        distance.update(x.double(), real=real)
    return distance.compute().item()
