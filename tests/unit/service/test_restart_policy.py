"""A stopped process is told by how long it was seen stopped without a break."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.service.restart_policy import RestartPolicy, StopWatch

MS = 1_000_000
TICK_MS = 50


def test_a_process_that_stays_stopped_is_noticed_within_a_second() -> None:
    watch, limit = StopWatch(), RestartPolicy().stopped_s * 1e9
    noticed = next(
        now for now in range(0, 2000 * MS, TICK_MS * MS) if watch.stopped_for_ns(7, True, now) >= limit
    )
    assert noticed < 1000 * MS - 2 * TICK_MS * MS, "the first look may come a tick late, and the last"


@settings(max_examples=300, deadline=None)
@given(
    looks=st.lists(st.tuples(st.booleans(), st.integers(1, 3000)), max_size=200),
    pids=st.lists(st.sampled_from([7, 8]), min_size=200, max_size=200),
)
def test_only_one_process_that_was_stopped_at_every_look_counts_as_stopped(
    looks: list[tuple[bool, int]], pids: list[int]
) -> None:
    """However late the looks come: a busy machine makes them late, but never makes a process look stopped."""
    watch, now, since, last = StopWatch(), 0, None, 0
    for (stopped, later_ms), pid in zip(looks, pids, strict=False):
        now += later_ms * MS
        if not stopped:
            since = None
        elif since is None or pid != last:
            since = now
        last = pid
        assert watch.stopped_for_ns(pid, stopped, now) == (0 if since is None else now - since)
