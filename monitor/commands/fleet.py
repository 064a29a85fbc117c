"""`line-monitor fleet`: many lines and many recipes, on Ray.

It knows nothing of how the cluster works. Everything of the extra `fleet` is imported in the subcommands, so
that `--help` and the line's own programs never load it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.arguments import (
    FAILED,
    CommandError,
    add_config,
    as_path,
    as_place,
    load_settings,
    positive_integer,
    print_to_stderr,
)
from monitor.commands.signing import add_signature, sign

if TYPE_CHECKING:
    from monitor.accounts.signature import Signature
    from monitor.fleet.archive_scorer import ScorerSettings
    from monitor.fleet.manifest import ManifestEntry
    from monitor.fleet.training_task import TrainingTask
    from monitor.settings import Settings
    from monitor.training.training_request import TrainingRequest

_WATCH_S = 0.5
"""How often `status --watch` shows the lines anew."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Many lines and many recipes. train and rescore run on Ray: pip install "line-monitor[fleet]" on '
        "this machine and on every node, in the same version."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    _add_train(actions.add_parser("train", help="train the recipes of a manifest"))
    _add_rescore(actions.add_parser("rescore", help="score an archive of images by other recipes"))
    _add_compare(actions.add_parser("compare", help="show which verdicts of a rescored archive change"))
    _add_status(actions.add_parser("status", help="show the state of all lines on the broker"))


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
        "Trains the recipes of a manifest: a TOML file with a table [[recipe]] for each, or a Parquet "
        "file with a row for each. The keys are name, images, the options of `line-monitor train` with _ "
        "for -, and cpus and gpus. Each recipe is what `train` gives alone with the same options, "
        "OMP_NUM_THREADS equal to cpus and --device cpu (cuda with gpus = 1). Run it again with the same "
        "manifest to go on after an interruption."
    )
    parser.add_argument("manifest", type=as_path, metavar="MANIFEST", help="TOML or Parquet file")
    parser.add_argument(
        "--results",
        type=as_path,
        metavar="FILE",
        help="Parquet file for the results (fleet/ in the data folder, named after the manifest)",
    )
    _add_address(parser)
    add_signature(parser)
    parser.set_defaults(act=_train)


def _add_rescore(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Scores every image of an archive by each of the recipes and writes Parquet files by day. A "
        "recipe's rows in DIR are replaced when the same version is rescored into it: one DIR is for one "
        "archive."
    )
    parser.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE",
        help="NAME@VERSION in the data folder, or NAME for the version in force, or the path of a recipe's "
        "folder (its version in force) or of a version's document",
    )
    parser.add_argument(
        "--archive",
        type=as_place,
        nargs="+",
        required=True,
        metavar="PATH",
        help="snapshots or other folders at any depth, files, patterns in quotes, a .txt file with a path on "
        "each line, or s3://bucket/path and the like",
    )
    parser.add_argument(
        "-o", "--out", type=as_path, required=True, metavar="DIR", help="folder for the scores"
    )
    parser.add_argument(
        "--camera", nargs="+", default=[], metavar="NAME", help="only the snapshots of these cameras"
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        metavar="N",
        help="scorers that work at once (as many as there are processors for, or GPUs)",
    )
    parser.add_argument(
        "--cpus", type=positive_integer, default=1, metavar="N", help="processors of each scorer (1)"
    )
    parser.add_argument("--gpus", action="store_true", help="each scorer has a GPU of its own")
    _add_address(parser)
    parser.set_defaults(act=_rescore)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows which verdicts change from one recipe to another, or from what the line decided (line) to a "
        "recipe, and which images these are."
    )
    parser.add_argument("scores", type=as_path, metavar="DIR", help="folder that `fleet rescore` wrote")
    parser.add_argument(
        "--between",
        nargs=2,
        default=[],
        metavar=("A", "B"),
        help="two of line, NAME@VERSION and NAME, which is the only version there or else the one in force "
        "(the only two that are there)",
    )
    parser.add_argument(
        "--most", type=positive_integer, default=20, metavar="N", help="images that are listed (20)"
    )
    parser.add_argument(
        "--pictures", type=as_path, metavar="FILE", help="also write a page of HTML with the images"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_config(parser)
    parser.set_defaults(act=_compare)


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows all lines on the broker of the settings: ready, state, drift, recipes in force, the parts "
        "since each service's start and their sum, and recipes of which lines of one site have other "
        "versions. The account must be allowed to read all lines."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--watch", action="store_true", help="go on until Ctrl-C")
    add_config(parser)
    parser.set_defaults(act=_status)


def run(options: argparse.Namespace) -> int:
    code: int = options.act(options)
    return code


def _train(options: argparse.Namespace) -> int:
    from monitor.accounts.permissions import Permission
    from monitor.fleet.fleet_error import require_packages
    from monitor.fleet.live_table import open_table
    from monitor.fleet.manifest import read_manifest
    from monitor.fleet.ray_cluster import connect
    from monitor.fleet.training_overview import COLUMNS, TrainingOverview
    from monitor.fleet.training_record import FOLDER, TrainingState
    from monitor.fleet.training_run import train_all, write_results
    from monitor.teaching.recorded_training import TAUGHT

    require_packages("ray", "pyarrow")
    entries = read_manifest(options.manifest)
    settings = load_settings(options)
    signature = sign(options, settings, Permission.TEACH, TAUGHT)
    settings = _without_secrets(settings)
    tasks = [_make_task(entry, settings, signature, options.manifest) for entry in entries]
    overview = TrainingOverview([entry.name for entry in entries])
    file = options.results or settings.line.data / FOLDER / f"{options.manifest.stem}.parquet"
    with connect(options.address) as ray:
        try:
            with open_table(sys.stderr, COLUMNS) as view:
                train_all(ray, tasks, [entry.gpus for entry in entries], overview, view)
        finally:
            if overview.results:
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


def _make_task(
    entry: ManifestEntry, settings: Settings, signature: Signature, manifest: Path
) -> TrainingTask:
    """The entry as a task for a node. Raises CommandError for options that don't go together."""
    from monitor.commands.train import find_usage_problem, recording_training
    from monitor.fleet.manifest import explain_in_keys, train_arguments
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
        make_request=partial(make_request_on_node, arguments, settings, signature.name),
        recording=partial(recording_training, settings, signature),
    )


def _parse_train(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments as `line-monitor train` reads them."""
    from monitor.commands import train

    parser = argparse.ArgumentParser(prog="line-monitor train")
    train.add_arguments(parser)
    return parser.parse_args(arguments[1:])


def make_request_on_node(arguments: Sequence[str], settings: Settings, who: str) -> TrainingRequest:
    """The request that `line-monitor train` makes of these arguments, with what is installed on the node."""
    from monitor.commands.train import make_request

    return make_request(_parse_train(arguments), settings, who)


def _rescore(options: argparse.Namespace) -> int:
    from monitor import paths
    from monitor.fleet.archive_listing import list_archive
    from monitor.fleet.archive_scorer import find_recipe
    from monitor.fleet.fleet_error import require_packages
    from monitor.fleet.ray_cluster import Needs, connect, count_fitting, find_misfits, largest_node
    from monitor.fleet.rescoring import Rescoring, rescore
    from monitor.system.progress import choose_progress

    require_packages("ray", "pyarrow")
    settings = load_settings(options)
    recipes = [find_recipe(paths.recipes(settings), given) for given in options.recipes]
    need = Needs(options.cpus, int(options.gpus))
    with connect(options.address) as ray:
        if misfits := find_misfits({"scorer": need}, largest_node(ray)):
            raise CommandError(misfits[0])
        most = count_fitting(ray, need)
        plan = Rescoring(
            recipes=recipes,
            folder=options.out.absolute(),
            scorer=_scorer_settings(settings, options),
            workers=min(options.workers or most, most),
            gpus=need.gpus,
        )
        images = list_archive(options.archive, frozenset(options.camera))
        summary = rescore(ray, plan, images, progress=choose_progress(sys.stderr))
    unreadable = f", {summary.unreadable} can't be read" if summary.unreadable else ""
    challenges = f", {summary.challenges} of challenge parts left out" if summary.challenges else ""
    print_to_stderr(
        f"{summary.images} images scored by {len(recipes)} recipes{unreadable}{challenges}: {options.out}"
    )
    return 0


def _scorer_settings(settings: Settings, options: argparse.Namespace) -> ScorerSettings:
    from monitor.fleet.archive_scorer import ScorerSettings

    return ScorerSettings(
        device="cuda" if options.gpus else "cpu",
        runtime=settings.scoring.runtime,
        precision=settings.scoring.precision,
        threads=options.cpus,
    )


def _compare(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from monitor import paths
    from monitor.fleet.change_page import make_page
    from monitor.fleet.comparison import choose_judges, compare, explain_comparison, list_judges, open_scores
    from monitor.model.in_force import find_asked

    def find_in_force(name: str) -> str:
        # Only here, because a comparison needs no settings otherwise.
        return find_asked(paths.recipes(load_settings(options)), name).name

    with open_scores(options.scores) as connection:
        before, after = choose_judges(list_judges(connection), options.between, find_in_force)
        comparison = compare(connection, before, after, options.most)
    if options.pictures is not None:
        try:
            options.pictures.write_text(make_page(comparison), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{options.pictures}: {error.strerror or error}") from None
    if options.json:
        print(json.dumps(asdict(comparison)))
    else:
        for line in explain_comparison(comparison):
            print(line)
    return 0


def _status(options: argparse.Namespace) -> int:
    from monitor.fleet.live_table import open_table
    from monitor.fleet.plant_listener import open_listener
    from monitor.fleet.plant_overview import COLUMNS, explain_lines, list_rows, make_payload

    settings = load_settings(options)
    with open_listener(settings) as listener:
        listener.listen_once()
        lines = listener.lines()
        if not lines and not options.watch:
            raise CommandError(
                f"no line has published a status at {settings.mqtt.host}:{settings.mqtt.port}: check [mqtt], "
                "and whether the account may read +/+/status"
            )
        if options.watch:
            with open_table(sys.stdout, COLUMNS) as view:
                while True:
                    view.show(list_rows(listener.lines()), listener.take_changes())
                    listener.listen(_WATCH_S)
    if options.json:
        print(json.dumps(make_payload(lines)))
    else:
        for text in explain_lines(lines):
            print(text)
    return 0
