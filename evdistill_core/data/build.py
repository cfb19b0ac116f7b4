"""Data as configured: the mixture to train on, the sets to score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from evdistill_core.data.augment import AugmentConfig
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.moving_stills import MovingStills, MovingStillsConfig
from evdistill_core.data.own_classes import check_meaning, classes_of_recordings, parts_of
from evdistill_core.data.pseudo_labelled import PseudoLabelled, PseudoLabelsConfig
from evdistill_core.data.recorded_masks import (
    RecordedMasks,
    RecordedMasksConfig,
    holds_labelled_recordings,
)
from evdistill_core.data.recordings_without import RecordingsWithout, RecordingsWithoutConfig
from evdistill_core.data.samples import Mixture, Prefix, SampleSource
from evdistill_core.data.simulated import SimulatedWindows, SimulationConfig, StoredWindows
from evdistill_core.data.street_sets import StreetSet, StreetSetConfig
from evdistill_core.data.whole_recordings import RecognitionSet, RecognitionSetConfig
from evdistill_core.foundation.class_file import named_table
from evdistill_core.foundation.config import LATER, load_config
from evdistill_core.foundation.errors import ConfigError, DataError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.ranges import check_above, check_at_least
from evdistill_core.representations.spec import InputSpec
from evdistill_core.simulation.dataset import INDEX

SIMULATED_COUNT = 100
SOURCE_KINDS = (
    "simulation",
    "folder",
    "moving_stills",
    "recognition",
    "street",
    "recorded",
    "without",
    "pseudo_labels",
)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One kind of windows.

    Attributes:
        name: in reports; letters, digits, ``-`` and ``_``.
        simulation: windows simulated on the fly; this or one of the next seven.
        folder: windows on disk that ``evdistill simulate`` made.
        moving_stills: windows of recognition simulated on the fly.
        recognition: a labelled set of short recordings (N-MNIST, N-Caltech101).
        street: a labelled set of driving scenes (DDD17, DSEC-Semantic).
        recorded: own recordings with own masks.
        without: own recordings in which some classes do not occur, without masks.
        pseudo_labels: own recordings without masks, labelled by a finished student.
        augment: changes to the events.
        share: how often it is drawn, beside the shares of the others (training).
        count: windows of an evaluation set; 0: all of a recorded or stored set, 100 simulated ones.
        seed: of an evaluation set; training sources take the run's.
    """

    name: str
    simulation: SimulationConfig | None = None
    folder: Path | None = None
    moving_stills: MovingStillsConfig | None = None
    recognition: RecognitionSetConfig | None = None
    street: StreetSetConfig | None = None
    recorded: RecordedMasksConfig | None = field(default=None, metadata=LATER)
    without: RecordingsWithoutConfig | None = field(default=None, metadata=LATER)
    pseudo_labels: PseudoLabelsConfig | None = field(default=None, metadata=LATER)
    augment: AugmentConfig | None = None
    share: float = 1.0
    count: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse names that make no file name, and empty sources."""
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ConfigError(f"a source's name is made of letters, digits, - and _: {self.name!r}")
        check_above(self, share=0)
        check_at_least(self, count=0, seed=0)
        given = [k for k in SOURCE_KINDS if getattr(self, k) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"source {self.name!r} needs exactly one of {', '.join(SOURCE_KINDS)}; got "
                f"{', '.join(given) or 'none'}"
            )
        if self.is_own_unlabelled and self.augment is not None:
            raise ConfigError(
                f"source {self.name!r}: {self.kind} has no augment; flip, invert and dropout stand "
                f"in {self.kind}.recordings"
            )

    @property
    def kind(self) -> str:
        """Which of the kinds it is, as its key in a YAML file says."""
        return next(k for k in SOURCE_KINDS if getattr(self, k) is not None)

    @property
    def is_own_unlabelled(self) -> bool:
        """Whether it is cut out of own recordings without masks; their windows have no image."""
        return self.without is not None or self.pseudo_labels is not None

    def windows(self, available: int, *, limit: int = 0) -> int:
        """Return how many windows are scored.

        Args:
            available: different windows that the source has.
            limit: score at most this many; 0: no limit.
        """
        if self.simulation is not None or self.moving_stills is not None:
            count = self.count or SIMULATED_COUNT
        else:
            count = min(self.count or available, available)  # none is scored twice
        return min(limit, count) if limit else count

    def describe(self) -> dict[str, object]:
        """Return plain data about where the windows come from."""
        facts: dict[str, object] = {"name": self.name, "share": self.share}
        if self.folder is not None:
            return facts | {"folder": self.folder.name}
        own = self.recorded or self.without or self.pseudo_labels
        if own is not None:
            return facts | {"set": own.describe()}
        recorded = self.recognition or self.street
        if recorded is not None:
            return facts | {"set": f"{recorded.layout} {recorded.root.name} {recorded.split}"}
        simulated = self.simulation or self.moving_stills
        assert simulated is not None  # one of the eight is given
        images = simulated.images
        return facts | {
            "images": f"{images.layout} {images.root.name} {images.split}",
            "size": [simulated.height, simulated.width],
        }


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run learns from and what it is validated on.

    Attributes:
        train: mixed by their shares.
        validation: scored during training; the best checkpoint is chosen by them, so they must
            not be the sets that results are reported on.
    """

    train: tuple[SourceConfig, ...]
    validation: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a run without data and sets of one name."""
        if not self.train:
            raise ConfigError("data.train needs at least one source")
        check_validation(self.validation)

    def describe(self) -> list[dict[str, object]]:
        """Return plain data about what a run learns from, for the model card."""
        return [source.describe() for source in self.train]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Sets to score (``evdistill evaluate``).

    Attributes:
        sets: each is scored on its own.
    """

    sets: tuple[SourceConfig, ...]

    def __post_init__(self) -> None:
        """Refuse an empty list and sets of one name."""
        if not self.sets:
            raise ConfigError("sets needs at least one set")
        _check_names(self.sets)
        for source in self.sets:
            if source.pseudo_labels is not None:
                raise ConfigError(
                    f"set {source.name!r}: what a student says of recordings is no truth, so it "
                    "can be learned from and not be scored on. Score on masks (recorded)"
                )


def build_training_source(
    config: DataConfig, spec: InputSpec, classes: ClassTable, *, seed: int
) -> SampleSource:
    """Return the mixture that a run learns from.

    Raises:
        DataError: images are missing.
    """
    sources = [
        build_source(s, spec, classes, seed=_mixed_seed(seed, k))
        for k, s in enumerate(config.train)
    ]
    return Mixture(sources, [s.share for s in config.train], seed=seed)


def build_validation_sources(
    config: DataConfig, spec: InputSpec, classes: ClassTable
) -> dict[str, SampleSource]:
    """Return the validation sets by name.

    Raises:
        DataError: images are missing.
    """
    return {s.name: _scored(s, spec, classes, seed=s.seed) for s in config.validation}


def build_evaluation_sets(
    path: Path, spec: InputSpec, classes: ClassTable, *, limit: int = 0, seed: int | None = None
) -> dict[str, SampleSource]:
    """Return the sets that a YAML file names, or the set that a folder holds.

    Args:
        path: of an ``EvaluationConfig``, a folder that ``evdistill simulate`` made, or a folder
            with a recording and masks (or several of them).
        spec: what the student is fed.
        classes: what the student says.
        limit: score at most this many windows a set; 0: as configured.
        seed: instead of every set's own.

    Raises:
        ConfigError: the file is wrong.
        DataError: images are missing, or a folder holds nothing to score.
    """
    if path.is_dir():
        whole: RecordedMasks | StoredWindows
        if holds_labelled_recordings(path):
            whole = RecordedMasks(RecordedMasksConfig(paths=(path,)), spec, classes)
        elif (path / INDEX).is_file():
            whole = StoredWindows(path, spec, classes)
        else:
            raise DataError(
                f"{path} holds nothing to score: expected a set that `evdistill simulate` made "
                f"({INDEX}), or a recording beside masks/<t_us>.png (docs/how-to/classes.md)"
            )
        return {whole.name: Prefix(whole, min(limit or len(whole), len(whole)))}
    config = load_config(EvaluationConfig, path)
    return {
        s.name: _scored(s, spec, classes, seed=s.seed if seed is None else seed, limit=limit)
        for s in config.sets
    }


def classes_of_sets(
    path: Path, student: ClassTable, *, given: str | None
) -> tuple[ClassTable, str]:
    """Return a student's classes with what the labels of sets to score mean, and who says it.

    Args:
        path: see ``build_evaluation_sets``.
        student: its classes.
        given: preset or path of a class file; None: what lies beside the data, or the student.

    Returns:
        The classes, and "" where no set has labels of a user's own.

    Raises:
        UnknownClassesError: nothing says what labels mean.
        ConfigError: a file is wrong, or names a class that the student does not have.
    """
    config: EvaluationConfig | None = None
    folders: tuple[Path, ...] = ()
    if path.is_dir():
        folders = (path,) if holds_labelled_recordings(path) else ()
    else:
        config = load_config(EvaluationConfig, path)
        folders = tuple(p for r in parts_of(config, RecordedMasksConfig) for p in r.paths)
    if folders:
        return classes_of_recordings(folders, student, given=given)
    if given is not None:
        return student.with_masks_of(named_table(given)), given
    if student.masks is None:
        for images in parts_of(config, ImagesConfig):
            check_meaning(images)
    return student, ""


def _scored(
    config: SourceConfig, spec: InputSpec, classes: ClassTable, *, seed: int, limit: int = 0
) -> Prefix:
    if config.without is not None:
        config = replace(config, without=config.without.unchanged())
    source = build_source(config, spec, classes, seed=seed)
    return Prefix(source, config.windows(len(source), limit=limit))


def build_source(
    config: SourceConfig, spec: InputSpec, classes: ClassTable, *, seed: int
) -> SampleSource:
    """Return the windows of one source.

    Raises:
        DataError: images or stored windows are missing.
    """
    if config.without is not None:  # its recordings say how windows are changed
        return RecordingsWithout(config.without, spec, classes, seed=seed)
    if config.pseudo_labels is not None:
        return PseudoLabelled(config.pseudo_labels, spec, classes, seed=seed)
    how = {"seed": seed, "augmentation": config.augment}
    for part, kind in (
        (config.folder, StoredWindows),
        (config.simulation, SimulatedWindows),
        (config.moving_stills, MovingStills),
        (config.recognition, RecognitionSet),
        (config.street, StreetSet),
        (config.recorded, RecordedMasks),
    ):
        if part is not None:
            make = cast("Callable[..., SampleSource]", kind)
            return make(part, spec, classes, **how)
    raise AssertionError("one of the eight is given")


def _mixed_seed(seed: int, position: int) -> int:
    # Two sources of one run must not draw the same scenes.
    return (seed * 1_000_003 + position + 1) & 0xFFFFFFFF


def check_validation(sources: tuple[SourceConfig, ...]) -> None:
    """Raise ConfigError for sets of one name, and for those that can choose no checkpoint."""
    _check_names(sources)
    for source in sources:
        if source.without is not None:
            raise ConfigError(
                f"validation set {source.name!r}: no pixel of recordings without a class is known, "
                "so it can choose no checkpoint. Score it with `evdistill evaluate` instead"
            )
        if source.pseudo_labels is not None:
            raise ConfigError(
                f"validation set {source.name!r}: what a student says of recordings is no truth, "
                "so it can choose no checkpoint. Use masks (recorded) or simulated windows"
            )


def _check_names(sources: tuple[SourceConfig, ...]) -> None:
    names = [s.name for s in sources]
    if len(set(names)) != len(names):
        raise ConfigError(f"sets must have distinct names, got {names}")
