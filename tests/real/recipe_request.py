"""Requests for another recipe by MQTT, and the line's answers to them."""

from __future__ import annotations

import json
from typing import Any

from tests.real.line import Line


def ask(line: Line, recipe: str, request_id: str, retain: bool = False) -> None:
    """Asks for a recipe for the camera `top`."""
    payload = json.dumps({"request_id": request_id, "recipe": recipe})
    line.witness.say("top/recipe/set", payload, retain=retain)


def answers(line: Line, request_id: str | None) -> list[dict[str, Any]]:
    """The answers to that request, oldest first; None for those that answer a start."""
    return [
        message.payload
        for message in line.witness.heard("top/recipe")
        if message.payload["request_id"] == request_id
    ]


def await_answer(line: Line, request_id: str | None, state: str, within_s: float = 60) -> dict[str, Any]:
    """Waits for an answer with that state, and returns the newest one."""
    line.wait_for(
        lambda: any(answer["state"] == state for answer in answers(line, request_id)),
        within_s,
        f"{state} answer",
    )
    return answers(line, request_id)[-1]
