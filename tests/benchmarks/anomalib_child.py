"""Trains and tests Anomalib's STFPM on a data set. `beside_anomalib` runs it in Anomalib's own environment.

It imports nothing of Line Monitor. It changes only the teacher's weights of Anomalib: the model,
preprocessing, data module, loss, optimiser, map and image score are Anomalib's. The scores are from before
its min-max normalisation, which does not change their order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
from anomalib.data import Folder
from anomalib.data.utils import ValSplitMode
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import Stfpm
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from safetensors.torch import load_file

PATIENCE = 5
"""Patience of the early stopping on the pixel AUROC in Anomalib's examples/configs/model/stfpm.yaml."""


class Trace(Callback):  # type: ignore[misc]
    """The image scores and the pixel AUROC that Anomalib has after each epoch, on its validation images."""

    def __init__(self, dataset: Path) -> None:
        self.epochs: list[dict[str, Any]] = []
        self._dataset = dataset
        self._scores: dict[str, float] = {}
        self._began = time.monotonic()

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
        self._scores |= image_scores(outputs, self._dataset)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        row = {
            "seconds": round(time.monotonic() - self._began, 1),
            "loss": float(trainer.callback_metrics["train_loss"]),
            "pixel_auroc": float(trainer.callback_metrics["pixel_AUROC"]),
            "scores": self._scores,
        }
        self.epochs.append(row)
        self._scores = {}
        print(
            f"anomalib: epoch {len(self.epochs)} loss {row['loss']:.4f} pixel AUROC {row['pixel_auroc']:.4f} "
            f"after {row['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def image_scores(batch: Any, dataset: Path) -> dict[str, float]:
    """Values by the image's path in the data set, in the order of the batch."""
    names = [Path(path).relative_to(dataset).as_posix() for path in batch.image_path]
    return dict(zip(names, batch.pred_score.flatten().tolist(), strict=True))


def model(size: int | None) -> Stfpm:
    """Anomalib's model with its defaults and a random teacher, because its own teacher would be downloaded.

    The pixel AUROC on validation images is added, because the early stopping of its example needs it; the
    default evaluator has it only for test images.
    """
    create = timm.create_model

    def without_download(*arguments: Any, **options: Any) -> Any:
        return create(*arguments, **{**options, "pretrained": False})

    default = Stfpm.configure_evaluator()
    watched = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False)
    with mock.patch("timm.create_model", without_download):
        return Stfpm(
            pre_processor=Stfpm.configure_pre_processor((size, size)) if size else True,
            post_processor=PostProcessor(enable_normalization=False),
            evaluator=Evaluator(val_metrics=[watched], test_metrics=list(default.test_metrics)),
            visualizer=False,
        )


def images(dataset: Path) -> Folder:
    """A data set in MVTec AD's layout, split like Anomalib's MVTecAD module, which reads only .png: the test
    images, including defective ones, are the validation images."""
    kinds = sorted(path.name for path in (dataset / "test").iterdir() if path.name != "good")
    return Folder(
        name=dataset.name,
        root=dataset,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{kind}" for kind in kinds],
        mask_dir=[f"ground_truth/{kind}" for kind in kinds],
        num_workers=min(8, os.cpu_count() or 1),
        val_split_mode=ValSplitMode.SAME_AS_TEST,
    )


def teach(stfpm: Stfpm, file: Path) -> int:
    """Put the weights into the teacher only. Returns the number of tensors, after a check of each."""
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    teacher = stfpm.model.teacher_model.feature_extractor
    wanted = {name for name in teacher.state_dict() if not name.endswith("num_batches_tracked")}
    if missing := wanted - tensors.keys():
        raise SystemExit(f"{file}: {len(missing)} tensors of Anomalib's teacher are missing: {min(missing)}")
    teacher.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
    check_teacher(stfpm, {name: tensors[name] for name in wanted})
    student = stfpm.model.student_model.feature_extractor.state_dict()
    if any(torch.equal(student[name], tensors[name]) for name in wanted if tensors[name].ndim == 4):
        raise SystemExit("the student has weights of the teacher: it must start with random weights")
    return len(wanted)


def check_teacher(stfpm: Stfpm, tensors: dict[str, torch.Tensor]) -> None:
    """Raises SystemExit unless the teacher holds exactly these tensors."""
    held = stfpm.model.teacher_model.feature_extractor.state_dict()
    for name, tensor in tensors.items():
        if not torch.equal(held[name], tensor):
            raise SystemExit(f"{name}: Anomalib's teacher does not hold the weights it was given")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--teacher-weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--early-stopping", action="store_true")
    parser.add_argument("--maps", type=Path, required=True, help="the .npz file for the maps by image")
    parser.add_argument("--answer", type=Path, required=True, help="JSON")
    options = parser.parse_args()

    seed_everything(options.seed)
    stfpm = model(options.size)
    loaded = teach(stfpm, options.teacher_weights)
    taught = {
        name: tensor.clone()
        for name, tensor in stfpm.model.teacher_model.feature_extractor.state_dict().items()
    }
    dataset = options.dataset.resolve()
    data = images(dataset)
    trace = Trace(dataset)
    stop = EarlyStopping(monitor="pixel_AUROC", mode="max", patience=PATIENCE)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            callbacks=[trace, *([stop] if options.early_stopping else [])],
            default_root_dir=folder,
            max_epochs=options.epochs,
            enable_progress_bar=False,
        )
        began = time.monotonic()
        engine.fit(model=stfpm, datamodule=data)
        trained = time.monotonic()
        batches = engine.predict(model=stfpm, datamodule=data, return_predictions=True)
        scored = time.monotonic()
    check_teacher(stfpm, taught)
    scores: dict[str, float] = {}
    maps: dict[str, np.ndarray[Any, Any]] = {}
    for batch in batches:
        of_batch = image_scores(batch, dataset)
        scores |= of_batch
        flat = batch.anomaly_map.reshape(len(of_batch), *batch.anomaly_map.shape[-2:]).numpy()
        maps |= dict(zip(of_batch, flat, strict=True))
    np.savez(options.maps, **maps)
    optimiser = engine.trainer.optimizers[0]
    settings = {key: optimiser.defaults[key] for key in ("lr", "momentum", "weight_decay")}
    options.answer.write_text(
        json.dumps(
            {
                "versions": {
                    "python": platform.python_version(),
                    **{name: version(name) for name in ("anomalib", "torch", "lightning", "timm")},
                },
                "settings": {
                    "optimiser": f"{type(optimiser).__name__} {settings}",
                    "batch": data.train_batch_size,
                    "transform": str(stfpm.pre_processor.transform),
                    "validation": str(data.val_split_mode.value),
                    "max_epochs": options.epochs,
                    "early_stopping": options.early_stopping,
                    "seed": options.seed,
                    "threads": torch.get_num_threads(),
                },
                "teacher_tensors": loaded,
                "images": {"train": len(data.train_data), "test": len(data.test_data)},
                "epochs": len(trace.epochs),
                "trace": trace.epochs,
                "train_seconds": round(trained - began, 1),
                "score_seconds": round(scored - trained, 1),
                "scores": scores,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
