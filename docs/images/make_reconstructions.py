"""Draws reconstructions.webp: what ways to read events make of windows of the benchmark's target.

Run, after the rows `reconstruct-task`, `wide` and `onboard-labels` of the benchmark:
python docs/images/make_reconstructions.py --camvid data/camvid --work cache/accuracy
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evdistill_core.data.samples import Sample
from evdistill_core.evaluation.pictures import input_picture, label_picture
from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.labels import CAMVID_CLASSES
from evdistill_core.training.distillation import DistillTrainer

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "benchmarks" / "accuracy"
WINDOWS = (3, 60, 200)  # of the first test
STUDENTS = ("wide", "onboard-labels")


def grey(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return an image in -1..1 as BGR."""
    levels = np.clip((image + 1) * 127.5, 0, 255).astype(np.uint8)
    return cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR).astype(np.uint8)


def main() -> None:
    """Draw one line a window: events, reconstruction, what T and students say, image, labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", type=Path, default=Path("data/camvid"))
    parser.add_argument("--work", type=Path, default=Path("cache/accuracy"))
    args = parser.parse_args()
    sys.path.insert(0, str(BENCHMARK))
    from methods import Methods, on_torch  # noqa: PLC0415 - found only now
    from rows import ROWS  # noqa: PLC0415
    from settings import Settings  # noqa: PLC0415

    settings = from_mapping(Settings, load_yaml(BENCHMARK / "reduced.yaml"))
    methods = Methods(replace(settings, camvid=args.camvid, work=args.work))
    path, config = methods._distil(ROWS["reconstruct-task"], 0)
    trainer = DistillTrainer(config, path.parent, resume=True, classes=CAMVID_CLASSES)
    reconstruct = on_torch(trainer.translation.to_image.eval(), methods.device)
    teacher = on_torch(methods._load_teacher().network, methods.device)
    students = [methods.predictor(ROWS[name], 0) for name in STUDENTS]

    def line(sample: Sample) -> npt.NDArray[np.uint8]:
        assert sample.picture is not None  # the target's windows know their image
        height, width = sample.label.shape
        image = reconstruct(sample.input)
        said = [
            predict(x) for predict, x in ((teacher, image), *((s, sample.input) for s in students))
        ]
        masks = [logits.argmax(0).astype(np.uint8) for logits in said]
        drawn = [
            cv2.resize(
                label_picture(mask, CAMVID_CLASSES),
                (width, height),
                interpolation=cv2.INTER_NEAREST,
            )
            for mask in (*masks, sample.label)
        ]
        events = input_picture(sample.input, settings.input.kind)
        parts = (events, grey(image[0]), *drawn[:-1], grey(sample.picture[0]), drawn[-1])
        return np.hstack([cv2.copyMakeBorder(p, 0, 4, 0, 4, cv2.BORDER_CONSTANT) for p in parts])

    windows = methods.windows("target_target")
    page = np.vstack([line(windows.sample(n)) for n in WINDOWS])
    out = Path(__file__).parent / "reconstructions.webp"
    cv2.imwrite(str(out), page, [cv2.IMWRITE_WEBP_QUALITY, 80])


if __name__ == "__main__":
    try:
        main()
    except EvdistillError as error:
        sys.exit(f"error: {error}")
