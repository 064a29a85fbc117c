"""A page for the printer and the archive: one HTML file with its pictures in it, which needs nothing else.

It knows nothing of what is reported. The file has no script and loads nothing, so it can be opened anywhere,
and in ten years.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from monitor.review.entry_words import name_kind, name_subject
from monitor.review.gate_outcomes import explain_outcome
from monitor.review.uninspected_reasons import explain_reason

_STYLE = files("monitor.review").joinpath("static/report.css")


def render_page(template: str, **values: object) -> str:
    """The page of that template, with its style in it."""
    environment = Environment(
        loader=PackageLoader("monitor.review"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        name_kind=name_kind,
        name_subject=name_subject,
        explain_reason=explain_reason,
        explain_outcome=explain_outcome,
    )
    return environment.get_template(template).render(style=_STYLE.read_text(encoding="utf-8"), **values)


def embed(picture: bytes, kind: str) -> str:
    """A picture as the address of an `img`; `kind` is `png` or `jpeg`."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def security_policy() -> str:
    """What a browser may do with such a page: show its own pictures and its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.read_bytes()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
