"""How finer class sets map to coarser ones: new id by old id, 255 for none.

Checked against each other in the tests: 19 -> 11 -> 6 is 19 -> 6.
"""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, SIX_CLASSES, ClassInfo, ClassTable

# The 19 trained classes of Cityscapes, in the order of their trainIds, with its colours.
CITYSCAPES_CLASSES = ClassTable(
    (
        ClassInfo("road", (128, 64, 128)),
        ClassInfo("sidewalk", (244, 35, 232)),
        ClassInfo("building", (70, 70, 70)),
        ClassInfo("wall", (102, 102, 156)),
        ClassInfo("fence", (190, 153, 153)),
        ClassInfo("pole", (153, 153, 153)),
        ClassInfo("traffic light", (250, 170, 30)),
        ClassInfo("traffic sign", (220, 220, 0)),
        ClassInfo("vegetation", (107, 142, 35)),
        ClassInfo("terrain", (152, 251, 152)),
        ClassInfo("sky", (70, 130, 180)),
        ClassInfo("person", (220, 20, 60), is_thing=True),
        ClassInfo("rider", (255, 0, 0), is_thing=True),
        ClassInfo("car", (0, 0, 142), is_thing=True),
        ClassInfo("truck", (0, 0, 70), is_thing=True),
        ClassInfo("bus", (0, 60, 100), is_thing=True),
        ClassInfo("train", (0, 80, 100), is_thing=True),
        ClassInfo("motorcycle", (0, 0, 230), is_thing=True),
        ClassInfo("bicycle", (119, 11, 32), is_thing=True),
    )
)

# DSEC-Semantic's eleven (ESS, ECCV 2022).
ELEVEN_CLASSES = ClassTable(
    (
        ClassInfo("background", (70, 130, 180)),
        ClassInfo("building", (70, 70, 70)),
        ClassInfo("fence", (190, 153, 153)),
        ClassInfo("person", (220, 20, 60), is_thing=True),
        ClassInfo("pole", (153, 153, 153)),
        ClassInfo("road", (128, 64, 128)),
        ClassInfo("sidewalk", (244, 35, 232)),
        ClassInfo("vegetation", (107, 142, 35)),
        ClassInfo("vehicle", (0, 0, 142), is_thing=True),
        ClassInfo("wall", (102, 102, 156)),
        ClassInfo("traffic sign", (220, 220, 0)),
    )
)

NINETEEN_TO_SIX = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 1, 4, 4, 5, 5, 5, 5, 5, 5)
NINETEEN_TO_ELEVEN = (5, 6, 1, 9, 2, 4, 10, 10, 7, 7, 0, 3, 3, 8, 8, 8, 8, 8, 8)
# Cityscapes labels in their own ids (0..33) by trainId; all other ids are ignored.
CITYSCAPES_LABEL_IDS = 34
_LABEL_ID_OF_TRAIN_ID = (
    *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33),
)
ELEVEN_TO_SIX = (1, 1, 1, 4, 2, 0, 0, 3, 5, 1, 2)


def class_map_between(source_classes: int, num_classes: int) -> tuple[int, ...] | None:
    """Return the map between two of our class sets by their sizes; None where there is none.

    Args:
        source_classes: 19 (Cityscapes), 11 (DSEC) or 6 (DDD17).
        num_classes: 11 or 6.
    """
    return {
        (19, 11): NINETEEN_TO_ELEVEN,
        (19, 6): NINETEEN_TO_SIX,
        (11, 6): ELEVEN_TO_SIX,
    }.get((source_classes, num_classes))


def cityscapes_table(kind: str, classes: ClassTable) -> npt.NDArray[np.uint8]:
    """Return a table that renumbers label images of Cityscapes: ``new = table[old]``.

    Args:
        kind: ``labelIds`` or ``labelTrainIds``, as the files are called.
        classes: our 19, 11 or 6 classes.

    Returns:
        (256,) uint8; what is not among the 19 becomes 255.

    Raises:
        ConfigError: other classes.
    """
    maps: dict[tuple[str, ...], tuple[int, ...]] = {
        CITYSCAPES_CLASSES.names: tuple(range(len(CITYSCAPES_CLASSES))),
        ELEVEN_CLASSES.names: NINETEEN_TO_ELEVEN,
        SIX_CLASSES.names: NINETEEN_TO_SIX,
    }
    if classes.names not in maps:
        raise ConfigError(
            f"Cityscapes labels map to our 19, 11 or 6 classes, not to {list(classes.names)}"
        )
    ids = _LABEL_ID_OF_TRAIN_ID if kind == "labelIds" else range(len(CITYSCAPES_CLASSES))
    table = np.full(256, IGNORE, np.uint8)
    table[list(ids)] = maps[classes.names]
    return table


CLASS_SETS = {"six": SIX_CLASSES, "eleven": ELEVEN_CLASSES, "cityscapes": CITYSCAPES_CLASSES}


def named_classes(names: tuple[str, ...]) -> ClassTable:
    """Return a table of these names in colours of evenly spaced hue (recognition)."""
    colours = [colorsys.hsv_to_rgb(i / max(1, len(names)), 0.75, 0.85) for i in range(len(names))]
    return ClassTable(
        tuple(
            ClassInfo(name, (round(255 * r), round(255 * g), round(255 * b)))
            for name, (r, g, b) in zip(names, colours, strict=True)
        )
    )
