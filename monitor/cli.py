"""The `line-monitor` command: reads arguments and settings, hands over, and explains failures in one line.

Imports what a command needs only when it is called: `--help` must not wait for torch.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.settings import Settings, SettingsError, find, load

_FAILED, _USAGE = 1, 2
_EMPTY = "the place without a part: such frames then pass unscored, as pass/no_part"
_SAME_SEED = (
    "Trains a recipe from images of good parts. The same images, options and seed give the same recipe on "
    "the same kind of machine, with the same number of threads, the same versions of line-monitor and torch, "
    "and MKL_CBWR in the environment before torch is loaded; this command sets it to AUTO unless it is set."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 on success, 1 on a failure explained on stderr, 2 on wrong usage."""
    # OpenMP's threads spin while they wait for each other. On a machine with other work, the one that spins
    # keeps the one it waits for off its core; a short spin costs nothing on a quiet machine, and a frame
    # that took 223 ms at worst beside another program then takes 53 ms (2 cores, 256 px).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # MKL's threads add in an order that depends on where the arrays lie in memory, so that two trainings with
    # the same seed end with different students. AUTO fixes that order. MKL reads the variable once, when
    # torch is loaded.
    os.environ.setdefault("MKL_CBWR", "AUTO")
    _print_anything()
    options = _parser().parse_args(arguments)
    if options.command is None:
        _parser().print_help(sys.stderr)
        return _USAGE
    handler: Callable[[argparse.Namespace], int] = options.handler
    try:
        return handler(options)
    except SettingsError as error:
        return _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        from monitor.out_of_memory import advice

        fix = advice(error, sized=hasattr(options, "size"))
        if fix is None:
            raise
        return _fail(fix)
    except KeyboardInterrupt:
        return _fail("interrupted")
    except BrokenPipeError:
        # The reader of our output went away (`| head`); there is nobody to tell.
        sys.stderr.close()
        return _FAILED


def _print_anything() -> None:
    """A name that the terminal's encoding lacks is no reason to lose what was worked out."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str) -> int:
    if sys.stderr.isatty():
        # In the place of a progress bar that was not finished.
        sys.stderr.write("\r\x1b[K")
    for line in message.splitlines():
        print(f"line-monitor: {line}", file=sys.stderr)
    return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="line-monitor",
        description="One verdict for every part on a line, before its deadline: pass, reject, or uninspected "
        "with a reason.",
        epilog="The settings file is --config, else $LINE_MONITOR_CONFIG, else ./config/line.toml, "
        "else /etc/line-monitor/line.toml.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the line's settings (TOML)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    demo = commands.add_parser("demo", help="the whole line on simulated cameras, nothing to set up")
    demo.add_argument("--seconds", type=_positive, default=60, metavar="N", help="how long the line runs")
    demo.add_argument("--keep", type=Path, metavar="DIR", help="keep recipes and snapshots in DIR")
    demo.set_defaults(handler=_demo)

    check = commands.add_parser("check", help="is everything there that the line needs? with the fix")
    check.set_defaults(handler=_check)

    cameras = commands.add_parser("cameras", help="list the GigE Vision cameras found")
    cameras.set_defaults(handler=_cameras)

    collect = commands.add_parser("collect", help="save frames of a camera for training")
    collect.add_argument("camera", metavar="CAMERA", help="a camera's name in the settings")
    collect.add_argument("--count", type=_positive, required=True, metavar="N", help="how many frames")
    collect.add_argument("--to", type=Path, required=True, metavar="DIR", help="where they are saved (PNG)")
    collect.set_defaults(handler=_collect)

    train = commands.add_parser(
        "train", help="train a recipe from images of good parts", description=_SAME_SEED
    )
    train.add_argument("recipe", metavar="RECIPE", help="the recipe's name")
    train.add_argument("--images", type=Path, required=True, metavar="DIR", help="good images, any depth")
    train.add_argument("--empty", type=Path, metavar="DIR", help=_EMPTY)
    train.add_argument("--teacher", metavar="NAME", help="default: resnet18, else resnet18-bundled")
    train.add_argument("--teacher-weights", type=Path, metavar="FILE", help=".pth or .safetensors")
    train.add_argument(
        "--size",
        type=_size,
        default=(256, 256),
        metavar="PX",
        help="images are shrunk to: 256 or 1024x512 (256)",
    )
    train.add_argument(
        "--tile", type=_size, metavar="PX", help="the network sees tiles of this size, for small defects"
    )
    train.add_argument("--overlap", type=int, metavar="PX", help="of tiles (an eighth of their shorter side)")
    train.add_argument(
        "--epochs", type=_positive, metavar="N", default=100, help="passes over the images (100)"
    )
    _add_overkill(train, 0.01)
    train.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="same seed, same recipe: see above (0)"
    )
    train.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:1 (as in the settings)")
    train.add_argument("--as-paper", action="store_true", help="the paper's split and training, unchanged")
    train.add_argument(
        "--int8",
        action=argparse.BooleanOptionalAction,
        help="also for OpenVINO in 8-bit integers (where it is installed, unless as in the paper)",
    )
    train.set_defaults(handler=_train)

    calibrate = commands.add_parser(
        "calibrate", help="set a recipe's threshold anew from good images, or its presence gate"
    )
    calibrate.add_argument("recipe", metavar="RECIPE")
    calibrate.add_argument("--images", type=Path, metavar="DIR", help="good, not trained on")
    _add_overkill(calibrate, None)
    gate = calibrate.add_mutually_exclusive_group()
    gate.add_argument("--empty", type=Path, metavar="DIR", help=_EMPTY)
    gate.add_argument("--no-empty", action="store_true", help="no presence gate any more: score every frame")
    calibrate.set_defaults(handler=_calibrate, refuse=calibrate.error)

    score = commands.add_parser("score", help="score image files, one JSON line each")
    score.add_argument("recipe", metavar="RECIPE")
    score.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    score.add_argument("--heatmaps", type=Path, metavar="DIR", help="also draw the anomaly maps there")
    score.set_defaults(handler=_score)

    evaluate = commands.add_parser("evaluate", help="accuracy on a labelled set in MVTec AD's layout")
    evaluate.add_argument(
        "recipe",
        metavar="RECIPE",
        help="where there is none of that name: RECIPE-<category> for each category",
    )
    evaluate.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="or a tar, tar.xz, tar.gz or zip archive"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    evaluate.set_defaults(handler=_evaluate)

    export = commands.add_parser("export", help="a recipe as an ONNX or OpenVINO model, to run it elsewhere")
    export.add_argument("recipe", metavar="RECIPE")
    export.add_argument("--format", choices=("onnx", "openvino"), required=True, help="of the model")
    export.add_argument(
        "--precision", choices=("f32", "int8"), default="f32", help="int8: OpenVINO alone (f32)"
    )
    export.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: RECIPE.onnx or RECIPE.xml")
    export.add_argument("--force", action="store_true", help="replace FILE if it is there")
    export.set_defaults(handler=_export)

    _add_teacher(commands.add_parser("teacher", help="list, fetch or make what students learn from"))

    journal = commands.add_parser("journal", help="rejects and uninspected parts, and what became of them")
    journal.add_argument("--since", metavar="WHEN", help="2026-11-24, 2026-11-24T06:00Z (UTC), 90m, 8h, 7d")
    journal.add_argument("--camera", metavar="NAME", help="this camera's alone")
    journal.add_argument(
        "--changes", action="store_true", help="who changed which setting, recipe, threshold"
    )
    form = journal.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="with a header; gaps and sessions go to stderr")
    journal.set_defaults(handler=_journal)

    bench = commands.add_parser("bench", help="how fast this machine scores, carries and publishes")
    bench.add_argument("--json", type=Path, metavar="FILE", help="the figures for programs")
    bench.add_argument("--teacher", default="resnet18", metavar="NAME", help="architecture (resnet18)")
    bench.add_argument("--size", type=_positive, default=256, metavar="PX", help="network input (256)")
    bench.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1 (auto)")
    bench.add_argument("--fps", type=_positive, default=5, metavar="N", help="of the line's camera (5)")
    bench.add_argument("--seconds", type=_positive, default=40, metavar="N", help="about, to measure (40)")
    bench.set_defaults(handler=_bench)

    run = commands.add_parser("run", help="the service: cameras to verdicts, until stopped")
    run.set_defaults(handler=_run)

    review = commands.add_parser("review", help="the operators' web page alone")
    review.add_argument(
        "--hash-password", action="store_true", help="ask for a password, print what goes into the settings"
    )
    review.set_defaults(handler=_review)
    for command in commands.choices.values():
        _add_config(command)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    """Also after the command, where many look for it; absent there, the one before it stands."""
    parser.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS)


def _add_teacher(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="every teacher, and where its weights are on this machine")
    listing.set_defaults(handler=_teacher_list)

    fetch = actions.add_parser("fetch", help="a teacher as one file, for a plant without a network")
    fetch.add_argument("name", metavar="NAME", help="as in the list")
    fetch.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: the data folder's teachers/")
    fetch.add_argument("--force", action="store_true", help="replace FILE if it is there")
    fetch.set_defaults(handler=_teacher_fetch)

    make = actions.add_parser("make", help="teach a small network what a large one sees, without photographs")
    make.add_argument("--source", default="squeezenet1_1", metavar="NAME", help="whom from (squeezenet1_1)")
    make.add_argument("--source-weights", type=Path, metavar="FILE", help=".pth or .safetensors")
    make.add_argument(
        "--student", choices=("resnet18", "resnet34"), default="resnet18", help="who (resnet18)"
    )
    make.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="a .safetensors file")
    length = make.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_positive, metavar="N", help="how long (4000)")
    length.add_argument("--minutes", type=_minutes, metavar="M", help="or by the clock")
    make.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="same seed and steps, same teacher (0)"
    )
    make.add_argument("--bfloat16", action="store_true", help="faster on processors that calculate in it")
    make.add_argument("--force", action="store_true", help="replace FILE if it is there")
    make.set_defaults(handler=_teacher_make)

    for action in actions.choices.values():
        _add_config(action)


def _add_overkill(parser: argparse.ArgumentParser, default: float | None) -> None:
    shown = f" ({default})" if default is not None else " (as before)"
    parser.add_argument(
        "--overkill", type=_rate, default=default, metavar="R", help=f"share of good parts rejected{shown}"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _size(text: str) -> tuple[int, int]:
    """Rows and columns of `256` or `1024x512` (width x height)."""
    width, x, height = text.lower().partition("x")
    if not (width.isdecimal() and (height.isdecimal() or not x)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: use 256 or 1024x512 (width x height)")
    return int(height or width), int(width)


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not 0 to {2**32 - 1}")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of minutes")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _settings(options: argparse.Namespace) -> Settings:
    return load(find(options.config))


def _teachers_folder(options: argparse.Namespace) -> Path | None:
    """None where there are no settings at all; ones that are named must be right."""
    from monitor import places

    try:
        file = find(options.config)
    except SettingsError:
        return None
    return places.teachers(load(file))


def _demo(options: argparse.Namespace) -> int:
    from monitor.demo import DemoError, demo

    # Each reject is to be seen as it happens, also through a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        return demo(options.seconds, options.keep)
    except DemoError as error:
        return _fail(str(error))


def _check(options: argparse.Namespace) -> int:
    from monitor.check import check

    return check(options.config, sys.stdout)


def _cameras(options: argparse.Namespace) -> int:
    from drivers import gige
    from drivers.camera import CameraError

    try:
        found = gige.discover()
    except CameraError as error:
        return _fail(str(error))
    for camera in found:
        print(f'{camera.id}  {camera.vendor}  {camera.model}  {camera.address}  source = "{camera.source}"')
    if not found:
        print("no GigE Vision camera found on this machine's networks")
    return 0


def _collect(options: argparse.Namespace) -> int:
    from drivers.camera import CameraError
    from monitor.collect import CollectError, collect

    settings = _settings(options)
    camera = settings.camera_named(options.camera)
    try:
        collect(camera, options.count, options.to, say=print)
    except (CameraError, CollectError) as error:
        return _fail(str(error))
    return 0


def _train(options: argparse.Namespace) -> int:
    from monitor import places, progress
    from monitor.calibration import CalibrationError
    from monitor.empty_pictures import PresenceError
    from monitor.recipe import RecipeError, tiles_of
    from monitor.runtime import can_quantise
    from monitor.teacher_weights import TeacherError
    from monitor.training import TrainingError, train_recipe

    if options.overlap is not None and options.tile is None:
        _fail("--overlap says how far tiles reach into each other: give --tile too")
        return _USAGE
    settings = _settings(options)
    regions = {camera.roi for camera in settings.camera if camera.recipe == options.recipe}
    if len(regions) > 1:
        return _fail(f"cameras of recipe {options.recipe!r} have different roi: train a recipe for each")
    try:
        recipe = train_recipe(
            name=options.recipe,
            recipes=places.recipes(settings),
            images=options.images,
            empty=options.empty,
            teacher=options.teacher,
            teacher_weights=options.teacher_weights,
            teachers=places.teachers(settings),
            size=options.size,
            tiles=tiles_of(options.tile, options.overlap) if options.tile else None,
            epochs=options.epochs,
            overkill=options.overkill,
            seed=options.seed,
            device=options.device or settings.scoring.device,
            as_paper=options.as_paper,
            int8=options.int8 if options.int8 is not None else can_quantise() and not options.as_paper,
            roi=next(iter(regions), None),
            say=_say,
            progress=progress.on(sys.stderr),
        )
    except (TrainingError, PresenceError, CalibrationError, TeacherError, RecipeError) as error:
        return _fail(str(error))
    _say(f"recipe {options.recipe!r} is in {recipe.folder}")
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from monitor import places, progress
    from monitor.calibration import CalibrationError, calibrate_recipe
    from monitor.empty_pictures import PresenceError
    from monitor.recipe import RecipeError

    if options.images is None and (options.overkill is not None or not (options.empty or options.no_empty)):
        options.refuse("the following arguments are required: --images (or --empty or --no-empty alone)")
    settings = _settings(options)
    try:
        calibrate_recipe(
            recipe=places.recipe(settings, options.recipe),
            images=options.images,
            overkill=options.overkill,
            empty=options.empty,
            gated=not options.no_empty,
            device=settings.scoring.device,
            say=_say,
            progress=progress.on(sys.stderr),
        )
    except (CalibrationError, PresenceError, RecipeError) as error:
        return _fail(str(error))
    return 0


def _score(options: argparse.Namespace) -> int:
    from monitor import places
    from monitor.recipe import RecipeError
    from monitor.score_files import score_files

    settings = _settings(options)
    try:
        recipe = places.recipe(settings, options.recipe)
        whole = score_files(
            recipe, options.images, options.heatmaps, out=print, device=settings.scoring.device
        )
    except (RecipeError, OSError) as error:
        return _fail(str(error))
    return 0 if whole else _FAILED


def _evaluate(options: argparse.Namespace) -> int:
    import json

    from monitor import papers_table, places, progress
    from monitor.evaluation import EvaluationError, evaluate
    from monitor.recipe import RecipeError
    from monitor.whole_file import check_place, write_whole

    settings = _settings(options)
    if options.json:
        try:
            check_place(options.json)
        except OSError as error:
            return _fail(f"{options.json}: {error.strerror}")
    try:
        found = evaluate(
            recipe=places.recipe(settings, options.recipe),
            device=settings.scoring.device,
            dataset=options.dataset,
            say=_say,
            progress=progress.on(sys.stderr),
        )
    except (EvaluationError, RecipeError) as error:
        return _fail(str(error))
    alone = found.alone
    print(alone.table() if alone else papers_table.table(found))
    if options.json:
        figures = alone.as_dict() if alone else papers_table.as_dict(found)
        try:
            write_whole(options.json, (json.dumps(figures, indent=1) + "\n").encode())
        except OSError as error:
            return _fail(f"{options.json}: {error.strerror}")
    return _fail("\n".join(found.failed.values())) if found.failed else 0


def _export(options: argparse.Namespace) -> int:
    from monitor import places
    from monitor.export import ExportError, export
    from monitor.recipe import RecipeError

    settings = _settings(options)
    try:
        export(
            places.recipe(settings, options.recipe),
            form=options.format,
            precision=options.precision,
            out=options.out,
            force=options.force,
            say=print,
        )
    except (ExportError, RecipeError) as error:
        return _fail(str(error))
    return 0


def _bench(options: argparse.Namespace) -> int:
    import functools

    from monitor.bench.command import bench
    from monitor.bench.line import LineBenchError
    from monitor.recipe import RecipeError
    from monitor.ring import RingError
    from monitor.teacher import TeacherError, architecture_of
    from monitor.training import TrainingError

    try:
        bench(
            architecture=architecture_of(options.teacher),
            size=options.size,
            device=options.device,
            fps=options.fps,
            seconds=options.seconds,
            file=options.json,
            say=functools.partial(print, flush=True),
        )
    except (RecipeError, RingError, LineBenchError, TeacherError, TrainingError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or options.json}: {error.strerror}")
    return 0


def _teacher_list(options: argparse.Namespace) -> int:
    from monitor.teacher_commands import known, table

    print(table(known(_teachers_folder(options))))
    return 0


def _teacher_fetch(options: argparse.Namespace) -> int:
    from monitor.teacher_commands import fetch_teacher
    from monitor.teacher_weights import TeacherError

    folder = _teachers_folder(options)
    try:
        fetch_teacher(options.name, folder=folder, out=options.out, force=options.force, say=print)
    except TeacherError as error:
        return _fail(str(error))
    return 0


def _teacher_make(options: argparse.Namespace) -> int:
    from monitor import progress
    from monitor.teacher_commands import make
    from monitor.teacher_weights import TeacherError

    try:
        make(
            source=options.source,
            source_weights=options.source_weights,
            student=options.student,
            out=options.out,
            steps=options.steps,
            minutes=options.minutes,
            seed=options.seed,
            bfloat16=options.bfloat16,
            force=options.force,
            folder=_teachers_folder(options),
            say=_say,
            progress=progress.on(sys.stderr),
        )
    except TeacherError as error:
        return _fail(str(error))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _journal(options: argparse.Namespace) -> int:
    import time

    from monitor import places
    from monitor.journal_command import Form, show, show_changes, since
    from monitor.journal_reader import JournalReader, JournalUnreadable

    if options.changes and options.camera:
        return _fail("--camera does not go with --changes: leave one away")
    form = Form.JSON if options.json else Form.CSV if options.csv else Form.TABLE
    try:
        start = since(options.since, time.time_ns()) if options.since is not None else ""
    except ValueError as error:
        return _fail(f"--since: {error}")
    try:
        with JournalReader(places.journal(_settings(options))) as reader:
            if options.changes:
                show_changes(reader, form, since=start, out=sys.stdout)
            else:
                show(reader, form, since=start, camera=options.camera, out=sys.stdout, say=_say)
        sys.stdout.flush()
    except JournalUnreadable as error:
        return _fail(str(error))
    except BrokenPipeError:
        # `| head` has what it wanted. What is left in the buffer has nowhere to go at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(options: argparse.Namespace) -> int:
    from monitor import logs, supervisor
    from monitor.places import PlaceError
    from monitor.review.access import refusal

    settings = _settings(options)
    if not settings.camera:
        return _fail("no [[camera]] in the settings: there is nothing to inspect")
    if settings.review.port and (why := refusal(settings.review)) is not None:
        return _fail(why)
    logs.configure()
    try:
        return supervisor.run(settings)
    except PlaceError as error:
        return _fail(str(error))


def _review(options: argparse.Namespace) -> int:
    if options.hash_password:
        return _hash_password()
    from monitor import logs
    from monitor.review.server import ReviewError, alone

    settings = _settings(options)
    logs.configure()
    try:
        alone(settings, say=_say)
    except ReviewError as error:
        return _fail(str(error))
    return 0


def _hash_password() -> int:
    """Asks twice on a terminal; takes one line from a pipe."""
    import getpass

    from monitor.review.access import hash_password

    try:
        if sys.stdin.isatty():
            password = getpass.getpass("Password for the review page: ")
            if getpass.getpass("Once more: ") != password:
                return _fail("the two passwords differ: nothing was made")
        else:
            password = sys.stdin.readline().rstrip("\n")
        print(hash_password(password))
    except (EOFError, ValueError) as error:
        return _fail(str(error) or "no password was given")
    return 0


if __name__ == "__main__":
    sys.exit(main())
