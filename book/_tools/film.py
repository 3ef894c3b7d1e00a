"""A real film to practice on: the shots of Big Buck Bunny, as small mp4 files. For chapter 12.

The film ((c) 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0) lies inside the source distribution of
moviepy 2.2.1, which pip fetches (50 MB). A new shot begins where a frame differs much from the one before, so
that no clip crosses a cut; titles, credits and shots of less than two seconds are left out.

    python book/_tools/film.py my_film/
    vdiff train --out mine --data videos:my_film/ --channels 3 --fps 12 --start-from rooms32
    python book/_tools/film.py my_film/ --continue-by mine      (writes data/clips/film.gif)
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from tqdm.auto import tqdm

import vdiff_lite as vd
from vdiff_lite import viz
from vdiff_lite.evaluation.held_out import held_out

SOURCE = "moviepy==2.2.1"
INSIDE = "moviepy_10_minutes.zip", "moviepy_10_minutes/resources/bbb.mp4"
FIRST, LAST = 36.0, 485.0  # seconds: after the titles, before the credits
CUT = 0.10  # mean change of a pixel in [0, 1], and twice that of the frames around it
SHORTEST = 2.0  # seconds
SIZE = 160, 90


def fetch(folder: Path) -> Path:
    """The film, taken out of the package that carries it."""
    download = ["-m", "pip", "download", "-q", "--no-deps", "--no-binary", "moviepy", "-d"]
    subprocess.run([sys.executable, *download, str(folder), SOURCE], check=True)
    with tarfile.open(next(folder.glob("moviepy*.tar.gz"))) as archive:
        member = next(member for member in archive if member.name.endswith(INSIDE[0]))
        with zipfile.ZipFile(archive.extractfile(member)) as inner:
            return Path(inner.extract(INSIDE[1], folder))


def frames(film: Path):
    """Frames of the story, (90, 160, 3) of uint8, and their rate."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in tqdm(container.decode(stream), total=stream.frames, unit=" frames"):
            if frame.time >= LAST:
                break
            if frame.time >= FIRST:
                yield frame.reformat(*SIZE, "rgb24", interpolation="AREA").to_ndarray(), stream.average_rate


def shots(story: np.ndarray, fps: Fraction) -> list[tuple[int, int]]:
    """First and last frame of each shot that is long enough."""
    change = np.array([np.abs(a.astype(np.int16) - b).mean() / 255 for a, b in zip(story, story[1:])])
    around = np.array([np.median(change[max(0, i - 6):i + 7]) for i in range(len(change))])
    cuts = [0, *(np.flatnonzero((change > CUT) & (change > 2 * around)) + 1), len(story)]
    return [(a, b) for a, b in zip(cuts, cuts[1:]) if b - a >= SHORTEST * fps]


def continued(checkpoint: str, new_frames: int = 33, most: int = 6) -> None:
    """Write data/clips/film.gif: held-out shots, below them the same from the sixth frame on by the model."""
    denoiser = vd.load(checkpoint, vd.pick_device())
    drawn = held_out(denoiser, num_frames=5 + new_frames).sample(64, torch.Generator().manual_seed(0))
    first = {path: i for i, path in reversed(list(enumerate(drawn.truth.paths)))}  # one of each shot
    true = drawn.video[sorted(first.values())[:most]].to(denoiser.device)
    generator = torch.Generator().manual_seed(0)
    made = torch.stack(list(vd.rollout(denoiser, true[:, :, :5], new_frames, generator=generator)), dim=2)
    rows = [viz.framed(clip, 5 + new_frames) for clip in true], \
        [viz.framed(clip, 5) for clip in torch.cat([true[:, :, :5], made], dim=2)]
    picture = torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2).cpu()
    viz.save_clip(picture, Path(__file__).parents[2] / "data" / "clips" / "film.gif", fps=12, enlarge=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to write the shots into")
    parser.add_argument("--film", type=Path, help="the film, if you have it already")
    parser.add_argument("--continue-by", metavar="CHECKPOINT", help="only continue held-out shots")
    args = parser.parse_args()
    vd.prepare_cpu()
    if args.continue_by:
        return continued(args.continue_by)
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        story, rates = zip(*frames(args.film or fetch(Path(folder))))
    story, fps = np.stack(story), rates[0]
    found = shots(story, fps)
    for i, (a, b) in enumerate(found, 1):
        clip = torch.from_numpy(story[a:b]).permute(3, 0, 1, 2) / 127.5 - 1
        viz.save_clip(clip, args.folder / f"shot{i:03d}.mp4", float(fps), enlarge=1)
    seconds = [float((b - a) / fps) for a, b in found]
    print(f"{len(found)} shots of {min(seconds):.1f} to {max(seconds):.1f} s, {sum(seconds) / 60:.1f} minutes"
          f" in all, in {args.folder}")


if __name__ == "__main__":
    main()
