"""The import of torch is announced before it begins, and happens once."""

from __future__ import annotations

from monitor.review.torch_import import LONGEST_S, TorchImport


def test_the_import_is_announced_first_and_made_once() -> None:
    course: list[str] = []
    torch_import = TorchImport(lambda: course.append(f"import, {torch_import.is_running}"))
    torch_import.announce = lambda seconds: course.append(f"{seconds:g} s")
    for _ in range(2):
        torch_import.load()
    assert course == [f"{LONGEST_S:g} s", "import, True"]
    assert not torch_import.is_running
