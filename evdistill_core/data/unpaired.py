"""Both sides of the distillation: labelled images here, unlabelled windows there, never in pairs.

Where the target camera also gives frames, they come along: the paired terms use them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import torch

from evdistill_core.data.batches import Batch, check_one_size, stack, stack_past
from evdistill_core.data.build import DataConfig, SourceConfig, build_source, check_validation
from evdistill_core.data.samples import IndexedSource, Mixture, Prefix, Sample, SampleSource
from evdistill_core.data.stills import Stills, StillsConfig
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledSample, open_windows
from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.representations import InputSpec

ACTIVITY_BLUR_PX = 9


@dataclass(frozen=True, kw_only=True)
class TeacherDataConfig(DataConfig):
    """What a teacher learns from and is validated on.

    Attributes:
        train: not used, stays empty.
        stills: labelled images.
        validation_stills: labelled images that are scored, by name.
        more_stills: labelled images beside them, each set drawn by its ``share``.
    """

    train: tuple[SourceConfig, ...] = ()
    stills: StillsConfig
    validation_stills: dict[str, StillsConfig]
    more_stills: tuple[StillsConfig, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse event windows, for a teacher looks at images, and images that do not mix."""
        _check_mixed(self.stills, self.more_stills)
        if self.train or self.validation:
            raise ConfigError(
                "a teacher learns from data.stills and is scored on data.validation_stills; "
                "data.train and data.validation hold events"
            )

    def describe(self) -> list[dict[str, object]]:
        """Return plain data about the images."""
        return _describe_stills(self.stills, *self.more_stills)


@dataclass(frozen=True, kw_only=True)
class DistillDataConfig(DataConfig):
    """What a distillation learns from and is validated on.

    Attributes:
        train: labelled event windows beside the generator (simulated, or real labels where they
            are allowed); may be empty.
        validation: labelled event windows that are scored. They choose the best checkpoint, so
            they must be neither the target's labels nor the test set.
        stills: labelled images, the source.
        recordings: unlabelled recordings, the target.
        target: simulated windows as the target instead; their labels are never read.
        target_frames: the images that were made with the target's windows are its frames.
        more_stills: labelled images beside ``stills``, each set drawn by its ``share``.
    """

    train: tuple[SourceConfig, ...] = ()
    stills: StillsConfig
    recordings: RecordingsConfig | None = None
    target: tuple[SourceConfig, ...] = ()
    target_frames: bool = False
    more_stills: tuple[StillsConfig, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse a run without a target or with two, and images that do not mix."""
        _check_mixed(self.stills, self.more_stills)
        if (self.recordings is None) == (not self.target):
            raise ConfigError("a distillation needs either data.recordings or data.target")
        if self.target_frames and not all(s.folder or s.simulation for s in self.target):
            raise ConfigError("target_frames needs simulated windows: a folder or a simulation")
        check_validation(self.validation)

    @property
    def has_frames(self) -> bool:
        """Whether windows of the target come with frames."""
        if self.recordings is not None:
            return self.recordings.frame_within_us > 0
        return self.target_frames

    def describe(self) -> list[dict[str, object]]:
        """Return plain data about both sides, and about labelled windows beside them."""
        target: list[dict[str, object]] = [
            {**source.describe(), "labels": "not read"} for source in self.target
        ]
        if self.recordings is not None:
            names = ", ".join(path.name for path in self.recordings.paths)
            target = [{"name": "unlabelled events", "recordings": names}]
        labelled = [source.describe() for source in self.train]
        return [*_describe_stills(self.stills, *self.more_stills), *target, *labelled]


@dataclass(frozen=True, eq=False)
class UnpairedSample:
    """One image, one window, and perhaps one labelled window.

    Attributes:
        still: image (1, H, W) in -1..1 with labels; ``active`` is 0 on padding.
        window: of the target camera.
        labelled: labelled events, or None.
    """

    still: Sample
    window: UnlabelledSample
    labelled: Sample | None


@dataclass(frozen=True)
class UnpairedBatch(Batch):
    """A batch of ``UnpairedSample``: the fields of ``Batch`` are the target's, without labels.

    Attributes:
        valid: (B, H, W) uint8, 1 on the sensor, 0 on padding.
        frame: (B, 1, H, W) float32 in -1..1.
        has_frame: (B,) float32, 1 where there is one.
        image: (B, 1, h, w) float32 in -1..1.
        image_label: (B, h, w) int64, ids, 255 or 254; (B, 1, 1) for recognition.
        image_valid: (B, h, w) uint8, 1 on the image, 0 on padding.
        labelled: labelled events, or None.
        image_excluded: (B, K) bool, see ``Batch.excluded``, of the images.
        image_instances: (B, h, w) int64, see ``Batch.instances``, of the images.
    """

    valid: torch.Tensor
    frame: torch.Tensor
    has_frame: torch.Tensor
    image: torch.Tensor
    image_label: torch.Tensor
    image_valid: torch.Tensor
    labelled: Batch | None
    image_excluded: torch.Tensor | None = None
    image_instances: torch.Tensor | None = None


class UnpairedSource:
    """Joins the sides; each has its own seed, so neither depends on the other.

    Args:
        config: images and events.
        spec: what the student is fed.
        classes: what labels mean.
        seed: of the run.

    Raises:
        DataError: images or recordings are missing.
        RecordingError: a recording cannot be read.
    """

    def __init__(
        self, config: DistillDataConfig, spec: InputSpec, classes: ClassTable, *, seed: int
    ) -> None:
        self._stills = build_stills(config, classes, seed=seed * 7919 + 1)
        self._windows: IndexedSource[UnlabelledSample]
        if config.recordings is not None:
            self._windows = open_windows(config.recordings, spec, seed=seed * 7919 + 2)
        else:
            self._windows = _target(config, spec, classes, seed * 7919 + 3)
        self._labelled = (
            _mixture(config.train, spec, classes, seed * 7919 + 4) if config.train else None
        )

    def sample(self, index: int) -> UnpairedSample:
        """Return image, window and labelled window of this index."""
        return UnpairedSample(
            self._stills.sample(index),
            self._windows.sample(index),
            self._labelled.sample(index) if self._labelled else None,
        )

    def usual_activity(self, windows: int) -> npt.NDArray[np.float32]:
        """Return how often the target has an event near a pixel, (H, W) float32 in 0..1.

        Args:
            windows: how many of the target's windows, from the first on, are looked at. They are
                the same in every run and every process.
        """
        active = np.mean([self._windows.sample(i).active > 0 for i in range(windows)], 0)
        size = (ACTIVITY_BLUR_PX, ACTIVITY_BLUR_PX)
        near: npt.NDArray[np.float32] = cv2.blur(active.astype(np.float32), size)
        return near


class _WithoutLabels:
    """A simulated target camera: its labels are dropped here and reach nobody."""

    def __init__(self, source: SampleSource, *, frames: bool) -> None:
        self._source = source
        self._frames = frames

    def sample(self, index: int) -> UnlabelledSample:
        known = self._source.sample(index)
        shape = known.active.shape
        frame = known.picture if self._frames else None
        return UnlabelledSample(
            known.input,
            known.active,
            np.ones(shape, np.uint8),
            np.zeros((1, *shape), np.float32) if frame is None else frame,
            has_frame=frame is not None,
            past=known.past,
        )


def _target(
    config: DistillDataConfig, spec: InputSpec, classes: ClassTable, seed: int
) -> _WithoutLabels:
    source = _mixture(config.target, spec, classes, seed)
    return _WithoutLabels(source, frames=config.target_frames)


def _describe_stills(*sets: StillsConfig) -> list[dict[str, object]]:
    return [
        {"name": "stills", "images": f"{s.images.layout} {s.images.root.name} {s.images.split}"}
        | ({"share": s.share} if len(sets) > 1 else {})
        for s in sets
    ]


def _check_mixed(stills: StillsConfig, more: tuple[StillsConfig, ...]) -> None:
    """Raise ConfigError where images of several sets cannot are in one batch."""
    crops = sorted({s.crop for s in (stills, *more)})
    if more and (len(crops) > 1 or crops[0] == (0, 0)):
        raise ConfigError(
            f"stills and more_stills are in one batch: give all the same crop above 0, got {crops}"
        )
    if len({s.images.is_recognition for s in (stills, *more)}) > 1:
        raise ConfigError("stills and more_stills must be of one task: dense labels, or one class")


def build_stills(
    config: TeacherDataConfig | DistillDataConfig, classes: ClassTable, *, seed: int
) -> SampleSource:
    """Return the labelled images of a configuration, mixed by their shares.

    Raises:
        DataError: images are missing.
    """
    if not config.more_stills:
        return Stills(config.stills, classes, seed=seed)
    sets = (config.stills, *config.more_stills)
    sources = [Stills(s, classes, seed=seed + 101 * k) for k, s in enumerate(sets)]
    return Mixture(sources, [s.share for s in sets], seed=seed)


def build_stills_sets(config: TeacherDataConfig, classes: ClassTable) -> dict[str, SampleSource]:
    """Return the validation images of a teacher by name.

    Raises:
        DataError: images are missing.
    """
    sets = {n: Stills(c, classes, seed=0) for n, c in config.validation_stills.items()}
    return {name: Prefix(stills, len(stills)) for name, stills in sets.items()}


def stack_unpaired(first_index: int, samples: list[UnpairedSample]) -> UnpairedBatch:
    """Return samples of one size as a batch.

    Raises:
        ConfigError: windows, images or labelled windows are of several sizes.
    """
    check_one_size([s.window.input for s in samples])
    windows = [s.window for s in samples]
    stills = stack(first_index, [s.still for s in samples])
    labelled = [s.labelled for s in samples if s.labelled is not None]
    active = torch.from_numpy(np.stack([w.active for w in windows]))
    return UnpairedBatch(
        first_index=first_index,
        input=torch.from_numpy(np.stack([w.input for w in windows])),
        label=torch.full(active.shape, IGNORE, dtype=torch.int64),
        active=active,
        valid=torch.from_numpy(np.stack([w.valid for w in windows])),
        frame=torch.from_numpy(np.stack([w.frame for w in windows])),
        has_frame=torch.tensor([float(w.has_frame) for w in windows]),
        image=stills.input,
        image_label=stills.label,
        image_valid=stills.active,
        image_excluded=stills.excluded,
        image_instances=stills.instances,
        labelled=stack(first_index, labelled) if labelled else None,
        past=stack_past([w.past for w in windows]),
    )


def _mixture(
    sources: tuple[SourceConfig, ...], spec: InputSpec, classes: ClassTable, seed: int
) -> SampleSource:
    built = [build_source(s, spec, classes, seed=seed + 101 * k) for k, s in enumerate(sources)]
    return Mixture(built, [s.share for s in sources], seed=seed)
