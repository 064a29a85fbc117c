"""Of a live view only what changes is published, and every frame is counted."""

from __future__ import annotations

from pathlib import Path

from monitor.line_state.counts import count_verdicts
from tests.unit.publish.scene import Scene


def test_a_live_views_episode_is_published_once_and_never_for_the_gate(tmp_path: Path) -> None:
    scene = Scene(tmp_path, publish_verdicts="all", mode="latest")

    def published(scores: str) -> list[tuple[object, object]]:
        scene.link.sent = []
        scene.judge_parts(scores)
        assert set(scene.topics()) <= {"verdict"}
        scene.link.acknowledge_all()
        scene.turn()
        return [(payload["frame"], payload["verdict"]) for _, _, payload in scene.link.sent]

    assert published("prrrr") == [(1, "pass"), (2, "reject")]
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert published("rruuupprr") == [(8, "uninspected"), (11, "pass"), (12, "pass"), (13, "reject")]
    assert count_verdicts(scene.ring).frames == 14
    assert count_verdicts(scene.ring).in_flight == 0
    scene.end()
