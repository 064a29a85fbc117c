"""Teachers: networks trained to classify photographs, by name, cut off after their third feature level.

Files of weights are read as plain tensors only; nothing else in them is ever unpickled. torchvision is
imported only where it is needed, so that a process that scores with a ResNet-18 does without it. This module
knows nothing of where the files lie (`monitor.teachers.weight_files`).
"""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, fx, nn

from monitor.model.recipe_json import TeacherEntry
from monitor.model.recipe_version import weights_file
from monitor.model.weights import Weights, fingerprint
from monitor.pyramid import ResNetTrunk
from monitor.teachers.weight_files import (
    BUNDLED,
    BUNDLED_FILE,
    LITE_TEACHER,
    Download,
    TeacherError,
    obtain_weights,
)

NetworkLock = AbstractContextManager[object]
"""A lock, for example, that is held while no other network of this process may run."""

__all__ = [
    "BUNDLED",
    "BUNDLED_FILE",
    "LEVELS",
    "NetworkLock",
    "Teacher",
    "TeacherError",
    "architecture_of",
    "build_trunk",
    "check_finite",
    "fill",
    "find_teacher",
    "load_trunk",
    "map_ceiling",
    "read_tensors",
    "teacher_names",
    "trunk_weights",
]

DEFAULT = "resnet18"

LEVELS: Mapping[str, tuple[str, str, str]] = {
    "resnet18": ("layer1", "layer2", "layer3"),
    "resnet34": ("layer1", "layer2", "layer3"),
    "resnet50": ("layer1", "layer2", "layer3"),
    "wide_resnet50_2": ("layer1", "layer2", "layer3"),
    "squeezenet1_1": ("features.4", "features.7", "features.12"),
    "mobilenet_v3_large": ("features.3", "features.6", "features.12"),
    "efficientnet_b0": ("features.2", "features.3", "features.5"),
}
"""By architecture, the modules whose outputs are the three levels, at about 1/4, 1/8 and 1/16 of the
input."""

_RECTIFIED = frozenset({"resnet18", "resnet34", "resnet50", "wide_resnet50_2", "squeezenet1_1"})
"""The architectures whose levels are the outputs of a rectifier, so without negative values."""

_OWN_TRUNKS = {"resnet18": (2, 2, 2), "resnet34": (3, 4, 6)}
"""Built by `monitor.pyramid.ResNetTrunk`, without torchvision: the number of blocks in each layer."""

_MOMENTUM = 0.1
"""The momentum of the running statistics that a student uses in eval mode: torch's default. torchvision's
MobileNetV3 has 0.01, for trainings of many thousand steps; after 72 steps its student's mean map was 7.5 of
at most 8, with 0.1 it was 1.2."""

_READ_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
)
"""The exceptions that torch's reader raised for thousands of damaged files."""


@dataclass(frozen=True)
class Teacher:
    """A trunk with a classifier's weights, frozen: eval mode, float32, no gradients."""

    name: str
    architecture: str
    trunk: nn.Module
    sha256: str
    """`monitor.model.weights.fingerprint` of the trunk's weights, by the names torchvision gives them."""
    origin: str
    """The name of the file that the weights came from."""

    def entry(self, arrays: Weights) -> TeacherEntry:
        """Its entry in `recipe.json`; `arrays` are the trunk's weights as the recipe stores them."""
        return TeacherEntry(
            name=self.name,
            architecture=self.architecture,
            sha256=self.sha256,
            origin=self.origin,
            weights=weights_file("teacher", arrays),
        )


def teacher_names() -> list[str]:
    """The names of all teachers."""
    return [*LEVELS, BUNDLED]


def architecture_of(name: str) -> str:
    """The architecture of a teacher. Raises TeacherError for an unknown name."""
    if name == LITE_TEACHER:
        raise TeacherError(f"{LITE_TEACHER} is every memory's own teacher already; no student learns from it")
    architecture = DEFAULT if name == BUNDLED else name
    if architecture not in LEVELS:
        raise TeacherError(f"no teacher is called {name!r}; there are: {', '.join(teacher_names())}")
    return architecture


def map_ceiling(architecture: str) -> float:
    """The highest value that an anomaly map of a teacher and student of this architecture can have.

    It is the product of three squared distances between vectors of length 1. Such a distance is at most 4,
    and at most 2 between vectors without negative values.
    """
    return (2.0 if architecture in _RECTIFIED else 4.0) ** 3


def build_trunk(architecture: str, network_lock: NetworkLock | None = None) -> nn.Module:
    """The network up to its third level, randomly initialised: maps (N, 3, H, W) to three float tensors.

    Its parameters have torchvision's names. `network_lock` is held while torch.fx traces the network: tracing
    replaces the method by which every network of this process is called, so none may run meanwhile. Raises
    TeacherError for an unknown architecture.
    """
    if architecture not in LEVELS:
        raise TeacherError(f"no architecture is called {architecture!r}; there are: {', '.join(LEVELS)}")
    if architecture in _OWN_TRUNKS:
        return ResNetTrunk(_OWN_TRUNKS[architecture])
    import torchvision.models
    from torchvision.models.feature_extraction import create_feature_extractor

    network = torchvision.models.get_model(architecture, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = _MOMENTUM
    with network_lock or nullcontext():
        extractor = create_feature_extractor(network, list(LEVELS[architecture])).eval()
    # The output becomes a list of levels instead of a dict by name. The graph is the one for eval mode, also
    # for students: the one for training differs only in dropping whole layers, which does not help a student.
    for node in extractor.graph.nodes:
        if node.op == "output":
            node.args = (list(node.args[0].values()),)
    return fx.GraphModule(extractor, extractor.graph)


def fill(trunk: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts weights into a trunk, which may be on the meta device. Tensors of other names are ignored.

    Half precision is widened to float32. Raises TeacherError when a tensor is missing or has the wrong shape.
    """
    wanted = trunk.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    if missing:
        raise TeacherError(f"{len(missing)} of {len(wanted)} tensors are missing, among them {missing[0]}")
    for name in wanted.keys() & tensors.keys():
        if tensors[name].shape != wanted[name].shape:
            raise TeacherError(
                f"{name} has shape {list(tensors[name].shape)} instead of {list(wanted[name].shape)}"
            )
    state = {
        name: tensors[name].to(dtype=old.dtype) if name in tensors else torch.zeros((), dtype=old.dtype)
        for name, old in wanted.items()
    }
    trunk.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()}, assign=True)


def trunk_weights(trunk: nn.Module) -> Weights:
    """A trunk's weights as arrays, by name, without the counters of batch normalisation: no result needs
    them."""
    return {
        name: tensor.detach().cpu().contiguous().numpy()
        for name, tensor in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def find_teacher(
    name: str | None,
    *,
    weights: Path | None,
    folder: Path,
    say: Callable[[str], None],
    bundled: Path = BUNDLED_FILE,
    download: Download | None = None,
) -> Teacher:
    """The teacher of that name with its weights.

    The weights come from the first of these that has them: the file `weights`, `folder`/<name>.safetensors or
    .pth, torch's download cache, the network. Without a name the teacher is ResNet-18, or the carried teacher
    if ResNet-18's weights can't be had. `say` gets one line about the choice. Raises TeacherError.
    """
    if name == BUNDLED and weights is not None:
        raise TeacherError(f"{BUNDLED} has its own weights: name the architecture, as in --teacher resnet18")
    architecture = architecture_of(name or DEFAULT)
    chosen = name or DEFAULT
    if weights is None and name != BUNDLED:
        try:
            weights = obtain_weights(architecture, folder, say, download)
        except TeacherError as error:
            if name is not None:
                raise TeacherError(
                    f"teacher {name} has no weights: {error}; put them at {folder / name}.safetensors or "
                    f".pth, name a file with --teacher-weights, or use --teacher {BUNDLED}"
                ) from None
            say(f"teacher: {BUNDLED}, which comes with this program ({error})")
            chosen = BUNDLED
    if weights is None:
        weights = bundled
    try:
        trunk = load_trunk(architecture, weights)
    except TeacherError as error:
        raise TeacherError(f"{error}{'' if name else '; name their architecture with --teacher'}") from None
    if chosen != BUNDLED or name == BUNDLED:
        say(f"teacher: {chosen}, weights from {weights}")
    return Teacher(chosen, architecture, trunk, fingerprint(trunk_weights(trunk)), weights.name)


def load_trunk(architecture: str, file: Path) -> nn.Module:
    """The frozen trunk with the weights of a .safetensors or .pth file, which may hold the whole network.

    Raises TeacherError, with the file's name, for another network's weights and for values that are not
    finite.
    """
    with torch.device("meta"):
        trunk = build_trunk(architecture)
    try:
        tensors = read_tensors(file)
        fill(trunk, tensors)
        _check_same_network(trunk, tensors, architecture)
        check_finite(trunk)
    except TeacherError as error:
        raise TeacherError(f"{file} does not hold the weights of {architecture}: {error}") from None
    return trunk.eval().requires_grad_(False)


def check_finite(trunk: nn.Module) -> None:
    """Raises TeacherError for weights that are not finite."""
    for name, tensor in trunk.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise TeacherError(f"{name} is not finite")


def _check_same_network(trunk: nn.Module, tensors: Mapping[str, Tensor], architecture: str) -> None:
    """Raises TeacherError for the weights of a deeper network, which have all the names of a shallow one.

    Names that begin like one of the trunk's must be names of torchvision's network. Other names are a head,
    which may be of any kind.
    """
    own = trunk.state_dict().keys()
    roots = {name.split(".")[0] for name in own}
    others = {name for name in tensors.keys() - own if name.split(".")[0] in roots}
    if not others:
        return
    import torchvision.models

    with torch.device("meta"):
        whole = torchvision.models.get_model(architecture, weights=None)
    if unknown := others - whole.state_dict().keys():
        raise TeacherError(f"it has {min(unknown)}, which is another network's")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name. Raises TeacherError."""
    try:
        if file.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(file))
        with warnings.catch_warnings():
            # For some damaged files torch warns of a wrong version, in many lines.
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError("there is no such file") from None
    except OSError as error:
        raise TeacherError(error.strerror or str(error)) from None
    except SafetensorError as error:
        raise TeacherError(f"not a readable safetensors file ({error})") from None
    except _READ_ERRORS:
        # torch's own message is not shown: it advises to unpickle the file without this check.
        raise TeacherError(
            "not a whole file of named tensors alone: save the network's state_dict(), or use safetensors"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise TeacherError("it holds other things than named tensors: save the network's state_dict()")
    # DataParallel prefixes every name.
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
