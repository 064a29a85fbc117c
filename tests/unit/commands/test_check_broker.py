"""check says whether another line with the same names was heard, and when none could have been."""

from __future__ import annotations

import pytest

from monitor.commands import check_broker
from monitor.commands.check_broker import OtherLineSearch
from monitor.commands.finding import Level
from monitor.publish import other_session
from monitor.publish.other_session import Hearing
from monitor.settings import Settings


@pytest.mark.parametrize(
    ("running", "hearing", "level", "words"),
    [
        (False, Hearing(None, False, ""), None, ""),
        (True, Hearing(None, True, ""), None, ""),
        (True, Hearing("other-session", True, ""), Level.FAIL, "another line speaks as plant1/line1"),
        (False, Hearing(None, False, "refuses the connection"), Level.WARN, "can't be noticed"),
        (True, Hearing(None, False, ""), Level.WARN, "no heartbeat of the line that runs here"),
    ],
)
def test_a_broker_at_which_another_line_cant_be_heard_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, running: bool, hearing: Hearing, level: Level | None, words: str
) -> None:
    monkeypatch.setattr(other_session, "listen", lambda settings, own: hearing)
    monkeypatch.setattr(check_broker, "_find_own_session", lambda settings: "own")
    found = list(OtherLineSearch(Settings(), running).find())
    assert [one.level for one in found] == ([level] if level is not None else [])
    assert all(words in one.text and "\n" not in one.text for one in found)
