"""Draws photograph-like images from nothing but a seeded random generator.

The material a carried teacher is distilled on: textures, leaves that hide each other, shaded bodies, prints,
fibres, punched sheets, and small local edits such as scratches, stains and pasted pieces. Large canvases are
drawn once and cut into many small images, because cutting is fifty times cheaper than drawing.

Must never read an image from disk, use a photograph, or draw from a generator other than the one given: the
lineage of a carried teacher says "procedural images only", and the same seed must give the same images.
"""

from __future__ import annotations

import string
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]  # (rows, cols, 3), RGB
Mask = NDArray[np.floating]  # (rows, cols), mostly 0..1
Field = NDArray[np.float32]  # (rows, cols), mostly 0..1


def image_batches(
    *, seed: int, side: int, batch: int, pool: int = 64, canvas_side: int = 384, uses: int = 48
) -> Iterator[Image]:
    """Endless batches of procedural images, the same ones for the same arguments.

    `pool` canvases of `canvas_side` pixels are kept; after every `uses` images cut the oldest is drawn anew.
    Yields uint8 arrays (batch, side, side, 3), RGB.
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


def draw_canvas(rng: np.random.Generator, side: int) -> Image:
    """One large procedural picture, uint8 (side, side, 3), RGB."""
    kinds = (_textured, _relief, _leaves, _leaves, _bodies, _bodies, _print, _fibres, _punched, _patchwork)
    canvas = kinds[int(rng.integers(len(kinds)))](rng, side)
    if rng.random() < 0.3:
        canvas = _rotate(rng, canvas)
    return canvas


def _bytes(values: ArrayLike) -> Image:
    return np.clip(values, 0, 255).astype(np.uint8)


def _floats(values: ArrayLike) -> Field:
    return np.asarray(values, dtype=np.float32)


# --- fields: grey patterns between 0 and 1 ---------------------------------------------------------------


def _stretch(field: NDArray[np.float32]) -> Field:
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def _noise(rng: np.random.Generator, side: int, *, stretch: float = 1.0) -> Field:
    """Noise of several octaves; `stretch` > 1 draws it out along the rows."""
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
    return _stretch(field)


def _coordinates(rng: np.random.Generator, side: int, warp: float) -> tuple[Field, Field]:
    """Two rotated pixel coordinates, each bent by up to `warp` pixels."""
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = c * xs + s * ys, c * ys - s * xs
    if warp > 0:
        u = u + np.float32(warp) * (_noise(rng, side) - np.float32(0.5))
        v = v + np.float32(warp) * (_noise(rng, side) - np.float32(0.5))
    return u, v


def _wave(rng: np.random.Generator, along: Field) -> Field:
    """A periodic profile over a coordinate: sine, bars of some duty, saw or ridges."""
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
    return _floats(wave)


def _grating(rng: np.random.Generator, side: int) -> Field:
    """Bars, checks, weaves, rings, straight or bent."""
    u, v = _coordinates(rng, side, float(rng.choice([0, 0, 10, 40, 120])))
    shape = rng.integers(4)
    if shape == 0:
        return _wave(rng, u)
    if shape == 1:
        return _stretch(_wave(rng, u) * _wave(rng, v))
    if shape == 2:
        return np.maximum(_wave(rng, u), _wave(rng, v))
    radius = np.hypot(u - np.float32(rng.uniform(u.min(), u.max())), v - np.float32(rng.uniform(0, side)))
    return _wave(rng, radius.astype(np.float32))


def _cells(rng: np.random.Generator, side: int) -> Field:
    """Grains around random points: flat ones, domes, or the cracks between them."""
    seeds = np.full((side, side), 255, np.uint8)
    count = int(np.exp(rng.uniform(np.log(12), np.log(1500))))
    seeds[rng.integers(side, size=count), rng.integers(side, size=count)] = 0
    distance, label = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    shape = rng.integers(3)
    if shape == 0:
        return _stretch(distance.astype(np.float32))
    flat = _floats(rng.random(count + 2)[label])
    if shape == 1:
        return flat
    edges = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0.02
    return _floats(np.where(edges, rng.random(), 0.5 + 0.3 * (flat - 0.5)))


def _speckle(rng: np.random.Generator, side: int) -> Field:
    """Thresholded or blurred fine noise: grit, sand, pores."""
    field = rng.standard_normal((side, side), dtype=np.float32)
    field = _floats(cv2.GaussianBlur(field, (0, 0), float(rng.uniform(0.5, 3.5))))
    field = field / np.float32(max(float(field.std()), 1e-6))
    if rng.random() < 0.5:
        return _floats(np.clip((field - rng.uniform(-1, 2.2)) * rng.uniform(1, 8), 0, 1))
    return _stretch(field)


def _field(rng: np.random.Generator, side: int) -> Field:
    """Any of the patterns, or two of them mixed."""
    shape = rng.random()
    if shape < 0.3:
        field = _noise(rng, side)
    elif shape < 0.45:
        field = _noise(rng, side, stretch=float(rng.uniform(3, 40)))
    elif shape < 0.65:
        field = _grating(rng, side)
    elif shape < 0.8:
        field = _cells(rng, side)
    else:
        field = _speckle(rng, side)
    if rng.random() < 0.4:
        other = _noise(rng, side) if rng.random() < 0.5 else _speckle(rng, side)
        share = np.float32(rng.uniform(0.05, 0.5))
        field = (1 - share) * field + share * other
    return field


# --- colour and light ------------------------------------------------------------------------------------


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """A colour, RGB 0..255; often a near grey, as most of the world is."""
    grey = rng.uniform(0, 255)
    spread = rng.choice([4.0, 25.0, 60.0, 120.0])
    return np.clip(grey + rng.normal(0, spread, 3), 0, 255).astype(np.float32)


def _paint(rng: np.random.Generator, field: Field) -> Image:
    """Colours a field by a random gradient of two to five colours."""
    stops = int(rng.integers(2, 6))
    places = np.concatenate([[0.0], np.sort(rng.random(stops - 2)), [1.0]])
    colours = np.stack([_colour(rng) for _ in range(stops)])
    levels = np.linspace(0, 1, 256)
    table = np.stack([np.interp(levels, places, colours[:, c]) for c in range(3)], axis=1).astype(np.uint8)
    return table[(np.clip(field, 0, 1) * 255).astype(np.uint8)]


def _shade(rng: np.random.Generator, height: Field, relief: float) -> Field:
    """Light on a height map (`relief` in pixels): diffuse and some gloss; about 0..1.3."""
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * np.float32(relief / 8)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * np.float32(relief / 8)
    length = np.sqrt(dx * dx + dy * dy + 1)
    tilt, turn = rng.uniform(0.2, 1.2), rng.uniform(0, 2 * np.pi)
    light = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)], np.float32)
    diffuse = np.clip((light[2] - light[0] * dx - light[1] * dy) / length, 0, 1)
    gloss = np.float32(rng.choice([0.0, 0.0, 0.3, 0.8]))
    ambient = np.float32(rng.uniform(0.05, 0.5))
    return _floats(ambient + (1 - ambient) * diffuse + gloss * diffuse ** rng.uniform(8, 60))


def _light(image: Image, shade: Mask) -> Image:
    return _bytes(image * shade[..., None])


def _blend(below: Image, above: Image, mask: Mask) -> Image:
    share = mask[..., None]
    return _bytes(below * (1 - share) + above * share)


def _rotate(rng: np.random.Generator, image: Image) -> Image:
    side = image.shape[0]
    turn = cv2.getRotationMatrix2D(
        (side / 2, side / 2), float(rng.uniform(0, 360)), float(rng.uniform(1, 1.4))
    )
    return cv2.warpAffine(image, turn, (side, side), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


# --- canvases --------------------------------------------------------------------------------------------


def _textured(rng: np.random.Generator, side: int) -> Image:
    return _paint(rng, _field(rng, side))


def _relief(rng: np.random.Generator, side: int) -> Image:
    """A rough or machined surface under a lamp."""
    height = _field(rng, side)
    albedo = _textured(rng, side) if rng.random() < 0.3 else np.broadcast_to(_colour(rng), (side, side, 3))
    return _light(albedo.astype(np.uint8), _shade(rng, height, float(np.exp(rng.uniform(0.5, 4)))))


def _outline(rng: np.random.Generator, radius: float) -> NDArray[np.int32]:
    """A closed outline around 0: ellipse, polygon, star or smooth blob; int32 (points, 1, 2)."""
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


def _leaves(rng: np.random.Generator, side: int) -> Image:
    """Shapes of all sizes that hide each other: the statistics of natural scenes."""
    textures = [_textured(rng, side) for _ in range(3)]
    canvas = textures[0].copy()
    smallest = rng.uniform(3, 20)
    for _ in range(int(rng.integers(40, 220))):
        radius = min(smallest / (1 - rng.random()) ** 0.6, side / 2.5)
        centre = rng.integers(0, side, 2)
        outline = _outline(rng, radius) + centre.astype(np.int32)
        if rng.random() < 0.6:
            cv2.fillPoly(canvas, [outline], _colour(rng).tolist(), cv2.LINE_AA)
            continue
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [outline], 255)
        cv2.copyTo(textures[int(rng.integers(3))], mask, canvas)
    if rng.random() < 0.5:
        canvas = _light(canvas, 0.4 + 0.8 * _noise(rng, side))
    return canvas


def _bodies(rng: np.random.Generator, side: int) -> Image:
    """Solid things with a shaded surface and a shadow, before a background."""
    canvas = _relief(rng, side) if rng.random() < 0.5 else _textured(rng, side)
    for _ in range(int(rng.integers(2, 14))):
        radius = float(np.exp(rng.uniform(np.log(14), np.log(side / 3))))
        outline = _outline(rng, radius) + rng.integers(0, side, 2).astype(np.int32)
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA)
        # The depth inside an outline, bent, is a body's height: flat on top with round edges, or a dome.
        depth = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5).astype(np.float32)
        edge = float(rng.uniform(2, max(3.0, radius)))
        height = np.sqrt(np.clip(1 - (1 - np.clip(depth / edge, 0, 1)) ** 2, 0, 1)).astype(np.float32)
        height = cv2.GaussianBlur(height, (0, 0), float(max(0.8, edge / 10)))
        skin = (
            _textured(rng, side) if rng.random() < 0.4 else np.full((side, side, 3), _colour(rng), np.uint8)
        )
        body = _light(skin, _shade(rng, height, edge))
        shadow = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(1, 10))).astype(np.float32) / 255
        shadow = np.roll(shadow, rng.integers(-12, 13, 2), axis=(0, 1))
        canvas = _light(canvas, 1 - np.float32(rng.uniform(0, 0.7)) * shadow)
        canvas = _blend(canvas, body, mask.astype(np.float32) / 255)
    return canvas


def _print(rng: np.random.Generator, side: int) -> Image:
    """Letters, lines and figures on a ground, as on labels and housings."""
    ground = _textured(rng, side) if rng.random() < 0.4 else np.full((side, side, 3), _colour(rng), np.uint8)
    canvas = np.ascontiguousarray(ground)
    letters = list(string.ascii_letters + string.digits + " .-/")
    for _ in range(int(rng.integers(6, 50))):
        x, y = (int(v) for v in rng.integers(-30, side, 2))
        ink = _colour(rng).tolist()
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


def _fibres(rng: np.random.Generator, side: int) -> Image:
    """Hair, wire, wood fibre, scratches all over: many bent strokes in about one direction or in all."""
    canvas = np.ascontiguousarray(_textured(rng, side))
    turn, spread = rng.uniform(0, np.pi), rng.choice([0.1, 0.5, 3.0])
    inks = [_colour(rng).tolist() for _ in range(4)]
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


def _punched(rng: np.random.Generator, side: int) -> Image:
    """The same small thing repeated on a lattice with a little play: sheets, nets, boards, pills in trays."""
    canvas = np.ascontiguousarray(_relief(rng, side) if rng.random() < 0.5 else _textured(rng, side))
    pitch = float(rng.uniform(14, 90))
    outline = _outline(rng, pitch * float(rng.uniform(0.2, 0.5)))
    ink, rim = _colour(rng).tolist(), _colour(rng).tolist()
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


def _patchwork(rng: np.random.Generator, side: int) -> Image:
    """Two pictures meeting along a winding or straight border."""
    first, second = (kind(rng, side) for kind in (_leaves if rng.random() < 0.5 else _relief, _textured))
    field = _noise(rng, side) if rng.random() < 0.5 else _wave(rng, _coordinates(rng, side, 20.0)[0])
    mask = np.clip((field - np.float32(rng.uniform(0.3, 0.7))) * np.float32(rng.choice([3, 40, 200])), 0, 1)
    return _blend(first, second, mask.astype(np.float32))


# --- small images cut from canvases, each different -------------------------------------------------------


def _cut(rng: np.random.Generator, canvas: Image, side: int) -> Image:
    """A random square of a canvas at a random scale, turned and mirrored; (side, side, 3)."""
    whole = canvas.shape[0]
    extent = int(np.exp(rng.uniform(np.log(side * 0.5), np.log(min(whole, side * 2.8)))))
    y, x = (int(v) for v in rng.integers(0, whole - extent + 1, 2))
    piece = canvas[y : y + extent, x : x + extent]
    mode = cv2.INTER_AREA if extent > side else cv2.INTER_CUBIC
    piece = _bytes(cv2.resize(piece, (side, side), interpolation=mode))
    piece = np.rot90(piece, int(rng.integers(4)))
    return np.ascontiguousarray(piece[:, ::-1] if rng.random() < 0.5 else piece).astype(np.uint8)


def _vary(rng: np.random.Generator, canvases: list[Image], side: int) -> Image:
    """One finished image: a cut, perhaps with pieces of another one, small damage, other colour and light."""
    image = _cut(rng, canvases[int(rng.integers(len(canvases)))], side)
    if rng.random() < 0.4:
        image = _pasted(rng, image, _cut(rng, canvases[int(rng.integers(len(canvases)))], side))
    if rng.random() < 0.4:
        image = _damaged(rng, image)
    return _photographed(rng, image)


def _pasted(rng: np.random.Generator, image: Image, other: Image) -> Image:
    """A piece of another image, hard- or soft-edged, or the two laid over each other."""
    side = image.shape[0]
    if rng.random() < 0.25:
        return cv2.addWeighted(image, 0.5, other, 0.5, 0).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        radius = float(np.exp(rng.uniform(np.log(5), np.log(side / 2))))
        cv2.fillPoly(
            mask, [_outline(rng, radius) + rng.integers(0, side, 2).astype(np.int32)], 255, cv2.LINE_AA
        )
    if rng.random() < 0.5:
        mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.7, 5))).astype(np.uint8)
    return _blend(image, other, mask.astype(np.float32) / 255)


def _damaged(rng: np.random.Generator, image: Image) -> Image:
    """Scratches, pits, stains and chips: a few pixels that differ from a regular surface."""
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
            cv2.fillPoly(mask, [_outline(rng, radius) + start.astype(np.int32)], 255, cv2.LINE_AA)
        if rng.random() < 0.5:
            mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 2))).astype(np.uint8)
        share = mask.astype(np.float32) / 255 * np.float32(rng.uniform(0.3, 1))
        if rng.random() < 0.5:
            image = _light(image, 1 + np.float32(rng.uniform(-0.9, 0.8)) * share)
        else:
            image = _blend(image, np.full_like(image, _colour(rng)), share)
    return image


def _photographed(rng: np.random.Generator, image: Image) -> Image:
    """What cameras and lamps do: grey or other colours, exposure, gradients, blur, noise."""
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
        scene = _floats(cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.4, 2.2))))
    if rng.random() < 0.4:
        grain = rng.standard_normal((side, side, 1 if rng.random() < 0.5 else 3), dtype=np.float32)
        scene = scene + grain * np.float32(np.exp(rng.uniform(0, 2.9)))
    return np.clip(scene, 0, 255).astype(np.uint8)
