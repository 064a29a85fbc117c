"""What a training from the page is asked for: what `train` takes by default, from the collected images.

It knows nothing of processes.
"""

from __future__ import annotations

from monitor import paths
from monitor.settings import Settings
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
from monitor.training.automatic_size import AutomaticSize
from monitor.training.camera_limits import find_camera_limits
from monitor.training.compare import Compare
from monitor.training.training_request import TrainingRequest


def make_teaching_request(
    settings: Settings, recipe: str, camera: str, compare: Compare, who: str
) -> TrainingRequest:
    """The request for a recipe of that camera. It trains on the processor: a GPU would keep the line's own
    scorer waiting, since it knows no priorities.

    Raises TeachingError without a good image, TrainingError and InvalidNameError.
    """
    folder = TeachingFolder.of(settings, recipe)
    if not folder.list_names(ImageKind.GOOD):
        raise TeachingError(f"there is no image of a good part for recipe {recipe}: collect some first")
    limits = find_camera_limits(
        recipe, (one for one in settings.camera if one.recipe == recipe or one.name == camera)
    )
    has_defects = bool(folder.list_names(ImageKind.DEFECT))
    return TrainingRequest(
        name=recipe,
        recipes=paths.recipes(settings),
        images=folder.place(ImageKind.GOOD),
        teacher=None,
        teacher_weights=None,
        teachers=paths.teachers(settings),
        automatic_size=AutomaticSize(None, limits.deadline_ms),
        compare=compare,
        defects=folder.place(ImageKind.DEFECT) if has_defects else None,
        device="cpu",
        who=who,
        roi=limits.roi,
    )
