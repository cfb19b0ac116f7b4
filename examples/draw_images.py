"""Draw labelled images of a street: road, houses, cars and people, for trying out a training.

python examples/draw_images.py data/drawn [NUMBER OF IMAGES]

Writes images/train/*.png, labels/train/*.png (values 0 to 3) and classes.yaml. Photographs of
your own with masks lie the same way.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

CLASSES = """\
classes:
  - {name: road, ids: [0], color: "#804080"}
  - {name: scenery, ids: [1], color: "#464646"}
  - {name: vehicle, ids: [2], color: "#00008e", thing: true}
  - {name: human, ids: [3], color: "#dc143c", thing: true}
"""


def draw(rng, *, height=240, width=320):
    """Return a grey image (H, W) uint8 and its labels (H, W) uint8."""
    image = rng.normal(rng.integers(90, 160), 12, (height, width))
    labels = np.zeros((height, width), np.uint8)
    horizon = int(rng.integers(90, 140))
    labels[:horizon] = 1
    for left in range(0, width, 40):  # houses with windows
        image[: horizon - int(rng.integers(0, 60)), left : left + 40] += rng.integers(-60, 90)
        image[20:horizon:24, left + 8 : left + 32] -= 50
    for _ in range(rng.integers(1, 5)):  # cars: body, cabin, wheels
        w, x, y = int(rng.integers(30, 90)), int(rng.integers(0, width)), horizon
        y += int(rng.integers(0, height - horizon - 20))
        tone, h = int(rng.integers(20, 240)), w // 4
        for top, bottom, left, right in (
            (y, y + h, x, x + w),
            (y - h, y, x + w // 5, x + w * 4 // 5),
        ):
            image[top:bottom, left:right] = tone
            labels[top:bottom, left:right] = 2
        for wheel in (x + w // 5, x + w * 4 // 5):
            cv2.circle(image, (wheel, y + h), h // 3, 15.0, -1)
            cv2.circle(labels, (wheel, y + h), h // 3, 2, -1)
    for _ in range(rng.integers(0, 4)):  # people: body and head
        h, x = int(rng.integers(24, 60)), int(rng.integers(0, width))
        y, tone = horizon + int(rng.integers(0, 60)), float(rng.integers(20, 240))
        for plane, value in ((image, tone), (labels, 3)):
            cv2.ellipse(plane, (x, y), (h // 6, h // 2), 0, 0, 360, value, -1)
            cv2.circle(plane, (x, y - h // 2), h // 8, value, -1)
    return np.clip(cv2.GaussianBlur(image, (3, 3), 0), 0, 255).astype(np.uint8), labels


def draw_images(folder: Path, count: int) -> Path:
    """Write images, labels and classes, and return the folder."""
    for part in ("images", "labels"):
        (folder / part / "train").mkdir(parents=True, exist_ok=True)
    (folder / "classes.yaml").write_text(CLASSES)
    rng = np.random.default_rng(0)
    for number in range(count):
        for part, picture in zip(("images", "labels"), draw(rng), strict=True):
            cv2.imwrite(str(folder / part / "train" / f"{number:04}.png"), picture)
    print(f"{count} images with masks in {folder}")
    return folder


def labelled_images(given: str | None) -> Path:
    """Return the folder that a user has given, or one with images drawn now."""
    if given is None:
        return draw_images(Path("out/examples/drawn"), 40)
    for part in ("images", "labels"):
        if not (Path(given) / part / "train").is_dir():
            sys.exit(
                f"the folder {given}/{part}/train does not exist: put your {part} there, name "
                "another folder, or name none to train on drawn images"
            )
    return Path(given)


if __name__ == "__main__":
    draw_images(
        Path(sys.argv[1] if len(sys.argv) > 1 else "data/drawn"),
        int(sys.argv[2]) if len(sys.argv) > 2 else 60,
    )
