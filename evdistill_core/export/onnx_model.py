"""A network as an ONNX model with free height and width."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch

from evdistill_core.foundation.errors import StudentError
from evdistill_core.models.network import StudentNetwork

OPSET = 18
INPUT_NAME = "input"
OUTPUT_NAME = "logits"


def to_onnx(network: StudentNetwork) -> bytes:
    """Return the ONNX model of a network in evaluation mode.

    Args:
        network: on the CPU, fp32; batch norms should be folded already. Not modified.

    Returns:
        Serialized model: ``input`` (1, C, H, W) to ``logits`` (1, K, H / s, W / s), H and W any
        multiples of ``network.size_multiple``; weights inside. Recognition: ``logits`` (1, K).

    Raises:
        StudentError: torch cannot express the network in ONNX.
    """
    multiple = network.size_multiple
    # The traced size is none of the special ones (no power of two, height unlike width).
    height, width = (-(-n // multiple) * multiple for n in (104, 136))
    example = torch.zeros(1, network.in_channels, height, width)
    low, high = max(1, -(-32 // multiple)), max(1, 8192 // multiple)
    cells = [torch.export.Dim(name, min=low, max=high) for name in ("h", "w")]
    shapes = {2 + i: cell * multiple if multiple > 1 else cell for i, cell in enumerate(cells)}
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                opset_version=OPSET,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, torch._dynamo.exc.UserError) as error:
            reason = str(error).splitlines()[0]
            raise StudentError(f"torch cannot export this network to ONNX: {reason}") from error
    if program is None:
        raise StudentError("torch cannot export this network to ONNX")
    buffer = io.BytesIO()
    import onnx  # noqa: PLC0415 - not on the robot

    onnx.save(program.model_proto, buffer)
    return buffer.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on its own inner workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
