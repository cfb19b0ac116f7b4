"""DDD17 as Ev-SegNet published it: representations of windows with labels, not events.

``<root>/{train,test}/{events,labels,images}``: a NumPy array (H, W, 6) a window, and 8 bit PNGs of
its labels (0 .. 5, 255 to ignore) and of the camera's image, with equal stems. The last 60 rows
of the sensor are cut off. As there are no events in it, it cannot be opened as a recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import DataError

CHANNELS = 6
#: As the paper orders them: counts, mean and standard deviation of time; negative, then positive.
CHANNEL_NAMES = (
    "count_negative", "count_positive", "mean_time_negative", "mean_time_positive",
    "std_time_negative", "std_time_positive",
)  # fmt: skip
CLASSES = 6
IGNORE = 255
MAX_SIDE = 4096


@dataclass(frozen=True, eq=False)
class EvSegNetSample:
    """One window.

    Attributes:
        stem: name of its files.
        planes: (6, H, W) float32, see ``CHANNEL_NAMES``.
        label: (H, W) uint8, class 0 .. 5 or 255; ``None`` where the set has none.
        image: (H, W) uint8 grey; ``None`` where the set has none.
    """

    stem: str
    planes: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8] | None
    image: npt.NDArray[np.uint8] | None


class EvSegNetSet:
    """One split, by index.

    Args:
        root: folder with ``train`` and ``test``.
        split: which of them.

    Raises:
        DataError: no such folder, or no arrays in it.
    """

    def __init__(self, root: Path, split: str = "train") -> None:
        self._folder = root / split
        self._files = sorted((self._folder / "events").glob("*.npy"))
        if not self._files:
            raise DataError(
                f"{self._folder / 'events'} holds no .npy files; expected Ev-SegNet's release of "
                "DDD17: <root>/{train,test}/{events,labels,images}"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> EvSegNetSample:
        """Return one window.

        Raises:
            DataError: an array or an image is damaged, or sizes differ.
        """
        path = self._files[index]
        planes = _planes(path)
        label = self._picture("labels", path.stem, planes.shape[1:])
        if label is not None and not np.isin(label, [*range(CLASSES), IGNORE]).all():
            raise DataError(f"the labels of {path.stem} must be 0 .. {CLASSES - 1} or {IGNORE}")
        return EvSegNetSample(
            path.stem, planes, label, self._picture("images", path.stem, planes.shape[1:])
        )

    def _picture(self, kind: str, stem: str, size: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
        path = self._folder / kind / f"{stem}.png"
        if not path.exists():
            return None
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise DataError(f"{path} is no image that can be read")
        if picture.shape != size:
            raise DataError(f"{path} has size {picture.shape}, its events have {size}")
        return np.asarray(picture, np.uint8)


def _planes(path: Path) -> npt.NDArray[np.float32]:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is cut off, damaged or no plain array: {error}") from error
    good = stored.ndim == 3 and stored.shape[2] == CHANNELS and stored.dtype.kind in "iufb"
    if not good or max(stored.shape) > MAX_SIDE or min(stored.shape) < 1:
        raise DataError(
            f"{path} must be (H, W, {CHANNELS}) numbers, got {stored.shape} {stored.dtype}"
        )
    return np.ascontiguousarray(np.moveaxis(np.asarray(stored, np.float32), 2, 0))
