"""Drawing with subpixel motion: bilinear sampling through a 3x3 matrix, in numba.

Matrices map output pixels to source pixels: (u, v, w) = M (x, y, 1); the source column is u / w,
the source row v / w. Pixel centres lie at whole coordinates. Exact positions matter here (OpenCV
rounds them to 1/32): a slow edge would move in steps, and every step would look like an event.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

FloatImage = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # classes, or numbers of things
Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]


@njit(nogil=True, cache=True)
def warp_image(source: FloatImage, matrix: Matrix, out: FloatImage) -> None:
    """Fill ``out`` (H, W) with ``source`` (h, w), mirrored at its borders."""
    rows, columns = source.shape
    for y in range(out.shape[0]):
        u0 = matrix[0, 1] * y + matrix[0, 2]
        v0 = matrix[1, 1] * y + matrix[1, 2]
        w0 = matrix[2, 1] * y + matrix[2, 2]
        for x in range(out.shape[1]):
            scale = 1.0 / max(w0 + matrix[2, 0] * x, 1e-6)
            u = (u0 + matrix[0, 0] * x) * scale
            v = (v0 + matrix[1, 0] * x) * scale
            left, top = int(np.floor(u)), int(np.floor(v))
            a, b = np.float32(u - left), np.float32(v - top)
            if left >= 0 and top >= 0 and left < columns - 1 and top < rows - 1:
                out[y, x] = _blend(source, top, left, a, b)
            else:
                c0, c1 = _mirror(left, columns), _mirror(left + 1, columns)
                r0, r1 = _mirror(top, rows), _mirror(top + 1, rows)
                upper = source[r0, c0] + a * (source[r0, c1] - source[r0, c0])
                lower = source[r1, c0] + a * (source[r1, c1] - source[r1, c0])
                out[y, x] = upper + b * (lower - upper)


@njit(nogil=True, cache=True)
def warp_labels(source: Labels, matrix: Matrix, outside: int, out: Labels) -> None:
    """Fill ``out`` with the nearest label; ``outside`` where the source does not reach."""
    rows, columns = source.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            w = max(matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2], 1e-6)
            u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w
            v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w
            column, row = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
            if row >= 0 and column >= 0 and row < rows and column < columns:
                out[y, x] = source[row, column]
            else:
                out[y, x] = outside


@njit(nogil=True, cache=True)
def place_layer(
    place: Vector, view: Matrix, t_s: float, height: int, width: int
) -> tuple[Matrix, Box]:
    """Return where a layer stands at a time (``Layer.place`` describes the numbers).

    Args:
        place: (59,) motion of the thing, its origin, swing of the part, joint, pivot, size, bend.
        view: 3x3 matrix from camera pixels to scene pixels.
        t_s: seconds from the middle of the window.
        height: rows of the camera.
        width: columns of the camera.

    Returns:
        The 3x3 matrix from camera pixels to pixels of the layer, and the box of camera pixels
        (top, bottom, left, right) outside of which the layer does not show.
    """
    to_scene = _similarity(place[0:25], t_s, place[25], place[26]) @ (
        _similarity(place[27:52], t_s, place[52], place[53])
    )
    for i in range(3):
        to_scene[i, 2] -= to_scene[i, 0] * place[54] + to_scene[i, 1] * place[55]
    to_camera = np.linalg.inv(view) @ to_scene
    rows, columns, bend = place[56], place[57], place[58] + 1.0
    top, left, bottom, right = 1e9, 1e9, -1e9, -1e9
    for k in range(4):
        u = -bend if k % 2 == 0 else columns - 1.0 + bend
        v = -1.0 if k < 2 else rows
        w = max(to_camera[2, 0] * u + to_camera[2, 1] * v + to_camera[2, 2], 1e-6)
        x = (to_camera[0, 0] * u + to_camera[0, 1] * v + to_camera[0, 2]) / w
        y = (to_camera[1, 0] * u + to_camera[1, 1] * v + to_camera[1, 2]) / w
        top, bottom = min(top, y), max(bottom, y)
        left, right = min(left, x), max(right, x)
    box = (
        int(min(max(np.floor(top), 0.0), height)),
        int(min(max(np.ceil(bottom) + 1.0, 0.0), height)),
        int(min(max(np.floor(left), 0.0), width)),
        int(min(max(np.ceil(right) + 1.0, 0.0), width)),
    )
    return np.asarray(np.linalg.inv(to_camera), np.float64), box


@njit(nogil=True, cache=True)
def _similarity(motion: Vector, t_s: float, column: float, row: float) -> Matrix:
    """The numbers of ``Motion.packed`` -> the matrix of ``Motion.similarity``."""
    offset = np.empty(4)
    for i in range(4):
        wave = np.sin(2.0 * np.pi * motion[18] * t_s + motion[19 + i])
        offset[i] = motion[i] * t_s + motion[6 + i] * (0.5 * t_s * t_s) + motion[12 + i] * wave
    scale = np.exp(offset[3])
    c, s = np.cos(offset[2]) * scale, np.sin(offset[2]) * scale
    return np.array([[c, -s, column + offset[0]], [s, c, row + offset[1]], [0.0, 0.0, 1.0]])


@njit(nogil=True, cache=True)
def draw_layer(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    out: FloatImage,
    image: FloatImage,
    alpha: FloatImage,
    matrix: Matrix,
    box: Box,
    sway: FloatImage,
    stride: FloatImage,
) -> None:
    """Blend a layer over ``out`` inside ``box`` (top, bottom, left, right).

    ``sway`` (h,) shifts the rows of the layer sideways; ``stride`` (h,) shifts its left and right
    half apart, as legs and arms do.
    """
    rows, columns = alpha.shape
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            u, v = _layer_position(matrix, x, y, sway, stride, columns)
            if u <= -1.0 or v <= -1.0 or u >= columns or v >= rows:
                continue
            left, top = int(np.floor(u)), int(np.floor(v))
            if left >= 0 and top >= 0 and left < columns - 1 and top < rows - 1:
                a, b = np.float32(u - left), np.float32(v - top)
                cover = _blend(alpha, top, left, a, b)
                if cover > np.float32(0.0):
                    value = _blend(image, top, left, a, b)
                    out[y, x] += cover * (value - out[y, x])
            else:
                cover = _bilinear_or_zero(alpha, u, v)
                if cover > np.float32(0.0):
                    out[y, x] += cover * (_bilinear_clamped(image, u, v) - out[y, x])


@njit(nogil=True, cache=True)
def draw_layer_labels(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays
    out: Labels,
    label: int,
    alpha: FloatImage,
    matrix: Matrix,
    box: Box,
    sway: FloatImage,
    stride: FloatImage,
) -> None:
    """Write ``label`` where the layer of ``draw_layer`` covers at least half a pixel."""
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            u, v = _layer_position(matrix, x, y, sway, stride, alpha.shape[1])
            if _bilinear_or_zero(alpha, u, v) >= np.float32(0.5):
                out[y, x] = label


@njit(nogil=True, cache=True)
def add_light(
    out: FloatImage, column: float, row: float, radius: tuple[float, float], amount: float
) -> None:
    """Add a soft elliptic spot (reflection, shadow) to a log image.

    ``radius`` is (columns, rows); the spot falls smoothly to nothing at that distance.
    """
    top, bottom = max(0, int(row - radius[1])), min(out.shape[0], int(row + radius[1]) + 2)
    left, right = max(0, int(column - radius[0])), min(out.shape[1], int(column + radius[0]) + 2)
    for y in range(top, bottom):
        for x in range(left, right):
            d = ((x - column) / radius[0]) ** 2 + ((y - row) / radius[1]) ** 2
            if d < 1.0:
                out[y, x] += np.float32(amount * (1.0 - d) * (1.0 - d))


@njit(nogil=True, cache=True)
def _blend(image: FloatImage, top: int, left: int, a: np.float32, b: np.float32) -> np.float32:
    upper = image[top, left] + a * (image[top, left + 1] - image[top, left])
    lower = image[top + 1, left] + a * (image[top + 1, left + 1] - image[top + 1, left])
    return np.float32(upper + b * (lower - upper))


@njit(nogil=True, cache=True)
def _mirror(i: int, n: int) -> int:
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = i % period
    return i if i < n else period - i


@njit(nogil=True, cache=True)
def _layer_position(  # noqa: PLR0913, PLR0917
    matrix: Matrix, x: int, y: int, sway: FloatImage, stride: FloatImage, columns: int
) -> tuple[float, float]:
    w = max(matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2], 1e-6)
    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w
    v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w
    row = min(max(int(v + 0.5), 0), len(sway) - 1)
    side = (u - 0.5 * (columns - 1)) * 8.0 / columns
    return u + sway[row] + stride[row] * min(max(side, -1.0), 1.0), v


@njit(nogil=True, cache=True)
def _bilinear_or_zero(image: FloatImage, u: float, v: float) -> np.float32:
    rows, columns = image.shape
    if u <= -1.0 or v <= -1.0 or u >= columns or v >= rows:
        return np.float32(0.0)
    left, top = int(np.floor(u)), int(np.floor(v))
    a, b = np.float32(u - left), np.float32(v - top)
    value = np.float32(0.0)
    one = np.float32(1.0)
    if top >= 0 and left >= 0:
        value += (one - a) * (one - b) * image[top, left]
    if top >= 0 and left + 1 < columns:
        value += a * (one - b) * image[top, left + 1]
    if top + 1 < rows and left >= 0:
        value += (one - a) * b * image[top + 1, left]
    if top + 1 < rows and left + 1 < columns:
        value += a * b * image[top + 1, left + 1]
    return value


@njit(nogil=True, cache=True)
def _bilinear_clamped(image: FloatImage, u: float, v: float) -> np.float32:
    rows, columns = image.shape
    u = min(max(u, 0.0), columns - 1.0)
    v = min(max(v, 0.0), rows - 1.0)
    left, top = min(int(u), max(columns - 2, 0)), min(int(v), max(rows - 2, 0))
    right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
    a, b = np.float32(u - left), np.float32(v - top)
    upper = image[top, left] + a * (image[top, right] - image[top, left])
    lower = image[bottom, left] + a * (image[bottom, right] - image[bottom, left])
    return np.float32(upper + b * (lower - upper))
