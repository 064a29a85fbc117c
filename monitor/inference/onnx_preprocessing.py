"""Preprocessing as an ONNX graph: `monitor.images.preprocessing.prepare` for runtimes without this program.

The graph must repeat the steps of `monitor.images.preprocessing` to the grey level, because a recipe's
threshold was computed with those steps. A graph can't call OpenCV, so it computes the weights of a resize
from the frame's shape and rounds where OpenCV rounds. This module knows nothing of networks, recipes or
files.
"""

from __future__ import annotations

import onnx
import onnx.parser

from monitor.images.preprocessing import DEVIATION, HALVED_FROM, MEAN

OPSET = 18
IMAGE = "image"
PREPARED = "prepared"

MAX_PIXELS = 2**29
"""Frames of up to this many pixels are halved as often as in `monitor.images.preprocessing`. For larger
frames the last halvings may be missing: their pixels are averaged in the next step, but rounded less
often."""

_HALVING = """
  fits_{turn} = GreaterOrEqual(shape_{turn}, halved_targets)
  rest_{turn} = Mod(shape_{turn}, two)
  even_{turn} = Equal(rest_{turn}, zero)
  both_{turn} = And(fits_{turn}, even_{turn})
  counted_{turn} = Cast<to=7>(both_{turn})
  on_{turn} = ReduceMin(counted_{turn})
  off_{turn} = Sub(ones, on_{turn})
  shape_if_on_{turn} = Mul(shape_{turn}, on_{turn})
  shape_on_{turn} = Add(shape_if_on_{turn}, off_{turn})
  larger_{turn} = Slice(levels_{turn}, corner, shape_on_{turn}, plane)
  counts_{turn} = Cast<to=1>(larger_{turn})
  mean_{turn} = AveragePool<kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 1, 1]>(counts_{turn})
  above_{turn} = Add(mean_{turn}, half)
  smaller_{turn} = Floor(above_{turn})
  levels_{next} = Cast<to=2>(smaller_{turn})
  divisor_{turn} = Add(ones, on_{turn})
  shape_{next} = Div(shape_{turn}, divisor_{turn})
  ends_{turn} = Sub(previous_{turn}, on_{turn})
  previous_{next} = Identity(on_{turn})
"""
"""One halving: it halves the frame if both sides are long enough and even; then `on` is 1.

There is no Loop operation, because OpenVINO's (2026.4) returns an earlier frame's result when the number of
turns differs and the result's shape does not. The graph therefore has the largest number of halvings for
every frame. After a frame's last halving only its first pixel passes through the rest. The padding is needed
for this pixel alone and does not change its value. `ends` is 1 at the first turn without a halving."""

_COLLECTING = """
  shape_kept_{turn} = Mul(shape_{turn}, ends_{turn})
  kept_{turn} = Slice(levels_{turn}, corner, shape_kept_{turn}, plane)
  flat_{turn} = Reshape(kept_{turn}, last)
"""
"""The frame's values as one row where `ends` is 1, and an empty row elsewhere. All rows together are the
frame after its last halving."""

_AREA_WEIGHTS = """
  {axis}_pixels = Gather(halved, {axis}_index)
  {axis}_most = Constant<value_int = {target}>()
  {axis}_cells = Min({axis}_pixels, {axis}_most)
  {axis}_divisors = Constant<value_ints = {divisors}>()
  {axis}_left_over = Mod({axis}_pixels, {axis}_divisors)
  {axis}_divides = Equal({axis}_left_over, zero)
  {axis}_divided = Where({axis}_divides, {axis}_divisors, ones)
  {axis}_greatest = ReduceMax<keepdims=0>({axis}_divided)
  {axis}_is_reduced = Greater({axis}_pixels, {axis}_most)
  {axis}_common = Where({axis}_is_reduced, {axis}_greatest, {axis}_pixels)
  {axis}_of_cell = Div({axis}_pixels, {axis}_common)
  {axis}_of_pixel = Div({axis}_cells, {axis}_common)
  {axis}_row = Range(zero, {axis}_cells, one)
  {axis}_cell = Unsqueeze({axis}_row, last)
  {axis}_pixel = Range(zero, {axis}_pixels, one)
  {axis}_cell_begins = Mul({axis}_cell, {axis}_of_cell)
  {axis}_cell_ends = Add({axis}_cell_begins, {axis}_of_cell)
  {axis}_pixel_begins = Mul({axis}_pixel, {axis}_of_pixel)
  {axis}_pixel_ends = Add({axis}_pixel_begins, {axis}_of_pixel)
  {axis}_from = Max({axis}_cell_begins, {axis}_pixel_begins)
  {axis}_to = Min({axis}_cell_ends, {axis}_pixel_ends)
  {axis}_shared = Sub({axis}_to, {axis}_from)
  {axis}_overlap = Max({axis}_shared, zero)
  {axis}_weights = Cast<to=1>({axis}_overlap)
  {axis}_in_all = Cast<to=1>({axis}_of_cell)
  {axis}_blocks = Equal({axis}_of_pixel, one)
"""
"""The weights of an area average along one axis: `weights`, (cells, pixels).

A weight is the length of the pixel within the cell. Its unit is the largest one in which all weights are
integers; a cell has the length `in_all`. A sum below 2^24, as for usual cameras, is therefore exact, and a
mean halfway between two grey levels stays exactly there in whatever order a runtime adds. Where the axis is
not reduced, each pixel is a cell."""

_BILINEAR_WEIGHTS = """
  {axis}_cells_here = Cast<to=1>({axis}_cells)
  {axis}_target = Cast<to=1>({axis}_most)
  {axis}_enlarged_scale = Div({axis}_cells_here, {axis}_target)
  {axis}_enlarged = Range(zero_float, {axis}_target, one_float)
  {axis}_middle = Add({axis}_enlarged, half)
  {axis}_place = Mul({axis}_middle, {axis}_enlarged_scale)
  {axis}_centred = Sub({axis}_place, half)
  {axis}_before = Floor({axis}_centred)
  {axis}_after = Add({axis}_before, one_float)
  {axis}_edge = Sub({axis}_cells_here, one_float)
  {axis}_before_inside = Clip({axis}_before, zero_float, {axis}_edge)
  {axis}_after_inside = Clip({axis}_after, zero_float, {axis}_edge)
  {axis}_first = Cast<to=7>({axis}_before_inside)
  {axis}_second = Cast<to=7>({axis}_after_inside)
  {axis}_share = Sub({axis}_centred, {axis}_before)
  {axis}_counted = Mul({axis}_share, whole)
  {axis}_far = Round({axis}_counted)
  {axis}_near = Sub(whole, {axis}_far)
"""
"""The weights of a bilinear enlargement along one axis: for each pixel of the result the two cells beside it
(`first`, `second`) and their weights (`near`, `far`), in 2048ths as in OpenCV. Where the axis is not
enlarged, each cell is a pixel."""

_GRAPH = """
<ir_version: 8, opset_import: ["": {opset}]>
preparation (uint8[1, height, width, 3] image) => (float[1, 3, {rows}, {columns}] prepared)
{{
  zero_float = Constant<value_float = 0.0>()
  half = Constant<value_float = 0.5>()
  one_float = Constant<value_float = 1.0>()
  zero = Constant<value_int = 0>()
  one = Constant<value_int = 1>()
  two = Constant<value_int = 2>()
  ones = Constant<value_ints = [1]>()
  last = Constant<value_ints = [-1]>()
  corner = Constant<value_ints = [0, 0]>()
  plane = Constant<value_ints = [2, 3]>()
  one_frame = Constant<value_ints = [1, 3]>()
  whole = Constant<value_float = 2048.0>()
  sixteenth = Constant<value_float = 0.0625>()
  fraction = Constant<value_float = 0.0000152587890625>()
  quarter = Constant<value_float = 0.25>()
  two_levels = Constant<value_float = 2.0>()
  two_targets = Constant<value_ints = [{two_rows}, {two_columns}]>()
  halved_targets = Constant<value_ints = [{halved_rows}, {halved_columns}]>()
  rows_index = Constant<value_int = 0>()
  columns_index = Constant<value_int = 1>()

  levels_0 = Transpose<perm = [0, 3, 1, 2]>(image)
  shape_0 = Shape<start = 2>(levels_0)
  previous_0 = Identity(ones)
  {halvings}
  ends_{turns} = Identity(previous_{turns})
  {collecting}
  small_row = Concat<axis = 0>({flats})
  halved = Identity(shape_{turns})
  small_shape = Concat<axis = 0>(one_frame, halved)
  small_levels = Reshape(small_row, small_shape)
  small = Cast<to=1>(small_levels)

  {area_weights_rows}
  {area_weights_columns}
  columns_across = Transpose<perm = [1, 0]>(columns_weights)
  fewer_rows = MatMul(rows_weights, small)
  sums = MatMul(fewer_rows, columns_across)
  in_all = Mul(rows_in_all, columns_in_all)
  exact_means = Div(sums, in_all)
  inverse = Div(one_float, in_all)
  block_means = Mul(sums, inverse)
  are_blocks = And(rows_blocks, columns_blocks)
  means_of_cells = Where(are_blocks, block_means, exact_means)
  to_even = Round(means_of_cells)
  raised = Add(means_of_cells, half)
  upwards = Floor(raised)
  twice = Equal(halved, two_targets)
  twice_counted = Cast<to=7>(twice)
  twice_both = ReduceMin<keepdims=0>(twice_counted)
  is_twice = Cast<to=9>(twice_both)
  averaged = Where(is_twice, upwards, to_even)

  {bilinear_weights_rows}
  {bilinear_weights_columns}
  left = Gather<axis = 3>(averaged, columns_first)
  right = Gather<axis = 3>(averaged, columns_second)
  of_left = Mul(left, columns_near)
  of_right = Mul(right, columns_far)
  across = Add(of_left, of_right)
  across_cut = Mul(across, sixteenth)
  wide = Floor(across_cut)
  rows_near_each = Unsqueeze(rows_near, last)
  rows_far_each = Unsqueeze(rows_far, last)
  upper = Gather<axis = 2>(wide, rows_first)
  lower = Gather<axis = 2>(wide, rows_second)
  of_upper = Mul(upper, rows_near_each)
  of_lower = Mul(lower, rows_far_each)
  upper_cut = Mul(of_upper, fraction)
  lower_cut = Mul(of_lower, fraction)
  upper_part = Floor(upper_cut)
  lower_part = Floor(lower_cut)
  down = Add(upper_part, lower_part)
  down_raised = Add(down, two_levels)
  in_levels = Mul(down_raised, quarter)
  resized = Floor(in_levels)

  order = Constant<value_ints = [2, 1, 0]>()
  red_first = Gather<axis = 1>(resized, order)
  means = Constant<value = float[1, 3, 1, 1] {{ {means} }}>()
  deviations = Constant<value = float[1, 3, 1, 1] {{ {deviations} }}>()
  centred = Sub(red_first, means)
  normalised = Div(centred, deviations)
  known = Constant<value_ints = [1, 3, {rows}, {columns}]>()
  prepared = Reshape(normalised, known)
}}
"""


def build_preprocessing(rows: int, columns: int) -> onnx.ModelProto:
    """A model from `image`, uint8 (1, H, W, 3) BGR of any H and W, to `prepared`, float32 (1, 3, rows,
    columns), ImageNet-normalised RGB."""
    turns = _halvings(rows, columns)
    text = _GRAPH.format(
        opset=OPSET,
        rows=rows,
        columns=columns,
        two_rows=2 * rows,
        two_columns=2 * columns,
        halved_rows=HALVED_FROM * rows,
        halved_columns=HALVED_FROM * columns,
        halvings="".join(_HALVING.format(turn=turn, next=turn + 1) for turn in range(turns)),
        collecting="".join(_COLLECTING.format(turn=turn) for turn in range(turns + 1)),
        turns=turns,
        flats=", ".join(f"flat_{turn}" for turn in range(turns + 1)),
        area_weights_rows=_AREA_WEIGHTS.format(axis="rows", target=rows, divisors=_divisors(rows)),
        area_weights_columns=_AREA_WEIGHTS.format(
            axis="columns", target=columns, divisors=_divisors(columns)
        ),
        bilinear_weights_rows=_BILINEAR_WEIGHTS.format(axis="rows"),
        bilinear_weights_columns=_BILINEAR_WEIGHTS.format(axis="columns"),
        means=", ".join(f"{255 * mean:.9g}" for mean in MEAN),
        deviations=", ".join(f"{255 * deviation:.9g}" for deviation in DEVIATION),
    )
    return onnx.parser.parse_model(text)


def _halvings(rows: int, columns: int) -> int:
    """The number of halvings of a frame of MAX_PIXELS for a network input of that size; at least 1."""
    turns = 1
    while 4 ** (turns + 1) * rows * columns <= MAX_PIXELS:
        turns += 1
    return turns


def _divisors(length: int) -> list[int]:
    return [divisor for divisor in range(1, length + 1) if length % divisor == 0]
