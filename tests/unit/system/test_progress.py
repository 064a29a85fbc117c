"""Long work shows its progress, at most as often as a person can read it."""

from __future__ import annotations

import io

from monitor.system.progress import Bar, Lines, choose_progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(progress: Bar | Lines, clock: Clock, steps: int, step_s: float) -> None:
    for done in range(1, steps + 1):
        clock.now += step_s
        progress.update("train", done, steps, f"loss {done}")


def test_a_log_gets_a_line_every_few_seconds_and_the_last_one() -> None:
    out, clock = io.StringIO(), Clock()
    run(Lines(out, clock), clock, steps=100, step_s=0.3)
    lines = out.getvalue().splitlines()
    assert 4 <= len(lines) <= 8
    assert lines[0] == "train: 17/100 25 s left loss 17"
    assert lines[-1] == "train: 100/100 in 30 s loss 100"


def test_quick_work_is_one_line() -> None:
    out, clock = io.StringIO(), Clock()
    run(Lines(out, clock), clock, steps=50, step_s=0.01)
    assert len(out.getvalue().splitlines()) == 1


def test_a_bar_is_drawn_a_few_times_a_second_and_ends_its_line() -> None:
    out, clock = io.StringIO(), Clock()
    run(Bar(out, clock), clock, steps=1000, step_s=0.001)
    assert out.getvalue().count("\r") <= 12
    assert out.getvalue().count("\n") == 1
    assert "1000/1000" in out.getvalue().splitlines()[-1]


def test_the_time_left_is_counted_anew_for_each_task() -> None:
    out, clock = io.StringIO(), Clock()
    bar = Lines(out, clock)
    run(bar, clock, steps=10, step_s=0.1)
    for done in (1, 2):
        clock.now += 60
        bar.update("calibrate", done, 100)
    assert out.getvalue().splitlines()[-1] == "calibrate: 2/100 1 h 38 min left"


def test_a_bar_moves_within_a_step_and_knows_the_time_left_before_the_first_is_done() -> None:
    out, clock = io.StringIO(), Clock()
    bar = Bar(out, clock)
    for tenth in range(6):
        bar.update("train", tenth / 10, 100)
        clock.now += 30
    drawn = out.getvalue().split("\r\x1b[K")[1:]
    assert len(drawn) == 6
    assert drawn[-1].endswith("] 0.5/100 8 h 17 min left")


def test_a_step_is_not_called_finished_before_it_is() -> None:
    out, clock = io.StringIO(), Clock()
    Bar(out, clock).update("train", 0.999, 1)
    assert "] 0.9/1" in out.getvalue()


def test_a_log_does_not_grow_by_what_is_told_within_steps() -> None:
    """Steps of 6 s have one line each. Steps of 10 minutes have one more line per minute."""
    for step_s, most in ((6, 1), (600, 11)):
        out, clock = io.StringIO(), Clock()
        lines = Lines(out, clock)
        for step in range(10):
            for part in range(1, 200):
                clock.now += step_s / 200
                lines.update("train", step + part / 200, 10)
            clock.now += step_s / 200
            lines.update("train", step + 1, 10)
        assert most - 2 < len(out.getvalue().splitlines()) / 10 <= most


def test_what_is_no_terminal_gets_lines() -> None:
    assert isinstance(choose_progress(io.StringIO()), Lines)


def test_a_line_said_meanwhile_stands_on_its_own_and_the_bar_goes_on_below() -> None:
    out, clock = io.StringIO(), Clock()
    bar = Bar(out, clock)
    bar.update("train", 5, 100)
    bar.make_room()
    out.write("it learns\n")
    bar.update("train", 6, 100)
    rows = [row.rsplit("\r\x1b[K", 1)[-1] for row in out.getvalue().split("\n")]
    assert rows[0] == "it learns"
    assert rows[1].startswith("train [")
