"""`monitor.images.prepare` as an ONNX graph, for runtimes that are not ours.

Must follow `images.squashed` step by step, to the grey level: a recipe's threshold holds for what is made of
an image there. A graph can't call OpenCV, so it makes the weights of a resize from the frame's shape, and
rounds where OpenCV rounds.
"""

from __future__ import annotations

import onnx
import onnx.parser

from monitor.images import DEVIATION, HALVED_FROM, MEAN

OPSET = 18
IMAGE = "image"
PREPARED = "prepared"

_HALVINGS = 16
"""More than any frame has: each is at most 65,536 times the network's input."""

_HALVED = """
  fits_{turn} = GreaterOrEqual(shape_{turn}, halved_targets)
  rest_{turn} = Mod(shape_{turn}, two)
  even_{turn} = Equal(rest_{turn}, zero)
  both_{turn} = And(fits_{turn}, even_{turn})
  counted_{turn} = Cast<to=7>(both_{turn})
  least_{turn} = ReduceMin<keepdims=0>(counted_{turn})
  {found} = Cast<to=9>(least_{turn})
"""
"""Whether a frame of this shape is to be halved (again)."""

_SHRINKING = """
  {axis}_length = Gather(halved, {axis}_index)
  {axis}_pixels = Cast<to=1>({axis}_length)
  {axis}_cells = Min({axis}_pixels, {axis}_target)
  {axis}_scale = Div({axis}_pixels, {axis}_cells)
  {axis}_row = Range(nought, {axis}_cells, one)
  {axis}_cell = Unsqueeze({axis}_row, last)
  {axis}_pixel = Range(nought, {axis}_pixels, one)
  {axis}_next_pixel = Add({axis}_pixel, one)
  {axis}_next_cell = Add({axis}_cell, one)
  {axis}_begins = Mul({axis}_cell, {axis}_scale)
  {axis}_ends = Mul({axis}_next_cell, {axis}_scale)
  {axis}_from = Max({axis}_begins, {axis}_pixel)
  {axis}_to = Min({axis}_ends, {axis}_next_pixel)
  {axis}_shared = Sub({axis}_to, {axis}_from)
  {axis}_overlap = Max({axis}_shared, nought)
  {axis}_weights = Div({axis}_overlap, {axis}_scale)
"""
"""`weights`, (cells, pixels): a pixel counts by how much of it lies in the cell. Where the axis does not
shrink, each pixel is a cell."""

_GROWING = """
  {axis}_grown_scale = Div({axis}_cells, {axis}_target)
  {axis}_grown = Range(nought, {axis}_target, one)
  {axis}_middle = Add({axis}_grown, half)
  {axis}_place = Mul({axis}_middle, {axis}_grown_scale)
  {axis}_centred = Sub({axis}_place, half)
  {axis}_before = Floor({axis}_centred)
  {axis}_after = Add({axis}_before, one)
  {axis}_edge = Sub({axis}_cells, one)
  {axis}_before_inside = Clip({axis}_before, nought, {axis}_edge)
  {axis}_after_inside = Clip({axis}_after, nought, {axis}_edge)
  {axis}_first = Cast<to=7>({axis}_before_inside)
  {axis}_second = Cast<to=7>({axis}_after_inside)
  {axis}_share = Sub({axis}_centred, {axis}_before)
  {axis}_counted = Mul({axis}_share, whole)
  {axis}_far = Round({axis}_counted)
  {axis}_near = Sub(whole, {axis}_far)
"""
"""Between which two cells each pixel of the result lies, and what they count for in OpenCV's 2048ths. Where
the axis does not grow, each cell is a pixel."""

_GRAPH = """
<ir_version: 8, opset_import: ["": {opset}]>
preparation (uint8[1, height, width, 3] image) => (float[1, 3, {rows}, {columns}] prepared)
{{
  nought = Constant<value_float = 0.0>()
  half = Constant<value_float = 0.5>()
  one = Constant<value_float = 1.0>()
  zero = Constant<value_int = 0>()
  two = Constant<value_int = 2>()
  last = Constant<value_ints = [-1]>()
  whole = Constant<value_float = 2048.0>()
  sixteenth = Constant<value_float = 0.0625>()
  fraction = Constant<value_float = 0.0000152587890625>()
  quarter = Constant<value_float = 0.25>()
  two_levels = Constant<value_float = 2.0>()
  two_targets = Constant<value_ints = [{two_rows}, {two_columns}]>()
  halved_targets = Constant<value_ints = [{halved_rows}, {halved_columns}]>()
  most = Constant<value_int = {most}>()
  rows_index = Constant<value_int = 0>()
  columns_index = Constant<value_int = 1>()
  rows_target = Constant<value_float = {rows}.0>()
  columns_target = Constant<value_float = {columns}.0>()

  planes = Transpose<perm = [0, 3, 1, 2]>(image)
  levels = Cast<to = 1>(planes)
  shape_before = Shape<start = 2>(levels)
  {before}
  small = Loop(most, begin, levels) <body = halving
    (int64 turn, bool going, float[1, 3, rows_in, columns_in] larger)
    => (bool again, float[1, 3, rows_out, columns_out] smaller)
  {{
    mean = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(larger)
    above = Add(mean, half)
    smaller = Floor(above)
    shape_after = Shape<start = 2>(smaller)
    {after}
  }}>
  halved = Shape<start = 2>(small)

  {shrinking_rows}
  {shrinking_columns}
  columns_across = Transpose<perm = [1, 0]>(columns_weights)
  fewer_rows = MatMul(rows_weights, small)
  means_of_cells = MatMul(fewer_rows, columns_across)
  to_even = Round(means_of_cells)
  raised = Add(means_of_cells, half)
  upwards = Floor(raised)
  twice = Equal(halved, two_targets)
  twice_counted = Cast<to=7>(twice)
  twice_both = ReduceMin<keepdims=0>(twice_counted)
  is_twice = Cast<to=9>(twice_both)
  shrunk = Where(is_twice, upwards, to_even)

  {growing_rows}
  {growing_columns}
  left = Gather<axis = 3>(shrunk, columns_first)
  right = Gather<axis = 3>(shrunk, columns_second)
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
  squashed = Floor(in_levels)

  order = Constant<value_ints = [2, 1, 0]>()
  red_first = Gather<axis = 1>(squashed, order)
  means = Constant<value = float[1, 3, 1, 1] {{ {means} }}>()
  deviations = Constant<value = float[1, 3, 1, 1] {{ {deviations} }}>()
  centred = Sub(red_first, means)
  normalised = Div(centred, deviations)
  known = Constant<value_ints = [1, 3, {rows}, {columns}]>()
  prepared = Reshape(normalised, known)
}}
"""


def preparation(rows: int, columns: int) -> onnx.ModelProto:
    """A model from `image`, uint8 (1, H, W, 3) BGR of any H and W, to `prepared`, float32 (1, 3, rows,
    columns), RGB, ImageNet-normalised."""
    text = _GRAPH.format(
        opset=OPSET,
        rows=rows,
        columns=columns,
        two_rows=2 * rows,
        two_columns=2 * columns,
        halved_rows=HALVED_FROM * rows,
        halved_columns=HALVED_FROM * columns,
        most=_HALVINGS,
        before=_HALVED.format(turn="before", found="begin"),
        after=_HALVED.format(turn="after", found="again"),
        shrinking_rows=_SHRINKING.format(axis="rows"),
        shrinking_columns=_SHRINKING.format(axis="columns"),
        growing_rows=_GROWING.format(axis="rows"),
        growing_columns=_GROWING.format(axis="columns"),
        means=", ".join(f"{255 * mean:.9g}" for mean in MEAN),
        deviations=", ".join(f"{255 * deviation:.9g}" for deviation in DEVIATION),
    )
    return onnx.parser.parse_model(text)
