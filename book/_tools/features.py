"""Train the network that the Frechet distance is taken in, and write it to data/checkpoints/features.

    python book/_tools/features.py            (about ten minutes on two cores)
"""

import torch
import torch.nn.functional as F
from einops import rearrange

import vdiff_lite as vd
from vdiff_lite import checkpoint
from vdiff_lite.evaluation.feature_net import FORMAT, SHIPPED, ClipFeatures
from vdiff_lite.training.loop import fit


def label_losses(net, batch):
    """Losses of every frame: which digit (cross entropy), where it is and how it moves (squared errors).

    batch: clips of one digit; positions count from the middle in units of a quarter of the frame, velocities
    in pixels per frame.
    """
    x, size = net.by_frame(batch.video), batch.video.shape[-1]
    position = (batch.truth.positions[:, 0] - (size - 1) / 2) / (size / 4)
    labels = batch.truth.labels.expand(-1, x.shape[1])
    return (F.cross_entropy(rearrange(net.digit(x), "b f n -> (b f) n"), labels.flatten()),
            F.mse_loss(net.position(x), position), F.mse_loss(net.velocity(x), batch.truth.velocities[:, 0]))


def train(steps=3000, batch=64, lr=2e-3, seed=0, bar=True):
    """A ClipFeatures, trained and calibrated on training glyph samples."""
    torch.manual_seed(seed)
    net, data = ClipFeatures().train(), vd.BouncingDigits()
    generator = lambda step: torch.Generator().manual_seed(seed * 1_000_003 + step)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05)
    fit(optimizer, lambda step: sum(label_losses(net, data.sample(batch, generator(step)))), steps,
        warmup=3 * steps // 10, decay=7 * steps // 10, clip=float("inf"), bar=bar, name="features")
    calibrate(net.eval().requires_grad_(False), data.sample(4096, torch.Generator().manual_seed(seed)).video)
    return net


def calibrate(net, clip):
    """Take these clips for the real ones: their features have mean 0 and deviation 1 from now on."""
    net.mean.zero_()
    net.scale.fill_(1)
    with torch.no_grad():
        features = torch.cat([net(part) for part in clip.split(64)])
    deviation = features.std(dim=0)
    net.mean.copy_(features.mean(dim=0))
    net.scale.copy_(torch.where(deviation > 1e-3, 1 / deviation, 0))  # 0: the same for all real clips


def save(path, net, **about):
    return checkpoint.write(path, net.state_dict(), FORMAT, width=len(net.mean) // 2,
                            parameters=sum(p.numel() for p in net.parameters()), **about)


def held_out_scores(net, clips=512):
    """On held-out clips: the fraction read correctly, mean errors in pixels and pixels per frame."""
    real = vd.BouncingDigits(split="test").sample(clips, torch.Generator().manual_seed(1))
    digit, position, velocity = (torch.cat(parts) for parts in zip(*map(net.read, real.video.split(64))))
    correct = digit.mean(1).argmax(-1) == real.truth.labels[:, 0]
    error = lambda guess, true: (guess - true[:, 0]).norm(dim=-1).mean().item()
    return dict(digit=correct.float().mean().item(), position=error(position, real.truth.positions),
                velocity=error(velocity, real.truth.velocities))


def main():
    vd.prepare_cpu()
    recipe = dict(steps=3000, batch=64, lr=2e-3, seed=0)
    net = train(**recipe)
    scores = held_out_scores(net)
    path = save(checkpoint.folder() / "features" / SHIPPED, net, recipe=recipe, data=str(vd.BouncingDigits()),
                held_out=scores)
    print(f"wrote {path.relative_to(checkpoint.folder())}: {scores}")


if __name__ == "__main__":
    main()
