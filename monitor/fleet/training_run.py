"""`fleet train`'s driver: one Ray task for each recipe, their progress, and the results as Parquet.

It knows nothing of how a recipe is taught. It keeps no state of its own: whatever is killed, the next start
reads from the records (`monitor.fleet.training_record`) what is taught already, and checkpoints hold the
rest.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from monitor.fleet.fleet_error import FleetError
from monitor.fleet.live_table import TableView
from monitor.fleet.ray_cluster import (
    Needs,
    explain_ray_error,
    find_misfits,
    largest_node,
    node_name,
    task_environment,
)
from monitor.fleet.training_overview import TrainingOverview
from monitor.fleet.training_record import TrainingResult, TrainingState, training_utc
from monitor.fleet.training_task import TrainingReport, TrainingTask, find_unchanged, run_task
from monitor.system.atomic_file import write_whole

_RETRIES = 8
"""How often Ray repeats a training whose process or node has died. An expected failure is not repeated."""
_STEP_S = 0.5
_ASK_S = 5.0
"""The longest wait for the actor that gathers reports: its node may have died."""


class ReportStore:
    """The actor that holds the newest report of each training. It may be lost: the next reports fill it."""

    def __init__(self) -> None:
        self._newest: dict[str, TrainingReport] = {}

    def put(self, report: TrainingReport) -> None:
        self._newest[report.recipe] = report

    def newest(self) -> list[TrainingReport]:
        return list(self._newest.values())


def run_on_node(task: TrainingTask, store: Any) -> TrainingResult:
    """The body of the Ray task."""
    import ray

    def send(report: TrainingReport) -> None:
        # Nobody waits for the answer: a lost report must not hold a training up.
        store.put.remote(report)

    return run_task(task, node_name(ray), send)


def train_all(
    ray: Any, tasks: Sequence[TrainingTask], gpus: Sequence[int], overview: TrainingOverview, view: TableView
) -> None:
    """Runs the tasks, as many at once as their processors and GPUs allow. The results are in the overview.

    Raises FleetError where a task fits no node.
    """
    needs = {task.recipe: Needs(task.cpus, count) for task, count in zip(tasks, gpus, strict=True)}
    if misfits := find_misfits(needs, largest_node(ray)):
        raise FleetError("\n".join(misfits))
    left = [task for task in tasks if not _take_unchanged(task, overview)]
    store = ray.remote(ReportStore).options(num_cpus=0, max_restarts=-1).remote()
    # A process of its own for each training: nothing of an earlier one decides a result or keeps memory.
    teach = ray.remote(max_calls=1, max_retries=_RETRIES)(run_on_node)
    waiting = {
        teach.options(
            num_cpus=task.cpus,
            num_gpus=needs[task.recipe].gpus,
            name=f"train {task.recipe}",
            runtime_env=task_environment(task.cpus),
        ).remote(task, store): task
        for task in left
    }
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=_STEP_S)
        for reference in done:
            overview.take_result(_result_of(ray, reference, waiting.pop(reference)))
        overview.take_reports(_read_reports(ray, store))
        view.show([row.cells() for row in overview.rows()], overview.take_lines())
    view.show([row.cells() for row in overview.rows()], overview.take_lines())


def _take_unchanged(task: TrainingTask, overview: TrainingOverview) -> bool:
    """Whether the recipe is taught already, as far as this machine sees its images."""
    try:
        result = find_unchanged(task)
    except FleetError:
        # The images may be on the nodes alone; the task itself finds out.
        return False
    if result is not None:
        overview.take_result(result)
    return result is not None


def _result_of(ray: Any, reference: Any, task: TrainingTask) -> TrainingResult:
    try:
        result: TrainingResult = ray.get(reference)
    except ray.exceptions.RayError as error:
        return TrainingResult(
            recipe=task.recipe, state=TrainingState.FAILED, message=explain_ray_error(error)
        )
    if result.state is TrainingState.FAILED or training_utc(task.folder) == result.utc:
        return result
    return msgspec.structs.replace(
        result,
        state=TrainingState.FAILED,
        message=f"it was taught on {result.node}, but {task.data} here has not got it: "
        "line.data must be one shared folder, at the same path on every node and here",
    )


def _read_reports(ray: Any, store: Any) -> list[TrainingReport]:
    """The newest reports; none while the actor is being started anew."""
    try:
        reports: list[TrainingReport] = ray.get(store.newest.remote(), timeout=_ASK_S)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        return []
    return reports


def write_results(results: Sequence[TrainingResult], file: Path) -> None:
    """Writes the results as Parquet, a row a recipe. Raises FleetError."""
    import pyarrow
    import pyarrow.parquet

    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    schema = pyarrow.schema(
        {
            "recipe": text,
            "state": text,
            "message": text,
            "recipe_sha": text,
            "threshold": number,
            "guarantee": number,
            "statement": text,
            "images": whole,
            "epochs": whole,
            "best_epoch": whole,
            "seed": whole,
            "seconds": number,
            "node": text,
            "starts": whole,
            "resumed_at": pyarrow.list_(whole),
            "utc": text,
        }
    )
    rows = [msgspec.to_builtins(result) for result in results]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), buffer)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())
    except OSError as error:
        raise FleetError(f"{file}: can't be written: {error.strerror or error}") from None
