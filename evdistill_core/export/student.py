"""Checkpoint, or an older student file, to student file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
import yaml

from evdistill_core.export.int8 import to_int8
from evdistill_core.export.onnx_model import to_onnx
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.onnx_runner import OnnxRunner
from evdistill_core.inference.parity import (
    Form,
    ParityRow,
    compare,
    example_input,
    require_parity,
    rows_of,
)
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import FloatArray, Output, run_whole_sequence
from evdistill_core.inference.student import (
    SUFFIX,
    NetworkInfo,
    StudentFile,
    StudentInfo,
    student_path,
    write_student,
)
from evdistill_core.models.checkpoint import Checkpoint, load_checkpoint
from evdistill_core.models.network import (
    StudentNetwork,
    fold_batch_norm,
    output_of,
    parameter_count,
)
from evdistill_core.models.registry import check_network_of_file, network_entry, network_task
from evdistill_core.representations.spec import InputSpec

_RULE = "\n\n---\n\n"  # between the text by people and the facts in a model card
# Convolutions from the input on that a model in 8 bits may keep in float. The first ones have few
# channels of very different ranges, so most can be lost there (docs/adr/0032).
_FLOAT_LAYERS = (0, 3, 6, 12)
_PARITY_WINDOWS = 4  # of recurrent networks: errors of the state add up
_PARITY_SIZES = ((96, 128), (200, 346), (264, 352))


def export_student(  # noqa: PLR0913 - what goes into a file, and what is said of it
    checkpoint: Checkpoint,
    out: Path,
    *,
    onnx: bool = True,
    calibration: Sequence[FloatArray] = (),
    calibrated_on: str = "",
    card_text: str = "",
) -> list[ParityRow]:
    """Write a student file, after checking that every form in it computes the same.

    ONNX Runtime is checked on a whole student file, opened the way the robot opens it.

    Args:
        checkpoint: trained network.
        out: the student file, by convention ``*.evstudent``.
        onnx: whether to include the ONNX model: a few kilobytes, because it refers to the weights.
        calibration: (C, H, W) inputs of windows, of one size: makes a model in 8 bits as well.
            Every second one gives the ranges, the others are what it is judged by.
        calibrated_on: where these windows come from, in words.
        card_text: Markdown by people (data, scores, limits, licence) that opens the model card.

    Returns:
        How far the folded network and ONNX Runtime are from the trained network, per size; and the
        model in 8 bits, over the windows that did not give its ranges.

    Raises:
        StudentError: the weights do not fit, ONNX export fails, or a form computes something else.
        ConfigError: the network or its options are unknown.
    """
    network = checkpoint.build()
    folded = fold_batch_norm(network)
    info = _describe(checkpoint, network)
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    if calibration and (not onnx or network.state_channels):
        raise ConfigError(
            "a model in 8 bits is made of the ONNX model of a student without a memory"
            + ("" if onnx else ": leave --no-onnx out")
        )
    model = to_onnx(network) if onnx else None
    int8, kept = None, 0
    forms = {"folded": _on_torch(folded)}
    with tempfile.TemporaryDirectory(prefix="evdistill-export-") as folder:
        trial = Path(folder) / f"trial{SUFFIX}"

        def opened_with(int8: bytes | None) -> StudentFile:
            write_student(trial, info, weights=weights, onnx=model, int8=int8)
            return StudentFile.open(trial)

        if model is not None:
            runner = OnnxRunner(opened_with(None))
            forms["onnx"] = partial(run_whole_sequence, runner)
            if calibration:
                int8, kept, rows8 = _in_eight_bits(model, runner, calibration, opened_with)
        rows = compare(
            _on_torch(network),
            forms,
            channels=network.in_channels,
            sizes=_sizes(network.size_multiple),
            windows=_PARITY_WINDOWS if network.state_channels else 1,
        )
        if int8 is not None:
            rows += rows8
    require_parity(rows)
    parity: dict[str, object] = {"rows": [asdict(row) for row in rows]}
    if int8 is not None:
        parity["int8"] = {
            "windows": calibrated_on,
            "ranges": len(calibration[::2]),
            "judges": len(calibration[1::2]),
            "float_layers": kept,
        }
    final = replace(info, parity=parity)
    card = model_card(final, card_text)
    write_student(out, final, weights=weights, onnx=model, int8=int8, card=card)
    return rows


def _in_eight_bits(
    model: bytes,
    exact: OnnxRunner,
    windows: Sequence[FloatArray],
    opened_with: Callable[[bytes], StudentFile],
) -> tuple[bytes, int, list[ParityRow]]:
    """Return a model in 8 bits, how many convolutions stay in float, and how far off it is.

    The fewest with which the classes are within half of the limit on the windows that gave the
    ranges, and with which the check at load passes. The windows that judge it have no say.
    """

    def rows_on(small: OnnxRunner, chosen: Sequence[FloatArray]) -> list[ParityRow]:
        pairs = [(small.run_whole(x), exact.run_whole(x)) for x in chosen]
        size, things = chosen[0].shape[1:], opened.classes.thing_ids
        return rows_of("int8", "int8", pairs, size=size, thing_ids=things)

    for count in _FLOAT_LAYERS:
        int8 = to_int8(model, windows[::2], float_layers=count)
        opened = opened_with(int8)
        small = OnnxRunner(opened, precision="int8")
        at_load = [r for r in rows_on(small, [example_input(opened.input)]) if not r.is_equal]
        seen = rows_on(small, windows[::2])
        fits = all(r.is_well_within if r.output == "logits" else r.is_equal for r in seen)
        if fits and not at_load:
            break
    return int8, count, rows_on(small, windows[1::2]) + at_load


def export_checkpoint(
    checkpoint: str | Path, out: str | Path, *, onnx: bool = True, card_text: str = ""
) -> list[ParityRow]:
    """Make a student file of a checkpoint or a student on disk; see ``export_student``."""
    loaded, text = load_trained(Path(checkpoint).expanduser())
    return export_student(loaded, Path(out).expanduser(), onnx=onnx, card_text=card_text or text)


def load_trained(path: Path) -> tuple[Checkpoint, str]:
    """Return what can be exported, and the Markdown that opens its card.

    Args:
        path: a checkpoint, or a student file (``*.evstudent``, or the name of one of the package)
            of this or an older format. The
            weights of a student are those that were trained, so nothing is lost.

    Raises:
        StudentError: missing, damaged, or neither of the two.
        PluginError: its network or its input is code which nobody allowed.
    """
    path = student_path(path)
    if path.suffix != SUFFIX:
        return load_checkpoint(path), ""
    student = StudentFile.open(path)
    name = student.info.network.name
    check_network_of_file(name, str(path))
    checkpoint = Checkpoint(
        network=name,
        options=student.info.network.options,
        state_dict={k: torch.from_numpy(v) for k, v in student.weights().items()},
        input=student.input,
        classes=student.classes,
        provenance=student.info.provenance,
    )
    text, rule, _ = student.card().partition(f"{_RULE}# {name}: ")
    return checkpoint, text if rule else ""


def _sizes(multiple: int) -> list[tuple[int, int]]:
    """Return the sizes to compare at: two sensors and a small odd one, rounded up."""
    return [(-(-h // multiple) * multiple, -(-w // multiple) * multiple) for h, w in _PARITY_SIZES]


def _describe(checkpoint: Checkpoint, network: StudentNetwork) -> StudentInfo:
    return StudentInfo(
        task=network_task(checkpoint.network),
        network=NetworkInfo(
            name=checkpoint.network,
            options=dict(checkpoint.options),
            size_multiple=network.size_multiple,
            output_stride=network.output_stride,
            parameters=parameter_count(network),
            state_channels=network.state_channels,
            state_stride=network.state_stride,
            has_instances=network.has_instances,
        ),
        input=checkpoint.input,
        classes=checkpoint.classes,
        provenance=dict(checkpoint.provenance),
    )


def _on_torch(network: StudentNetwork) -> Form:
    def run(x: FloatArray) -> Output:
        with torch.inference_mode():
            logits, instances = output_of(network, torch.from_numpy(x)[None])
        if instances is None:
            return Output(logits[0].numpy())
        return Output(
            logits[0].numpy(),
            InstanceOutput(instances.centre[0, 0].numpy(), instances.offset_px[0].numpy()),
        )

    return run


def _instance_lines(info: StudentInfo) -> list[str]:
    if not info.network.has_instances:
        return []
    things = ", ".join(info.classes.names[k] for k in info.classes.thing_ids)
    return [
        "- Instances: a centre heat map and offsets to the centre, at the size of the logits, tell "
        f"things of these classes apart: {things}."
    ]


_TASK_TEXTS = {"segmentation": "semantic segmentation", "recognition": "recognition"}


def _output_text(info: StudentInfo) -> str:
    if info.task == "recognition":
        return "one set of class logits a window"
    return f"logits at 1/{info.network.output_stride} of the input"


def _state_lines(info: StudentInfo) -> list[str]:
    network = info.network
    if not network.is_recurrent:
        return []
    return [
        f"- Recurrent: a state of {network.state_channels} channels at 1/{network.state_stride} of "
        "the input goes from window to window; it begins at zero wherever the stream breaks off."
    ]


def _size_line(spec: InputSpec) -> str:
    """Return what becomes of images of usual sizes."""
    factors = {
        f"{width}x{height}": spec.grid(height=height, width=width).factor
        for width, height in ((346, 260), (640, 480), (1280, 720))
    }
    said = ", ".join(f"{size} by {factor}" for size, factor in factors.items() if factor > 1)
    return (
        f"- Image sizes: up to {spec.max_pixels:,} pixels at full resolution. Larger ones are "
        f"reduced in width and height ({said or 'none of the usual sizes'}), unless the "
        "parameters `max_pixels` or `tiles` say otherwise."
    )


def model_card(info: StudentInfo, text: str = "") -> str:
    """Return the Markdown text that travels in the student file.

    Args:
        info: the facts.
        text: Markdown by people, put first.

    What only people can say (data, licence, limits) is taken from the provenance as it is; nothing
    is made up where it is silent.
    """
    network = info.network
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(info.classes.names))
    opening = text.rstrip() + _RULE if text.strip() else ""
    lines = [
        f"{opening}# {network.name}: {network_entry(network.name).summary}",
        "",
        f"- Task: {_TASK_TEXTS[info.task]} of event-camera windows.",
        f"- Classes: {classes}.",
        f"- Parameters: {network.parameters:,}; {_output_text(info)}.",
        f"- Input: `{json.dumps(info.input.to_mapping())}`",
        _size_line(info.input),
        *_state_lines(info),
        *_instance_lines(info),
        "",
        "## Where the weights come from",
        "",
    ]
    if info.provenance:
        lines += [
            f"- {key}: {_phrase(value)}"
            for key, value in info.provenance.items()
            if key != "config"
        ]
    else:
        lines.append("Not stated.")
    lines += [
        "",
        "## Checked at export",
        "",
        "| form | output | input | largest difference | largest value | same class |",
        "|---|---|---|---|---|---|",
    ]
    rows = info.parity.get("rows", [])
    for content in rows if isinstance(rows, list) else []:
        row = ParityRow(**content)
        lines.append(
            f"| {row.form} | {row.output} | {row.height}x{row.width} | "
            f"{row.max_abs_difference:.2g} | {row.max_abs_logit:.3g} | {row.same_class} |"
        )
    int8 = info.parity.get("int8")
    if isinstance(int8, dict):
        kept = float_layers(info)
        lines += [
            "",
            f"Model in 8 bits: ranges of {int8['ranges']} windows, judged by {int8['judges']} "
            f"others, of {int8['windows'] or 'windows that were not named'}."
            + (f" The first {kept} convolutions stay in float." if kept else ""),
        ]
    if "config" in info.provenance:
        text = yaml.safe_dump(info.provenance["config"], sort_keys=False)
        lines += ["", "## Configuration of the training", "", "```yaml", text.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def float_layers(info: StudentInfo) -> int:
    """Return how many convolutions of a model in 8 bits stay in float."""
    int8 = info.parity.get("int8")
    count = int8.get("float_layers", 0) if isinstance(int8, dict) else 0
    return count if isinstance(count, int) else 0


def _phrase(value: object) -> str:
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return " ".join(value)
    return value if isinstance(value, str) else f"`{json.dumps(value)}`"
