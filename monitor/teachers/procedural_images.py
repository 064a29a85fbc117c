"""Draws photograph-like images from a seeded random generator alone.

A carried teacher is distilled on them: textures, overlapping shapes, shaded bodies, prints, fibres, lattices,
and small local changes such as scratches, stains and pasted pieces. Large canvases are drawn once and cut
into many small images, because cutting an image takes a fiftieth of the time of drawing one.

This module must never read an image from disk, use a photograph, or draw from another generator than the
given one: a carried teacher's file states "procedural only", and the same seed must give the same images.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

RgbImage = NDArray[np.uint8]
"""(rows, columns, 3), RGB; elsewhere in this program colour images are BGR."""
Mask = NDArray[np.floating]
"""(rows, columns), mostly 0 to 1."""
Field = NDArray[np.float32]
"""A grey pattern: (rows, columns), mostly 0 to 1."""


def image_batches(
    *, seed: int, side: int, batch: int, pool: int = 64, canvas_side: int = 384, uses: int = 48
) -> Iterator[RgbImage]:
    """Endless batches of procedural images; the same arguments give the same images.

    The images are cut from `pool` canvases of `canvas_side` pixels. After every `uses` images the oldest
    canvas is replaced by a new one. Yields uint8 arrays (batch, side, side, 3), RGB.
    """
    if canvas_side < side:
        raise ValueError(f"canvas_side {canvas_side} is smaller than side {side}")
    rng = np.random.default_rng(seed)
    canvases = [draw_canvas(rng, canvas_side) for _ in range(pool)]
    cut = 0
    while True:
        images = []
        for _ in range(batch):
            images.append(_vary(rng, canvases, side))
            cut += 1
            if cut % uses == 0:
                canvases[(cut // uses) % pool] = draw_canvas(rng, canvas_side)
        yield np.stack(images)


def draw_canvas(rng: np.random.Generator, side: int) -> RgbImage:
    """One large procedural image, uint8 (side, side, 3), RGB."""
    kinds = (
        _draw_texture,
        _draw_relief,
        _draw_leaves,
        _draw_leaves,
        _draw_bodies,
        _draw_bodies,
        _draw_print,
        _draw_fibres,
        _draw_lattice,
        _draw_patchwork,
    )
    canvas = kinds[int(rng.integers(len(kinds)))](rng, side)
    if rng.random() < 0.3:
        canvas = _rotate(rng, canvas)
    return canvas


def _as_uint8(values: ArrayLike) -> RgbImage:
    return np.clip(values, 0, 255).astype(np.uint8)


def _as_float32(values: ArrayLike) -> Field:
    return np.asarray(values, dtype=np.float32)


# Fields: grey patterns between 0 and 1.


def _stretch_to_unit(field: NDArray[np.float32]) -> Field:
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def _noise_field(rng: np.random.Generator, side: int, *, stretch: float = 1.0) -> Field:
    """Noise of several octaves; `stretch` > 1 makes its structures that many times longer along the rows."""
    field = np.zeros((side, side), np.float32)
    persistence = rng.uniform(0.4, 1.0)
    cells = float(rng.uniform(2, 6))
    weight = 1.0
    while cells < side:
        rows, cols = max(2, int(min(cells * stretch, side))), max(2, int(cells / stretch))
        octave = rng.standard_normal((rows, cols), dtype=np.float32)
        field += weight * cv2.resize(octave, (side, side), interpolation=cv2.INTER_CUBIC)
        weight *= persistence
        cells *= 2.0
    return _stretch_to_unit(field)


def _coordinates(rng: np.random.Generator, side: int, warp: float) -> tuple[Field, Field]:
    """Two perpendicular pixel coordinates, rotated at random and bent by up to `warp` pixels."""
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = c * xs + s * ys, c * ys - s * xs
    if warp > 0:
        u = u + np.float32(warp) * (_noise_field(rng, side) - np.float32(0.5))
        v = v + np.float32(warp) * (_noise_field(rng, side) - np.float32(0.5))
    return u, v


def _wave(rng: np.random.Generator, along: Field) -> Field:
    """A periodic profile along a coordinate: a sine, bars, a saw tooth or ridges."""
    period = float(np.exp(rng.uniform(np.log(4), np.log(80))))
    phase = (along / np.float32(period) + np.float32(rng.random())) % 1.0
    shape = rng.integers(4)
    wave: ArrayLike
    if shape == 0:
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    elif shape == 1:
        wave = np.clip((phase - rng.uniform(0.1, 0.9)) * period, 0, 1)
    elif shape == 2:
        wave = phase
    else:
        wave = np.abs(2 * phase - 1) ** rng.uniform(0.3, 4)
    return _as_float32(wave)


def _grating_field(rng: np.random.Generator, side: int) -> Field:
    """Straight or bent bars, checks, weaves or rings."""
    u, v = _coordinates(rng, side, float(rng.choice([0, 0, 10, 40, 120])))
    shape = rng.integers(4)
    if shape == 0:
        return _wave(rng, u)
    if shape == 1:
        return _stretch_to_unit(_wave(rng, u) * _wave(rng, v))
    if shape == 2:
        return np.maximum(_wave(rng, u), _wave(rng, v))
    radius = np.hypot(u - np.float32(rng.uniform(u.min(), u.max())), v - np.float32(rng.uniform(0, side)))
    return _wave(rng, radius.astype(np.float32))


def _cell_field(rng: np.random.Generator, side: int) -> Field:
    """Cells around random points: cones, flat cells, or flat cells with lines between them."""
    seeds = np.full((side, side), 255, np.uint8)
    count = int(np.exp(rng.uniform(np.log(12), np.log(1500))))
    seeds[rng.integers(side, size=count), rng.integers(side, size=count)] = 0
    distance, label = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    shape = rng.integers(3)
    if shape == 0:
        return _stretch_to_unit(distance.astype(np.float32))
    flat = _as_float32(rng.random(count + 2)[label])
    if shape == 1:
        return flat
    edges = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0.02
    return _as_float32(np.where(edges, rng.random(), 0.5 + 0.3 * (flat - 0.5)))


def _speckle_field(rng: np.random.Generator, side: int) -> Field:
    """Fine noise, thresholded or blurred: it looks like grit, sand or pores."""
    field = rng.standard_normal((side, side), dtype=np.float32)
    field = _as_float32(cv2.GaussianBlur(field, (0, 0), float(rng.uniform(0.5, 3.5))))
    field = field / np.float32(max(float(field.std()), 1e-6))
    if rng.random() < 0.5:
        return _as_float32(np.clip((field - rng.uniform(-1, 2.2)) * rng.uniform(1, 8), 0, 1))
    return _stretch_to_unit(field)


def _random_field(rng: np.random.Generator, side: int) -> Field:
    """One of the patterns above, or two of them mixed."""
    shape = rng.random()
    if shape < 0.3:
        field = _noise_field(rng, side)
    elif shape < 0.45:
        field = _noise_field(rng, side, stretch=float(rng.uniform(3, 40)))
    elif shape < 0.65:
        field = _grating_field(rng, side)
    elif shape < 0.8:
        field = _cell_field(rng, side)
    else:
        field = _speckle_field(rng, side)
    if rng.random() < 0.4:
        other = _noise_field(rng, side) if rng.random() < 0.5 else _speckle_field(rng, side)
        share = np.float32(rng.uniform(0.05, 0.5))
        field = (1 - share) * field + share * other
    return field


# Colour and light.


def _random_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """A colour, RGB 0 to 255. It is often nearly grey, as most surfaces are."""
    grey = rng.uniform(0, 255)
    spread = rng.choice([4.0, 25.0, 60.0, 120.0])
    return np.clip(grey + rng.normal(0, spread, 3), 0, 255).astype(np.float32)


def _paint(rng: np.random.Generator, field: Field) -> RgbImage:
    """Colours a field by a random gradient of two to five colours."""
    stops = int(rng.integers(2, 6))
    places = np.concatenate([[0.0], np.sort(rng.random(stops - 2)), [1.0]])
    colours = np.stack([_random_colour(rng) for _ in range(stops)])
    levels = np.linspace(0, 1, 256)
    table = np.stack([np.interp(levels, places, colours[:, c]) for c in range(3)], axis=1).astype(np.uint8)
    return table[(np.clip(field, 0, 1) * 255).astype(np.uint8)]


def _shade(rng: np.random.Generator, height: Field, relief: float) -> Field:
    """The brightness of a height map under a lamp, diffuse and with some gloss: about 0 to 1.3.

    `relief` is the height in pixels where the field is 1.
    """
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * np.float32(relief / 8)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * np.float32(relief / 8)
    length = np.sqrt(dx * dx + dy * dy + 1)
    tilt, turn = rng.uniform(0.2, 1.2), rng.uniform(0, 2 * np.pi)
    light = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)], np.float32)
    diffuse = np.clip((light[2] - light[0] * dx - light[1] * dy) / length, 0, 1)
    gloss = np.float32(rng.choice([0.0, 0.0, 0.3, 0.8]))
    ambient = np.float32(rng.uniform(0.05, 0.5))
    return _as_float32(ambient + (1 - ambient) * diffuse + gloss * diffuse ** rng.uniform(8, 60))


def _light(image: RgbImage, shade: Mask) -> RgbImage:
    return _as_uint8(image * shade[..., None])


def _blend(below: RgbImage, above: RgbImage, mask: Mask) -> RgbImage:
    share = mask[..., None]
    return _as_uint8(below * (1 - share) + above * share)


def _rotate(rng: np.random.Generator, image: RgbImage) -> RgbImage:
    side = image.shape[0]
    turn = cv2.getRotationMatrix2D(
        (side / 2, side / 2), float(rng.uniform(0, 360)), float(rng.uniform(1, 1.4))
    )
    return cv2.warpAffine(image, turn, (side, side), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


# Canvases.


def _draw_texture(rng: np.random.Generator, side: int) -> RgbImage:
    return _paint(rng, _random_field(rng, side))


def _draw_relief(rng: np.random.Generator, side: int) -> RgbImage:
    """A rough or machined surface under a lamp, of one colour or textured."""
    height = _random_field(rng, side)
    albedo = (
        _draw_texture(rng, side)
        if rng.random() < 0.3
        else np.broadcast_to(_random_colour(rng), (side, side, 3))
    )
    return _light(albedo.astype(np.uint8), _shade(rng, height, float(np.exp(rng.uniform(0.5, 4)))))


def _random_outline(rng: np.random.Generator, radius: float) -> NDArray[np.int32]:
    """A closed outline around (0, 0): an ellipse, polygon, rectangle or smooth blob; int32 (points, 1, 2)."""
    shape = rng.integers(4)
    if shape == 0:
        around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        reach = np.ones(40)
    elif shape == 1:
        corners = int(rng.integers(3, 8))
        around = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = rng.uniform(0.6, 1, corners)
    elif shape == 2:
        around = np.array([0.25, 0.75, 1.25, 1.75]) * np.pi
        reach = np.ones(4)
    else:
        around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        reach = np.ones(48)
        for wave in range(2, 6):
            reach = reach + rng.normal(0, 0.5 / wave) * np.cos(wave * around + rng.uniform(0, 6.3))
    flat, turn = rng.uniform(0.3, 1), rng.uniform(0, 2 * np.pi)
    x, y = radius * reach * np.cos(around), radius * reach * np.sin(around) * flat
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return np.round(points).astype(np.int32)[:, None, :]


def _draw_leaves(rng: np.random.Generator, side: int) -> RgbImage:
    """Overlapping shapes of all sizes; their image statistics are those of natural scenes."""
    textures = [_draw_texture(rng, side) for _ in range(3)]
    canvas = textures[0].copy()
    smallest = rng.uniform(3, 20)
    for _ in range(int(rng.integers(40, 220))):
        radius = min(smallest / (1 - rng.random()) ** 0.6, side / 2.5)
        centre = rng.integers(0, side, 2)
        outline = _random_outline(rng, radius) + centre.astype(np.int32)
        if rng.random() < 0.6:
            cv2.fillPoly(canvas, [outline], _random_colour(rng).tolist(), cv2.LINE_AA)
            continue
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [outline], 255)
        cv2.copyTo(textures[int(rng.integers(3))], mask, canvas)
    if rng.random() < 0.5:
        canvas = _light(canvas, 0.4 + 0.8 * _noise_field(rng, side))
    return canvas


def _draw_bodies(rng: np.random.Generator, side: int) -> RgbImage:
    """Solid bodies with a shaded surface and a shadow, on a background."""
    canvas = _draw_relief(rng, side) if rng.random() < 0.5 else _draw_texture(rng, side)
    for _ in range(int(rng.integers(2, 14))):
        radius = float(np.exp(rng.uniform(np.log(14), np.log(side / 3))))
        outline = _random_outline(rng, radius) + rng.integers(0, side, 2).astype(np.int32)
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA)
        # The height grows with the distance from the outline: a flat top with round edges, or a dome.
        depth = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5).astype(np.float32)
        edge = float(rng.uniform(2, max(3.0, radius)))
        height = np.sqrt(np.clip(1 - (1 - np.clip(depth / edge, 0, 1)) ** 2, 0, 1)).astype(np.float32)
        height = cv2.GaussianBlur(height, (0, 0), float(max(0.8, edge / 10)))
        skin = (
            _draw_texture(rng, side)
            if rng.random() < 0.4
            else np.full((side, side, 3), _random_colour(rng), np.uint8)
        )
        body = _light(skin, _shade(rng, height, edge))
        shadow = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(1, 10))).astype(np.float32) / 255
        shadow = np.roll(shadow, rng.integers(-12, 13, 2), axis=(0, 1))
        canvas = _light(canvas, 1 - np.float32(rng.uniform(0, 0.7)) * shadow)
        canvas = _blend(canvas, body, mask.astype(np.float32) / 255)
    return canvas


def _draw_print(rng: np.random.Generator, side: int) -> RgbImage:
    """Text, lines and shapes on a background, as on labels and housings."""
    ground = (
        _draw_texture(rng, side)
        if rng.random() < 0.4
        else np.full((side, side, 3), _random_colour(rng), np.uint8)
    )
    canvas = np.ascontiguousarray(ground)
    letters = list(string.ascii_letters + string.digits + " .-/")
    for _ in range(int(rng.integers(6, 50))):
        x, y = (int(v) for v in rng.integers(-30, side, 2))
        ink = _random_colour(rng).tolist()
        thick = int(rng.integers(1, 6))
        shape = rng.integers(5)
        if shape <= 1:
            text = "".join(rng.choice(letters, int(rng.integers(1, 14))))
            font = int(rng.choice([0, 1, 2, 3, 4, 6, 7]))
            cv2.putText(canvas, text, (x, y), font, float(rng.uniform(0.4, 3)), ink, thick, cv2.LINE_AA)
        elif shape == 2:
            end = tuple(int(v) for v in rng.integers(0, side, 2))
            cv2.line(canvas, (x, y), end, ink, thick, cv2.LINE_AA)
        elif shape == 3:
            size = rng.integers(8, 120, 2)
            fill = thick if rng.random() < 0.6 else -1
            cv2.rectangle(canvas, (x, y), (x + int(size[0]), y + int(size[1])), ink, fill, cv2.LINE_AA)
        else:
            cv2.circle(canvas, (x, y), int(rng.integers(3, 70)), ink, thick, cv2.LINE_AA)
    return canvas


def _draw_fibres(rng: np.random.Generator, side: int) -> RgbImage:
    """Many bent strokes in about one direction or in all: like hair, wire, wood fibre or scratches."""
    canvas = np.ascontiguousarray(_draw_texture(rng, side))
    turn, spread = rng.uniform(0, np.pi), rng.choice([0.1, 0.5, 3.0])
    inks = [_random_colour(rng).tolist() for _ in range(4)]
    for _ in range(int(rng.integers(40, 400))):
        heading = turn + rng.normal(0, spread)
        steps = heading + np.cumsum(rng.normal(0, 0.15, 12))
        stride = rng.uniform(2, 20)
        path = rng.uniform(0, side, 2) + np.cumsum(
            np.stack([np.cos(steps), np.sin(steps)], 1) * stride, axis=0
        )
        points = np.round(path).astype(np.int32)[:, None, :]
        cv2.polylines(
            canvas, [points], False, inks[int(rng.integers(4))], int(rng.integers(1, 4)), cv2.LINE_AA
        )
    return canvas


def _draw_lattice(rng: np.random.Generator, side: int) -> RgbImage:
    """One small shape repeated on a slightly irregular lattice: like sheets, nets, boards or pills in
    trays."""
    canvas = np.ascontiguousarray(_draw_relief(rng, side) if rng.random() < 0.5 else _draw_texture(rng, side))
    pitch = float(rng.uniform(14, 90))
    outline = _random_outline(rng, pitch * float(rng.uniform(0.2, 0.5)))
    ink, rim = _random_colour(rng).tolist(), _random_colour(rng).tolist()
    play, skew = pitch * rng.choice([0.0, 0.03, 0.15]), rng.choice([0.0, 0.5])
    width = int(rng.integers(0, 4))
    for row in range(-1, int(side / pitch) + 2):
        for col in range(-1, int(side / pitch) + 2):
            if rng.random() < 0.03:
                continue
            centre = pitch * np.array([col + skew * (row % 2), row]) + rng.normal(0, 1, 2) * play
            placed = outline + np.round(centre).astype(np.int32)
            cv2.fillPoly(canvas, [placed], ink, cv2.LINE_AA)
            if width:
                cv2.polylines(canvas, [placed], True, rim, width, cv2.LINE_AA)
    return canvas


def _draw_patchwork(rng: np.random.Generator, side: int) -> RgbImage:
    """Two surfaces that meet along a winding or straight border."""
    first, second = (
        kind(rng, side) for kind in (_draw_leaves if rng.random() < 0.5 else _draw_relief, _draw_texture)
    )
    field = _noise_field(rng, side) if rng.random() < 0.5 else _wave(rng, _coordinates(rng, side, 20.0)[0])
    mask = np.clip((field - np.float32(rng.uniform(0.3, 0.7))) * np.float32(rng.choice([3, 40, 200])), 0, 1)
    return _blend(first, second, mask.astype(np.float32))


# Small images, each cut from a canvas and changed.


def _cut(rng: np.random.Generator, canvas: RgbImage, side: int) -> RgbImage:
    """A random square of a canvas at a random scale, rotated and mirrored: (side, side, 3)."""
    whole = canvas.shape[0]
    extent = int(np.exp(rng.uniform(np.log(side * 0.5), np.log(min(whole, side * 2.8)))))
    y, x = (int(v) for v in rng.integers(0, whole - extent + 1, 2))
    piece = canvas[y : y + extent, x : x + extent]
    mode = cv2.INTER_AREA if extent > side else cv2.INTER_CUBIC
    piece = _as_uint8(cv2.resize(piece, (side, side), interpolation=mode))
    piece = np.rot90(piece, int(rng.integers(4)))
    return np.ascontiguousarray(piece[:, ::-1] if rng.random() < 0.5 else piece).astype(np.uint8)


def _vary(rng: np.random.Generator, canvases: list[RgbImage], side: int) -> RgbImage:
    """One finished image: a cut, perhaps with pieces of another cut or small damage, in changed light."""
    image = _cut(rng, canvases[int(rng.integers(len(canvases)))], side)
    if rng.random() < 0.4:
        image = _paste(rng, image, _cut(rng, canvases[int(rng.integers(len(canvases)))], side))
    if rng.random() < 0.4:
        image = _damage(rng, image)
    return _photograph(rng, image)


def _paste(rng: np.random.Generator, image: RgbImage, other: RgbImage) -> RgbImage:
    """The image with pieces of another one, with hard or soft edges, or the mean of the two images."""
    side = image.shape[0]
    if rng.random() < 0.25:
        return cv2.addWeighted(image, 0.5, other, 0.5, 0).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        radius = float(np.exp(rng.uniform(np.log(5), np.log(side / 2))))
        cv2.fillPoly(
            mask, [_random_outline(rng, radius) + rng.integers(0, side, 2).astype(np.int32)], 255, cv2.LINE_AA
        )
    if rng.random() < 0.5:
        mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.7, 5))).astype(np.uint8)
    return _blend(image, other, mask.astype(np.float32) / 255)


def _damage(rng: np.random.Generator, image: RgbImage) -> RgbImage:
    """The image with scratches, pits, stains or chips: small areas that differ from a regular surface."""
    side = image.shape[0]
    for _ in range(int(rng.integers(1, 5))):
        mask = np.zeros((side, side), np.uint8)
        start = rng.integers(0, side, 2)
        if rng.random() < 0.5:
            path = start + np.cumsum(rng.normal(0, 6, (6, 2)) + rng.normal(0, 8, 2), axis=0)
            points = np.round(path).astype(np.int32)[:, None, :]
            cv2.polylines(mask, [points], False, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
        else:
            radius = float(np.exp(rng.uniform(0.3, 2.8)))
            cv2.fillPoly(mask, [_random_outline(rng, radius) + start.astype(np.int32)], 255, cv2.LINE_AA)
        if rng.random() < 0.5:
            mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 2))).astype(np.uint8)
        share = mask.astype(np.float32) / 255 * np.float32(rng.uniform(0.3, 1))
        if rng.random() < 0.5:
            image = _light(image, 1 + np.float32(rng.uniform(-0.9, 0.8)) * share)
        else:
            image = _blend(image, np.full_like(image, _random_colour(rng)), share)
    return image


def _photograph(rng: np.random.Generator, image: RgbImage) -> RgbImage:
    """The image as a camera could see it: grey or other colours, exposure, uneven light, blur, noise."""
    side = image.shape[0]
    scene = image.astype(np.float32)
    choice = rng.random()
    if choice < 0.33:
        weights = rng.dirichlet([3, 3, 3]).astype(np.float32)
        scene = np.repeat((scene @ weights)[..., None], 3, axis=2)
    elif choice < 0.6:
        mix = np.eye(3) + rng.normal(0, 0.35, (3, 3))
        scene = scene @ (mix / mix.sum(axis=0, keepdims=True).clip(0.4)).astype(np.float32)
    if rng.random() < 0.3:
        ramp = cv2.resize(rng.uniform(0.4, 1.3, (2, 2)).astype(np.float32), (side, side))
        scene = scene * ramp[..., None]
    if rng.random() < 0.7:
        scene = (scene - 128) * np.float32(rng.uniform(0.3, 1.4)) + np.float32(128 + rng.normal(0, 35))
    if rng.random() < 0.3:
        scene = _as_float32(cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.4, 2.2))))
    if rng.random() < 0.4:
        grain = rng.standard_normal((side, side, 1 if rng.random() < 0.5 else 3), dtype=np.float32)
        scene = scene + grain * np.float32(np.exp(rng.uniform(0, 2.9)))
    return np.clip(scene, 0, 255).astype(np.uint8)
