"""vdiff: train, sample, extend, compare, evaluate, and look at the machine, from a shell.

One dataclass per command says what it takes. `commands` does the work; it and tyro are imported when a
command is known, so that `vdiff --help` does not wait for them.
"""

import sys
from dataclasses import dataclass
from inspect import cleandoc
from typing import Literal

SamplerName = Literal["ddim", "ddpm", "dpmpp_2m", "repaint"]
RENAMED = {"neighbours": "neighbors", "--preset": "--set network=NAME",
           "--digits": "--set num_digits=N", "--decay": "--set decay=N",
           "--short-steps": "--set short_steps=N"}
RENAMED_IN_TRAIN = {"--batch": "--set batch=N", "--steps": "--set steps=N", "--seed": "--set seed=N",
                    "--videos": "--data videos:PATH", "--moving-mnist": "--data moving-mnist:PATH"}


@dataclass(kw_only=True)
class Train:
    """Train a network by a recipe, or go on where that was cut off.

    example:
      vdiff train --out data/checkpoints/mine --data videos:my_clips/ --channels 3 --set steps=6000"""
    out: str  # checkpoint to write, without ending; the run's state lies beside it
    recipe: str = "tiny"  # tiny, digits32, digits32_fixed, digits64x2, rooms32, or a .toml file
    # NAME=VALUE ...: change the recipe; network, arguments of BouncingDigits and NoiseSchedule, and settings
    # of TrainConfig, in every stage
    set: tuple[str, ...] = ()
    # instead of the recipe's digits: digits, digits2, rooms, moving-mnist, moving-mnist:PATH, videos:PATH (a
    # folder of your own videos, or one), or mine.py:NAME, a ClipSource of your own
    data: str | None = None
    size: str | None = None  # of a frame, HxW in pixels or a number; the default is the network's
    channels: int | None = None  # 1 gray, 3 color; the default is the network's, and 3 for rooms
    fps: float | None = None  # frames per second to resample videos to; the default is each one's own
    # begin with the weights of this checkpoint, those that fit where frames have another size or number of
    # channels; a state that is there wins
    start_from: str | None = None
    anyway: bool = False  # go on from a state of another recipe or of other data
    save_every: float = 5  # minutes between two saves of the state, which a run that was cut off goes on from
    samples_every: int = 1000  # draw clips on the way, into OUT.samples/; 0: none
    precision: Literal["float32", "bf16"] | None = None  # the default is bf16 on a GPU, else float32
    accumulate: int = 1  # take each batch in so many parts, one after the other: less memory
    recompute: bool = False  # compute activations again in the backward pass: still less memory, more time
    log: Literal["tensorboard"] | None = None  # besides OUT.log.csv; into OUT.tensorboard/
    device: str | None = None  # cuda, mps or cpu; the default is cuda if there is one, else cpu


@dataclass(kw_only=True)
class Model:
    checkpoint: str = "digits32"  # a shipped name or a .safetensors file
    device: str | None = None  # cuda, mps or cpu; the default is cuda if there is one, else cpu


@dataclass(kw_only=True)
class Sample(Model):
    """Draw clips from noise and write them to a gif or mp4.

    example:
      vdiff sample --out clip.gif --clips 4 --sampler dpmpp_2m --steps 15 --seed 1"""
    out: str  # file to write: .gif or .mp4
    clips: int = 4  # how many, side by side
    frames: int = 16
    first: int = 1  # so many frames are drawn first, the rest with these as their past; 0: all at once
    sampler: SamplerName = "ddim"
    eta: float | None = None  # fresh noise on the way, for ddim: 0 none, 1 as much as ddpm; default 0.5
    steps: int = 25
    seed: int = 0  # of the first clip; the next ones have the seeds after it


@dataclass(kw_only=True)
class WithData(Model):
    # held-out clips, as --data of `vdiff train`; the default is those of what the checkpoint was trained on
    data: str | None = None


@dataclass(kw_only=True)
class WithPast(WithData):
    window: int = 16  # frames the network sees at once
    overlap: int = 5  # frames that a window shares with the past
    sampler: SamplerName = "ddim"
    steps: int = 25


@dataclass(kw_only=True)
class Extend(WithPast):
    """Continue a clip far past the end of the window, and write it to a gif or mp4.

    example:
      vdiff extend --method injection --frames 200 --out long.mp4
      vdiff extend --video my.mp4 --checkpoint mine --frames 200 --out long.mp4"""
    # NAME or NAME:SETTING=VALUE,... with a NAME of independent, copy_last, history_guidance,
    # fractional_history_guidance, temporal_history_guidance, anchored_history, history_encoder, replacement,
    # reconstruction, injection; for example reconstruction:weight=10,norm=sum. Any method takes start=LEVEL,
    # to begin with the last frame noised to a level of 1 to 1000, and repeats=N, to take each step N times.
    # mine.py:FUNCTION or mine.py:FUNCTION:SETTING=VALUE,... is your own (denoiser, past, **settings)
    method: str = "history_guidance"
    out: str  # file to write: .gif or .mp4
    frames: int = 200  # new frames to make
    seed: int = 0  # of the clip that is continued and of the noise
    truth: bool = False  # show the true clip beside the made one
    video: str | None = None  # a video of your own to continue, not a held-out clip
    at: float | None = None  # seconds of the video at which it is continued; the default is its end
    fps: float | None = None  # frames per second to resample the video to; the default is its own


@dataclass(kw_only=True)
class Compare(WithPast):
    """Run methods on the same clips and seeds; writes one tidy table, and goes on where it was cut off.

    Measured is what applies to the data: it says what does not.

    example:
      vdiff compare --methods history_guidance history_guidance:weight=1.5 --seeds 5 --out main.csv.gz"""
    methods: tuple[str, ...]  # as --method of `vdiff extend`
    out: str  # table to write or to add to (.csv.gz)
    clips: int = 64
    seeds: int = 1
    frames: int = 11  # new frames to make
    split: Literal["test", "train"] = "test"  # train: the split that settings are chosen on
    batch: int = 16  # clips continued together; fewer take less memory, score the same
    memory: bool = False  # measure each method's peak memory too, in a process of its own
    # write where the digit is on every new frame too, and what reconstruction guidance did at every step
    details: bool = False
    features: bool = False  # write what the clips look like to a small network, for the Frechet distance


@dataclass(kw_only=True)
class Evaluate(WithData):
    """Print the table a checkpoint is judged by, on held-out clips.

    By default these are of the kind that it was trained on: one digit in 32x32 for digits32, two in 64x64 for
    digits64x2. What is not measured for them is named. Of Moving MNIST it is the table that others publish,
    mnist_test_seq.npy or a folder with it as PATH: 10 frames from 10, and published figures beside them.

    example:
      vdiff evaluate --checkpoint digits32 --clips 64
      vdiff evaluate --checkpoint digits64x2 --data moving-mnist:PATH --out moving_mnist.json"""
    clips: int = 64
    steps: int = 25
    seed: int = 0
    # new frames to make from 10 given ones, measured as in that table, ten by ten; the default is 10 for
    # Moving MNIST, and another table for other clips
    frames: int | None = None
    out: str | None = None  # also write the numbers to this json file


@dataclass(kw_only=True)
class Neighbors(WithData):
    """Check that drawn clips are not copies of training ones.

    example:
      vdiff neighbors --clips 64"""
    clips: int = 64
    seed: int = 0


@dataclass(kw_only=True)
class Results:
    """Print a table of results: a line per method, or all rows as csv.

    example:
      vdiff results compare_main --csv"""
    name: str  # a table of data/results, without ending, or a path
    csv: bool = False  # all rows, as csv


@dataclass(kw_only=True)
class Export(Model):
    """Write the model as files that a web page can run (onnx, json).

    example:
      vdiff export --out web/digits32"""
    out: str  # folder to write model.onnx and model.json into
    window: int = 16  # frames the network sees at once
    overlap: int = 5  # frames that a window shares with the past


@dataclass
class Doctor:
    """Say what this machine has and whether everything is in place.

    example:
      vdiff doctor"""

COMMANDS = {kind.__name__.lower(): kind for kind in (
    Train, Sample, Extend, Compare, Evaluate, Neighbors, Results, Export, Doctor)}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a reader can mend, and Ctrl-C, are one line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv in ([], ["-h"], ["--help"]):
        print(overview())
        return 0 if argv else 2
    command, *rest = argv
    try:
        _refuse_unknown(command, rest)
        import tyro

        positional = [tyro.conf.PositionalRequiredArgs] if command == "results" else []
        args = tyro.cli(COMMANDS[command], prog=f"vdiff {command}", args=rest,
                        config=(tyro.conf.FlagCreatePairsOff, *positional))
        from vdiff_lite import commands

        commands.run(args)
    except (ValueError, OSError, FloatingPointError, ImportError, KeyboardInterrupt) as error:
        print(f"vdiff {command}: {str(error) or 'stopped'}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 2
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        print(f"vdiff {command}: not enough memory; ask for fewer or smaller clips, or a shorter window "
              f"({' '.join(str(error).split())[:80]}...)", file=sys.stderr)
        return 2
    return 0


def overview() -> str:
    """What `vdiff --help` prints."""
    lines = [f"  {name:10} {cleandoc(kind.__doc__).splitlines()[0]}" for name, kind in COMMANDS.items()]
    last = "vdiff COMMAND --help shows its options and defaults.\n\nexample:\n  vdiff sample --out clip.gif"
    return "\n".join(["usage: vdiff COMMAND ...", "", *lines, "", last])


def _refuse_unknown(command: str, rest: list[str]) -> None:
    """Raise ValueError for what has another name now, and for a command that is none."""
    renamed = RENAMED | (RENAMED_IN_TRAIN if command == "train" else {})
    flags = [word.partition("=")[0].replace("_", "-") for word in rest if word.startswith("--")]
    for word in [command, *flags]:
        if word in renamed:
            raise ValueError(f"{word} is called {renamed[word]} now")
    if command not in COMMANDS:
        raise ValueError(f"there is no such command; choose from {', '.join(COMMANDS)}")


if __name__ == "__main__":
    sys.exit(main())
