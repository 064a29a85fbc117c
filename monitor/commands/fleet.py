"""`line-monitor fleet`: many lines and many recipes, on Ray.

It knows nothing of how the cluster works. Everything of the extra `fleet` is imported in the subcommands, so that
`--help` and the line's own programs never load it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.arguments import (
    FAILED,
    CommandError,
    add_config,
    load_settings,
    print_to_stderr,
)

if TYPE_CHECKING:
    from monitor.fleet.manifest import ManifestEntry
    from monitor.fleet.training_task import TrainingTask
    from monitor.settings import Settings
    from monitor.training.training_request import TrainingRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Many lines and many recipes. train and rescore run on Ray: pip install "line-monitor[fleet]" on this '
        "machine and on every node, in the same version."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    _add_train(actions.add_parser("train", help="train the recipes of a manifest"))


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        default="local",
        metavar="WHERE",
        help="local (this machine, no cluster), auto (the cluster that this machine belongs to) or "
        "ray://host:10001 (local)",
    )
    add_config(parser)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Trains the recipes of a manifest: a TOML file with a table [[recipe]] for each, or a Parquet file with a "
        "row for each. The keys are name, images, the options of `line-monitor train` with _ for -, and cpus and "
        "gpus. Each recipe is what `train` gives alone with the same options, OMP_NUM_THREADS equal to cpus and "
        "--device cpu (cuda with gpus = 1). Run it again with the same manifest to go on after an interruption."
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="TOML or Parquet file")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="Parquet file for the results (fleet/ in the data folder, named after the manifest)",
    )
    _add_address(parser)
    parser.set_defaults(act=_train)


def run(options: argparse.Namespace) -> int:
    code: int = options.act(options)
    return code


def _train(options: argparse.Namespace) -> int:
    from monitor.fleet.fleet_error import require_packages
    from monitor.fleet.live_table import open_table
    from monitor.fleet.manifest import read_manifest
    from monitor.fleet.ray_cluster import connect
    from monitor.fleet.training_overview import COLUMNS, TrainingOverview
    from monitor.fleet.training_record import FOLDER, TrainingState
    from monitor.fleet.training_run import train_all, write_results

    require_packages("ray", "pyarrow")
    entries = read_manifest(options.manifest)
    settings = _without_secrets(load_settings(options))
    tasks = [_make_task(entry, settings, options.manifest) for entry in entries]
    overview = TrainingOverview([entry.name for entry in entries])
    file = options.results or settings.line.data / FOLDER / f"{options.manifest.stem}.parquet"
    with connect(options.address) as ray:
        try:
            with open_table(sys.stderr, COLUMNS) as view:
                train_all(ray, tasks, [entry.gpus for entry in entries], overview, view)
        finally:
            write_results(overview.results, file)
    print_to_stderr(f"{overview.summary()}; results: {file}")
    failed = [result for result in overview.results if result.state is TrainingState.FAILED]
    for result in failed:
        print_to_stderr(f"line-monitor: {result.recipe}: {result.message}")
    return FAILED if failed else 0


def _without_secrets(settings: Settings) -> Settings:
    """The settings that may travel to other machines: no password is needed there."""
    from monitor.settings import MqttSettings, ReviewSettings

    return settings.model_copy(update={"mqtt": MqttSettings(), "review": ReviewSettings()})


def _make_task(entry: ManifestEntry, settings: Settings, manifest: Path) -> TrainingTask:
    """The entry as a task for a node. Raises CommandError for options that don't go together."""
    from monitor.commands.train import find_usage_problem
    from monitor.fleet.manifest import explain_in_keys, train_arguments
    from monitor.fleet.training_record import FOLDER
    from monitor.fleet.training_task import TrainingTask

    arguments = tuple(train_arguments(entry))
    if problem := find_usage_problem(_parse_train(arguments)):
        raise CommandError(f"{manifest}: recipe {entry.name!r}: {explain_in_keys(problem)}")
    given = (entry.images, entry.empty, entry.defects, entry.teacher_weights)
    return TrainingTask(
        recipe=entry.name,
        arguments=arguments,
        files=tuple(Path(path) for path in given if path is not None),
        cpus=entry.cpus,
        data=settings.line.data,
        records=settings.line.data / FOLDER,
        make_request=partial(make_request_on_node, arguments, settings),
    )


def _parse_train(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments as `line-monitor train` reads them."""
    from monitor.commands import train

    parser = argparse.ArgumentParser(prog="line-monitor train")
    train.add_arguments(parser)
    return parser.parse_args(arguments[1:])


def make_request_on_node(arguments: Sequence[str], settings: Settings) -> TrainingRequest:
    """The request that `line-monitor train` makes of these arguments, with what is installed on the node."""
    from monitor.commands.train import make_request

    return make_request(_parse_train(arguments), settings)
