"""A lasting trouble is logged when it begins and when it ends, and not in between."""

from __future__ import annotations

import logging

import pytest

from monitor.system.trouble_log import TroubleLog

LOG = logging.getLogger("journal")


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_trouble_is_logged_once_at_its_beginning_and_once_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    trouble = TroubleLog(LOG, began="journal: %s", ended="the journal works again")
    assert not trouble.report("")
    assert trouble.trouble == ""
    assert trouble.report("disk full")
    assert not trouble.report("disk full")
    assert trouble.trouble == "disk full"
    assert trouble.report("")
    assert not trouble.report("")
    assert logged(caplog) == [("ERROR", "journal: disk full"), ("INFO", "the journal works again")]


@pytest.mark.parametrize(("log_changes", "lines"), [(True, ["a", "b", "over"]), (False, ["a", "over"])])
def test_a_trouble_that_changes_is_logged_again_only_where_that_is_asked_for(
    log_changes: bool, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trouble = TroubleLog(LOG, ended="over", level=logging.WARNING, log_changes=log_changes)
    for now in ("a", "b", ""):
        assert trouble.report(now)
    assert [message for _, message in logged(caplog)] == lines
    assert logged(caplog)[0][0] == "WARNING"


def test_a_percent_sign_in_a_trouble_or_its_end_is_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trouble = TroubleLog(LOG, ended="100 %d works")
    trouble.report("50 %s")
    trouble.report("")
    assert [message for _, message in logged(caplog)] == ["50 %s", "100 %d works"]
