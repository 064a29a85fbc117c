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


def test_a_publisher_that_is_stopped_or_killed_again_and_again_follows_within_half_a_second() -> None:
    """No part may pass meanwhile, and with the default `actuate_ms` a reject has 750 ms in all."""
    policy = RestartPolicy()
    pauses = [policy.pause_killed_s(kills, is_urgent=True) for kills in range(1, 12)]
    assert pauses[: policy.most_deaths - 1] == [0.0] * 4, "as many as a person or a tool may cause"
    assert set(pauses[policy.most_deaths - 1 :]) == {0.5}, "a loop does not spin"
    assert [policy.pause_killed_s(kills) for kills in range(1, 8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
