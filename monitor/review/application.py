"""Builds the page's WSGI application from one line's settings.

It knows nothing of ports and connections: `server` serves the application.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response
from jinja2 import StrictUndefined

from monitor import paths
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.attempts import PasswordAttempts
from monitor.accounts.permissions import Permission
from monitor.accounts.signature import Signatures
from monitor.audit.trail import AuditTrail
from monitor.line_state.board import Board
from monitor.review.access import Sessions, secret_of
from monitor.review.challenge_pages import ChallengePages
from monitor.review.comparison_job import ComparisonJobs
from monitor.review.event_stream import EventStream
from monitor.review.line_view import LineView
from monitor.review.live_pages import LivePages
from monitor.review.pictures import Pictures
from monitor.review.recalibration import Recalibration
from monitor.review.recalibration_pages import RecalibrationPages
from monitor.review.recipe_pages import RecipePages
from monitor.review.record_pages import RecordPages
from monitor.review.recorded_changes import RecordedChanges
from monitor.review.report_pages import ReportPages
from monitor.review.request_checks import RequestChecks
from monitor.review.reset_pages import ResetPages
from monitor.review.scorers import Scorers
from monitor.review.set_changeover import SetChangeover
from monitor.review.set_pages import SetPages
from monitor.review.shifts import PlantClock
from monitor.review.signature_form import SignatureForm
from monitor.review.snapshot_files import SnapshotFiles
from monitor.review.snapshot_index import SnapshotIndex
from monitor.review.teach_pages import TeachPages
from monitor.review.today_pages import TodayPages
from monitor.review.torch_import import TorchImport
from monitor.review.version_changes import VersionChanges, check_regions
from monitor.review.version_trial import VersionTrials
from monitor.review.wall_pages import WallPages
from monitor.settings import Settings
from monitor.teaching.frame_collection import Collections
from monitor.teaching.job_runner import TeachingJobs

MAX_BODY_BYTES = 16 * 1024
"""A request's body is a form with a few words."""


@dataclass(frozen=True, slots=True)
class Application:
    """The server starts and stops `index` and `teachings`, stops `events` and `collections`, and is told of
    the import of torch."""

    wsgi: Flask
    index: SnapshotIndex
    events: EventStream
    teachings: TeachingJobs
    collections: Collections
    torch_import: TorchImport


def build(settings: Settings, runtime: Path | None = None, board: Board | None = None) -> Application:
    """`runtime` is the line's runtime directory; without it, the directory that `run` would use. `board` is
    the running line's, which the page of a line needs for a reset. Raises AccountsError."""
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_BODY_BYTES,
        MAX_FORM_PARTS=20,
        SEND_FILE_MAX_AGE_DEFAULT=0,
        TRAP_BAD_REQUEST_ERRORS=False,
    )
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.globals["permissions"] = Permission
    app.jinja_env.globals["line"] = f"{settings.line.site}/{settings.line.name}"
    secret = settings.review.password_hash
    hashed = secret.get_secret_value() if secret else None
    accounts, trail = AccountsFile.of(settings), AuditTrail.of(settings)
    changes = RecordedChanges(trail)
    sessions = Sessions(accounts.session_secret() or secret_of(hashed), time.time)
    checks = RequestChecks(
        app, settings.review, sessions, PasswordAttempts(time.monotonic), accounts, changes
    )
    signatures = Signatures(accounts, time.monotonic, checks.is_shared_password if hashed else None)
    form = SignatureForm(signatures, trail)
    files = SnapshotFiles(paths.snapshots(settings))
    index = SnapshotIndex(files)
    plant = PlantClock.of(settings.review)
    WallPages(app, files, index, Pictures(files), plant, changes)
    view = LineView(settings, runtime)
    events = EventStream(app, view, index, plant, needs_password=hashed is not None)
    ResetPages(app, settings, view, board)
    ChallengePages(app, settings, view, board)
    recipes = paths.recipes(settings)
    torch_import = TorchImport()
    LivePages(app, settings, view, Scorers(recipes, load_torch=torch_import.load))
    recalibration = Recalibration(recipes, files, settings.recipes.keep_versions, torch_import.load)
    TodayPages(app, settings, index, view, plant)
    RecalibrationPages(app, recipes, index, recalibration, form, changes)
    ReportPages(app, settings, index, plant)
    RecordPages(app, settings, trail)
    versions = VersionChanges(settings, trail, check=check_regions)
    SetPages(app, settings, view, SetChangeover(settings, trail), form)
    jobs, trials = ComparisonJobs(files.root, torch_import.load), VersionTrials(files.root)
    RecipePages(app, settings, view, versions, jobs, trials, index, form)
    teachings, collections = TeachingJobs(settings), Collections(view)
    TeachPages(app, settings, view, files, index, changes, teachings, collections)
    app.add_url_rule("/alive", "alive", lambda: Response("", 204 if index.is_running else 503))
    return Application(app, index, events, teachings, collections, torch_import)
