"""A file is complete or missing, never half written; a pipe is never replaced by a file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from monitor.system.atomic_file import (
    WRITING,
    check_place,
    open_whole,
    remove_file,
    write_together,
    write_whole,
)


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for content in (b"one", b"two"):
        check_place(file)
        write_whole(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("place", ["missing/a.json", "folder"])
def test_where_nothing_can_be_written_is_known_before(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    for ask in (check_place, lambda file: write_whole(file, b"one")):
        with pytest.raises(OSError, match=r"No such file|Is a directory"):
            ask(tmp_path / place)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    """/dev/stdout is a pipe too: a file in its place would break every other program that uses it."""
    pipe = tmp_path / "out"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    check_place(pipe)
    write_whole(pipe, b"one")
    reader.join(10)
    assert received == [b"one"]
    assert pipe.is_fifo()


def test_a_file_that_is_written_in_pieces_appears_once_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    with open_whole(file) as out:
        out.write(b"one ")
        assert not file.exists()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(WRITING)
        out.write(b"two")
    assert file.read_bytes() == b"one two"
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    write_whole(file, b"old")

    def write_half() -> None:
        with open_whole(file) as out:
            out.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_missing_already_can_be_removed(tmp_path: Path) -> None:
    file = tmp_path / "latch.json"
    write_whole(file, b"one")
    for _ in range(2):
        remove_file(file)
        assert not file.exists()


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (None, 0o640)])
def test_files_have_the_permissions_that_were_asked_for_or_the_umask_s(
    tmp_path: Path, mode: int | None, expected: int
) -> None:
    """The service's umask keeps pictures of parts from other users of the machine."""
    before = os.umask(0o027)
    try:
        write_together({tmp_path / "a.png": b"one", tmp_path / "a.json": b"two"}, mode=mode)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {expected}
