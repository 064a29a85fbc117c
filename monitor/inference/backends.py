"""Backends: the device, runtime and precision that a recipe runs with on this machine.

It knows nothing of images or networks.
"""

from __future__ import annotations

import importlib.util

import torch

from monitor.inference.second_look import first_look_limit, quick_pass_limit
from monitor.model.recipe_json import REFERENCE, Calibration, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.system.processor import has_native_bf16

TORCH = "torch"
OPENVINO = "openvino"
F32 = "f32"
F16 = "f16"
BF16 = "bf16"
INT8 = "int8"
MIN_INT8_CORRELATION = 0.98
"""Below this rank correlation of its scores with float32's scores, int8 is not recommended."""

MAX_MAP_DIFFERENCE = {F32: 1e-4, F16: 1e-2, BF16: 0.2}
"""The largest difference of a map from the plain network's on the same input: max |a - b| / max |b|."""


def choose_device(name: str) -> torch.device:
    """The device of that name: auto (CUDA if there is one), cpu, cuda or cuda:N. Raises RecipeError."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index == "" or index.isdecimal()):
        raise RecipeError(f"device {name!r} is not known: use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        found = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
        raise RecipeError(
            f"device {name!r}: this machine has {found}: use {'cuda' if count else 'cpu'} or auto"
        )
    return torch.device("cuda", int(index or 0))


def choose_runtime(name: str, device: str) -> tuple[str, torch.device]:
    """The runtime, and the device that it runs on. Raises RecipeError.

    "auto" takes OpenVINO on a CPU, because it was faster than torch on every CPU that was measured.
    """
    if name not in ("auto", TORCH, OPENVINO):
        raise RecipeError(f"runtime {name!r} is not known: use auto, torch or openvino")
    if name == OPENVINO and not has_openvino():
        raise RecipeError(
            'runtime "openvino" is not installed: pip install "line-monitor[openvino]", or use auto or torch'
        )
    chosen = choose_device("cpu" if name == OPENVINO and device == "auto" else device)
    if name == OPENVINO and chosen.type != "cpu":
        raise RecipeError(f'runtime "openvino" runs on the CPU, not on {device!r}: use device cpu or auto')
    if name == "auto":
        name = OPENVINO if chosen.type == "cpu" and has_openvino() else TORCH
    return name, chosen


def choose_precision(name: str, runtime: str, device: torch.device, recipe: RecipeVersion) -> str:
    """The precision of that name on that runtime and device. Raises RecipeError.

    "auto" is float16 on a CUDA device and float32 elsewhere; `monitor.inference.backend_choice` measures
    whether another one is faster on this CPU.
    """
    if name not in ("auto", F32, BF16, F16, INT8):
        raise RecipeError(f"precision {name!r} is not known: use auto, f32, bf16, f16 or int8")
    if name == INT8 and runtime != OPENVINO:
        where = "on a CPU" if device.type == "cuda" else 'there (pip install "line-monitor[openvino]")'
        raise RecipeError(f'precision "int8" runs on OpenVINO, {where}: use auto or f32')
    if name == INT8 and recipe.quantised is None:
        raise RecipeError(
            f'{recipe.folder}: precision "int8": the recipe has no int8 model: train it again with --int8 '
            'where OpenVINO and NNCF are (pip install "line-monitor[openvino]"), or use auto or f32'
        )
    if name == BF16 and (problem := bf16_problem(runtime, device, recipe)):
        raise RecipeError(f'{recipe.folder}: precision "bf16": {problem}, or use auto or f32')
    if device.type == "cuda":
        return F32 if name == F32 else F16
    if name == F16:
        raise RecipeError('precision "f16" is slower than f32 on a CPU: use auto or f32, or a CUDA device')
    return F32 if name == "auto" else name


def bf16_problem(runtime: str, device: torch.device, recipe: RecipeVersion) -> str:
    """Why the recipe can't run in bfloat16 with that runtime here, with the fix; empty where it can."""
    if device.type == "cuda":
        return "a CUDA device is faster in f16: use f16"
    if not has_native_bf16():
        return "this processor has no bfloat16 instructions: use a CPU with AVX512-BF16 or AMX"
    if f"{runtime}-{BF16}" not in recipe.document.first_looks:
        return (
            f"it is not known how far {runtime}'s bf16 scores of this recipe are from f32's: run on such a "
            f"machine: line-monitor calibrate {recipe.name} --images DIR, with new images of good parts"
        )
    return ""


def calibration_of(recipe: RecipeVersion, runtime: str, precision: str) -> Calibration:
    """A recipe's calibration for a runtime and precision; the reference's where the recipe has none for them.

    Raises RecipeError for int8 without a calibration for int8: the int8 model was then never compared with
    the reference.
    """
    found, key = recipe.document.calibration, f"{runtime}-{precision}"
    if precision == INT8 and key not in found:
        raise RecipeError(
            f"{recipe.folder}: no threshold for {key}: calibrate it where OpenVINO is installed, "
            "or use precision f32"
        )
    if precision == BF16:
        # float32 judges every part near the threshold, so its threshold counts.
        key = f"{runtime}-{F32}"
    return found.get(key, found[REFERENCE])


def quick_limit_of(recipe: RecipeVersion, runtime: str, precision: str, threshold: float) -> float:
    """The highest score in bfloat16 or int8 that passes a part without a score in float32."""
    document = recipe.document
    if precision == BF16:
        return first_look_limit(document.first_looks.get(f"{runtime}-{BF16}"), threshold)
    return quick_pass_limit(document.quantised.pairs if document.quantised else (), threshold)


def available_backends(recipe: RecipeVersion, device: torch.device) -> tuple[tuple[str, str], ...]:
    """Every runtime and precision that gets a calibration of its own here, the reference first.

    torch runs on `device`, OpenVINO on the CPU. bfloat16 has float32's calibration.
    """
    found = [(TORCH, precision) for precision in torch_precisions(device)]
    if has_openvino():
        found += [(OPENVINO, F32)] + [(OPENVINO, INT8)] * (recipe.quantised is not None)
    return tuple(found)


def torch_precisions(device: torch.device) -> tuple[str, ...]:
    """The precisions that torch supports on a device, float32 first."""
    return (F32, F16) if device.type == "cuda" else (F32,)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def can_quantise() -> bool:
    """Whether the packages that make int8 models are installed."""
    return has_openvino() and importlib.util.find_spec("nncf") is not None
