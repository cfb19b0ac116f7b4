"""How finer class sets map to coarser ones: new id by old id, 255 for none.

Checked against each other in the tests: 19 -> 11 -> 6 is 19 -> 6.
"""

from __future__ import annotations

from evdistill_core.foundation.labels import ClassInfo, ClassTable

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
