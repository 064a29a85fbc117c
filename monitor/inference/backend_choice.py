"""The fastest runtime and precision for a recipe on this CPU, among those that give float32's verdicts.

It knows nothing of cameras or settings. Where the runtime or the precision is "auto" on a CPU, the backends
that the recipe can run with are measured in turns for at most a second, and the choice is kept in the cache
folder by recipe version, processor, threads and versions of the libraries. The recipe never holds it: another
machine may have another one.

bfloat16 and int8 pass only clearly good parts (`monitor.inference.second_look`), so a backend's time is that
of its first look, and float32's on top for the share of the recipe's calibration scores above its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.images.preprocessing import Size, normalise_image
from monitor.inference.backend_network import build_network
from monitor.inference.backends import (
    BF16,
    F32,
    INT8,
    MAX_MAP_DIFFERENCE,
    OPENVINO,
    TORCH,
    bf16_problem,
    calibration_of,
    choose_precision,
    choose_runtime,
    has_openvino,
    quick_limit_of,
)
from monitor.inference.kept_choices import BackendChoice, KeptChoices, describe_machine
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.system.processor import has_native_bf16
from monitor.teachers.architectures import NetworkLock

AUTO = "auto"
SECONDS = 1.0
"""How long the networks run for the measurement, apart from the time to build them; where one run of each
takes longer, one run of each."""
MIN_GAIN = 0.9
"""Another backend than the usual one is taken if its time is at most this share of the usual one's. Smaller
differences are within the measurement's noise."""

_MOST_TURNS = 10
"""The largest number of runs of each network: small networks need no more."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class BackendWish:
    """What the settings ask for."""

    device: str = AUTO
    runtime: str = AUTO
    precision: str = AUTO


@dataclass(frozen=True)
class Backend:
    """A runtime and precision that a recipe can run with here."""

    runtime: str
    precision: str
    second_looks: float
    """The share of the calibration's good parts that get a second look."""

    @property
    def key(self) -> str:
        return f"{self.runtime}-{self.precision}"


def build_fastest_scorer(
    recipe: RecipeVersion,
    wish: BackendWish,
    cache: Path,
    *,
    network_lock: NetworkLock | None = None,
    say: Say = lambda line: None,
    measure: bool = True,
) -> Scorer:
    """The recipe's scorer on the backend that `choose_backend` chooses. Raises RecipeError."""
    choice = choose_backend(recipe, wish, cache, network_lock=network_lock, say=say, measure=measure)
    if choice.reason:
        say(f"recipe {recipe.name} runs on {choice.runtime}-{choice.precision}: {choice.reason}")
    return Scorer(
        recipe,
        device=wish.device,
        runtime=choice.runtime,
        precision=choice.precision,
        network_lock=network_lock,
    )


def choose_backend(
    recipe: RecipeVersion,
    wish: BackendWish,
    cache: Path,
    *,
    network_lock: NetworkLock | None = None,
    say: Say = lambda line: None,
    keep: bool = True,
    measure: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> BackendChoice:
    """The kept choice of this recipe version and machine, else a measured one, which is kept in `cache` if
    `keep` is set.

    Where nothing is to be chosen, it is the runtime and precision that `wish` names. `measure` is not set
    while parts wait: without a kept choice the usual backend is taken. `say` gets a line if the cache can't
    be used. Raises RecipeError.
    """
    runtime, device = choose_runtime(wish.runtime, wish.device)
    candidates = find_backends(recipe, wish) if device.type == "cpu" and wish.precision == AUTO else []
    if len(candidates) < 2:
        precision = choose_precision(wish.precision, runtime, device, recipe)
        return BackendChoice(runtime, precision, why_not_bf16(recipe, runtime) if candidates else "")
    kept = KeptChoices(cache)
    key = f"{recipe.sha} {' '.join(backend.key for backend in candidates)} {describe_machine()}"
    found = kept.read(key, say) if recipe.sha else None
    # The file may have been edited: a backend that this recipe can't run with here is measured again.
    if found is not None and any(found[:2] == (own.runtime, own.precision) for own in candidates):
        return found._replace(reason=f"{found.reason} (measured before)")
    if not measure:
        usual, why = candidates[0], "not measured while the line runs: at its next start"
        return BackendChoice(usual.runtime, usual.precision, why)
    choice = _measure(recipe, candidates, network_lock, clock)
    if why := why_not_bf16(recipe, choice.runtime):
        choice = choice._replace(reason=f"{choice.reason}; {why}")
    if recipe.sha and keep:
        kept.write(key, choice, say)
    return choice


def find_backends(recipe: RecipeVersion, wish: BackendWish) -> list[Backend]:
    """The backends on this CPU that give the recipe float32's verdicts, the usual one first."""
    cpu = torch.device("cpu")
    runtimes = [name for name in (OPENVINO, TORCH) if wish.runtime in (AUTO, name)]
    if not has_openvino():
        runtimes = [TORCH]
    found = [Backend(name, F32, 0.0) for name in runtimes]
    found += [
        Backend(name, BF16, share)
        for name in runtimes
        if not bf16_problem(name, cpu, recipe) and (share := share_of_second_looks(recipe, name, BF16)) < 1
    ]
    calibrated = f"{OPENVINO}-{INT8}" in recipe.document.calibration
    if OPENVINO in runtimes and recipe.quantised is not None and calibrated:
        share = share_of_second_looks(recipe, OPENVINO, INT8)
        found += [Backend(OPENVINO, INT8, share)] if share < 1 else []
    return found


def share_of_second_looks(recipe: RecipeVersion, runtime: str, precision: str) -> float:
    """The share of the calibration's good parts that get a second look after that precision's first."""
    own = calibration_of(recipe, runtime, precision)
    limit = quick_limit_of(recipe, runtime, precision, own.threshold)
    return sum(score > limit for score in own.scores) / len(own.scores) if own.scores else 1.0


def why_not_bf16(recipe: RecipeVersion, runtime: str) -> str:
    """Why a CPU that has bfloat16 does not use it for this recipe; empty where it could, or has none."""
    problem = bf16_problem(runtime, torch.device("cpu"), recipe)
    return f"not in bf16: {problem}" if problem and has_native_bf16() else ""


def choose_fastest(candidates: Sequence[Backend], seconds: Mapping[str, float]) -> BackendChoice:
    """The rule: the least time for a good part; the first candidate unless another one gains 10 %.

    `seconds` has the measured time of each backend's network by its key, at least the first one's. A backend
    is not chosen if its network or its runtime's float32 network has none.
    """
    usual = candidates[0]
    times = {
        backend.key: seconds[backend.key] + backend.second_looks * exact
        for backend in candidates
        if backend.key in seconds and (exact := seconds.get(f"{backend.runtime}-{F32}")) is not None
    }
    best = min(times, key=lambda key: times[key])
    if times[best] > MIN_GAIN * times[usual.key]:
        best = usual.key
    chosen = next(backend for backend in candidates if backend.key == best)
    ranked = sorted(times.items(), key=lambda item: item[1])
    listed = ", ".join(f"{key} {1000 * took:.1f} ms" for key, took in ranked)
    looks = f", {chosen.second_looks:.0%} of good parts looked at twice" if chosen.second_looks else ""
    return BackendChoice(chosen.runtime, chosen.precision, f"fastest for a good part{looks}: {listed}")


def _measure(
    recipe: RecipeVersion,
    candidates: Sequence[Backend],
    network_lock: NetworkLock | None,
    clock: Callable[[], float],
) -> BackendChoice:
    """Measures the candidates on a drawn image and applies the rule.

    A backend whose map of this image is further from float32's than `MAX_MAP_DIFFERENCE` is not taken.
    """
    image = torch.from_numpy(normalise_image(_draw_image(recipe.grid.tile))[None])
    cpu = torch.device("cpu")
    networks = {
        backend.key: build_network(recipe, backend.runtime, backend.precision, cpu, network_lock=network_lock)
        for backend in candidates
    }
    maps = {}
    seconds: dict[str, list[float]] = {}
    until = clock() + SECONDS
    # In turns, so that other programs slow all of them down alike; at least one run of each.
    for turn in range(_MOST_TURNS):
        for key, network in networks.items():
            if turn and clock() >= until:
                break
            began = clock()
            maps[key] = network(image).numpy()
            seconds.setdefault(key, []).append(clock() - began)
    usual = candidates[0]
    agreeing = {
        backend.key: min(seconds[backend.key])
        for backend in candidates
        if backend is usual or _agrees(maps[backend.key], maps[usual.key], backend.precision)
    }
    return choose_fastest(candidates, agreeing)


def _agrees(own: NDArray[np.float32], exact: NDArray[np.float32], precision: str) -> bool:
    """Whether max |a - b| / max |b| is within the precision's bound; never for a map that is not finite."""
    bound = MAX_MAP_DIFFERENCE.get(precision, 1.0)
    return bool(np.abs(own - exact).max() <= bound * np.abs(exact).max())


def _draw_image(size: Size) -> Image:
    """The same grey noise on a gradient each time: no network's time depends on what an image shows."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, size[1])[None, :, None]
    return np.clip(ramp + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)
