"""The public interface for other programs: load a trained recipe, get a scorer, score images.

It knows nothing of cameras or verdicts. It imports torch only when a scorer is requested.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monitor import paths
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer

__all__ = ["Recipe", "RecipeError", "RecipeVersion"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """A recipe's folder as it was when it was loaded: one committed version, held in memory."""

    version: RecipeVersion

    @staticmethod
    def load(path: str | Path) -> Recipe:
        """Load one version. `path` is the recipe's folder or the `recipe.json` in it, which is the newest
        version whether or not it is in force, or the document of any version in `versions/`.

        Raises RecipeError when a file is missing, damaged or not the one that `recipe.json` describes.
        """
        return Recipe(RecipeVersion.load(path))

    def scorer(
        self,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        *,
        network_lock: AbstractContextManager[object] | None = None,
    ) -> Scorer:
        """Build the recipe's networks on this machine. Raises RecipeError.

        `device` is auto, cpu, cuda or cuda:N. `runtime` is auto, torch or openvino (faster, CPU only).
        `precision` is auto, f32, bf16 (a CPU that has it), f16 (CUDA only) or int8 (OpenVINO only). On a CPU
        auto measures once which runtime and precision is fastest, among those with float32's verdicts
        (`monitor.inference.backend_choice`). Call `warm_up()` on the scorer
        before the first image that has a deadline. A process with several scorers in several threads passes
        one `network_lock` to all of them and holds it while one of them scores; building and warming up enter
        it for the moments in which no other network may run.
        """
        from monitor.inference.backend_choice import BackendWish, build_fastest_scorer

        return build_fastest_scorer(
            self.version,
            BackendWish(device, runtime, precision),
            paths.cache(Path.home() / ".cache" / "line-monitor"),
            network_lock=network_lock,
        )
