"""Weights taken out of ONNX models and put back."""

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from evdistill_core.inference.onnx_weights import DanglingReferenceError, put_in, take_out

FILE = "weights.safetensors"
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(40, 3, 3, 3)).astype(np.float32)  # 4320 bytes: a length of two digits
BIAS = RNG.normal(size=40).astype(np.float32)
SMALL = np.array([0.5], np.float32)
WEIGHTS = safetensors.numpy.save({"kernel": KERNEL, "bias": BIAS, "small": SMALL, "other": -BIAS})


def model_of(tensors):
    """Convolution, bias and scale, with the given initializers."""
    source, result = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, 8, 8))
        for name, channels in (("x", 3), ("y", 40))
    )
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [source], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="module")
def model():
    values = {"w": KERNEL, "b": BIAS, "s": SMALL}
    return model_of([numpy_helper.from_array(v, k) for k, v in values.items()]).SerializeToString()


@pytest.fixture(scope="module")
def outside(model):
    return take_out(model, WEIGHTS, FILE)


def logits(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)})[
        0
    ]


def test_round_trip(model, outside):
    assert len(outside) < len(model) - KERNEL.nbytes
    assert KERNEL.tobytes() not in outside
    assert put_in(outside, lambda: WEIGHTS, FILE) == model


def test_the_two_files_side_by_side_are_an_ordinary_model(model, outside, tmp_path):
    (tmp_path / "model.onnx").write_bytes(outside)
    (tmp_path / FILE).write_bytes(WEIGHTS)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    np.testing.assert_array_equal(logits(str(tmp_path / "model.onnx")), logits(model))


def test_small_tensors_and_numbers_of_its_own_stay(outside):
    graph = onnx.load_model_from_string(outside).graph
    assert [t.name for t in graph.initializer if t.external_data] == ["w", "b"]
    own = model_of([numpy_helper.from_array(2 * BIAS, "b")]).SerializeToString()
    assert take_out(own, WEIGHTS, FILE) == own


def test_a_model_without_references_does_not_read_weights(model):
    def refuse():
        raise AssertionError("read")

    assert put_in(model, refuse, FILE) == model


@pytest.mark.parametrize(
    "weights",
    [
        {"bias": BIAS, "small": SMALL},  # missing
        {"kernel": KERNEL[:39], "bias": BIAS, "small": SMALL, "other": -BIAS},  # another shape
        {"kernel": KERNEL.astype(np.float16), "bias": BIAS, "small": SMALL, "other": -BIAS},
    ],
)
def test_a_reference_to_what_is_not_there(outside, weights):
    with pytest.raises(DanglingReferenceError, match=r"tensor '[wb]' of the ONNX model is not in"):
        put_in(outside, lambda: safetensors.numpy.save(weights), FILE)


@pytest.mark.parametrize("weights", [b"", b"\xff" * 50, b"\x02" + bytes(7) + b"[]", WEIGHTS[:-9]])
def test_weights_that_are_no_safetensors(outside, weights):
    with pytest.raises(ValueError, match="no header of safetensors"):
        put_in(outside, lambda: weights, FILE)


def test_references_to_other_files_stay():
    tensor = numpy_helper.from_array(KERNEL, "w")
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd", 0, KERNEL.nbytes)
    tensor.ClearField("raw_data")
    tensor.doc_string = FILE  # the name alone is no reference
    model = model_of([tensor]).SerializeToString()
    assert put_in(model, lambda: WEIGHTS, FILE) == model


@pytest.mark.parametrize("model", [b"", b"onnx" * 100, bytes(50), b"\x3a\x05" + FILE.encode()])
def test_bytes_that_are_no_model_stay(model):
    assert take_out(model, WEIGHTS, FILE) == model
    assert put_in(model, lambda: WEIGHTS, FILE) == model


def test_damage_is_a_value_error_or_nothing(outside):
    rng = np.random.default_rng(1)
    for _ in range(2000):
        broken = bytearray(outside)
        for at in rng.choice(len(broken), 2):
            broken[at] = rng.integers(256)
        try:
            put_in(bytes(broken), lambda: WEIGHTS, FILE)
        except ValueError:
            continue
