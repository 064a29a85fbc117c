"""The limit of wrong passwords."""

from __future__ import annotations

from monitor.accounts.attempts import PasswordAttempts


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guessing_is_slowed_down_and_a_right_password_forgives() -> None:
    clock = Clock()
    attempts = PasswordAttempts(clock)
    assert [attempts.may_try("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert attempts.may_try("b")
    clock.now += 61
    assert attempts.may_try("a")
    attempts.forget("a")
    assert all(attempts.may_try("a") for _ in range(5))
