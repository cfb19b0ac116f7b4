"""Networks of plugins: built, and held to the contract before anything relies on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.plugins import in_one_line
from evdistill_core.models.network import (
    ClassificationNetwork,
    NetworkOutput,
    SegmentationNetwork,
    StudentNetwork,
    zero_state,
)
from evdistill_core.models.task_name import TaskName

_BASES: Mapping[TaskName, type[StudentNetwork]] = {
    "segmentation": SegmentationNetwork,
    "recognition": ClassificationNetwork,
}
_PROBE_SIZE = (64, 96)  # rounded up: small, and height unlike width
_NUMBERS = ("size_multiple", "output_stride", "state_channels", "state_stride")


def build_guest(  # noqa: PLR0913 - a name, what it means, and what it is given
    name: str,
    make: Callable[..., object],
    task: TaskName,
    options: Mapping[str, object],
    *,
    in_channels: int,
    num_classes: int,
) -> StudentNetwork:
    """Build the network of a plugin and run it once.

    Args:
        name: for messages.
        make: called with ``in_channels``, ``num_classes`` and the options by name.
        task: what the plugin says that it is for.
        options: of the network.
        in_channels: channels of the input.
        num_classes: classes of the output.

    Raises:
        ConfigError: it cannot be built, or does not do what it promises; the message says what.
    """
    try:
        network = make(in_channels=in_channels, num_classes=num_classes, **options)
    except ConfigError:
        raise
    except Exception as error:
        given = ", ".join(f"{k}: {v!r}" for k, v in options.items()) or "no options"
        raise ConfigError(
            f"network {name!r} cannot be built with {given}: {in_one_line(error)}"
        ) from error
    base = _BASES[task]
    if not isinstance(network, base):
        raise ConfigError(
            f"network {name!r} is {type(network).__name__}: derive it from {base.__name__} "
            "(evdistill_core.models.network); a function that makes a network of recognition says "
            "so by an attribute: task = 'recognition'"
        )
    _check_numbers(name, network, in_channels, num_classes)
    _check_output(name, network)
    return network


def _check_numbers(name: str, network: StudentNetwork, in_channels: int, num_classes: int) -> None:
    for label, expected in (("in_channels", in_channels), ("num_classes", num_classes)):
        if getattr(network, label, None) != expected:
            raise ConfigError(
                f"network {name!r} does not say its {label}: call super().__init__("
                "in_channels=in_channels, num_classes=num_classes)"
            )
    for label in _NUMBERS:
        value = getattr(network, label, None)
        low = 0 if label.startswith("state") else 1
        if not isinstance(value, int) or not low <= value <= 1024:
            raise ConfigError(
                f"network {name!r} needs a class attribute {label}, a whole number in {low}..1024, "
                f"got {value!r}"
            )


def _check_output(name: str, network: StudentNetwork) -> None:
    """Run it on zeros, as a student is run, and compare the shapes."""
    multiple = network.size_multiple
    height, width = (-(-n // multiple) * multiple for n in _PROBE_SIZE)
    x_BCHW = torch.zeros(1, network.in_channels, height, width)
    was_training = network.training
    try:
        with torch.no_grad():
            given = network.eval()(x_BCHW)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"network {name!r} fails on an input of {tuple(x_BCHW.shape)}: {in_one_line(error)}"
        ) from error
    finally:
        network.train(was_training)
    expected = [_logits_shape(network, height, width)]
    if network.has_instances:
        expected += [(1, channels, *expected[0][2:]) for channels in (1, 2)]
    if network.state_channels:
        expected.append(tuple(zero_state(network, x_BCHW).shape))
    outputs = _outputs(network, given)
    shapes = [tuple(o.shape) if isinstance(o, torch.Tensor) else type(o).__name__ for o in outputs]
    if shapes != expected:
        raise ConfigError(
            f"network {name!r} maps {tuple(x_BCHW.shape)} to {_listed(shapes)}, but its attributes "
            f"promise {_listed(expected)} (num_classes {network.num_classes}, output_stride "
            f"{network.output_stride}, state_channels {network.state_channels}, has_instances "
            f"{network.has_instances})"
        )


def _outputs(network: StudentNetwork, given: object) -> list[object]:
    """Return the parts of what ``forward`` gave: logits, instance maps, state."""
    parts = list(given) if network.state_channels and isinstance(given, tuple) else [given]
    if network.has_instances and isinstance(parts[0], NetworkOutput):
        parts[:1] = [parts[0].logits, *(parts[0].instances or ())]
    return parts


def _logits_shape(network: StudentNetwork, height: int, width: int) -> tuple[int, ...]:
    if isinstance(network, ClassificationNetwork):
        return 1, network.num_classes
    stride = network.output_stride
    return 1, network.num_classes, height // stride, width // stride


def _listed(shapes: list[tuple[int, ...]] | list[tuple[int, ...] | str]) -> str:
    return " and ".join(str(shape) for shape in shapes)
