"""After a kill of the whole service, a reject that it had not sent latches the line at the next start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivers.camera import Shot
from monitor import paths
from monitor.journal.reader import JournalReader
from monitor.line_state import challenge_board
from monitor.line_state.board import Field
from monitor.line_state.challenge_run import ChallengeState, Hold, Phase
from monitor.line_state.latch_file import Latch, read_latch, write_latch
from monitor.line_state.latched_parts import read_parts
from monitor.line_state.ring import FinalVerdict
from monitor.line_state.worker_process import PUBLISH
from monitor.publish.mqtt_connection import LinkState
from monitor.service.recovery import Recovered, recover
from monitor.service.supervisor import Supervisor
from monitor.settings import ChallengeSettings, Settings
from monitor.system.systemd import Notifier
from monitor.verdict import Reason, Verdict, snapshot_path
from tests.unit.publish.scene import Scene

LOG = logging.getLogger("recovery")


def killed_and_started_anew(scene: Scene) -> Latch:
    """Returns the latch on disk before the new session runs."""
    scene.end()
    recovered = recover(scene.settings, scene.folder, LOG)
    latched = read_latch(paths.latch(scene.settings))
    scene.begin_session(recovered.latch)
    return latched


def closed_and_unsent(score: float) -> Callable[[Scene], None]:
    def lay(scene: Scene) -> None:
        scene.link.state = LinkState.DOWN
        scene.part(score)
        scene.turn()

    return lay


def scored_and_open(score: float) -> Callable[[Scene], None]:
    def lay(scene: Scene) -> None:
        scene.part(score)

    return lay


def open_and_unscored(scene: Scene) -> None:
    scene.intake.admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", scene.now))


def sent_and_kept_by_the_broker(scene: Scene) -> None:
    scene.part(2.0)
    scene.turn()
    assert scene.topics() == ["reject", "verdict"]


def sent(scene: Scene) -> None:
    sent_and_kept_by_the_broker(scene)
    scene.link.acknowledged = {mid for mid, _, _ in scene.link.sent}
    scene.turn()


def missed_and_reset(scene: Scene) -> None:
    closed_and_unsent(2.0)(scene)
    scene.turn(later_ms=800)
    scene.link.reconnect()
    scene.reset()
    assert scene.status()[1] != "missed_reject"


@pytest.mark.parametrize(
    ("lay", "on_uninspected", "latch"),
    [
        (closed_and_unsent(2.0), "reject", Latch.MISSED_REJECT),
        (scored_and_open(2.0), "reject", Latch.MISSED_REJECT),
        (sent_and_kept_by_the_broker, "reject", Latch.MISSED_REJECT),
        (closed_and_unsent(float("nan")), "reject", Latch.MISSED_REJECT),
        (closed_and_unsent(float("nan")), "pass", Latch.NONE),
        (closed_and_unsent(0.5), "reject", Latch.NONE),
        (scored_and_open(0.5), "reject", Latch.NONE),
        (scored_and_open(0.5), "stop", Latch.NONE),
        (scored_and_open(2.0), "stop", Latch.MISSED_REJECT),
        (scored_and_open(float("nan")), "reject", Latch.MISSED_REJECT),
        (scored_and_open(float("nan")), "stop", Latch.UNINSPECTED),
        (open_and_unscored, "reject", Latch.MISSED_REJECT),
        (open_and_unscored, "stop", Latch.UNINSPECTED),
        (open_and_unscored, "pass", Latch.NONE),
        (sent, "reject", Latch.NONE),
        (missed_and_reset, "reject", Latch.NONE),
    ],
)
def test_what_a_killed_service_had_still_to_send_or_to_stop_for_latches_at_the_next_start(
    lay: Callable[[Scene], None], on_uninspected: str, latch: Latch, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, on_uninspected=on_uninspected)
    scene.turn()
    lay(scene)
    assert killed_and_started_anew(scene) is latch
    assert scene.status()[1] == (latch.word or "starting")
    scene.end()
    with JournalReader(paths.journal(scene.settings)) as reader:
        latched = [change for change in reader.changes() if (change.what, change.who) == ("latch", "service")]
    assert [change.new for change in latched] == ([latch.word] if latch else [])


@pytest.mark.parametrize("lay", [closed_and_unsent(2.0), scored_and_open(2.0), open_and_unscored])
@pytest.mark.parametrize("on_uninspected", ["reject", "stop"])
def test_a_killed_service_that_never_reached_a_broker_latches_nothing_at_the_next_start(
    lay: Callable[[Scene], None], on_uninspected: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, on_uninspected=on_uninspected)
    scene.end()
    scene.begin_session(connected=False)
    scene.link.state = LinkState.DOWN
    lay(scene)
    assert killed_and_started_anew(scene) is Latch.NONE
    scene.end()


@pytest.mark.parametrize("is_board_whole", [True, False])
def test_the_rejects_that_were_lost_with_a_killed_service_are_counted(
    is_board_whole: bool, tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    scene.turn()
    sent(scene)
    scene.link.state = LinkState.DOWN
    for score in (2.0, 0.5, float("nan"), 2.0):
        scene.part(score)
    scene.turn()
    open_and_unscored(scene)
    scene.end()
    if not is_board_whole:
        (scene.folder / "board").unlink()
    found = recover(scene.settings, scene.folder, LOG)
    assert found == Recovered(Latch.MISSED_REJECT, {"top": 4}), "the one that was sent is not lost"


def test_after_an_orderly_end_no_reject_counts_as_lost(tmp_path: Path) -> None:
    settings = Settings(line={"data": tmp_path})  # type: ignore[arg-type]
    assert recover(settings, tmp_path / "none", LOG) == Recovered(Latch.NONE, {})


def test_a_reject_that_waits_for_the_gateways_answer_latches_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ack_timeout_ms=3000)
    scene.turn()
    sent(scene)
    assert killed_and_started_anew(scene) is Latch.MISSED_REJECT
    scene.end()


def test_a_reject_of_a_camera_that_was_taken_out_of_the_settings_latches_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    closed_and_unsent(2.0)(scene)
    scene.end()
    camera = scene.settings.camera[0].model_copy(update={"name": "renamed"})
    settings = scene.settings.model_copy(update={"camera": (camera,)})
    recovered = recover(settings, scene.folder, LOG)
    assert recovered.latch is Latch.MISSED_REJECT
    assert recovered.lost_rejects == {"top": 1}
    with JournalReader(paths.journal(settings)) as reader:
        assert [(row.camera, row.verdict) for row in reader.verdicts()] == [("top", "reject")]


def test_a_live_views_reject_was_for_nobody(tmp_path: Path) -> None:
    scene = Scene(tmp_path, mode="latest")
    scored_and_open(2.0)(scene)
    open_and_unscored(scene)
    assert killed_and_started_anew(scene) is Latch.NONE
    scene.end()


def test_what_was_latched_and_not_yet_written_down_is_latched_at_the_next_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.turn()
    scene.board.write(PUBLISH, Field.LATCH, Latch.REJECT_RUN)
    assert killed_and_started_anew(scene) is Latch.REJECT_RUN
    assert scene.status() == (False, "reject_run")
    closed_and_unsent(2.0)(scene)
    assert killed_and_started_anew(scene) is Latch.MISSED_REJECT, "the graver one is kept"
    scene.end()


@pytest.mark.parametrize("is_written", [True, False])
def test_the_parts_that_a_killed_service_missed_are_named_with_the_pictures_that_are_there(
    tmp_path: Path, is_written: bool
) -> None:
    scene = Scene(tmp_path)
    scene.status()
    known = scene.miss_reject()
    number = scene.part(2.0)
    scored, frame = scene.ring.scorer_verdict(number), scene.ring.frame(number)
    assert scored is not None
    assert frame is not None
    scene.ring.write_scored(number, replace(scored, snapshot=True))
    picture = snapshot_path(frame.captured_utc_ns, "top", number, 2.0)
    if is_written:
        (paths.snapshots(scene.settings) / picture).parent.mkdir(parents=True)
        (paths.snapshots(scene.settings) / picture).touch()
    assert killed_and_started_anew(scene) is Latch.MISSED_REJECT
    scene.status()
    latched = scene.link.statuses[-1]["latched"]
    assert [(part["frame"], part["snapshot"]) for part in latched["parts"]] == [  # type: ignore[index]
        (known, None),
        (number, picture if is_written else None),
    ]
    scene.end()


def test_of_many_parts_that_a_killed_service_missed_the_newest_are_named(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.status()
    numbers = [scene.part(2.0) for _ in range(6)]
    assert killed_and_started_anew(scene) is Latch.MISSED_REJECT
    scene.status()
    latched = scene.link.statuses[-1]["latched"]
    assert [part["frame"] for part in latched["parts"]] == numbers[:-4:-1]  # type: ignore[index]
    assert latched["more"] is True  # type: ignore[index]
    assert read_parts(scene.board).count == 6
    scene.end()


def test_a_latch_that_the_disk_has_no_room_for_is_one_that_cant_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    scene = Scene(tmp_path)
    closed_and_unsent(2.0)(scene)
    monkeypatch.setattr("monitor.line_state.latch_file.write_whole", full)
    assert killed_and_started_anew(scene) is Latch.MISSED_REJECT
    assert any("No space left on device" in row.getMessage() for row in caplog.records)
    scene.end()


def test_a_latch_that_the_disk_refuses_holds_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    scene = Scene(tmp_path)
    write_latch(paths.latch(scene.settings), Latch.REJECT_RUN, 0)
    closed_and_unsent(2.0)(scene)
    monkeypatch.setattr("monitor.line_state.latch_file.write_whole", refused)
    assert killed_and_started_anew(scene) is Latch.REJECT_RUN, "the file of before"
    assert scene.status() == (False, "missed_reject")
    scene.end()


def test_a_failed_challenge_on_the_board_of_a_killed_service_is_found(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    failed = ChallengeState(phase=Phase.FAILED, sequence=7, session=str(scene.ring.session))
    challenge_board.write_state(scene.board, failed)
    scene.end()
    assert recover(scene.settings, scene.folder, LOG).challenge == failed


@pytest.mark.parametrize(("names", "found"), [(("a", "b"), "a"), (("b", "a"), "number-1")])
def test_a_killed_service_s_frame_never_gets_the_name_of_another_challenge_part(
    names: tuple[str, str], found: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    known = {"camera": "top", "expected": "pass", "verified_by": "x"}
    days = {"verified": "2026-01-01", "expires": "2126-01-01"}

    def rules(*ids: str) -> ChallengeSettings:
        return ChallengeSettings.model_validate({"part": [{"id": one, **known, **days} for one in ids]})

    scene.board.write(PUBLISH, Field.CHALLENGE_PARTS, challenge_board.checksum_parts(rules("a", "b")))
    number = scene.part(2.0)
    closed = FinalVerdict(Verdict.REJECT, Reason.NONE, True, False, scene.now, scene.now, challenge=1)
    scene.ring.write_closed(number, closed)
    scene.end()
    recover(scene.settings.model_copy(update={"challenge": rules(*names)}), scene.folder, LOG)
    with JournalReader(scene.settings.line.data / "journal.sqlite") as reader:
        assert [row.challenge for row in reader.verdicts()] == [found]


def test_the_supervisor_lays_down_a_board_with_the_latch_that_was_found(tmp_path: Path) -> None:
    line = Settings(line={"data": tmp_path}, metrics={"port": 0}, review={"port": 0})  # type: ignore[arg-type]
    supervisor = Supervisor(line, systemd=Notifier({}))
    paths.make_data(line)
    paths.make_runtime(supervisor.folder)
    failed = ChallengeState(phase=Phase.FAILED, sequence=7)
    board, metrics = supervisor._create_shared_memory(Recovered(Latch.MISSED_REJECT, {}, failed))
    assert board.read(PUBLISH, Field.LATCH) == Latch.MISSED_REJECT
    assert board.read(PUBLISH, Field.CHALLENGE_HOLD) == Hold.FAILED
    assert challenge_board.read_state(board) == failed
    metrics.close()
    board.close()
