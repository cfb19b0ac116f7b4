"""The mean of the weights of two stages of one training.

A later stage learns what it is shown and forgets some of what it is not. As long as it started from
the earlier one, the weights in between work too, and often keep more of both.

Source:
    Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.models.checkpoint import Checkpoint


def averaged(later: Checkpoint, earlier: Checkpoint, share: float, *, origin: str) -> Checkpoint:
    """Return a checkpoint whose weights lie between those of two.

    Args:
        later: what it is otherwise: input, classes, provenance.
        earlier: where ``later`` started from, of the same network. It may lack what an option
            added to the later one (an instance head, a memory): that keeps its weights.
        share: of the earlier weights, 0..1; 0 is ``later``.
        origin: what the earlier one is called in the provenance and in errors.

    Raises:
        ConfigError: a share out of range.
        StudentError: networks, inputs or classes differ.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"--share must lie in 0..1, got {share}")
    added = {
        option
        for part, option in later.build().added_parts.items()
        if not any(key.startswith(f"{part}.") for key in earlier.state_dict)
    }
    options = [{k: v for k, v in c.options.items() if k not in added} for c in (later, earlier)]
    for what, a, b in (
        ("network", (later.network, options[0]), (earlier.network, options[1])),
        ("input", later.input, earlier.input),
        ("classes", later.classes.names, earlier.classes.names),
    ):
        if a != b:
            raise StudentError(
                f"the {what} of {origin} is another one, so their weights have no mean: take two "
                "stages of one training"
            )
    weights = {
        key: torch.lerp(value.float(), earlier.state_dict[key].float(), share).to(value.dtype)
        if value.is_floating_point() and key in earlier.state_dict
        else value
        for key, value in later.state_dict.items()
    }
    provenance = {**later.provenance, "averaged_with": {"checkpoint": origin, "share": share}}
    return replace(later, state_dict=weights, provenance=provenance)
