"""`line-monitor recipes`: lists the versions of recipes, compares two, puts one in force, goes back.

The arguments and the output. A running line reads what is in force by itself; the command waits for it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.arguments import (
    CommandError,
    as_path,
    load_settings,
    positive_integer,
    print_to_stderr,
)
from monitor.commands.signing import VIA, add_signature, confirm, sign

if TYPE_CHECKING:
    from drivers.image_file import Image
    from monitor.line_state.changeover import RecipeIdentity, RecipeStatus
    from monitor.line_state.recipe_set import SetDocument
    from monitor.model.in_force import VersionChange
    from monitor.model.version_files import VersionFile
    from monitor.model.version_summary import VersionSummary
    from monitor.review.line_view import LineView
    from monitor.settings import Settings

_LONGEST_WAIT_S = 60.0
MOST_IMAGES = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Every training and calibration makes a version of a recipe, NAME@1, NAME@2 and so on. One of them "
        "is in force: it judges the line's parts. Until one is put in force with `use`, a line takes the "
        "newest when it starts, and goes on with it when a newer one is made. `list` says which version "
        "judges which camera of the running line."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    listing = actions.add_parser("list", help="a line for each version, oldest first (default)")
    listing.add_argument("recipes", nargs="*", metavar="NAME", help="only these recipes")
    _add_compare(actions.add_parser("compare", help="score the same images with two versions"))
    use = actions.add_parser("use", help="put a version in force; the first time promotes it")
    use.add_argument("version", metavar="NAME@VERSION", help="or the name of a set in recipes.sets")
    back = actions.add_parser("rollback", help="put the version in force that was before the present one")
    back.add_argument("recipe", metavar="NAME")
    for action in (use, back):
        add_signature(action, warns=True)
    parser.set_defaults(action="list", recipes=[])


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("one", metavar="A", help="NAME@VERSION, or NAME for the version in force")
    parser.add_argument("other", metavar="B", help="the same")
    parser.add_argument(
        "--images",
        type=as_path,
        nargs="+",
        metavar="DIR",
        help="image files, or folders of them (default: the newest snapshots of A's recipe)",
    )
    parser.add_argument(
        "--most",
        type=positive_integer,
        default=MOST_IMAGES,
        metavar="N",
        help=f"most snapshots to score ({MOST_IMAGES})",
    )
    parser.add_argument(
        "--picture",
        type=as_path,
        metavar="FILE",
        help="write a picture of the parts whose verdict would change",
    )
    parser.add_argument("--json", type=as_path, metavar="FILE", help="write all scores to FILE")


def run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    if options.action == "compare":
        return _compare(options, settings)
    if options.action in ("use", "rollback"):
        return _change(options, settings)
    return _list(options.recipes, settings)


def _list(names: Sequence[str], settings: Settings) -> int:
    from monitor import paths
    from monitor.model.version_summary import list_recipes, summarise
    from monitor.review.line_view import LineView

    view = LineView(settings)
    judges = view.judges(camera.name for camera in settings.camera)
    found = list(names) or list_recipes(paths.recipes(settings))
    if not found:
        print_to_stderr("no recipes: make one with `line-monitor train NAME --images DIR`")
    for name in found:
        summaries = summarise(paths.recipe(settings, name))
        if not summaries:
            raise CommandError(
                f"there is no recipe {name!r}: `line-monitor recipes list` shows what there is"
            )
        for summary in summaries:
            print(describe_version(summary, judges))
    if not view.is_running():
        print_to_stderr("no line runs on this computer: which version judges is listed while it runs")
    return 0


def describe_version(summary: VersionSummary, judges: Mapping[str, RecipeIdentity]) -> str:
    """The version in one line. `judges` are the versions that judge a running line's cameras."""
    from monitor.commands.judging_versions import describe_cameras

    version = summary.version
    threshold = "no threshold" if summary.threshold is None else f"threshold {summary.threshold:.4g}"
    judging = describe_cameras(judges, version.folder.name, version.digits)
    cells = [version.name, summary.made, summary.origin, threshold, summary.state, judging]
    return "  ".join(cell for cell in cells if cell)


def _change(options: argparse.Namespace, settings: Settings) -> int:
    """Put a version in force, or go back to the one before."""
    from monitor import paths
    from monitor.audit.trail import AuditTrail
    from monitor.names import check_name, split_version
    from monitor.review.version_changes import VersionChanges
    from monitor.review.version_warnings import find_warnings

    changes = VersionChanges(settings, AuditTrail.of(settings))
    is_rollback = options.action == "rollback"
    if not is_rollback and options.version in settings.recipes.sets:
        return _use_set(options, settings)
    if is_rollback:
        name = check_name(options.recipe)
        number = changes.find_step_back(name)
    else:
        name, asked = split_version(options.version)
        if asked is None:
            raise CommandError(
                f"there is no set {name!r} in recipes.sets; for a recipe name a version, as {name}@1: "
                f"`line-monitor recipes list {name}` shows them"
            )
        number = asked
    permission = changes.find_permission(name, number)
    meaning = changes.find_meaning(name, number, back=is_rollback)
    signature = sign(options, settings, permission, meaning)
    warnings = find_warnings(paths.recipe(settings, name), number)
    signature = confirm(warnings, signature, understood=options.understood)
    if is_rollback:
        change = changes.roll_back(name, signature, permission, VIA)
    else:
        change = changes.use(name, number, signature, permission, VIA)
    return _report(change, settings)


def _use_set(options: argparse.Namespace, settings: Settings) -> int:
    """Change all cameras of a set over: all or none."""
    from monitor.accounts.permissions import Permission
    from monitor.audit.trail import AuditTrail
    from monitor.review.line_view import LineView
    from monitor.review.set_changeover import SetChangeover, state_set

    name: str = options.version
    changeover = SetChangeover(settings, AuditTrail.of(settings))
    changeover.check(name)
    signature = sign(options, settings, Permission.USE, state_set(name))
    view = LineView(settings)
    document = changeover.use(name, signature, VIA, is_running=view.is_running())
    return await_set(document, view, print, time.monotonic, time.sleep)


def await_set(
    document: SetDocument,
    view: LineView,
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Wait until a running line has changed all cameras over, or none. Return the exit code."""
    from monitor.line_state.changeover import ChangeoverState

    until, failed = clock() + _LONGEST_WAIT_S, False
    for camera, asked in document.recipes.items():
        while True:
            status = view.recipe_status(camera)
            answer = status if status and status.request_id == document.request_id else None
            if answer and answer.state is ChangeoverState.IN_FORCE:
                say(f"camera {camera}: {asked} judges from the next part on")
            elif answer:
                say(f"camera {camera}: not changed over: {answer.reason}")
                failed = True
            elif not view.is_running():
                say(f"camera {camera}: {asked} judges from the next start of the line on")
            elif clock() > until:
                say(f"camera {camera}: the line has not answered yet: look at its log")
                failed = True
            else:
                sleep(0.1)
                continue
            break
    return int(failed)


def _report(change: VersionChange, settings: Settings) -> int:
    from monitor.review.line_view import LineView

    before = f" (was {change.before.name})" if change.before and change.before != change.after else ""
    print(f"{change.after.name} is in force{before}")
    return await_line(change, settings, LineView(settings), print, time.monotonic, time.sleep)


def await_line(
    change: VersionChange,
    settings: Settings,
    view: LineView,
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Wait until a running line judges by the version, and say so for each camera. Return the exit code: 1
    where it refuses the version or does not answer."""
    until, failed = clock() + _LONGEST_WAIT_S, False
    for camera in settings.camera:
        while view.is_running():
            # Without a status the scoring worker is starting, or did not report in time: it answers later.
            status = view.recipe_status(camera.name)
            answer = _find_answer(status, change.after) if status else None
            if answer is None and clock() > until:
                answer = f"the line has not taken {change.after.name} over yet: look at its log", True
            if answer is None:
                sleep(0.1)
                continue
            text, is_failure = answer
            if text:
                say(f"camera {camera.name}: {text}")
            failed = failed or is_failure
            break
    return int(failed)


def _find_answer(status: RecipeStatus, version: VersionFile) -> tuple[str, bool] | None:
    """What became of the version at a camera, and whether that is a failure; None while it is not known.

    The text is empty for a camera that another recipe judges.
    """
    from monitor.line_state.changeover import ChangeoverState
    from monitor.names import join_version

    recipe, present = version.folder.name, status.in_force
    if (present.recipe if present else status.recipe.partition("@")[0]) != recipe:
        return "", False
    if present is not None and present.sha.startswith(version.digits):
        return f"{version.name} judges from the next part on", False
    if status.state is ChangeoverState.REFUSED and status.recipe == version.name:
        return f"the line refuses {version.name}: {status.reason}", True
    if status.is_pinned:
        kept = join_version(recipe, present.version if present else None)
        return f"stays on {kept}, since a request named that version", False
    return None


def _compare(options: argparse.Namespace, settings: Settings) -> int:
    from monitor import paths
    from monitor.commands.score import list_images
    from monitor.inference.scorer import Scorer
    from monitor.model.in_force import find_asked
    from monitor.model.recipe_version import RecipeVersion
    from monitor.review import version_comparison
    from monitor.review.judged_snapshots import find_newest
    from monitor.system import progress

    recipes = paths.recipes(settings)
    one, other = find_asked(recipes, options.one), find_asked(recipes, options.other)
    if options.images:
        files = list_images(options.images)
    else:
        files = find_newest(paths.snapshots(settings), one.folder.name, options.most)
        if not files:
            raise CommandError(
                f"there are no snapshots of parts that recipe {one.folder.name!r} judged: name images with "
                "--images DIR"
            )
    device = settings.scoring.device
    compared = version_comparison.compare_versions(
        Scorer(RecipeVersion.load(one.file), device=device),
        Scorer(RecipeVersion.load(other.file), device=device),
        files,
        names=(one.name, other.name),
        progress=progress.choose_progress(sys.stderr),
    )
    for line in compared.skipped:
        print_to_stderr(line)
    for line in version_comparison.explain(compared):
        print(line)
    if options.json:
        _write(options.json, version_comparison.encode(compared))
    if options.picture:
        sheet = version_comparison.draw_changed(compared)
        if sheet is None:
            print_to_stderr(f"no verdict would change: {options.picture} is not written")
        else:
            _write(options.picture, encode_picture(sheet, options.picture))
    return 0


def encode_picture(picture: Image, file: Path) -> bytes:
    """The picture in the format of the file's name. Raises CommandError."""
    import cv2

    if file.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise CommandError(f"{file}: name a .png or .jpg file for the picture")
    return cv2.imencode(file.suffix.lower(), picture)[1].tobytes()


def _write(file: Path, content: bytes) -> None:
    from monitor.system.atomic_file import write_whole

    try:
        write_whole(file, content)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from None
