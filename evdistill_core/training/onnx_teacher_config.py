"""A teacher from elsewhere, as a configuration: an ONNX model and what must be known to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from evdistill_core.foundation.class_file import Classes, is_class_file, table_of
from evdistill_core.foundation.config import from_mapping, load_yaml, naming
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import check_ranges
from evdistill_core.foundation.suggestions import near_path

Channels = Literal["grey", "rgb", "bgr"]
NAME_LIST = ".txt"


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What a model wants of its input: (x - mean) / std, x an image in 0..1.

    Attributes:
        mean: one value, or one a channel in the order of the model's channels.
        std: as many values.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse values of images in 0..255, and lists that fit no image."""
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ConfigError(
                f"mean and std need 1 or 3 values each, got {list(self.mean)} and {list(self.std)}"
            )
        try:
            check_ranges(self, mean=(-1, 1), std=(1e-4, 1))
        except ConfigError as error:
            raise ConfigError(
                f"{error}, for images in 0..1: divide values for images in 0..255 by 255"
            ) from None


NORMALISATIONS: Mapping[str, Normalisation] = {
    "imagenet": Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "-1..1": Normalisation(mean=(0.5,), std=(0.5,)),
    "0..1": Normalisation(mean=(0.0,), std=(1.0,)),
    "0..255": Normalisation(mean=(0.0,), std=(1 / 255,)),
}


@dataclass(frozen=True, kw_only=True)
class OnnxTeacherConfig:
    """A segmentation or recognition model in an ONNX file (docs/how-to/onnx-teacher.md).

    Attributes:
        onnx: the file; a relative path counts from the working directory, as the paths of data do.
        classes: the model's classes in the order of its outputs. A preset, the path or the content
            of a class file, a ``.txt`` file with a name a line, or a list of names. The last two
            may have any number of names, and equal ones.
        normalise: ``imagenet``, ``-1..1``, ``0..1``, ``0..255``, or mean and std. There is no
            default: a wrong one gives wrong predictions without any error.
        channels: ``grey``: one channel; ``rgb`` and ``bgr``: three. Images are grey here, so three
            channels are equal before they are normalised.
        class_map: the student's class by the model's class. Classes that are not named have no
            place: their probability is left out, and a pixel counts as much as the rest. Empty:
            equal names, or the known map between two presets.
        size: (height, width) that images are resized to; None: the model's own where it is fixed,
            else the size of the images.
        output: name of the output with the predictions, where the model has several.
        features: name of an output (B, C, h, w) or (B, C) for the affinity terms; empty: none.
        label_smoothing: share of the probability that other classes get where the model gives
            labels instead of logits.
    """

    onnx: Path
    classes: Classes
    normalise: Literal["imagenet", "-1..1", "0..1", "0..255"] | Normalisation
    channels: Channels = "rgb"
    class_map: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    output: str = ""
    features: str = ""
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values out of range, and a normalisation of other channels."""
        check_ranges(self, label_smoothing=(1e-6, 0.9), size=(8, 8192))
        if len(self.normalisation.mean) > self.num_channels:
            raise ConfigError(
                f"normalise has 3 channels and channels: {self.channels} gives 1: name one value "
                "each, for instance {mean: [0.449], std: [0.226]} for ImageNet"
            )
        if self.output and self.output == self.features:
            raise ConfigError(
                f"output and features both name {self.output!r}: predictions and features are "
                "two outputs of a model"
            )

    @property
    def num_channels(self) -> int:
        """Channels of the model's input."""
        return 1 if self.channels == "grey" else 3

    @property
    def normalisation(self) -> Normalisation:
        """Mean and std in the order of the model's channels; one value stands for all."""
        if isinstance(self.normalise, Normalisation):
            return self.normalise
        found = NORMALISATIONS[self.normalise]
        if self.channels != "bgr":
            return found
        return Normalisation(mean=found.mean[::-1], std=found.std[::-1])

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the model's classes, by output.

        Raises:
            ConfigError: an unknown preset, or a file that is missing, wrong or empty.
        """
        if isinstance(self.classes, str) and self.classes.endswith(NAME_LIST):
            return _read_names(Path(self.classes))
        names = self.classes if isinstance(self.classes, tuple) else table_of(self.classes).names
        if not names:
            raise ConfigError("classes of the teacher is empty: name every output of the model")
        return names

    def frozen(self) -> OnnxTeacherConfig:
        """Return the same with the names of a file in its place: a run must not change with it.

        Raises:
            ConfigError: see ``class_names``.
        """
        return replace(self, classes=self.class_names()) if _is_file(self.classes) else self


def read_onnx_teacher(path: Path) -> OnnxTeacherConfig:
    """Return the description of a teacher in a YAML file of its own.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    with naming(path):
        values = load_yaml(path)
        return from_mapping(OnnxTeacherConfig, with_class_path(values, path)).frozen()


def with_class_path(values: Mapping[str, object], path: Path) -> dict[str, object]:
    """Return the values of a teacher in which a file of classes counts from the folder of a YAML.

    Args:
        values: plain data of an ``OnnxTeacherConfig``; not modified.
        path: of the YAML.
    """
    classes = values.get("classes")
    if not _is_file(classes):
        return dict(values)
    return {**values, "classes": str((path.parent / Path(str(classes)).expanduser()).resolve())}


def _is_file(classes: object) -> bool:
    return isinstance(classes, str) and (classes.endswith(NAME_LIST) or is_class_file(classes))


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise ConfigError(f"there is no list of classes {path}{near_path(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the list of classes {path}: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ConfigError(f"the list of classes {path} is empty: write a name a line")
    return names
