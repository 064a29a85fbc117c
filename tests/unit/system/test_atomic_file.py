"""A name stands for a whole file or for none, and what is no file is left what it is."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from monitor.system.atomic_file import check_place, write_whole


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
    """As /dev/stdout is: a file in its place would be in the way of every other program."""
    pipe = tmp_path / "out"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    check_place(pipe)
    write_whole(pipe, b"one")
    reader.join(10)
    assert heard == [b"one"]
    assert pipe.is_fifo()
