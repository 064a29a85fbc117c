"""A trained recipe for other programs: load it, get a scorer, score images.

It knows nothing of cameras or verdicts. It imports torch only when a scorer is asked for.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.model.recipe_document import RecipeError
from monitor.model.recipe_version import RecipeVersion

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer

__all__ = ["Recipe", "RecipeError", "RecipeVersion"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """The committed version of one recipe's folder."""

    version: RecipeVersion

    @staticmethod
    def load(path: str | Path) -> Recipe:
        """Load what is committed in a recipe's folder, or in the folder of a `recipe.json`.

        Raises RecipeError when anything is missing, damaged or not what `recipe.json` describes.
        """
        return Recipe(RecipeVersion.load(path))

    def scorer(
        self,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        *,
        alone: AbstractContextManager[object] | None = None,
    ) -> Scorer:
        """Make the recipe ready to run on this machine. Raises RecipeError.

        `device` is auto, cpu, cuda or cuda:N; `runtime` auto, torch or openvino (faster, CPU only);
        `precision` auto, f32, f16 (CUDA only) or int8 (OpenVINO only). Call `warm_up()` on the scorer before
        the first image that has a deadline. `alone` is entered for the moments in which no other network of
        this process may run.
        """
        from monitor.inference.scorer import Scorer

        return Scorer(self.version, device=device, runtime=runtime, precision=precision, alone=alone)
