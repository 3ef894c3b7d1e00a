"""Which clips a network is evaluated on: what it was trained on, held out, or data by a text."""

from torch import Generator

from vdiff_lite.data.batch import ClipSource
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.data.sources import clip_source, source_of_card
from vdiff_lite.diffusion.denoiser import Denoiser, condition_width
from vdiff_lite.diffusion.guidance import conditioned


def held_out(denoiser: Denoiser, data: str | None = None, split: str = "test",
             num_frames: int = 16) -> ClipSource:
    """Held-out clips of what a network was trained on, by its card; without one, one digit.

    data: other clips, a text as `clip_source` reads it, of the network's size and channels;  split: "train"
    for clips of those it was trained on. Raises ValueError for clips that the network does not take, and
    DataError for files that cannot be used.
    """
    text, read = (data, clip_source) if data is not None else (
        trained_on(denoiser) or str(BouncingDigits()), source_of_card)
    (c, *size), settings = denoiser.sample_shape, dict(split=split)
    if ".py:" not in text:  # a folder of short videos has no clips of another length
        settings |= dict(num_frames=num_frames)
    source = read(text, tuple(size), c, **settings).with_frames(num_frames)
    check_data(denoiser, source)
    return source


def trained_on(denoiser: Denoiser) -> str:
    """The data that the card names, "" where it names none."""
    return str(getattr(denoiser, "card", {}).get("data", ""))


def check_data(denoiser: Denoiser, data: ClipSource) -> None:
    """Raise ValueError where a network does not take such clips, or not what they tell."""
    true = data.sample(1, Generator().manual_seed(0))
    c, h, w = denoiser.sample_shape
    if (true.video.shape[1], *true.video.shape[3:]) != (c, h, w):
        raise ValueError(f"data={data} has clips of shape {tuple(true.video.shape[1:])}, and this network "
                         f"continues ({c}, f, {h}, {w}); give data of that size and number of channels")
    if true.condition is not None and condition_width(denoiser.net):
        conditioned(denoiser, true.condition)
