"""The layers of the source tree: which room may import which, what stays free of torch, and no circle.

The rules are functions of a graph of imports, tried on small made-up graphs; the last tests apply them to the
real tree. A module of `monitor/` that lies in no room is not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(layer.split())
    for layer in (
        "cli",
        "commands",
        "review gateway fleet",
        "teaching",
        "service publish scoring capture snapshots",
        "journal",
        "recipe",
        "training",
        "evaluation",
        "inference",
        "feature_memory",
        "teachers",
        "model",
        "line_state",
        "images",
        "audit accounts",
        "paths",
        "verdict settings",
        "names pyramid system drivers",
        "errors",
    )
)
"""A room may import the rooms of the layers below its own, and none of its own layer but itself."""
SINGLE_MODULES = frozenset({"cli", "recipe", "paths", "verdict", "settings", "names", "pyramid", "errors"})
"""Rooms that are one file of `monitor/`. The other rooms are folders."""
WITHOUT_TORCH = frozenset({"line_state", "publish", "gateway"})
TORCH = frozenset({"torch", "torchvision", "safetensors.torch", "nncf"})
"""Importing one of these loads torch."""

BREACHES: frozenset[tuple[str, str]] = frozenset()
"""The imports of the real tree that break the layers: (importer, imported). The list must be exact."""


@dataclass(frozen=True)
class Imports:
    """What one module imports, by dotted names. A name imported from a module stands as `module.name` where
    that is a module of the tree."""

    anywhere: frozenset[str] = frozenset()
    """Also in functions and for type checkers."""
    when_loaded: frozenset[str] = frozenset()
    """Those that run when the module itself is imported."""


Tree = Mapping[str, Imports]
"""Every module of the tree by its dotted name; a package by the package's own."""


def room_of(module: str, tree: Iterable[str]) -> str | None:
    """The room that a module lies in, or None. Of the files of `monitor/` only single modules are rooms."""
    top, _, rest = module.partition(".")
    if top == "drivers":
        return top
    if top != "monitor" or not rest:
        return None
    room, _, inside = rest.partition(".")
    if room in SINGLE_MODULES:
        return room
    is_folder = bool(inside) or any(other.startswith(f"{module}.") for other in tree)
    return room if is_folder and any(room in layer for layer in LAYERS) else None


def level(room: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if room in layer)


def breaches(tree: Tree) -> set[tuple[str, str]]:
    """Every import of a room by one that may not import it."""
    rooms = {module: room_of(module, tree) for module in tree}
    found = set()
    for importer, imports in tree.items():
        for imported in imports.anywhere & tree.keys():
            one, other = rooms[importer], rooms[imported]
            if one and other and one != other and level(one) >= level(other):
                found.add((importer, imported))
    return found


def ways_to_torch(tree: Tree) -> dict[str, list[str]]:
    """By module of a room without torch: the modules through which importing it loads torch."""
    found = {}
    for start in tree:
        if room_of(start, tree) in WITHOUT_TORCH and (way := _way_to_torch(start, tree)):
            found[start] = way
    return found


def _way_to_torch(start: str, tree: Tree) -> list[str] | None:
    came_from: dict[str, str | None] = {start: None}
    waiting = [start]
    while waiting:
        module = waiting.pop(0)
        for imported in sorted(tree[module].when_loaded):
            if any(imported == name or imported.startswith(f"{name}.") for name in TORCH):
                way, step = [imported], module
                while step:
                    way.append(step)
                    step = came_from[step]
                return way[::-1]
            # Importing a.b.c also runs a and a.b.
            for loaded in _with_parents(imported):
                if loaded in tree and loaded not in came_from:
                    came_from[loaded] = module
                    waiting.append(loaded)
    return None


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def circles(tree: Tree) -> list[list[str]]:
    """Each group of modules of rooms that import each other round about; the breaches do not count."""
    forbidden = breaches(tree)
    reached = {
        module: _reached(module, tree, forbidden) for module in tree if room_of(module, tree) is not None
    }
    groups = {
        frozenset({one} | {other for other in there if one in reached[other]})
        for one, there in reached.items()
        if one in there
    }
    return sorted(sorted(group) for group in groups)


def _reached(start: str, tree: Tree, without: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for imported in tree[module].anywhere & tree.keys() - {module} - found:
            if (module, imported) not in without and room_of(imported, tree) is not None:
                found.add(imported)
                waiting.append(imported)
    return found


def imports_of(source: str, package: str, tree: Iterable[str]) -> Imports:
    """What that source text imports; `package` is the package that relative imports start from."""
    known = frozenset(tree)
    anywhere, when_loaded = set(), set()

    def look(node: ast.AST, runs: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = set(_names(node, package, known))
            anywhere.update(names)
            if runs:
                when_loaded.update(names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            runs = False
        elif isinstance(node, ast.If) and _asks_for_type_checking(node.test):
            for child in node.body:
                look(child, False)
            for child in node.orelse:
                look(child, runs)
            return
        for child in ast.iter_child_nodes(node):
            look(child, runs)

    look(ast.parse(source), True)
    return Imports(frozenset(anywhere), frozenset(when_loaded))


def _asks_for_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _names(node: ast.Import | ast.ImportFrom, package: str, known: frozenset[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    parts = package.split(".")
    base = [*parts[: len(parts) - node.level + 1]] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    for alias in node.names:
        inside = f"{module}.{alias.name}"
        # `from safetensors import torch` loads torch as much as `import safetensors.torch`.
        yield inside if inside in known | TORCH else module


def read_tree(root: Path) -> Tree:
    """Every module of `monitor/` and `drivers/`."""
    files = {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for top in ("monitor", "drivers")
        for file in sorted((root / top).rglob("*.py"))
    }
    return {
        module: imports_of(
            file.read_text(encoding="utf-8"),
            module if file.name == "__init__.py" else module.rpartition(".")[0],
            files,
        )
        for module, file in files.items()
    }


def graph(**imports: str) -> Tree:
    """A made-up tree, `monitor_` left out and dots written as two underscores: `capture__worker="paths"`."""

    def full(name: str) -> str:
        return name if name.split(".")[0] in ("drivers", "torch", "safetensors") else f"monitor.{name}"

    return {
        full(module.replace("__", ".")): Imports(*(2 * [frozenset(map(full, names.split()))]))
        for module, names in imports.items()
    }


@pytest.mark.parametrize(
    ("module", "room"),
    [
        ("monitor", None),
        ("monitor.cli", "cli"),
        ("monitor.capture", "capture"),
        ("monitor.capture.worker", "capture"),
        ("monitor.commands.bench.line", "commands"),
        ("monitor.scoring", None),
        ("monitor.progress", None),
        ("monitor.attic.box", None),
        ("drivers", "drivers"),
        ("drivers.gige", "drivers"),
        ("torch.nn", None),
    ],
)
def test_a_module_lies_in_the_room_of_its_folder(module: str, room: str | None) -> None:
    assert room_of(module, ["monitor.capture", "monitor.capture.worker", "monitor.scoring"]) == room


def test_a_room_may_import_every_room_below_and_itself() -> None:
    tree = graph(
        cli="commands.run settings",
        commands__run="service.supervisor recipe",
        service__supervisor="service.recovery line_state.board",
        service__recovery="",
        line_state__board="paths system.logs",
        system__logs="",
        recipe="model.weights",
        model__weights="",
        paths="settings names",
        settings="drivers.source",
        names="",
    ) | graph(**{"drivers.source": ""})
    assert breaches(tree) == set()
    assert circles(tree) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("capture.worker", "scoring.worker"),
        ("system.logs", "names"),
        ("settings", "verdict"),
        ("line_state.ring", "publish.worker"),
        ("drivers.gige", "system.logs"),
        ("model.weights", "recipe"),
        ("review.server", "cli"),
    ],
)
def test_an_import_of_a_room_above_or_beside_is_a_breach(importer: str, imported: str) -> None:
    tree = graph(**{importer: imported, imported: "", f"{importer}.inside": ""})
    ((one, other),) = breaches(tree)
    assert (one, other) == (next(iter(tree)), f"monitor.{imported}")


def test_a_module_in_no_room_is_not_looked_at() -> None:
    tree = graph(system__logs="training", training="system.logs cli", cli="")
    assert breaches(tree) == set()
    assert circles(tree) == []


def test_modules_that_import_each_other_are_a_circle() -> None:
    tree = graph(
        images__tiling="images.overlay", images__overlay="images.resize", images__resize="images.tiling"
    )
    assert circles(tree) == [["monitor.images.overlay", "monitor.images.resize", "monitor.images.tiling"]]
    assert circles(graph(images__tiling="images.overlay", images__overlay="")) == []


def test_a_breach_is_not_a_circle_as_well() -> None:
    tree = graph(recipe="inference.scorer", inference__scorer="recipe")
    assert breaches(tree) == {("monitor.inference.scorer", "monitor.recipe")}
    assert circles(tree) == []


def test_torch_is_found_behind_other_modules_and_packages() -> None:
    tree = graph(
        publish__worker="line_state.ring",
        line_state__ring="images.tiling",
        images="torch.nn",
        images__tiling="",
    )
    assert ways_to_torch(tree) == {
        "monitor.publish.worker": [
            "monitor.publish.worker",
            "monitor.line_state.ring",
            "monitor.images",
            "torch.nn",
        ],
        "monitor.line_state.ring": ["monitor.line_state.ring", "monitor.images", "torch.nn"],
    }
    assert ways_to_torch(graph(scoring__worker="torch", publish__worker="verdict", verdict="")) == {}


def test_an_import_in_a_function_counts_for_the_layers_and_not_for_torch() -> None:
    source = (
        "import torch.nn as nn\n"
        "from typing import TYPE_CHECKING\n"
        "from monitor import paths\n"
        "from monitor.settings import load\n"
        "from . import ring\n"
        "from ..images.tiling import tiles\n"
        "if TYPE_CHECKING:\n    import torchvision\n"
        "class Lazy:\n    import safetensors\n    def do(self):\n        from monitor.recipe import Recipe\n"
        "try:\n    from safetensors import torch\nexcept ImportError:\n    pass\n"
    )
    tree = ("monitor.paths", "monitor.settings", "monitor.line_state.ring", "monitor.images.tiling")
    found = imports_of(source, "monitor.line_state", tree)
    loaded = {"torch.nn", "typing", "safetensors", "safetensors.torch", *tree}
    assert found.when_loaded == loaded
    assert found.anywhere == loaded | {"torchvision", "monitor.recipe"}


@pytest.fixture(scope="module")
def real_tree() -> Tree:
    return read_tree(ROOT)


def test_the_real_tree_is_read(real_tree: Tree) -> None:
    assert "monitor.errors" in real_tree["monitor.cli"].anywhere
    assert "drivers.camera" in real_tree["drivers.gige"].when_loaded
    assert room_of("drivers.gige", real_tree) == "drivers"
    assert [
        module for module in real_tree if module != "monitor" and room_of(module, real_tree) is None
    ] == []


def test_the_layers_hold_but_for_the_listed_breaches(real_tree: Tree) -> None:
    found = breaches(real_tree)
    assert found - BREACHES == set(), "a new import against the layers"
    assert BREACHES - found == set(), "a breach that is gone: remove it from the list"


def test_no_modules_import_each_other_round_about(real_tree: Tree) -> None:
    assert circles(real_tree) == []


def test_rooms_that_must_not_wait_for_torch_do_not_load_it(real_tree: Tree) -> None:
    assert ways_to_torch(real_tree) == {}


def test_the_page_answers_before_anything_has_loaded_torch(real_tree: Tree) -> None:
    assert _way_to_torch("monitor.review.server", real_tree) is None


def test_only_the_fleet_loads_ray_and_its_like_and_only_its_command_loads_the_fleet(real_tree: Tree) -> None:
    packages = {"ray", "duckdb", "pyarrow", "fsspec", "rich"}
    users = {module for module, imports in real_tree.items() if _packages(imports.anywhere) & packages}
    assert {room_of(module, real_tree) for module in users} == {"fleet"}
    assert [module for module in users if _packages(real_tree[module].when_loaded) & packages] == []
    fleets = {
        module
        for module, imports in real_tree.items()
        if any(name.startswith("monitor.fleet") for name in imports.anywhere)
    }
    assert {module for module in fleets if room_of(module, real_tree) != "fleet"} == {
        "monitor.commands.fleet"
    }


def _packages(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}
