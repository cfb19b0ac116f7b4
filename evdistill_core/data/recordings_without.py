"""Recordings in which some classes do not occur: the cheapest label there is.

Whoever has recorded a hall knows that no vehicle was in it, and needs no mask to say so. Every
pixel of such a recording then has the label 254, "none of these classes" (docs/adr/0023), and a
student that saw a vehicle there learns that it was none (docs/adr/0041).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evdistill_core.data.samples import Sample
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, OTHER, ClassTable, excluded_mask
from evdistill_core.representations import InputSpec


@dataclass(frozen=True, kw_only=True)
class RecordingsWithoutConfig:
    """What does not occur, and where.

    Attributes:
        classes: names of classes of which no pixel of these recordings is; at least one, not all.
        recordings: the recordings, which part of them, and what is changed.
    """

    classes: tuple[str, ...]
    recordings: RecordingsConfig

    def __post_init__(self) -> None:
        """Refuse an empty list, which would teach nothing, and keys without a meaning here."""
        if not self.classes:
            raise ConfigError(
                "without.classes needs at least one class that does not occur in the recordings"
            )
        if self.recordings.whole:
            raise ConfigError(
                "without.recordings cuts windows out of recordings, for dense labels: leave whole "
                "out"
            )
        if self.recordings.frame_within_us:
            raise ConfigError("without.recordings needs no images: leave frame_within_us out")

    def unchanged(self) -> RecordingsWithoutConfig:
        """Return it for scoring: windows as they are, silent ones too."""
        plain = {"flip": 0.0, "invert": 0.0, "dropout": 0.0, "min_events": 0}
        return replace(self, recordings=replace(self.recordings, **plain))  # type: ignore[arg-type]

    def describe(self) -> str:
        """Return in a few words what this is."""
        names = ", ".join(path.name for path in self.recordings.paths)
        return f"recordings without {', '.join(self.classes)}: {names}"


class RecordingsWithout:
    """Windows cut anywhere in recordings, all of whose pixels are known to be none of some classes.

    Args:
        config: recordings and classes.
        spec: what the student is fed.
        classes: those of the student.
        seed: of all draws, with the index.

    Raises:
        ConfigError: a class is unknown, or all are named.
        DataError: nothing long enough for a window is left.
        RecordingError: a recording cannot be read.
    """

    def __init__(
        self, config: RecordingsWithoutConfig, spec: InputSpec, classes: ClassTable, *, seed: int
    ) -> None:
        self._excluded = excluded_mask(config.classes, classes, key="without.classes")
        self._windows = UnlabelledWindows(config.recordings, spec, seed=seed)

    def __len__(self) -> int:
        return len(self._windows)

    def sample(self, index: int) -> Sample:
        """Return the window of this index (>= 0)."""
        window = self._windows.sample(index)
        label = np.where(window.valid > 0, OTHER, IGNORE).astype(np.uint8)
        return Sample(
            window.input,
            label,
            window.active,
            past=window.past,
            excluded=self._excluded,
            # No thing of these classes is anywhere; where others may be, the label says it.
            instances=np.zeros(label.shape, np.uint16),
        )
