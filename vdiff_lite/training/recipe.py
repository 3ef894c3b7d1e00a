"""Recipes: a training run as a file. Which network, on which data, in which stages."""

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from vdiff_lite.checks import LARGEST_SEED, number, one_of, whole
from vdiff_lite.data.bouncing_digits import BouncingDigits
from vdiff_lite.diffusion.losses import NOISE_KINDS, WEIGHTINGS

RECIPES = Path(__file__).with_name("recipes")
RENAMED = {"mix": "noise_mix", "high": "high_noise_fraction", "ema": "ema_decay", "preset": "network",
           "digits": "num_digits"}


@dataclass(frozen=True)
class TrainConfig:
    """One training stage. Steps are optimizer steps; learning rates are warmed up, held, and brought down.

    Raises ValueError for a value that does not fit.
    """

    steps: int = 5600
    batch: int = 8
    frames: int = 16
    short_steps: int = 1400  # the first steps train on clips of half the length, twice as many of them
    lr: float = 1e-3  # AdamW's: biases, norms, embeddings
    matrix_lr: float = 0.015  # Muon's: everything else
    warmup: int = 100
    decay: int = 3600  # the last steps, over which the learning rates fall to 2% of themselves
    betas: tuple = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    ema_decay: float = 0.999
    noise_mix: tuple = (0.2, 0.1, 0.65, 0.05)  # fractions of NOISE_KINDS in a batch
    high_noise_fraction: float = 0.5  # fraction of clips with noise levels near the top
    condition_dropout: float = 0.2  # fraction of clips told nothing, where the data has something to tell
    weighting: str = "v"  # what the squared error is of: one of WEIGHTINGS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("betas", "noise_mix"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise ValueError(f"{name}={getattr(self, name)!r} must be several numbers, as 0.9,0.99")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        chosen = lambda *names: {name: getattr(self, name) for name in names}
        whole(**chosen("steps", "batch", "frames"))
        whole(0, **chosen("short_steps", "decay", "warmup"))
        whole(0, LARGEST_SEED, **chosen("seed"))
        number(above=0, **chosen("lr", "matrix_lr", "clip"))
        number(0, **chosen("weight_decay"))
        number(0, 1, **chosen("ema_decay", "high_noise_fraction", "condition_dropout"))
        number(0, **{f"noise_mix[{i}]": part for i, part in enumerate(self.noise_mix)})
        number(0, 0.999999, **{f"betas[{i}]": beta for i, beta in enumerate(self.betas)})
        if len(self.betas) != 2:
            raise ValueError(f"betas={self.betas} must be two numbers, for the mean and the square")
        if max(self.short_steps, self.decay) > self.steps:
            raise ValueError(f"short_steps={self.short_steps} and decay={self.decay} do not fit into "
                             f"steps={self.steps}; set them too, each to steps or fewer")
        if self.short_steps and self.frames < 2:
            raise ValueError(f"frames={self.frames} cannot be halved in short_steps={self.short_steps}; set "
                             "short_steps=0")
        if len(self.noise_mix) != len(NOISE_KINDS) or sum(self.noise_mix) <= 0:
            raise ValueError(f"noise_mix={self.noise_mix} must be {len(NOISE_KINDS)} fractions, for "
                             f"{', '.join(NOISE_KINDS)}")
        one_of(WEIGHTINGS, weighting=self.weighting)


DATA = {setting.name for setting in fields(BouncingDigits)} - {"size", "split", "num_frames"}
SCHEDULE = {"shape", "zero_terminal_snr", "shift"}
STAGE = {setting.name for setting in fields(TrainConfig)}


@dataclass(frozen=True)
class Recipe:
    """A training run of one or more stages; each goes on with the averaged weights of the one before."""

    network: str = "tiny"  # preset of VideoUNetConfig
    source: str = ""  # clips by a text, as `data.clip_source` reads it; "": BouncingDigits by `data`
    data: dict = field(default_factory=dict)  # arguments of BouncingDigits; its size is the network's
    schedule: dict = field(default_factory=dict)  # arguments of NoiseSchedule
    stages: tuple[TrainConfig, ...] = (TrainConfig(),)
    start_from: str = ""  # checkpoint whose weights the first stage begins with; "": random ones


def recipe_names() -> list[str]:
    """The recipes that ship."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str | Path = "tiny", /, **settings) -> Recipe:
    """Read a recipe: a shipped name (`recipe_names()`), or the path of a .toml file.

    settings: what to change: network, start_from, arguments of BouncingDigits and NoiseSchedule, and
    settings of TrainConfig, for every stage.  Raises ValueError that names the file and what does not fit.
    """
    path = Path(name) if str(name).endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        if path.parent == RECIPES and name not in recipe_names():
            raise FileNotFoundError
        table = tomllib.loads(path.read_text())
    except OSError:
        raise ValueError(f"there is no recipe {name}; choose from {', '.join(recipe_names())}, or give a "
                         ".toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a toml file: {error}") from error
    table = dict(data={}, schedule={}, stages=[{}]) | table
    kinds = dict(network=str, start_from=str, source=str, data=dict, schedule=dict, stages=list)
    for key, kind in kinds.items():
        if not isinstance(table.get(key, kind()), kind):
            raise ValueError(f"{path}: {key}={table[key]!r} must be {kind.__name__}")
    if not table["stages"] or not all(isinstance(stage, dict) for stage in table["stages"]):
        raise ValueError(f"{path}: stages={table['stages']!r} must be one [[stages]] or more")
    parts = [(table, {"network", "start_from", "source"}), (table["data"], DATA),
             (table["schedule"], SCHEDULE), *((stage, STAGE) for stage in table["stages"])]
    known = set.union(*(names for _, names in parts))
    _refuse(set(settings) - known, known, "settings")
    for part, names in parts:
        _refuse(set(part) - names - {"data", "schedule", "stages"}, names, path)
        part |= {name: value for name, value in settings.items() if name in names}
    try:
        return Recipe(**table | dict(stages=tuple(TrainConfig(**stage) for stage in table["stages"])))
    except ValueError as error:
        raise ValueError(f"recipe {name}: {error}") from error


def differing(old: dict, new: dict, prefix: str = "") -> dict:
    """What two nested dicts do not share: {"recipe.steps": (old, new), ...}."""
    differences = {}
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences |= differing(a, b, f"{prefix}{key}.")
        elif a != b:
            differences[prefix + key] = (a, b)
    return differences


def _refuse(unknown: set, known: set, where: str | Path) -> None:
    for name in sorted(unknown):
        if name in RENAMED:
            raise ValueError(f"{where}: {name} is called {RENAMED[name]} now")
        raise ValueError(f"{where}: {name} is unknown; choose from {', '.join(sorted(known))}")
