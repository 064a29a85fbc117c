"""A measured choice is kept on this machine, and a cache that can't be used stops nothing."""

from __future__ import annotations

from pathlib import Path

from monitor.inference.kept_choices import FILE, MOST, KeptChoices


def test_a_kept_choice_is_found_again_and_the_oldest_go(tmp_path: Path) -> None:
    said: list[str] = []
    kept = KeptChoices(tmp_path / "cache")
    assert kept.read("first", said.append) is None
    for number in range(MOST + 1):
        kept.write(f"recipe {number}", ("torch", "f32", "fastest"), said.append)
    assert kept.read(f"recipe {MOST}", said.append) == ("torch", "f32", "fastest")
    assert kept.read("recipe 0", said.append) is None
    assert said == []


def test_a_damaged_or_unwritable_cache_is_said_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / FILE).write_text("not json")
    assert KeptChoices(tmp_path).read("key", said.append) is None
    assert "measured again" in said[0]
    KeptChoices(tmp_path / FILE).write("key", ("torch", "f32", ""), said.append)
    assert "make the folder writable" in said[-1]
