"""Runtimes and precisions: OpenVINO, TensorRT, 8 bits, and what is refused when it is loaded."""

import importlib.util
import logging

import numpy as np
import onnxruntime
import pytest

from evdistill_core.export.int8 import MIN_WINDOWS, calibration_windows, to_int8
from evdistill_core.export.student import export_student
from evdistill_core.foundation.errors import ConfigError, DataError, StudentError
from evdistill_core.inference import parity
from evdistill_core.inference import runtimes as runtimes_module
from evdistill_core.inference.onnx_runner import PROVIDERS, OnnxRunner, has_provider
from evdistill_core.inference.parity import LIMITS, example_input
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import Output
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import INT8, StudentFile, write_student
from evdistill_core.inference.student import student_path as packaged
from evdistill_core.representations import InputSpec

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def windows(count=16, height=48, width=64, channels=3):
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (count, channels, height, width)).astype(np.float32)
    x[rng.random(x.shape) < 0.7] = 0
    return list(x)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A student that has a model in 8 bits, and the rows of its export."""
    from students import random_checkpoint

    path = tmp_path_factory.mktemp("int8") / "small.evstudent"
    rows = export_student(random_checkpoint(), path, calibration=windows(),
                          calibrated_on="16 windows of noise")  # fmt: skip
    return StudentFile.open(path), rows


def test_a_model_in_8_bits_is_close_and_its_distance_is_written_down(small):
    student, rows = small
    (row,) = [r for r in rows if r.form == "int8"]
    assert (row.precision, row.height, row.width, row.output) == ("int8", 48, 64, "logits")
    assert 0 < row.max_abs_difference < LIMITS["int8"].difference * row.max_abs_logit
    assert student.info.parity["rows"][-1]["form"] == "int8"
    assert f"| int8 | logits | 48x64 | {row.max_abs_difference:.2g}" in student.card()
    runner = make_runner(student, runtime="onnxruntime", precision="int8")
    assert "cpu int8, 1 thread" in runner.description
    exact = make_runner(student, runtime="onnxruntime")
    for x in (windows()[3], windows(1, 104, 136)[0]):  # any size, not only that of the ranges
        difference = np.abs(runner.run(x) - exact.run(x)).max()
        assert 0 < difference < 0.3 * np.abs(exact.run(x)).max()
    student.verify()
    told = dict(student.info.parity["int8"])
    assert told.pop("float_layers") in (0, 3, 6, 12)
    assert told == {"windows": "16 windows of noise", "ranges": 8, "judges": 8}
    assert "ranges of 8 windows, judged by 8 others, of 16 windows of noise." in student.card()


def test_its_weights_are_whole_numbers(small):
    import onnx

    graph = onnx.load_from_string(to_int8(small[0].onnx(), windows())).graph
    kinds = [t.data_type for t in graph.initializer if len(t.dims) == 4]
    # Only the head is in float: an output in 8 bits ends where the ranges of the windows end.
    assert kinds.count(onnx.TensorProto.FLOAT) == 1
    assert set(kinds) == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert {makers[output.name] for output in graph.output} == {"Conv"}


def test_the_shipped_student_keeps_its_first_convolutions_in_float(tmp_path):
    """All in 8 bits, it is refused: on the demo recording one cell in twelve changes its class."""
    from pathlib import Path

    from evdistill_core.export.student import float_layers, load_trained

    demo = Path(__file__).parents[2] / "demo" / "davis346_street.mcap"
    checkpoint, _ = load_trained(Path("street6"))
    found = calibration_windows([demo], checkpoint.input)[::6]
    rows = export_student(checkpoint, tmp_path / "s.evstudent", calibration=found)
    student = StudentFile.open(tmp_path / "s.evstudent")
    kept = float_layers(student.info)
    assert kept > 0
    assert all(row.is_equal for row in rows if row.form == "int8")
    assert f"The first {kept} convolutions stay in float." in student.card()
    write_student(
        tmp_path / "t", student.info, weights=student.weights(), onnx=student.onnx(),
        int8=to_int8(student.onnx(), found[::2]),
    )  # fmt: skip
    whole = OnnxRunner(StudentFile.open(tmp_path / "t"), precision="int8")
    exact = OnnxRunner(student)
    pairs = [(whole.run_whole(x), exact.run_whole(x)) for x in found[1::2]]
    assert not all(
        row.is_equal for row in parity.rows_of("int8", "int8", pairs, size=found[0].shape[1:])
    )


@pytest.mark.parametrize("name", ["street6", "street6-nano"])
def test_the_students_of_the_package_compute_in_8_bits(name):
    student = StudentFile.open(packaged(name))
    runner = make_runner(student, precision="int8", device="cpu")  # compared with fp32 at load
    assert "int8" in runner.description
    assert student.path.stat().st_size < 16e6


def test_offsets_are_compared_where_the_right_class_is_a_thing():
    logits = np.zeros((3, 2, 2), np.float32)
    logits[2, 0, 0] = 1  # one thing, class 2
    right = Output(logits, InstanceOutput(np.zeros((2, 2), np.float32), np.full((2, 2, 2), 40.0)))
    given = right._replace(instances=right.instances._replace(offset_px=np.full((2, 2, 2), 40.0)))
    given.instances.offset_px[0, 1, 1] = 90  # where nothing is
    given.instances.offset_px[1, 0, 0] = 35

    def offsets(things):
        rows = parity.rows_of("x", "bf16", [(given, right)], size=(8, 8), thing_ids=things)
        (row,) = [row for row in rows if row.output == "offset_px"]
        return row.max_abs_difference, row.max_abs_logit, row.is_equal

    assert offsets(None) == (50.0, 40.0, False)
    assert offsets([2]) == (5.0, 40.0, False)  # more than a tenth
    assert offsets([1]) == (0.0, 0.0, True)
    given.instances.offset_px[1, 0, 0] = 37
    assert offsets([1, 2])[2]


def test_auto_knows_8_bits(small, monkeypatch):
    monkeypatch.setattr(runtimes_module, "has_openvino", lambda: False)
    monkeypatch.setattr(runtimes_module, "gpu_present", lambda: True)  # not asked for 8 bits
    assert "cpu int8" in make_runner(small[0], precision="int8").description


def test_a_student_without_8_bits_says_how_to_get_them(student_path):
    student = StudentFile.open(student_path)
    assert not student.has_int8
    for runtime in ("auto", "onnxruntime"):
        with pytest.raises(StudentError, match="export STUDENT NEW --int8-from RECORDING"):
            make_runner(student, runtime=runtime, precision="int8")


def test_8_bits_that_compute_something_else_are_refused_at_export_and_at_load(small, tmp_path):
    from students import random_checkpoint

    # Ranges that were measured on windows a hundred times as faint do not hold real ones.
    faint = [x / 100 for x in windows()]
    mixed = [x for pair in zip(faint, windows(), strict=True) for x in pair]
    with pytest.raises(StudentError, match=r"the int8 network differs .* by .*name recordings"):
        export_student(random_checkpoint(), tmp_path / "s", calibration=mixed)
    assert not (tmp_path / "s").exists()
    student = small[0]
    write_student(
        tmp_path / "s", student.info, weights=student.weights(), onnx=student.onnx(),
        int8=to_int8(student.onnx(), faint),
    )  # fmt: skip
    with pytest.raises(StudentError, match=r"cpu int8, 1 thread differs from fp32 at .*fp32"):
        make_runner(StudentFile.open(tmp_path / "s"), runtime="onnxruntime", precision="int8")


def test_what_cannot_be_in_8_bits(small, tmp_path, monkeypatch):
    from onnxruntime import quantization
    from students import random_checkpoint

    def refuse(*_, **__):
        raise ValueError("an operator of another world")

    for changes, onnx in (({"recurrent": True}, True), ({}, False)):
        checkpoint = random_checkpoint(**changes)
        with pytest.raises(ConfigError, match="of a student without a memory"):
            export_student(checkpoint, tmp_path / "s", onnx=onnx, calibration=windows())
    monkeypatch.setattr(quantization, "quantize_static", refuse)
    with pytest.raises(StudentError, match="cannot put this network in 8 bits: an operator of"):
        to_int8(small[0].onnx(), windows())


def test_a_damaged_model_in_8_bits_is_named(small, tmp_path):
    import zipfile

    with zipfile.ZipFile(small[0].path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[INT8] = members[INT8][:-5] + b"\0\0\0\0\0"
    with zipfile.ZipFile(tmp_path / "s", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(StudentError, match=r"model.int8.onnx differs from its checksum"):
        StudentFile.open(tmp_path / "s").onnx_int8()


def test_calibration_windows_of_a_recording():
    from pathlib import Path

    demo = Path(__file__).parents[2] / "demo" / "davis346_street.mcap"
    spec = InputSpec(window_us=50_000)
    found = calibration_windows([demo], spec)
    assert len(found) >= MIN_WINDOWS
    assert {x.shape for x in found} == {(5, 288, 352)}
    with pytest.raises(DataError, match=r"windows of at least 500 events, --int8-from needs 8"):
        calibration_windows([demo], InputSpec(window_us=1_000_000))


# What is compared when it is loaded


def test_the_made_up_window_is_one_of_edges():
    x = example_input(InputSpec())
    assert x.shape == (5, 288, 352)
    assert 0.02 < (x != 0).mean() < 0.5
    np.testing.assert_array_equal(x, example_input(InputSpec()))


@needs_openvino
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_openvino_computes_the_same_within_its_limit(small, precision, caplog):
    try:
        with caplog.at_level(logging.INFO, "evdistill_core"):
            runner = make_runner(small[0], runtime="openvino", precision=precision)
    except ConfigError as error:
        pytest.skip(str(error))  # an older processor
    assert "on OpenVINO" in runner.description
    assert f"cpu {precision}, 1 thread" in runner.description
    assert "same class as fp32 in" in caplog.text
    x = windows(1, 104, 136)[0]
    exact = make_runner(small[0], runtime="onnxruntime").run(x)
    difference = np.abs(runner.run(x) - exact).max()
    assert difference <= LIMITS[precision].difference * max(1, np.abs(exact).max())
    assert difference > 0 or precision == "fp32"


@needs_openvino
def test_openvino_that_computes_something_else_is_refused(small, monkeypatch):
    from evdistill_core.inference.openvino_runner import OpenVinoRunner

    monkeypatch.setattr(
        OpenVinoRunner, "_compute", lambda self, given: [np.ones((1, 6, 66, 88), np.float32)]
    )
    with pytest.raises(StudentError, match=r"on OpenVINO .* differs from fp32 at .*use precision"):
        make_runner(small[0], runtime="openvino")


@needs_openvino
@pytest.mark.parametrize(
    ("precision", "message"),
    [("int4", "precision must be one of"), ("fp16", "computes in .*, not in fp16")],
)
def test_precisions_that_openvino_has_not_here(small, precision, message, monkeypatch):
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    from evdistill_core.inference.openvino_runner import OpenVinoRunner

    with pytest.raises(ConfigError, match=message):
        OpenVinoRunner(small[0], precision=precision)


@needs_openvino
def test_a_model_that_openvino_cannot_load(small, tmp_path):
    student = small[0]
    write_student(tmp_path / "s", student.info, weights=student.weights(), onnx=b"hello")
    with pytest.raises(StudentError, match=r"OpenVINO .* cannot load the model of"):
        make_runner(StudentFile.open(tmp_path / "s"), runtime="openvino")


@needs_openvino
def test_openvino_keeps_the_state_of_a_recurrent_student(recurrent_student):
    student = StudentFile.open(recurrent_student)
    one, other = (make_runner(student, runtime=r) for r in ("openvino", "onnxruntime"))
    for x in windows(4):
        np.testing.assert_allclose(one.run(x), other.run(x), atol=1e-4)
    first = windows(4)[0]
    remembered = one.run(first)
    one.reset()
    assert np.abs(one.run(first) - remembered).max() > 1e-3


def test_limits_grow_with_what_is_left_out():
    order = [LIMITS[p] for p in ("fp32", "bf16", "int8")]
    assert order == sorted(order)
    assert all(0 < limit.agreement < 1 for limit in LIMITS.values())
    row = parity.ParityRow(
        form="x", height=8, width=8, max_abs_difference=0.2, max_abs_logit=4.0,
        argmax_agreement=0.98,
    )  # fmt: skip
    from dataclasses import replace

    assert not row.is_equal
    assert replace(row, precision="bf16").is_equal
    assert not replace(row, precision="bf16", argmax_agreement=0.9).is_equal
    assert not replace(row, precision="int8", max_abs_difference=float("nan")).is_equal


# Execution providers of ONNX Runtime


@pytest.mark.parametrize("name", sorted(set(PROVIDERS) - {"cpu"}))
def test_a_provider_that_is_not_there_names_its_package(small, name):
    if has_provider(name):
        pytest.skip("this ONNX Runtime has it")
    with pytest.raises(ConfigError, match=f"no {name} support, .*{PROVIDERS[name].package}"):
        OnnxRunner(small[0], provider=name)


def test_providers_are_named_as_onnx_runtime_names_them():
    known = onnxruntime.get_all_providers()
    assert {p.name for p in PROVIDERS.values()} <= set(known)


def test_options_of_providers():
    trt = PROVIDERS["tensorrt"].options
    assert trt("fp16", 1) == {"trt_fp16_enable": True}
    assert trt("int8", 1) == {"trt_int8_enable": True}
    assert trt("fp32", 1) == {}
    assert PROVIDERS["openvino"].options("fp32", 3)["num_of_threads"] == 3


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_gpu_computes_the_same_within_its_limit(small, name, precision):
    if not has_provider(name):
        pytest.skip(f"this ONNX Runtime has no {name}")
    if precision not in PROVIDERS[name].precisions:
        pytest.skip(f"{name} does not compute in {precision}")
    runtime = "tensorrt" if name == "tensorrt" else "onnxruntime"
    runner = make_runner(small[0], runtime=runtime, device="cuda", precision=precision)
    x = windows(1)[0]
    exact = make_runner(small[0], runtime="onnxruntime").run(x)
    difference = np.abs(runner.run(x) - exact).max()
    assert difference <= LIMITS[precision].difference * max(1, np.abs(exact).max())
