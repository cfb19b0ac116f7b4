"""Drawn images in which nothing is a thing: boards, tags, print, stripes, shapes, texture.

A camera that moves past a printed pattern sends events by the million, close together and with
hard edges. Streets have nothing like it, so a student of streets took it for vehicles. Label sets
of such images are not needed: whatever is drawn here is no person and no vehicle.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 360, 480
PATTERNS = 240
_LETTERS = "ABCDEFGHKLMNPRSTUVXYZabcdefghknoprstuvxyz0123456789+-*/=?!."


def draw_pattern(number: int) -> Grey:
    """Return an image, (360, 480) uint8 grey; kinds take turns."""
    rng = np.random.default_rng([2701, number])
    picture = _background(rng)
    kind = KINDS[number % len(KINDS)]
    kind(picture, rng)
    if rng.random() < 0.7:
        picture = _tilted(picture, rng)
    return picture


def _background(rng: np.random.Generator) -> Grey:
    """A wall: one grey, a slope of light, a little texture."""
    rows = np.linspace(0, rng.normal(0, 30), HEIGHT)[:, None]
    columns = np.linspace(0, rng.normal(0, 30), WIDTH)
    fine = rng.normal(0, rng.uniform(0, 4), (HEIGHT, WIDTH))
    return np.clip(rng.uniform(60, 230) + rows + columns + fine, 0, 255).astype(np.uint8)


def _board(picture: Grey, rng: np.random.Generator) -> None:
    cell = int(rng.integers(10, 60))
    y, x = np.mgrid[:HEIGHT, :WIDTH] // cell
    top, left = rng.integers(0, HEIGHT // 3), rng.integers(0, WIDTH // 3)
    size = rng.integers(HEIGHT // 2, HEIGHT), rng.integers(WIDTH // 2, WIDTH)
    part = np.s_[top : top + size[0], left : left + size[1]]
    dark, bright = _two_greys(rng)
    picture[part] = np.where((x + y) % 2, dark, bright)[part]


def _tags(picture: Grey, rng: np.random.Generator) -> None:
    """Squares of random black and white cells, in rows or scattered."""
    cells = int(rng.integers(4, 9))
    pitch = int(rng.integers(40, 140))
    side = int(pitch * rng.uniform(0.5, 0.9))
    dark, bright = _two_greys(rng)
    scatter = rng.random() < 0.3
    for top in range(int(rng.integers(0, pitch)), HEIGHT - side, pitch):
        for left in range(int(rng.integers(0, pitch)), WIDTH - side, pitch):
            if scatter and rng.random() < 0.6:
                continue
            bits = (rng.random((cells, cells)) < 0.5).astype(np.uint8)
            tag = np.pad(bits, 1)  # a dark frame
            large = cv2.resize(tag, (side, side), interpolation=cv2.INTER_NEAREST)
            picture[top : top + side, left : left + side] = np.where(large, bright, dark)


def _print(picture: Grey, rng: np.random.Generator) -> None:
    """Lines of letters, from a poster's to a page's."""
    scale = float(np.exp(rng.uniform(np.log(0.4), np.log(4.0))))
    dark, _ = _two_greys(rng)
    step = int(34 * scale)
    for baseline in range(step, HEIGHT + step, int(step * rng.uniform(1.0, 1.6))):
        length = int(rng.integers(3, max(4, int(WIDTH / (16 * scale)))))
        text = "".join(rng.choice(list(_LETTERS + "   "), length))
        place = (int(rng.integers(0, WIDTH // 4)), baseline)
        cv2.putText(
            picture, text, place, int(rng.integers(0, 5)), scale, dark, int(rng.integers(1, 5))
        )


def _stripes(picture: Grey, rng: np.random.Generator) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 80)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    dark, bright = _two_greys(rng)
    hard = rng.random() < 0.6
    share = (wave > 0).astype(np.float64) if hard else 0.5 + 0.5 * wave
    picture[:] = (dark + (bright - dark) * share).astype(np.uint8)


def _shapes(picture: Grey, rng: np.random.Generator) -> None:
    """Rectangles, discs and polygons over one another: shelves, boxes, posters."""
    for _ in range(int(rng.integers(4, 40))):
        grey = int(rng.integers(0, 256))
        x, y = int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT))
        size = int(np.exp(rng.uniform(np.log(8), np.log(160))))
        thickness = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
        kind = rng.integers(0, 3)
        if kind == 0:
            end = (x + size, y + int(size * rng.uniform(0.3, 2)))
            cv2.rectangle(picture, (x, y), end, grey, thickness)
        elif kind == 1:
            cv2.circle(picture, (x, y), size // 2 + 1, grey, thickness)
        else:
            corners = rng.normal(0, size / 2, (int(rng.integers(3, 8)), 2)) + np.array([x, y])
            cv2.fillPoly(picture, [corners.astype(np.int32)], grey)


def _texture(picture: Grey, rng: np.random.Generator) -> None:
    """Carpet, gravel, fabric: noise of several sizes."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for size in (2, 5, 12, 30, 80):
        coarse = rng.normal(0, 1, (HEIGHT // size + 2, WIDTH // size + 2)).astype(np.float32)
        total += rng.random() * cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    total *= rng.uniform(20, 70) / max(float(total.std()), 1e-3)
    picture[:] = np.clip(picture + total, 0, 255).astype(np.uint8)


KINDS: tuple[Callable[[Grey, np.random.Generator], None], ...] = (
    _tags,
    _board,
    _print,
    _shapes,
    _stripes,
    _texture,
)


def _two_greys(rng: np.random.Generator) -> tuple[int, int]:
    dark = int(rng.integers(0, 110))
    return dark, int(rng.integers(dark + 60, 256))


def _tilted(picture: Grey, rng: np.random.Generator) -> Grey:
    """Return the image as a camera sees it from the side."""
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float32)
    moved = corners + rng.normal(0, 45, (4, 2)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    return np.asarray(
        cv2.warpPerspective(picture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT),
        np.uint8,
    )
