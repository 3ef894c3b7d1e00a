"""The Frechet distance of two sets of clips, in the features of a small video network."""

import functools

import torch
from einops import rearrange
from torch import Tensor, nn

from vdiff_lite import checkpoint
from vdiff_lite.data.bouncing_digits import BouncingDigits

FORMAT = "vdiff_lite-features-1"
SHIPPED = "clips32"  # in data/checkpoints/features


class ClipFeatures(nn.Module):
    """A clip -> 2 x width features: which digit it shows, where, how it moves, and how all this changes.

        y = [mean over frames, deviation over frames] of `by_frame`
        forward: (y - mean over real clips) / deviation over real clips

    Convolutions within frames, then two along time: (b, 1, f, 32, 32) in [-1, 1] -> `by_frame` (b, f, width)
    >= 0, each five frames wide. forward: (b, 2 width). `digit`, `position` and `velocity` are the heads that
    it was trained by (book/_tools/features.py).
    """

    def __init__(self, width: int = 32):
        super().__init__()
        down = lambda a, b: (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.ReLU())
        self.frames = nn.Sequential(*down(1, 32), *down(32, 64), *down(64, 64), nn.Flatten(),
                                    nn.Linear(64 * 4 * 4, 128), nn.ReLU())
        self.time = nn.Sequential(nn.Conv1d(128, 64, 3, padding=1), nn.ReLU(),
                                  nn.Conv1d(64, width, 3, padding=1), nn.ReLU())
        self.digit, self.position, self.velocity = (nn.Linear(width, n) for n in (10, 2, 2))
        self.register_buffer("mean", torch.zeros(2 * width))
        self.register_buffer("scale", torch.ones(2 * width))
        self.to(memory_format=torch.channels_last)

    def by_frame(self, clip: Tensor) -> Tensor:
        x = rearrange(clip, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        x = rearrange(self.frames(x), "(b f) c -> b c f", b=len(clip))
        return rearrange(self.time(x), "b c f -> b f c")

    def forward(self, clip: Tensor) -> Tensor:
        x = self.by_frame(clip)
        return (torch.cat([x.mean(dim=1), x.std(dim=1, correction=0)], dim=-1) - self.mean) * self.scale

    def read(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each frame's digit (b, f, 10) as logits, position (pixels) and velocity (pixels per frame)."""
        x, size = self.by_frame(clip), clip.shape[-1]
        return self.digit(x), (size - 1) / 2 + size / 4 * self.position(x), self.velocity(x)


@functools.cache
def load_features(name: str = SHIPPED) -> ClipFeatures:
    """The shipped ClipFeatures with `.card`, in eval mode, on the CPU.

    Raises CheckpointError when it is missing or damaged.
    """
    path, card = checkpoint.verified(checkpoint.folder() / "features" / name, FORMAT)
    net = ClipFeatures(card["width"])
    renamed = {"usual": "mean", "place.weight": "position.weight", "place.bias": "position.bias"}
    net.load_state_dict({renamed.get(name, name): x for name, x in checkpoint.read_tensors(path)[0].items()})
    net.card = card
    return net.eval().requires_grad_(False)


def clip_features(clip: Tensor) -> Tensor:
    """The shipped network's features: (b, 1, f, 32, 32) -> (b, 64). Pixels are clamped to [-1, 1].

    Raises ValueError for clips of another kind.
    """
    if clip.ndim != 5 or clip.shape[1] != 1 or clip.shape[-2:] != (32, 32):
        raise ValueError(f"clip has shape {tuple(clip.shape)}; the network behind the Frechet distance reads "
                         "(b, 1, f, 32, 32)")
    net = load_features()
    return torch.cat([net(part) for part in clip.cpu().clamp(-1, 1).split(64)])


@functools.cache
def real_clip_features(frames: int = 16, clips: int = 2048, split: str = "test", seed: int = 99) -> Tensor:
    """The features of real clips of `frames` frames, to compare with: (clips, 64). Computed once."""
    real = BouncingDigits(num_frames=frames, split=split).sample(clips, torch.Generator().manual_seed(seed))
    return clip_features(real.video)


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance between the Gaussians of two sets of features, 0 for equal ones.

        d^2 = | mean_a - mean_b |^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))   (Heusel et al. 2017;
        torchmetrics)

    a, b: (n, d) and (m, d), two or more of each. As in the field, the square is what is called the distance.
    It falls as n grows, so compare only what was made of equally many clips, and show what as many real ones
    get.
    Raises ValueError for features that do not go together.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features have shapes {tuple(a.shape)} and {tuple(b.shape)}; "
                         "two sets of two or more, equally wide, are wanted")
    unchanged = nn.Identity()
    unchanged.num_features = a.shape[1]
    distance = FrechetInceptionDistance(feature=unchanged)
    for x, real in ((a, False), (b, True)):
        distance.update(x.double(), real=real)
    return distance.compute().item()
