"""Windows that a student was trained on, to measure the ranges of its model in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

from evdistill_core.data.build import build_training_source
from evdistill_core.data.unpaired import UnpairedSource
from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError, DataError, EvdistillError
from evdistill_core.inference.runner import FloatArray
from evdistill_core.models.checkpoint import Checkpoint
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import DistillConfig

WINDOWS = 64
"""Half of them give the ranges, the others judge."""
_CURE = "name recordings instead: --int8-from RECORDING"


def training_windows(checkpoint: Checkpoint, count: int = WINDOWS) -> tuple[list[FloatArray], str]:
    """Return windows that a student was trained on, and what they are, in words.

    They are the first ones of its experiment, with the experiment's seed: what it saw first.

    Args:
        checkpoint: of ``evdistill train`` or a student file; its provenance holds the experiment.
        count: how many windows.

    Returns:
        (C, H, W) inputs of one size, and a line for the model card.

    Raises:
        DataError: the experiment is not known, or its data are not here.
    """
    values = checkpoint.provenance.get("config")
    name = checkpoint.provenance.get("name", checkpoint.network)
    if not isinstance(values, Mapping):
        raise DataError(f"{name} does not say what it was trained on; {_CURE}")
    data = values.get("data")
    is_distilled = isinstance(data, Mapping) and "stills" in data
    found: list[FloatArray] = []
    try:
        if is_distilled:
            config = from_mapping(DistillConfig, values)
            pairs = UnpairedSource(
                config.data, checkpoint.input, checkpoint.classes, seed=config.seed
            )
            for index in range(count):
                sample = pairs.sample(index)
                found.append(sample.window.input)
                if sample.labelled is not None:
                    found.append(sample.labelled.input)
            found = found[:count]
        else:
            experiment = from_mapping(TrainConfig, values)
            source = build_training_source(
                experiment.data, checkpoint.input, checkpoint.classes, seed=experiment.seed
            )
            found = [source.sample(index).input for index in range(count)]
    except (EvdistillError, OSError) as error:
        why = str(error).rstrip(".")
        hint = "its configuration is of another version" if isinstance(error, ConfigError) else why
        raise DataError(
            f"the training windows of {name} cannot be made: {hint}; {_CURE}"
        ) from error
    return found, f"{len(found)} training windows of {name}"
