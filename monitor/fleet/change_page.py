"""The pictures of a comparison as one page of HTML: each image whose verdict changes, with its scores.

It knows nothing of how the images were judged. Pictures on this machine are shown by their paths.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from monitor.fleet.comparison import ChangedImage, Comparison, explain_counts

_STYLE = (
    "body{font:16px sans-serif;margin:1em}figure{display:inline-block;width:20em;margin:.5em;"
    "vertical-align:top}img{max-width:100%}figcaption{overflow-wrap:anywhere}"
)


def make_page(comparison: Comparison) -> str:
    """The page."""
    first, *lines = explain_counts(comparison)
    title = html.escape(f"{comparison.before} -> {comparison.after}")
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style>",
            f"<h1>{html.escape(first)}</h1>",
            *(f"<p>{html.escape(line)}</p>" for line in lines),
            *map(_figure, comparison.images),
            "</html>\n",
        ]
    )


def _figure(image: ChangedImage) -> str:
    captions = "<br>".join(html.escape(line) for line in _captions(image))
    pictures = "".join(f'<img loading="lazy" alt="" src="{html.escape(url)}">' for url in _pictures(image))
    return f"<figure>{pictures}<figcaption>{captions}</figcaption></figure>"


def _pictures(image: ChangedImage) -> Iterator[str]:
    """The picture with its heatmap where the image is a snapshot, else the image."""
    if "://" in image.image:
        yield image.image
        return
    file = Path(image.image)
    overlay = file.with_suffix(".jpg")
    is_snapshot = image.camera is not None and overlay.exists()
    yield (overlay if is_snapshot else file).absolute().as_uri()


def _captions(image: ChangedImage) -> Iterator[str]:
    yield f"{image.before} -> {image.after}"
    for name, score, threshold in (
        ("before", image.score_before, image.threshold_before),
        ("after", image.score_after, image.threshold_after),
    ):
        if score is not None and threshold is not None:
            yield f"{name}: score {score:.4g}, threshold {threshold:.4g}"
    if image.label:
        yield f"label: {image.label}"
    yield image.image
