"""What a run says while it works: ``metrics.jsonl``, TensorBoard events and a progress bar."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur.files import write_text
from secateur.vocabulary import MissingExtraError

__all__ = ["Journal", "read_metrics"]


class Journal:
    """Records one line for each epoch; ``rewind`` forgets epochs that a killed run never saved.

    Args:
        folder: of the run; ``metrics.jsonl`` and ``tensorboard/`` are written in it.
        events: whether to write TensorBoard events (needs tensorboard).
        bar: whether to show a progress bar (on a terminal).
    """

    def __init__(self, folder: Path, events: bool = False, bar: bool = False) -> None:
        self._path = folder / "metrics.jsonl"
        self._events = folder / "tensorboard" if events else None
        self._writers: dict[str, Any] = {}
        self.prefix = ""  # of the names of phases, while a search tries one sparsity after another
        self._path.touch(exist_ok=True)
        self._bar = _Bar() if bar else None

    def record(self, row: dict[str, Any]) -> None:
        """Append one epoch, on disk before this returns."""
        row = row | {"phase": self.prefix + row["phase"]}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._write_events(row)
        if self._bar:
            self._bar.epoch(row)

    def rewind(self, phase: str, epochs: int) -> None:
        """Keep only the first ``epochs`` epochs of a phase; the phases before it stay."""
        phase = self.prefix + phase
        rows = read_metrics(self._path)
        kept = [row for row in rows if row["phase"] != phase or row["epoch"] <= epochs]
        if kept != rows or self._path.read_bytes()[-1:] not in (b"", b"\n"):
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        if self._events:
            # Events cannot be cut, so those of an unfinished phase are written again.
            shutil.rmtree(self._events / phase, ignore_errors=True)
            for row in kept:
                if row["phase"] == phase:
                    self._write_events(row)

    def tick(self, phase: str, done: int, steps: int) -> None:
        """Show that ``done`` optimizer steps of ``steps`` of this phase are done."""
        if self._bar:
            self._bar.tick(self.prefix + phase, done, steps)

    @contextlib.contextmanager
    def open(self) -> Iterator[Journal]:
        """Close the bar and the event files at the end."""
        try:
            yield self
        finally:
            if self._bar:
                self._bar.stop()
            for writer in self._writers.values():
                writer.close()

    def _write_events(self, row: dict[str, Any]) -> None:
        if self._events is None:
            return
        phase, step = row["phase"], row["step"]
        if phase not in self._writers:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError as error:
                raise MissingExtraError("events need tensorboard: pip install 'secateur[lab]'") from error
            self._writers[phase] = SummaryWriter(str(self._events / phase))
        writer = self._writers[phase]
        for tag in ("loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate", "sparsity"):
            writer.add_scalar(tag, row[tag], step)
        for name, layer in row["layers"].items():
            writer.add_scalar(f"layer_sparsity/{name}", layer["sparsity"], step)
            writer.add_scalar(f"layer_threshold/{name}", layer["threshold"], step)


class _Bar:
    """A progress bar for each phase with rate and time left."""

    def __init__(self) -> None:
        try:
            from rich import progress
        except ImportError as error:
            raise MissingExtraError("the progress bar needs rich: pip install 'secateur[lab]'") from error
        self._progress = progress.Progress(
            progress.TextColumn("{task.description:<14}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
        )
        self._progress.start()
        self._tasks: dict[str, Any] = {}

    def tick(self, phase: str, done: int, steps: int) -> None:
        if phase not in self._tasks:
            # What an earlier process has done says nothing of this one's rate.
            self._tasks[phase] = self._progress.add_task(phase, total=steps, completed=done - 1, rate="", note="")
        self._progress.update(self._tasks[phase], completed=done)

    def epoch(self, row: dict[str, Any]) -> None:
        task = self._tasks.get(row["phase"])
        if task is None:
            return
        speed = self._progress.tasks[task].speed
        note = f"validation {row['validation_accuracy']:.4f}  sparsity {row['sparsity']:.3f}"
        rate = f"{speed:.0f} steps/s" if speed else ""
        self._progress.update(task, rate=rate, note=note)

    def stop(self) -> None:
        self._progress.stop()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the epochs of a run; a line cut short or damaged by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and {"phase", "epoch"} <= row.keys():
                rows.append(row)
    return rows
