"""What a training run writes while it goes on: a csv file, and what accelerate's trackers show."""

import csv
from pathlib import Path

from vdiff_lite.training.trainer import LEVELS, Progress, Trainer


class TrainLog:
    """Rows of a run in `path` (csv): step, loss, clips per second, learning rate, loss by level.

    A row every `every` steps: loss is the mean of the steps since the last row, loss_level_1 .. _5 that of
    the frames in each fifth of the noise levels, from nearly clean to nearly pure noise (empty where there
    were none). Rows after the step that a resumed run goes on from are dropped. Trackers of the run's
    accelerator, where it has some, get the same numbers.
    """

    def __init__(self, path: str | Path, trainer: Trainer, every: int = 50):
        self.path, self.trainer, self.every = Path(path), trainer, every
        self.columns = ["step", "loss", "clips_per_second", "lr",
                        *(f"loss_level_{n}" for n in range(1, LEVELS + 1))]
        self.last = trainer.step
        if trainer.compute.is_main:
            rows = []
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                with open(self.path, newline="") as file:
                    rows = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.step]
            with open(self.path, "w", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows)

    def note(self, progress: Progress) -> None:
        """Write a row where one is due."""
        trainer = self.trainer
        if progress.step % self.every and progress.step != trainer.config.steps:
            return
        losses = trainer.losses[self.last:]
        sums, counts = trainer.by_level.tolist()
        trainer.by_level.zero_()
        self.last = progress.step
        values = dict(loss=sum(losses) / len(losses), clips_per_second=progress.clips_per_second,
                      lr=float(trainer.optimizer.param_groups[0]["lr"]))
        values |= {f"loss_level_{n}": total / count for n, (total, count) in
                   enumerate(zip(sums, counts), 1) if count}
        if trainer.compute.is_main:
            with open(self.path, "a", newline="") as file:
                row = dict(step=progress.step) | {name: f"{value:.6g}" for name, value in values.items()}
                csv.DictWriter(file, self.columns).writerow(row)
        if trainer.compute.accelerator:
            trainer.compute.accelerator.log(values, step=progress.step)
