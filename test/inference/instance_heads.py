"""What a perfect network with an instance head would give for a window with known things."""

import numpy as np

from evdistill_core.inference.prediction import InstanceOutput

SIGMA_CELLS = 1.5


def perfect_heads(labels, instances, *, stride, num_classes, centre="mean", sharp=12.0):
    """Class logits and maps at a stride; sensor pixels are input pixels.

    Args:
        labels: (H, W) uint8; 255 and 254 count as class 0.
        instances: (H, W) uint16; 0: no thing.
        stride: pixels a cell and axis.
        num_classes: of the logits.
        centre: "mean" of a thing's pixels, or the middle of its "box".
        sharp: logit of a class that has its cell to itself.

    Returns:
        (K, h, w) float32 logits, and the maps.
    """
    height, width = labels.shape
    rows, columns = -(-height // stride), -(-width // stride)
    padded = np.zeros((rows * stride, columns * stride), np.uint8)
    padded[:height, :width] = np.where(labels < num_classes, labels, 0)
    numbers = np.zeros(padded.shape, np.uint16)
    numbers[:height, :width] = instances
    onehot = padded[None] == np.arange(num_classes, dtype=np.uint8)[:, None, None]
    share = onehot.reshape(num_classes, rows, stride, columns, stride).mean((2, 4))
    logits = (sharp * share).astype(np.float32)
    heat = np.full((rows, columns), 1e-6)
    offset = np.zeros((2, rows, columns), np.float32)
    v, u = (np.mgrid[:rows, :columns] + 0.5) * stride
    most = np.zeros((rows, columns))
    for number in np.unique(instances[instances > 0]):
        own = numbers == number
        y, x = np.nonzero(own)
        at = (x.mean() + 0.5, y.mean() + 0.5)
        if centre == "box":
            at = ((x.min() + x.max() + 1) / 2, (y.min() + y.max() + 1) / 2)
        distance = np.hypot(u - at[0], v - at[1]) / stride
        heat = np.maximum(heat, np.exp(-(distance**2) / (2 * SIGMA_CELLS**2)))
        part = own.reshape(rows, stride, columns, stride).mean((1, 3))
        is_most = part > most
        most = np.maximum(most, part)
        offset[:, is_most] = np.stack([at[0] - u, at[1] - v])[:, is_most]
    heat = np.clip(heat, 1e-6, 1 - 1e-6)
    centre_map = np.log(heat / (1 - heat)).astype(np.float32)
    return logits, InstanceOutput(centre_map, offset)
