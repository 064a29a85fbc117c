"""Draws the scenes of the simulated cameras: perfect parts, and the conveyor belt below them.

It knows nothing of time, defects or cameras: a drawing depends only on the size and the random generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

PRINT_CONTRAST = 0.23
"""Share of the part's brightness by which printed ink is darker than the part."""

_SUPERSAMPLE = 2
_LIGHT = (-0.64, -0.77)
"""Direction of the light in the image plane: from the upper left."""


@dataclass(frozen=True, slots=True)
class Part:
    """One perfect part in the middle of its canvas, without rotation. Arrays are (H, W) or (H, W, 3),
    float32."""

    colour: Field
    """BGR 0..255, without print."""
    alpha: Field
    """1 on the part, 0 on the belt."""
    ink: Field
    """1 where print covers the part."""
    face: Field
    """1 where the surface is plain, without edge or hole, so that a defect can be seen."""
    texture: Callable[[np.random.Generator], Field]
    """Draws a factor around 1 for the surface, different for each part."""


def belt(height: int, width: int, unit: float, generator: np.random.Generator) -> Field:
    """A matt grey conveyor belt, (H, W, 3) BGR 0..255. `unit` is the number of pixels in 1/320 of the image's
    shorter side."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / max(unit, 0.25)
    weave = np.sin(rows * 1.3) * np.sin(columns * 1.3) * 1.0
    wear = _smooth_noise(height, width, 14 * unit, generator) * 0.8
    grain = generator.standard_normal((height, width)).astype(np.float32) * 0.6
    grey = (84 + weave + wear + grain)[..., None]
    return np.asarray(grey * np.array([1.04, 1.06, 0.98], np.float32), dtype=np.float32)


def bottle_top(height: int, width: int, unit: float) -> Part:
    """A screw cap from above: ribbed skirt, bevel, an embossed disc and lettering printed in a ring."""
    scale = _SUPERSAMPLE
    x, y = _axes(height, width, unit, scale)
    radius = np.hypot(x, y)
    angle = np.arctan2(y, x)
    outer = 126.0
    facing_light = np.cos(angle - math.atan2(_LIGHT[1], _LIGHT[0]))

    shade = 1.0 + 0.05 * (x * _LIGHT[0] + y * _LIGHT[1]) / outer
    ribs = 0.5 + 0.5 * np.cos(angle * 84)
    skirt = _band(radius, 110, outer)
    shade *= 1 - skirt * (0.30 - 0.16 * ribs * (0.6 + 0.4 * facing_light) - 0.10 * facing_light)
    shade *= 1 + 0.16 * facing_light * _ridge(radius, 107, 4.5)
    shade *= 1 - 0.20 * _ridge(radius, 111.5, 1.6)
    shade *= 1 - 0.35 * _ridge(radius, outer - 0.5, 2.2)
    # The embossed disc has an edge that is bright on one side and dark on the other.
    shade *= 1 + 0.10 * facing_light * _ridge(radius, 44, 2.2)
    # Injection moulding leaves a gate mark in the middle.
    shade *= 1 - 0.14 * _ridge(radius, 3.6, 1.4)

    ink = np.maximum(_ridge(radius, 98, 2.0), _ridge(radius, 53.5, 1.2))
    ink = np.maximum(ink, _ring_text(ink.shape, "ALPINE SPRING", 76, 28, unit * scale, -90.0, 15.5))
    ink = np.maximum(ink, _ring_text(ink.shape, "500 ML", 76, 22, unit * scale, 90.0, 14.0))
    ink = np.maximum(ink, _drop(x, y))

    colour = np.array([196, 163, 112], np.float32) * shade[..., None].astype(np.float32)
    alpha = np.clip((outer - radius) * unit * scale + 0.5, 0, 1).astype(np.float32)
    face = (radius < 102).astype(np.float32)
    grain = _surface_grain(unit, blur=(0.8, 0.8), strength=0.006)
    return _part(colour, alpha, ink.astype(np.float32), face, grain, height, width)


def plate(height: int, width: int, unit: float) -> Part:
    """A brushed aluminium plate: bore, four screw holes, two slots and a laser-marked code."""
    scale = _SUPERSAMPLE
    x, y = _axes(height, width, unit, scale)
    holes = [np.hypot(x - cx, y - cy) - 11 for cx in (-104, 104) for cy in (-74, 74)]
    slots = [np.hypot(x - cx, np.maximum(np.abs(y) - 26, 0)) - 8 for cx in (-96, 96)]
    bore = np.hypot(x, y + 8) - 44
    corner = 16.0
    rectangle = (
        np.hypot(np.maximum(np.abs(x) - 130 + corner, 0), np.maximum(np.abs(y) - 100 + corner, 0)) - corner
    )
    # The signed distance to the nearest edge in 1/320 of the side is positive on the metal.
    inside = np.minimum(-rectangle, np.minimum.reduce([bore, *holes, *slots])).astype(np.float32)

    down, across = np.gradient(inside, 1 / (unit * scale))
    facing_light = -(across * _LIGHT[0] + down * _LIGHT[1])
    shade = 1.0 + 0.04 * (x * _LIGHT[0] + y * _LIGHT[1]) / 130
    shade *= 1 + 0.28 * facing_light * np.clip(1 - np.abs(inside - 1.6) / 2.2, 0, 1)
    # A turned ring lies around the bore.
    shade *= 1 + 0.05 * np.sin(bore * 1.9) * _band(bore, 1.5, 12)

    ink = _straight_text(inside.shape, "LM-4107 B", (0, 74), 24, unit * scale)
    for tick in range(5):
        ink = np.maximum(ink, _band(np.abs(x + 36 - tick * 18), -1, 1.3) * _band(y + 80, -7, 7))
    colour = np.array([176, 174, 170], np.float32) * shade[..., None].astype(np.float32)
    alpha = np.clip(inside * unit * scale + 0.5, 0, 1).astype(np.float32)
    face = ((inside > 6) & ((bore > 14) | (bore < 0))).astype(np.float32)
    grain = _surface_grain(unit, blur=(30.0, 0.5), strength=0.035)
    return _part(colour, alpha, ink.astype(np.float32), face, grain, height, width)


SCENES: dict[str, Callable[[int, int, float], Part]] = {"bottle-top": bottle_top, "plate": plate}


def _part(
    colour: Field,
    alpha: Field,
    ink: Field,
    face: Field,
    grain: Callable[[int, int, np.random.Generator], Field],
    height: int,
    width: int,
) -> Part:
    size = (width, height)

    def small(field: Field) -> Field:
        return np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_AREA), dtype=np.float32)

    return Part(
        small(colour),
        small(alpha),
        np.clip(small(ink), 0, 1),
        (small(face) > 0.99).astype(np.float32),
        lambda generator: grain(height, width, generator),
    )


def _axes(height: int, width: int, unit: float, scale: int) -> tuple[Field, Field]:
    """x and y of every supersampled pixel, 0 in the middle, in 1/320 of the image's side."""
    rows, columns = np.mgrid[0 : height * scale, 0 : width * scale].astype(np.float32)
    x = (columns + 0.5 - width * scale / 2) / (unit * scale)
    y = (rows + 0.5 - height * scale / 2) / (unit * scale)
    return x.astype(np.float32), y.astype(np.float32)


def _band(field: Field, low: float, high: float) -> Field:
    """1 between low and high, with soft edges of one unit."""
    return np.asarray(np.clip(field - low + 0.5, 0, 1) * np.clip(high - field + 0.5, 0, 1), dtype=np.float32)


def _ridge(field: Field, middle: float, width: float) -> Field:
    return np.asarray(np.exp(-(((field - middle) / width) ** 2)), dtype=np.float32)


def _drop(x: Field, y: Field) -> Field:
    """A water drop, the emblem in the middle of the cap; the gate mark stays free."""
    y = y - 2
    low = np.hypot(x, y - 8) - 15
    half = 15 * np.clip((y + 30) / 38, 0, 1)
    tip = np.maximum(np.abs(x) - half, np.maximum(y - 8, -30 - y))
    drop = np.minimum(low, tip)
    hollow = np.hypot(x, y + 2) - 9
    return np.asarray(np.clip(0.5 - drop, 0, 1) * np.clip(hollow + 0.5, 0, 1), dtype=np.float32)


def _glyphs(text: str, height: float) -> Field:
    """Bold capitals of the given height in pixels, without margin; (rows, columns) 0..1."""
    drawn_at = 4.0
    (columns, rows), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, drawn_at, 22)
    tile = np.zeros((rows + base + 40, columns + 40), np.uint8)
    cv2.putText(tile, text, (20, rows + 20), cv2.FONT_HERSHEY_SIMPLEX, drawn_at, 255, 22, cv2.LINE_AA)
    inked = np.argwhere(tile > 0)
    (top, left), (bottom, right) = inked.min(axis=0), inked.max(axis=0) + 1
    tile = tile[top:bottom, left:right]
    shrink = height / tile.shape[0]
    size = (max(1, round(tile.shape[1] * shrink)), max(1, round(height)))
    shrunk = cv2.resize(tile, size, interpolation=cv2.INTER_AREA)
    return (shrunk / 255).astype(np.float32)


def _stamp(ink: Field, tile: Field, centre: tuple[float, float], degrees: float) -> None:
    """Draw a tile with its middle at `centre` (x, y), rotated clockwise around it."""
    matrix = cv2.getRotationMatrix2D((tile.shape[1] / 2, tile.shape[0] / 2), -degrees, 1.0)
    matrix[:, 2] += (centre[0] - tile.shape[1] / 2, centre[1] - tile.shape[0] / 2)
    drawn = cv2.warpAffine(tile, matrix, (ink.shape[1], ink.shape[0]), flags=cv2.INTER_LINEAR)
    np.maximum(ink, drawn, out=ink)


def _straight_text(
    shape: tuple[int, ...], text: str, centre: tuple[float, float], height: float, pixels: float
) -> Field:
    ink = np.zeros(shape[:2], np.float32)
    middle = (shape[1] / 2 + centre[0] * pixels, shape[0] / 2 + centre[1] * pixels)
    _stamp(ink, _glyphs(text, height * pixels), middle, 0.0)
    return ink


def _ring_text(
    shape: tuple[int, ...], text: str, radius: float, height: float, pixels: float, middle: float, step: float
) -> Field:
    """Letters on a circle at intervals of `step` degrees. The middle of the text is at the angle `middle`."""
    ink = np.zeros(shape[:2], np.float32)
    upright = 1 if middle < 0 else -1
    for place, letter in enumerate(text):
        if letter == " ":
            continue
        degrees = middle + upright * (place - (len(text) - 1) / 2) * step
        turn = math.radians(degrees)
        centre = (
            shape[1] / 2 + math.cos(turn) * radius * pixels,
            shape[0] / 2 + math.sin(turn) * radius * pixels,
        )
        _stamp(ink, _glyphs(letter, height * pixels), centre, degrees + 90 * upright)
    return ink


def _smooth_noise(height: int, width: int, blur: float, generator: np.random.Generator) -> Field:
    """Noise that is blurred by `blur` pixels; its standard deviation is 1."""
    step = max(1.0, blur / 2)
    shape = (math.ceil(height / step) + 3, math.ceil(width / step) + 3)
    coarse = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), 1.5)
    noise = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
    return np.asarray(noise[:height, :width] / float(coarse.std()), dtype=np.float32)


def _surface_grain(
    unit: float, blur: tuple[float, float], strength: float
) -> Callable[[int, int, np.random.Generator], Field]:
    """A field of factors: noise that is blurred by `blur` units (x, y), with the given standard deviation."""

    def grain(height: int, width: int, generator: np.random.Generator) -> Field:
        raw = generator.standard_normal((height, width)).astype(np.float32)
        noise = cv2.GaussianBlur(raw, (0, 0), sigmaX=blur[0] * unit, sigmaY=blur[1] * unit)
        return np.asarray(1 + noise * (strength / float(noise.std())), dtype=np.float32)

    return grain
