"""The page's server explains in one line why it can't serve, and bounds what a client may use."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monitor.review.server import ReviewError, Server
from monitor.settings import LineSettings, ReviewSettings, Settings
from tests.real.port import free_port


def settings(tmp_path: Path, **review: object) -> Settings:
    return Settings(line=LineSettings(data=tmp_path), review=ReviewSettings(**review))


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ReviewError, match=f"port {port}.*review.port") as error:
            Server(settings(tmp_path, port=port))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", ["run", "review"])
def test_others_are_not_served_without_a_password(tmp_path: Path, command: str) -> None:
    config = tmp_path / "line.toml"
    config.write_text(
        '[line]\ndata = "data"\n[review]\nhost = "0.0.0.0"\n'
        '[[camera]]\nname = "top"\nsource = "simulated://plate"\nrecipe = "plate"\n'
    )
    ended = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "--config", str(config), command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "password_hash" in ended.stderr


def test_a_password_from_a_pipe_becomes_a_hash_that_works(tmp_path: Path) -> None:
    from monitor.review.access import verify

    made = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "review", "--hash-password"],
        input="gloves and all\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert verify("gloves and all", made.stdout.strip())


def test_a_request_that_trickles_in_is_cut_off(tmp_path: Path) -> None:
    """A client that sends a byte now and then can't hold a connection for ever."""
    with Server(settings(tmp_path, port=free_port()), request_s=1.0) as server:
        with socket.create_connection(("127.0.0.1", server.port), 5) as slow:
            slow.settimeout(0.3)
            started = time.monotonic()
            open_ = True
            while open_ and time.monotonic() - started < 10:
                try:
                    slow.sendall(b"G")
                    open_ = slow.recv(100) != b""
                except TimeoutError:
                    continue
                except OSError:
                    open_ = False
            assert not open_
            assert time.monotonic() - started < 6
        assert server.is_answering(5)
