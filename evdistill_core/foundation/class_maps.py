"""How finer class sets map to coarser ones: new id by old id, 255 for none.

Checked against each other in the tests: 19 -> 11 -> 6 is 19 -> 6.
"""

from __future__ import annotations

import colorsys

from evdistill_core.foundation.labels import (
    CAMVID_CLASSES,
    CAMVID_NAMES,
    CAMVID_TO_SIX,
    SIX_CLASSES,
    ClassInfo,
    ClassTable,
)

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
_LABEL_ID_OF_TRAIN_ID = (
    *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33),
)
_NAME_OF_LABEL_ID = dict(zip(_LABEL_ID_OF_TRAIN_ID, CITYSCAPES_CLASSES.names, strict=True))
# By the ids of Cityscapes' own label files (0..33); those that are not trained have no class.
NOT_TRAINED = "not trained"
CITYSCAPES_LABEL_NAMES = tuple(_NAME_OF_LABEL_ID.get(i, f"{NOT_TRAINED} {i}") for i in range(34))
ELEVEN_TO_SIX = (1, 1, 1, 4, 2, 0, 0, 3, 5, 1, 2)


# The 80 classes of COCO, by the numbers that YOLO's label files have (0 .. 79).
COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)
# What moves on roads and rails is a vehicle, as in Cityscapes; aeroplanes and boats are not.
COCO_TO_SIX = {
    "person": "human",
    "bicycle": "vehicle",
    "car": "vehicle",
    "motorcycle": "vehicle",
    "bus": "vehicle",
    "train": "vehicle",
    "truck": "vehicle",
    "traffic light": "object",
    "stop sign": "object",
}


def class_map_between(source_classes: int, num_classes: int) -> tuple[int, ...] | None:
    """Return the map between two of our class sets by their sizes; None where there is none.

    For data sets that are known to have one of them; ``known_class_map`` goes by names.

    Args:
        source_classes: 19 (Cityscapes), 11 (DSEC) or 6 (DDD17).
        num_classes: 11 or 6.
    """
    return {
        (19, 11): NINETEEN_TO_ELEVEN,
        (19, 6): NINETEEN_TO_SIX,
        (11, 6): ELEVEN_TO_SIX,
    }.get((source_classes, num_classes))


def same_names(classes: ClassTable, names: tuple[str, ...]) -> dict[str, str]:
    """Return the map of equal names; empty where a class is none of the names."""
    return {n: n for n in classes.names} if set(classes.names) <= set(names) else {}


def camvid_map(classes: ClassTable) -> dict[str, str]:
    """Return which class each name of CamVid becomes: one of our six, or the same name.

    Returns:
        Empty for other classes: what they are must be said (``class_map``, or a class file).
    """
    if classes.names == SIX_CLASSES.names:
        return dict(CAMVID_TO_SIX)
    return same_names(classes, CAMVID_NAMES)


def cityscapes_map(classes: ClassTable) -> dict[str, str]:
    """Return which class each of the 19 names of Cityscapes becomes.

    Args:
        classes: our 11 or 6 classes, or some of the 19.

    Returns:
        Empty for other classes: what they are must be said (``class_map``, or a class file).
    """
    maps = {ELEVEN_CLASSES.names: NINETEEN_TO_ELEVEN, SIX_CLASSES.names: NINETEEN_TO_SIX}
    coarser = maps.get(classes.names)
    if coarser is None:
        return same_names(classes, CITYSCAPES_CLASSES.names)
    return {n: classes.names[k] for n, k in zip(CITYSCAPES_CLASSES.names, coarser, strict=True)}


def coco_map(classes: ClassTable) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return which class each name of COCO becomes, and which classes COCO marks completely.

    Args:
        classes: our six, or any that have names of COCO.

    Returns:
        The map, without the names that have no class, and the names of the complete classes. Lights
        and signs are some of our objects, not all of them.
    """
    if classes.names == SIX_CLASSES.names:
        return dict(COCO_TO_SIX), ("human", "vehicle")
    same = {n: n for n in classes.names if n in COCO_NAMES}
    return same, tuple(same)


def known_class_map(names: tuple[str, ...], classes: ClassTable) -> dict[str, str]:
    """Return which class of a table each name becomes, where it needs no saying.

    Args:
        names: of CamVid, Cityscapes or DSEC's eleven, which have maps to coarser presets; or any
            names among which all classes of the table are.
        classes: to map to.

    Returns:
        Class by name; empty where there is no such map.
    """
    if names == CAMVID_NAMES:
        return camvid_map(classes)
    if names == CITYSCAPES_CLASSES.names:
        return cityscapes_map(classes)
    if names == ELEVEN_CLASSES.names and classes.names == SIX_CLASSES.names:
        return {n: classes.names[k] for n, k in zip(names, ELEVEN_TO_SIX, strict=True)}
    return same_names(classes, names)


def spread_colors(count: int) -> list[tuple[int, int, int]]:
    """Return so many colours (red, green, blue) of evenly spaced hue."""
    hues = [colorsys.hsv_to_rgb(i / max(1, count), 0.75, 0.85) for i in range(count)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues]


def named_classes(names: tuple[str, ...]) -> ClassTable:
    """Return a table of these names in colours of evenly spaced hue; none is a thing."""
    colors = spread_colors(len(names))
    return ClassTable(tuple(map(ClassInfo, names, colors)))


# Presets: what `--classes` and the key `classes` take instead of a class file.
CLASS_SETS = {
    "street6": SIX_CLASSES,
    "camvid11": CAMVID_CLASSES,
    "dsec11": ELEVEN_CLASSES,
    "cityscapes19": CITYSCAPES_CLASSES,
    "digits": named_classes(tuple("0123456789")),
    # The names that they had first.
    "six": SIX_CLASSES,
    "eleven": ELEVEN_CLASSES,
    "cityscapes": CITYSCAPES_CLASSES,
}
