"""The service's state as one line of text for `systemctl status`, from the board alone.

It decides nothing: only `P/status`, which the publisher sends, counts for the gate. This line is for the
engineer at the machine.
"""

from __future__ import annotations

from collections.abc import Collection

from monitor.line_state.board import Board, CameraState, Field
from monitor.line_state.challenge_run import Hold
from monitor.line_state.latch_file import Latch
from monitor.line_state.latched_parts import read_parts
from monitor.line_state.worker_process import CAPTURE, PUBLISH, SCORING, SUPERVISOR, capture_name
from monitor.settings import Settings


def make_text(
    settings: Settings,
    board: Board,
    workers: Collection[str],
    now_ns: int,
    needs_restart: Collection[str] = (),
) -> str:
    """`ready; 2 of 2 cameras up`, or the reasons why the line is not ready. `workers` are the names of the
    workers that should run, `needs_restart` the changed settings that count only after a restart."""
    if board.read(SUPERVISOR, Field.STOPPING):
        return "stopping"
    if not board.read(SCORING, Field.EVER_RAN) and not board.read(SCORING, Field.RESTARTS):
        return "starting: recipes are loaded and warmed up"
    parts = ["ready" if board.is_fresh(PUBLISH, now_ns) and board.read(PUBLISH, Field.READY) else "not ready"]
    if latch := Latch(board.read(PUBLISH, Field.LATCH)).word:
        which = read_parts(board).describe()
        parts.append(f"{latch}{f' ({which})' if which else ''}, until it is reset")
    if hold := Hold(board.read(PUBLISH, Field.CHALLENGE_HOLD)):
        what = "has failed" if hold is Hold.FAILED else "is due"
        parts.append(f"a challenge with known parts {what}: see the page Challenge")
    if board.is_fresh(PUBLISH, now_ns) and (trouble := board.read_trouble(PUBLISH)):
        parts.append(trouble)
    elif not board.read(PUBLISH, Field.EVER_CONNECTED):
        parts.append(f"no broker yet at {settings.mqtt.host}:{settings.mqtt.port}")
    parts.append(_describe_cameras(settings, board, now_ns))
    missing = board.read(SCORING, Field.WITHOUT_RECIPE)
    without = [camera.name for i, camera in enumerate(settings.camera) if missing >> i & 1]
    if without:
        parts.append(f"without recipe: {', '.join(without)}")
    if board.is_fresh(SCORING, now_ns):
        waiting = board.read(SCORING, Field.WITHOUT_TIME)
        parts += [
            f"view {camera.name}: no time left for it"
            for i, camera in enumerate(settings.camera)
            if waiting >> i & 1
        ]
    away = [
        name
        for name in workers
        if not name.startswith(f"{CAPTURE}-") and name != SUPERVISOR and not board.is_fresh(name, now_ns)
    ]
    if away:
        parts.append(f"being restarted: {', '.join(away)}")
    if needs_restart:
        parts.append(f"restart to change {', '.join(needs_restart)}")
    return "; ".join(parts)


def _describe_cameras(settings: Settings, board: Board, now_ns: int) -> str:
    states = {
        camera.name: board.camera_state(capture_name(camera.name))
        if board.is_fresh(capture_name(camera.name), now_ns)
        else None
        for camera in settings.camera
    }
    up = sum(state is CameraState.UP for state in states.values())
    troubled = [
        f"{name} {state.word if state is not None else 'being started'}"
        for name, state in states.items()
        if state is not CameraState.UP
    ]
    return f"{up} of {len(states)} cameras up" + (f" ({', '.join(troubled)})" if troubled else "")
