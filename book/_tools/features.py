"""Train the small video network that the Frechet distance is taken in, say what it can read, and write it to data/checkpoints/features.

    python book/_tools/features.py            (about ten minutes on two cores)
"""

import torch

import vdiff_lite as vd
from vdiff_lite import checkpoint, features


def held_out(net, clips=512):
    """On other people's handwriting: share of clips read right, and mean errors in pixels and pixels a frame."""
    real = vd.BouncingDigits(split="test").sample(clips, torch.Generator().manual_seed(1))
    digit, place, velocity = (torch.cat(parts) for parts in zip(*map(net.read, real.video.split(64))))
    read = digit.mean(1).argmax(-1)
    off = lambda guess, true: (guess - true[:, 0]).norm(dim=-1).mean().item()
    return dict(digit=(read == real.truth.labels[:, 0]).float().mean().item(), place=off(place, real.truth.positions),
                velocity=off(velocity, real.truth.velocities))


def main():
    vd.prepare_cpu()
    recipe = dict(steps=3000, batch=64, lr=2e-3, seed=0)
    net = features.train_features(**recipe)
    scores = held_out(net)
    path = features.save_features(checkpoint.folder() / "features" / features.SHIPPED, net, recipe=recipe, data=str(vd.BouncingDigits()),
                                  held_out=scores)
    print(f"wrote {path.relative_to(checkpoint.folder())}: {scores}")


if __name__ == "__main__":
    main()
