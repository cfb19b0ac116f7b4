"""Labelled stills on disk: dense labels (CamVid, Cityscapes, folders) or one class an image.

An image with one class carries its id on every pixel, so that cropping, moving and simulating are
the same code for both tasks; ``ImagesConfig.is_recognition`` says that it is one label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evdistill_core.data.image_layouts import LAYOUTS, LabelledImage
from evdistill_core.foundation.config import LATER, from_mapping
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import AUTO, OTHER, SIX_CLASSES, ClassTable, excluded_mask
from evdistill_core.foundation.ranges import check_at_least


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Where labelled images lie and what their labels mean.

    Attributes:
        layout: ``camvid``, ``cityscapes``, ``folders``, ``yolo-seg``, ``coco-seg``, ``patterns``,
            ``class-folders`` or ``mnist``: their files are listed in
            docs/how-to/labelled-images.md. Or a layout of a plugin (docs/how-to/extending.md).
        root: folder; relative paths are relative to the working directory.
        split: ``train``, ``val``, ``test``; several are joined by ``+`` (camvid, cityscapes,
            folders, yolo-seg). ``.``: class folders lie directly below root. ``mnist``: ``train``,
            ``test``.
        images: image folder below root (``folders``), or file of images (``mnist``, where it
            has another name than the published one).
        labels: label folder below root (``folders``), or file of labels (``mnist``).
        names: class names by label id (``folders``) or by polygon number (``yolo-seg``, with a
            ``class_map``), for a set that differs from the class file of the experiment. Empty:
            the class file, or the position of the class.
        class_map: source class name to target class name, wherever the source has names; names
            left out are ignored. It wins over the class file.
        include: keep files whose name starts with one of these (CamVid drives: ``0001TP``,
            ``0006R0``, ``0016E5``; Cityscapes: cities); empty keeps all.
        exclude: drop files whose name starts with one of these.
        skip: leave out the first N files: two parts of one list share no image.
        limit: use only the first N files of what is left; 0 uses all.
        complete_for: the classes that this set marks completely. A pixel without a class is known
            to be none of them: its label is 254, and the losses push these classes down there
            without choosing among the others. ``auto``: for polygons with a ``class_map``, the
            classes that the map reaches; ``coco-seg``: human and vehicle of the six. ``[]``: such
            pixels are ignored.
    """

    root: Path
    layout: str = "camvid"
    split: str = "train"
    images: str = "images"
    labels: str = "labels"
    names: tuple[str, ...] = ()
    class_map: dict[str, str] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip: int = 0
    limit: int = 0
    complete_for: str | tuple[str, ...] = field(default=AUTO, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse layouts that do not exist and negative numbers of files."""
        LAYOUTS.get(self.layout)
        if isinstance(self.complete_for, str) and self.complete_for != AUTO:
            raise ConfigError(
                f"complete_for is a list of classes, or {AUTO}, got {self.complete_for!r}"
            )
        check_at_least(self, skip=0, limit=0)

    @property
    def is_recognition(self) -> bool:
        """Whether every image has one class."""
        return LAYOUTS.get(self.layout).is_recognition


class LabelledImages:
    """A list of stills, read on demand.

    Args:
        config: which files.
        classes: what the labels are mapped to.

    Attributes:
        names: file names in order.
        complete_for: the classes that a pixel of the value 254 is not of; empty: labels have none.
        excluded: (K,) bool, True for these classes; None: there are none.

    Raises:
        DataError: a folder is missing or empty, an image has no label file, or a class folder has
            no place among the classes.
        ConfigError: the class map or ``complete_for`` names an unknown class, or this layout does
            not know ``complete_for``.
    """

    def __init__(self, config: ImagesConfig, classes: ClassTable = SIX_CLASSES) -> None:
        self.config = config
        self.classes = classes
        self._source = LAYOUTS.get(config.layout).open(config, classes)
        if not hasattr(self._source, "complete_for"):
            raise ConfigError(
                f"what the layout {config.layout} opens lacks the attribute complete_for: give it "
                "() if its labels never hold 254, else the names of the classes that such a pixel "
                "is not of (docs/how-to/extending.md)"
            )
        self.complete_for = tuple(self._source.complete_for)
        self.excluded = excluded_mask(self.complete_for, classes)
        if config.complete_for not in (AUTO, ()) and not self.complete_for:
            raise ConfigError(
                f"layout {config.layout} does not mark classes completely here: leave complete_for "
                f"out, got {list(config.complete_for)}"
            )
        names = self._source.names
        kept = [i for i, name in enumerate(names) if _kept(name, config)][config.skip :]
        self._numbers = kept[: config.limit] if config.limit else kept
        self.names = tuple(names[i] for i in self._numbers)
        if not self._numbers:
            raise DataError(
                f"no labelled image left in {config.root} (split {config.split!r}, "
                f"include {list(config.include)}, exclude {list(config.exclude)}, skip "
                f"{config.skip})"
            )

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def notes(self) -> list[str]:
        """What must be said about files that are not used, or that lack something."""
        return list(getattr(self._source, "notes", ()))

    def __getitem__(self, index: int) -> LabelledImage:
        """Read one still.

        Raises:
            DataError: a file cannot be read, sizes differ, or a label id has no meaning.
        """
        still = self._source.read(self._numbers[index])
        if self.excluded is None and (still.label == OTHER).any():
            raise DataError(
                f"the label of {still.name} holds {OTHER} (none of some classes), and layout "
                f"{self.config.layout} does not say of which: give its source complete_for "
                "(docs/how-to/extending.md)"
            )
        return still

    def __getstate__(self) -> dict[str, object]:
        # Workers open the files themselves: what a layout keeps open need not go through a pipe.
        return {k: v for k, v in self.__dict__.items() if k != "_source"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._source = LAYOUTS.get(self.config.layout).open(self.config, self.classes)


def recognition_names(config: ImagesConfig) -> tuple[str, ...]:
    """Return the class names that a recognition layout has on disk.

    Raises:
        DataError: the folder or file is missing.
        ConfigError: the layout has dense labels, or no names.
    """
    names = LAYOUTS.get(config.layout).class_names
    if not config.is_recognition or names is None:
        raise ConfigError(f"layout {config.layout} has no class names on disk: name the classes")
    return names(config)


def find_images(  # noqa: PLR0913 - what a user may know of a folder
    root: Path,
    split: str,
    *,
    is_recognition: bool = False,
    names: tuple[str, ...] = (),
    class_map: Mapping[str, str] | None = None,
    layout: str = "",
) -> ImagesConfig:
    """Tell how the labelled images below a folder lie.

    Our layouts are tried first, in the order of ``LAYOUTS``, then those of installed packages.

    Args:
        root: the folder.
        split: which part of the images.
        is_recognition: whether images of one class each are wanted.
        names: names of the label ids; empty: the ids are those of the classes.
        class_map: label name to class name.
        layout: of ``ImagesConfig``; empty: whichever fits.

    Raises:
        DataError: no layout fits, or the split is missing.
        ConfigError: no layout has this name, or it is of the other task.
    """
    given = {"root": root, "names": names, "class_map": class_map or {}}
    for name in [layout] if layout else [*LAYOUTS.own, *LAYOUTS.guests()]:
        entry = LAYOUTS.get(name)
        if entry.is_recognition != is_recognition:
            continue
        fields = entry.find(root, split, names) if entry.find is not None else None
        if fields is None and layout:
            fields = {"split": split}  # it was named: opening it says what is missing
        if fields is not None:
            return from_mapping(ImagesConfig, {**given, "layout": name, **fields})
    wanted = "one class an image" if is_recognition else "one class a pixel"
    if layout:
        raise ConfigError(f"images with {wanted} are needed here: layout {layout} has others")
    expected = [e.expects for e in LAYOUTS.own.values() if e.is_recognition == is_recognition]
    raise DataError(
        f"{root} holds no labelled images with {wanted}: expected {', or '.join(expected)}"
    )


def _kept(name: str, config: ImagesConfig) -> bool:
    if config.include and not name.startswith(config.include):
        return False
    return not (config.exclude and name.startswith(config.exclude))
