"""Teachers: networks that learned to tell photographs apart, by name, with their three levels.

Where their weights lie is `monitor.teachers.files`' business. Must never unpickle anything but tensors.
torchvision is imported only where it is needed: a scoring process with a ResNet-18 does without.
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

from monitor.model import weights as named
from monitor.pyramid import ResNetTrunk
from monitor.teachers.files import BUNDLED, BUNDLED_FILE, Download, TeacherError, obtained

Alone = AbstractContextManager[object]

__all__ = [
    "BUNDLED",
    "BUNDLED_FILE",
    "LEVELS",
    "Alone",
    "Teacher",
    "TeacherError",
    "architecture_of",
    "build_trunk",
    "fill",
    "find",
    "load_trunk",
    "map_ceiling",
    "names",
    "read_tensors",
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
"""By architecture, the modules whose outputs are the levels: about 1/4, 1/8 and 1/16 of the input's size."""

_RECTIFIED = frozenset({"resnet18", "resnet34", "resnet50", "wide_resnet50_2", "squeezenet1_1"})
"""Whose levels come from a rectifier: they have no negative values."""

_OWN_TRUNKS = {"resnet18": (2, 2, 2), "resnet34": (3, 4, 6)}
_MOMENTUM = 0.1
"""Of the running statistics that students gather for eval mode; torch's default, and the ResNets'.
torchvision's MobileNetV3 has 0.01, for trainings of many thousand steps: after 72 steps its student's mean
map was 7.5 of at most 8, and the student of the second epoch was kept; with 0.1 it was 1.2."""

_NO_PLAIN_TENSORS = (
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
"""What torch's reader raised when it was fed damaged files by the thousand."""


@dataclass(frozen=True)
class Teacher:
    """A trunk with a classifier's weights, frozen: eval mode, float32, no gradients."""

    name: str
    architecture: str
    trunk: nn.Module
    sha256: str
    """`monitor.model.weights.fingerprint` of the trunk's weights, by the names torchvision gives them."""
    origin: str
    """Where the weights came from, for people."""


def names() -> list[str]:
    """Every name that `find` knows."""
    return [*LEVELS, BUNDLED]


def architecture_of(name: str) -> str:
    """The architecture of a teacher. Raises TeacherError for an unknown name."""
    architecture = DEFAULT if name == BUNDLED else name
    if architecture not in LEVELS:
        raise TeacherError(f"no teacher is called {name!r}; there are: {', '.join(names())}")
    return architecture


def map_ceiling(architecture: str) -> float:
    """What no anomaly map of a teacher and student of this architecture exceeds.

    Of vectors of length 1 the squared distance is at most 4, without negative values at most 2.
    """
    return (2.0 if architecture in _RECTIFIED else 4.0) ** 3


def build_trunk(architecture: str, alone: Alone | None = None) -> nn.Module:
    """The network up to its third level, randomly initialised: maps (N, 3, H, W) to three float tensors.

    Its parameters have torchvision's names. `alone` is a lock, say, that is held while no other network of
    this process may run: torch.fx puts another method in the place of the one that every network is called
    by while it traces one. Raises TeacherError for an unknown architecture.
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
    with alone or nullcontext():
        extractor = create_feature_extractor(network, list(LEVELS[architecture])).eval()
    # A list of levels instead of a dict by name. The graph is the one for eval mode, also for students: it
    # differs in the dropping of whole layers alone, and a student has nothing to gain from that.
    for node in extractor.graph.nodes:
        if node.op == "output":
            node.args = (list(node.args[0].values()),)
    return fx.GraphModule(extractor, extractor.graph)


def fill(trunk: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts weights into a trunk, also one on the meta device; tensors it has no use for are ignored.

    Half precision is widened to float32. Raises TeacherError when one is missing or has the wrong shape.
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
    found = {
        name: tensors[name].to(dtype=old.dtype) if name in tensors else torch.zeros((), dtype=old.dtype)
        for name, old in wanted.items()
    }
    trunk.load_state_dict({name: tensor.contiguous() for name, tensor in found.items()}, assign=True)


def trunk_weights(trunk: nn.Module) -> named.Weights:
    """A trunk's weights as arrays, by name, without the counters that change nothing that is computed."""
    return {
        name: tensor.detach().cpu().contiguous().numpy()
        for name, tensor in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def find(
    name: str | None,
    *,
    weights: Path | None,
    folder: Path,
    say: Callable[[str], None],
    bundled: Path = BUNDLED_FILE,
    download: Download | None = None,
) -> Teacher:
    """The teacher of that name with its weights.

    Looks in this order: the file `weights`; `folder`/<name>.safetensors or .pth; torch's download cache;
    the network. Without a name it is ResNet-18, and the carried teacher when its weights are nowhere; `say`
    gets one line about the choice. `download` fetches a URL into a file, or raises TeacherError. Raises
    TeacherError.
    """
    if name == BUNDLED and weights is not None:
        raise TeacherError(f"{BUNDLED} has its own weights: name the architecture, as in --teacher resnet18")
    architecture = architecture_of(name or DEFAULT)
    chosen = name or DEFAULT
    if weights is None and name != BUNDLED:
        try:
            weights = obtained(architecture, folder, say, download)
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
    return Teacher(chosen, architecture, trunk, named.fingerprint(trunk_weights(trunk)), weights.name)


def load_trunk(architecture: str, file: Path) -> nn.Module:
    """The frozen trunk with the weights in a .safetensors or .pth file, of the whole network or the trunk.

    Raises TeacherError, naming the file, for other weights and for such that are not finite.
    """
    with torch.device("meta"):
        trunk = build_trunk(architecture)
    try:
        tensors = read_tensors(file)
        fill(trunk, tensors)
        _check_no_others(trunk, tensors, architecture)
        for name, tensor in trunk.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise TeacherError(f"{name} is not finite")
    except TeacherError as error:
        raise TeacherError(f"{file} does not hold the weights of {architecture}: {error}") from None
    return trunk.eval().requires_grad_(False)


def _check_no_others(trunk: nn.Module, tensors: Mapping[str, Tensor], architecture: str) -> None:
    """A deeper network's weights would fill a shallow one's places. Raises TeacherError for such.

    Heads may be anybody's own; what is called like a part of the trunk must be one of torchvision's network.
    """
    own = trunk.state_dict().keys()
    roots = {name.split(".")[0] for name in own}
    others = {name for name in tensors.keys() - own if name.split(".")[0] in roots}
    if not others:
        return
    import torchvision.models

    with torch.device("meta"):
        whole = torchvision.models.get_model(architecture, weights=None)
    if strange := others - whole.state_dict().keys():
        raise TeacherError(f"it has {min(strange)}, which is another network's")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name. Raises TeacherError."""
    try:
        if file.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(file))
        with warnings.catch_warnings():
            # Damage also makes torch wonder about versions, at length.
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError("there is no such file") from None
    except OSError as error:
        raise TeacherError(error.strerror or str(error)) from None
    except SafetensorError as error:
        raise TeacherError(f"not a readable safetensors file ({error})") from None
    except _NO_PLAIN_TENSORS:
        # torch's own words advise to unpickle it all the same.
        raise TeacherError(
            "not a whole file of named tensors alone: save the network's state_dict(), or use safetensors"
        ) from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise TeacherError("it holds something else than named tensors: save the network's state_dict()")
    # DataParallel prefixes every name.
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
