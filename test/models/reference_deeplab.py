"""The published DeepLabV3+ as plain arithmetic over a state_dict: slow, and free of our modules.

Written from the architecture (DeepLabV3+ and ResNet-101 papers, key names of the public
checkpoints): the network is spelled out key by key, the batch norm is its formula, enlargement with
aligned corners is two small matrices.
"""

import numpy as np
import torch


def random_state(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]):
    """Weights of sensible size and batch-norm statistics that are not the initial ones."""
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(int(rng.integers(1, 1000)))
        elif key.endswith("running_var"):
            state[key] = torch.from_numpy(rng.uniform(0.5, 2.0, shape).astype(np.float32))
        elif len(shape) == 4:
            deviation = np.sqrt(2.0 / np.prod(shape[1:]))
            state[key] = torch.from_numpy(rng.normal(0, deviation, shape).astype(np.float32))
        elif key.endswith(
            "weight"
        ):  # batch-norm gain: small on the residual branch, near 1 elsewhere
            low, high = (0.1, 0.4) if "bn3" in key else (0.6, 1.4)
            state[key] = torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32))
        else:
            state[key] = torch.from_numpy(rng.normal(0, 0.3, shape).astype(np.float32))
    return state


def published_shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a published checkpoint, derived from the architecture."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(key, outputs, inputs, size):
        shapes[f"{key}.weight"] = (outputs, inputs, size, size)

    def norm(key, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{key}.{part}"] = (channels,)
        shapes[f"{key}.num_batches_tracked"] = ()

    conv("backbone.conv1", 64, 3, 7)
    norm("backbone.bn1", 64)
    inputs = 64
    for stage, (planes, blocks) in enumerate(((64, 3), (128, 4), (256, 23), (512, 3)), 1):
        for block in range(blocks):
            at = f"backbone.layer{stage}.{block}"
            conv(f"{at}.conv1", planes, inputs, 1)
            norm(f"{at}.bn1", planes)
            conv(f"{at}.conv2", planes, planes, 3)
            norm(f"{at}.bn2", planes)
            conv(f"{at}.conv3", 4 * planes, planes, 1)
            norm(f"{at}.bn3", 4 * planes)
            if block == 0:
                conv(f"{at}.downsample.0", 4 * planes, inputs, 1)
                norm(f"{at}.downsample.1", 4 * planes)
            inputs = 4 * planes
    for branch, size in ((1, 1), (2, 3), (3, 3), (4, 3)):
        conv(f"aspp.aspp{branch}.atrous_conv", 256, 2048, size)
        norm(f"aspp.aspp{branch}.bn", 256)
    conv("aspp.global_avg_pool.1", 256, 2048, 1)
    norm("aspp.global_avg_pool.2", 256)
    conv("aspp.conv1", 256, 1280, 1)
    norm("aspp.bn1", 256)
    conv("decoder.conv1", 48, 256, 1)
    norm("decoder.bn1", 48)
    conv("decoder.last_conv.0", 256, 304, 3)
    norm("decoder.last_conv.1", 256)
    conv("decoder.last_conv.4", 256, 256, 3)
    norm("decoder.last_conv.5", 256)
    conv("decoder.last_conv.8", num_classes, 256, 1)
    shapes["decoder.last_conv.8.bias"] = (num_classes,)
    return shapes


def reference_forward(state, x):
    """Logits (B, K, H, W) of a published state_dict, in evaluation mode."""

    def conv(y, key, stride=1, dilation=1):
        weight = state[f"{key}.weight"]
        padding = dilation * (weight.shape[2] // 2)
        bias = state.get(f"{key}.bias")
        return torch.conv2d(y, weight, bias, stride, padding, dilation)

    def norm(y, key):
        mean, var, gain, shift = (
            state[f"{key}.{part}"][None, :, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / torch.sqrt(var + 1e-5) * gain + shift

    def block(y, key, stride, dilation):
        z = norm(conv(y, f"{key}.conv1"), f"{key}.bn1").clamp(min=0)
        z = norm(conv(z, f"{key}.conv2", stride, dilation), f"{key}.bn2").clamp(min=0)
        z = norm(conv(z, f"{key}.conv3"), f"{key}.bn3")
        if f"{key}.downsample.0.weight" in state:
            y = norm(conv(y, f"{key}.downsample.0", stride), f"{key}.downsample.1")
        return (y + z).clamp(min=0)

    y = norm(conv(x, "backbone.conv1", 2), "backbone.bn1").clamp(min=0)
    y = max_of_3x3_every_2(y)
    for i in range(3):
        y = block(y, f"backbone.layer1.{i}", 1, 1)
    low = y
    for i in range(4):
        y = block(y, f"backbone.layer2.{i}", 2 if i == 0 else 1, 1)
    for i in range(23):
        y = block(y, f"backbone.layer3.{i}", 2 if i == 0 else 1, 1)
    for i, grid in enumerate((1, 2, 4)):
        y = block(y, f"backbone.layer4.{i}", 1, 2 * grid)

    branches = [
        norm(conv(y, f"aspp.aspp{i}.atrous_conv", 1, rate), f"aspp.aspp{i}.bn").clamp(min=0)
        for i, rate in ((1, 1), (2, 6), (3, 12), (4, 18))
    ]
    mean = y.flatten(2).mean(2)[:, :, None, None]
    mean = norm(conv(mean, "aspp.global_avg_pool.1"), "aspp.global_avg_pool.2").clamp(min=0)
    branches.append(mean * torch.ones_like(branches[0]))
    y = norm(conv(torch.cat(branches, 1), "aspp.conv1"), "aspp.bn1").clamp(min=0)

    low = norm(conv(low, "decoder.conv1"), "decoder.bn1").clamp(min=0)
    y = torch.cat([enlarge(y, *low.shape[2:]), low], 1)
    y = norm(conv(y, "decoder.last_conv.0"), "decoder.last_conv.1").clamp(min=0)
    y = norm(conv(y, "decoder.last_conv.4"), "decoder.last_conv.5").clamp(min=0)
    return enlarge(conv(y, "decoder.last_conv.8"), *x.shape[2:])


def max_of_3x3_every_2(y):
    """Maximum over 3x3 cells around every second cell; cells outside do not count."""
    height, width = (-(-n // 2) for n in y.shape[2:])
    padded = torch.full((*y.shape[:2], 2 * height + 1, 2 * width + 1), -torch.inf)
    padded[:, :, 1 : 1 + y.shape[2], 1 : 1 + y.shape[3]] = y
    shifts = [
        padded[:, :, i : i + 2 * height : 2, j : j + 2 * width : 2]
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(shifts).amax(0)


def enlarge(y, height, width):
    """Bilinear with aligned corners: first cell onto first cell, last onto last."""

    def matrix(source, target):
        rows = np.zeros((target, source), np.float32)
        for i in range(target):
            at = i * (source - 1) / (target - 1) if target > 1 else 0.0
            left = min(int(at), source - 1)
            rows[i, left] += 1 - (at - left)
            rows[i, min(left + 1, source - 1)] += at - left
        return torch.from_numpy(rows)

    return torch.einsum(
        "ih,jw,bchw->bcij", matrix(y.shape[2], height), matrix(y.shape[3], width), y
    )
