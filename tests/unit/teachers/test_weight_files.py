"""Downloads of weights are whole or not there, and a missing network is known within seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from monitor.teachers import weight_files
from monitor.teachers.weight_files import TeacherError


def test_a_machine_without_a_network_knows_it_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "_NO_NETWORK_S", 0.2)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: time.sleep(10))
    began = time.monotonic()
    with pytest.raises(TeacherError, match="did not answer"):
        weight_files.download_file("https://example.invalid/x.pth", tmp_path / "x.pth")
    assert time.monotonic() - began < 5
    assert not list(tmp_path.iterdir())


def test_a_download_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights" * 1000)
    weight_files.download_file(source.as_uri(), tmp_path / "cache" / "file.pth")
    assert (tmp_path / "cache" / "file.pth").read_bytes() == source.read_bytes()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(TeacherError, match="can't be downloaded"):
        weight_files.download_file((tmp_path / "nowhere").as_uri(), tmp_path / "cache" / "other.pth")
