"""One net trained and pruned by each framework's own means, for ``frameworks_worker.py``."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import secateur as sc

BATCH, RATE, DENSE_EPOCHS, PRUNE_EPOCHS = 128, 0.002, 3, 3
Result = tuple[dict[str, np.ndarray], float, int]  # the kernels, test accuracy, zeros in the kernels


@dataclass
class Work:
    """What is asked for, what is known on the way, and what comes out."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    sparsity: float
    seed: int
    folder: Path
    mode: str  # whole, killed or resumed
    times: dict[str, list[float]] = field(default_factory=lambda: {"dense": [], "pruned": []})
    steps: int = 0
    last: float = 0.0
    began: int = 0  # the step that pruning began at, as the framework tells it
    dense: float | None = None  # test accuracy before pruning

    @property
    def kept(self) -> Path:
        """Where checkpoints of the pruning phase are, those of the run that is killed apart from the whole one's."""
        return self.folder / ("whole" if self.mode == "whole" else "cut")

    @property
    def epoch(self) -> int:
        """Steps in an epoch: whole batches only, so that all steps cost the same."""
        return len(self.train[0]) // BATCH

    @property
    def schedule(self) -> sc.PolynomialSchedule:
        """From nothing to the sparsity in two of the three epochs."""
        return sc.PolynomialSchedule(0.0, self.sparsity, 0, 2 * self.epoch, frequency=max(1, self.epoch // 20))

    def tick(self, phase: str) -> None:
        """Note the time of one step of a phase; when it is to be killed, die in the middle of the second epoch.

        The first step of an epoch is not timed: checkpoints, loaders and compilers come before it.
        """
        now = time.perf_counter()
        if self.last:
            self.times[phase].append(now - self.last)
        self.last, self.steps = now, self.steps + 1
        if self.mode == "killed" and phase == "pruned" and self.steps == self.epoch + self.epoch // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def pause(self) -> None:
        """An epoch begins: what has passed since the last step is no step's time."""
        self.last = 0.0


def net() -> Any:
    """Return the tutorial's convnet in torch."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 13 * 13, 10))


def torch_loop(work: Work) -> Result:
    """A loop by hand."""
    import torch
    from torch.nn.functional import cross_entropy

    x, y = (torch.from_numpy(each) for each in work.train)
    x = x.movedim(-1, 1)
    model = net()

    def fit(phase: str, first: int, epochs: int, optimizer: Any, pruner: Any = None) -> None:
        work.steps = first * work.epoch
        for epoch in range(first, epochs):
            work.pause()
            for step in range(work.epoch):
                part = slice(step * BATCH, (step + 1) * BATCH)
                cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
                optimizer.zero_grad()
                if pruner:
                    pruner.step()
                work.tick(phase)
            if pruner:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
                torch.save(state | {"pruner": pruner.state_dict()}, work.kept / "checkpoint.pt")

    if work.mode == "whole":
        fit("dense", 0, DENSE_EPOCHS, torch.optim.Adam(model.parameters(), RATE, fused=True))
        work.dense = _torch_accuracy(model, work)
        torch.save(model.state_dict(), work.folder / "dense.pt")
    model.load_state_dict(torch.load(work.folder / "dense.pt"))
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
    first, pruner = 0, None
    if work.mode == "resumed":
        state = torch.load(work.kept / "checkpoint.pt")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        pruner = sc.Pruner(model, optimizer, work.schedule)
        pruner.load_state_dict(state["pruner"])
        first = state["epoch"]
    pruner = pruner or sc.Pruner(model, optimizer, work.schedule)
    work.began = pruner.step_count
    fit("pruned", first, PRUNE_EPOCHS, optimizer, pruner)
    pruner.finalize()
    return _torch_result(model, work)


def lightning(work: Work) -> Result:
    """Lightning's Trainer with the callback."""
    import torch
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.utils.data import DataLoader, TensorDataset

    from secateur.integrations.lightning import Pruning

    x, y = (torch.from_numpy(each) for each in work.train)
    data = DataLoader(TensorDataset(x.movedim(-1, 1), y), BATCH, drop_last=True)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: Any, _: int) -> Any:
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), RATE, fused=True)

    class Tick(Callback):
        def __init__(self, phase: str) -> None:
            self.phase = phase

        def on_train_start(self, trainer: Any, *_: Any) -> None:
            work.began = trainer.global_step

        def on_train_epoch_start(self, *_: Any) -> None:
            work.pause()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            work.steps = trainer.global_step - 1
            work.tick(self.phase)

    def trainer(epochs: int, *callbacks: Any) -> Any:
        quiet: dict[str, Any] = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
        }
        keep = any(isinstance(each, ModelCheckpoint) for each in callbacks)
        return Trainer(max_epochs=epochs, callbacks=list(callbacks), enable_checkpointing=keep, **quiet)

    module = Module()
    if work.mode == "whole":
        trainer(DENSE_EPOCHS, Tick("dense")).fit(module, data)
        work.dense = _torch_accuracy(module.net, work)
        torch.save(module.state_dict(), work.folder / "dense.pt")
    module.load_state_dict(torch.load(work.folder / "dense.pt"))
    keep = ModelCheckpoint(work.kept, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    path = work.kept / "last.ckpt" if work.mode == "resumed" else None
    trainer(PRUNE_EPOCHS, Pruning(work.schedule), Tick("pruned"), keep).fit(module, data, ckpt_path=path)
    return _torch_result(module.net, work)


def transformers(work: Work) -> Result:
    """Hugging Face's Trainer with the callback."""
    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from secateur.integrations.transformers import Pruning

    images = torch.from_numpy(work.train[0]).movedim(-1, 1)[: work.epoch * BATCH]
    rows = [{"x": image, "labels": int(label)} for image, label in zip(images, work.train[1], strict=False)]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            logits = self.net(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    class Tick(TrainerCallback):
        def __init__(self, phase: str) -> None:
            self.phase = phase

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            work.began = state.global_step

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            work.pause()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            work.steps = state.global_step - 1
            work.tick(self.phase)

    def trainer(model: Any, epochs: int, save: str, *callbacks: Any) -> Any:
        arguments = TrainingArguments(
            output_dir=str(work.kept / "checkpoints"), num_train_epochs=epochs, per_device_train_batch_size=BATCH,
            learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], disable_tqdm=True,
            use_cpu=True, seed=work.seed, save_strategy=save, logging_strategy="no", optim="adamw_torch_fused",
        )  # fmt: skip
        return Trainer(model=model, args=arguments, train_dataset=rows, callbacks=list(callbacks))

    model = Model()
    if work.mode == "whole":
        trainer(model, DENSE_EPOCHS, "no", Tick("dense")).train()
        work.dense = _torch_accuracy(model.net, work)
        torch.save(model.state_dict(), work.folder / "dense.pt")
    model.load_state_dict(torch.load(work.folder / "dense.pt"))
    trainer(model, PRUNE_EPOCHS, "epoch", Pruning(work.schedule), Tick("pruned")).train(
        resume_from_checkpoint=work.mode == "resumed"
    )
    return _torch_result(model.net, work)


def _torch_accuracy(model: Any, work: Work) -> float:
    import torch

    x, y = (torch.from_numpy(each) for each in work.test)
    with torch.inference_mode():
        found = float((model.eval()(x.movedim(-1, 1)).argmax(1) == y).float().mean())
    model.train()
    return found


def _torch_result(model: Any, work: Work) -> Result:
    import torch

    kernels = {name: p.detach() for name, p in model.named_parameters() if p.ndim > 1}
    zeros = sum(p.numel() - int(torch.count_nonzero(p)) for p in kernels.values())
    return {name: p.numpy() for name, p in kernels.items()}, _torch_accuracy(model, work), zeros


def keras_fit(work: Work) -> Result:
    """Keras' ``fit`` with the callback, on the backend in use."""
    import keras

    from secateur.integrations import keras as sk

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(12, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )

    class Tick(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self, phase: str) -> None:
            super().__init__()
            self.phase, self.epoch, self.begun = phase, 0, False

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if not self.begun:
                work.began = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
            self.epoch, self.begun = epoch, True
            work.pause()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            work.steps = self.epoch * work.epoch + batch
            work.tick(self.phase)

    def fit(epochs: int, *callbacks: Any) -> None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(RATE), loss)
        x, y = (each[: work.epoch * BATCH] for each in work.train)
        model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))

    def accuracy() -> float:
        outputs = keras.ops.convert_to_numpy(model.predict(work.test[0], verbose=0))
        return float((outputs.argmax(1) == work.test[1]).mean())

    if work.mode == "whole":
        fit(DENSE_EPOCHS, Tick("dense"))
        work.dense = accuracy()
        model.save_weights(work.folder / "dense.weights.h5")
    model.load_weights(work.folder / "dense.weights.h5")
    sk.prune_low_magnitude(model, work.schedule, scope="global")
    keep = keras.callbacks.BackupAndRestore(work.kept / "backup", delete_checkpoint=False)
    if work.mode == "whole":
        fit(PRUNE_EPOCHS, sk.UpdatePruningStep(), Tick("pruned"))
    else:
        fit(PRUNE_EPOCHS, keep, sk.UpdatePruningStep(), Tick("pruned"))
    sk.strip_pruning(model)

    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
    zeros = sum(int(np.prod(v.shape)) - int(keras.ops.count_nonzero(v.value)) for v in kernels)
    return {v.path: keras.ops.convert_to_numpy(v) for v in kernels}, accuracy(), zeros


FRAMEWORKS = {"torch": torch_loop, "lightning": lightning, "transformers": transformers, "keras": keras_fit}
