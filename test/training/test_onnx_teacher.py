"""A teacher in an ONNX file: what it says, and what is refused before the first step."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto
from onnx_models import Classifier, export_classifier, export_segmenter, write_model

from evdistill_core.foundation.class_maps import (
    CITYSCAPES_CLASSES,
    NINETEEN_TO_SIX,
    named_classes,
)
from evdistill_core.foundation.config import dump_yaml, from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError, EvdistillError, StudentError
from evdistill_core.foundation.labels import CAMVID_CLASSES, SIX_CLASSES
from evdistill_core.training.onnx_teacher_config import (
    Normalisation,
    OnnxTeacherConfig,
    read_onnx_teacher,
)
from evdistill_core.training.teacher import load_teacher
from evdistill_core.training.teacher_base import class_ids

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
THREE = named_classes(("a", "b", "c"))
ABC = ("a", "b", "c")


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def load(path, student=THREE, **changes):
    given = {"onnx": path, "classes": ABC, "normalise": "0..1"} | changes
    return load_teacher(OnnxTeacherConfig(**given), student, CPU)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "segmenter.onnx"
    return path, export_segmenter(path)


def of_torch(model, image_B1HW):
    """Return what the exported network says in torch, with the normalisation by hand."""
    grey = (image_B1HW + 1) / 2
    rgb = torch.cat([(grey - m) / s for m, s in zip(MEAN, STD, strict=True)], 1)
    with torch.no_grad():
        return model(rgb)


@pytest.mark.parametrize("size", [(40, 56), (33, 64)])
def test_the_posterior_is_that_of_torch_in_the_students_classes(segmenter, size):
    path, model = segmenter
    teacher = load(path, SIX_CLASSES, classes="cityscapes19", normalise="imagenet", output="logits",
                   features="features")  # fmt: skip
    assert teacher.task == "segmentation"
    image = noise(3, 1, *size)
    logits, features, _ = teacher.see(image)
    expected, expected_features = of_torch(model, image)
    torch.testing.assert_close(features, expected_features, rtol=1e-4, atol=1e-5)
    p = expected.softmax(1)
    merged = torch.zeros(3, 6, *p.shape[2:])
    for i, k in enumerate(NINETEEN_TO_SIX):
        merged[:, k] += p[:, i]
    got = teacher.log_posterior(logits).exp()
    torch.testing.assert_close(got, merged, rtol=1e-3, atol=1e-5)
    assert float(merged.amax(1).std()) > 0.05  # not one answer everywhere
    assert bool((teacher.known_mass(logits) == 1).all())


def test_classes_without_a_place_leave_the_rest_and_weigh_the_pixel(segmenter, caplog):
    path, model = segmenter
    places = {"road": "a", "sidewalk": "a", "car": "b", "sky": "c"}
    with caplog.at_level(logging.INFO, "evdistill_core"):
        teacher = load(path, classes="cityscapes19", normalise="imagenet", output="logits",
                       class_map=places)  # fmt: skip
    assert "15 of 19 classes" in caplog.text
    image = noise(2, 1, 32, 48)
    logits, features, _ = teacher.see(image)
    assert features is None
    names = CITYSCAPES_CLASSES.names
    p = of_torch(model, image)[0].softmax(1)
    parts = [
        sum(p[:, names.index(n)] for n, k in places.items() if k == student) for student in "abc"
    ]
    known = sum(parts)
    torch.testing.assert_close(teacher.known_mass(logits), known, rtol=1e-3, atol=1e-5)
    assert float(known.max()) < 1
    expected = torch.stack(parts, 1) / known[:, None]
    torch.testing.assert_close(teacher.log_posterior(logits).exp(), expected, rtol=1e-3, atol=1e-5)


def test_a_classifier_that_ends_in_a_softmax_is_read_as_probabilities(tmp_path):
    path = tmp_path / "classifier.onnx"
    model = export_classifier(path)
    assert isinstance(model, Classifier)
    teacher = load(path, classes=tuple("vwxyz"), channels="grey", normalise="-1..1",
                   class_map={"v": "a", "w": "b", "x": "b", "z": "c"})  # fmt: skip
    assert teacher.task == "recognition"
    image = noise(3, 1, 24, 24)
    logits, *_ = teacher.see(image)
    assert logits.shape == (3, 5)
    with torch.no_grad():
        p = torch.cat([model(x[None]) for x in image])
    torch.testing.assert_close(logits.softmax(1), p, rtol=1e-3, atol=1e-5)
    merged = torch.stack([p[:, 0], p[:, 1] + p[:, 2], p[:, 4]], 1)
    merged = merged / merged.sum(1, keepdim=True)
    torch.testing.assert_close(teacher.log_posterior(logits).exp(), merged, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("normalise", "channels", "means", "stds"),
    [
        ("imagenet", "rgb", MEAN, STD),
        ("imagenet", "bgr", MEAN[::-1], STD[::-1]),
        ("-1..1", "rgb", (0.5,) * 3, (0.5,) * 3),
        ("0..1", "bgr", (0,) * 3, (1,) * 3),
        ("0..255", "rgb", (0,) * 3, (1 / 255,) * 3),
        (Normalisation(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)), "bgr", (0.1, 0.2, 0.3),
         (0.4, 0.5, 0.6)),
    ],
)  # fmt: skip
def test_the_model_gets_what_it_was_told_to_get(tmp_path, normalise, channels, means, stds):
    teacher = load(write_model(tmp_path / "m.onnx"), normalise=normalise, channels=channels)
    image = noise(2, 1, 6, 8)
    # The model gives its input back.
    expected = torch.cat([((image + 1) / 2 - m) / s for m, s in zip(means, stds, strict=True)], 1)
    torch.testing.assert_close(teacher.see(image)[0], expected, rtol=1e-5, atol=1e-5)


def test_images_are_resized_to_a_fixed_size_and_shown_one_at_a_time(tmp_path):
    path = write_model(tmp_path / "m.onnx", shape=(1, 3, 12, 16))
    teacher = load(path)
    ramp = torch.linspace(-1, 1, 32).expand(3, 1, 24, 32) * torch.tensor([0.2, 0.5, 1.0]).view(
        3, 1, 1, 1
    )
    logits, *_ = teacher.see(ramp)
    assert logits.shape == (3, 3, 12, 16)
    expected = (ramp.unflatten(3, (16, 2)).mean(4)[:, 0, ::2] + 1) / 2
    # Antialiased halving of a ramp is its mean over pairs, but at the border.
    torch.testing.assert_close(logits[:, 1, :, 1:-1], expected[..., 1:-1], rtol=1e-4, atol=1e-4)
    free = load(write_model(tmp_path / "free.onnx"), size=(12, 16))
    torch.testing.assert_close(free.see(ramp)[0], logits)
    with pytest.raises(ConfigError, match=r"teacher\.size says \[8, 8\]: leave size out"):
        load(path, size=(8, 8))


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_are_given_and_taken(tmp_path, dtype):
    teacher = load(write_model(tmp_path / "m.onnx", dtype=dtype))
    image = noise(1, 1, 6, 8)
    logits, *_ = teacher.see(image)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[:, :1], (image + 1) / 2, rtol=1e-3, atol=1e-3)


def labels_of_grey(path, top, *, keepdims, scale=1.0):
    """Write a model whose label is its grey value in 0..top, rounded down."""
    nodes = [
        ("ReduceMax", ["image"], "grey", {"axes": [1], "keepdims": keepdims}),
        ("Mul", ["grey", "scale"], "scaled", {}),
        ("Cast", ["scaled"], "label", {"to": TensorProto.INT64}),
    ]
    return write_model(
        path, nodes, outputs={"label": (TensorProto.INT64, None)},
        constants={"scale": np.float32(top * scale)},
    )  # fmt: skip


@pytest.mark.parametrize("keepdims", [0, 1])
def test_labels_become_a_smoothed_posterior(tmp_path, keepdims):
    teacher = load(labels_of_grey(tmp_path / "m.onnx", 3, keepdims=keepdims), label_smoothing=0.3)
    image = torch.tensor([-0.9, 0.0, 0.9]).expand(2, 1, 4, 3)
    logits, *_ = teacher.see(image)
    p = teacher.log_posterior(logits).exp()
    expected = torch.full((3, 3), 0.1) + 0.7 * torch.eye(3)
    torch.testing.assert_close(p[1, :, 2].T, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher.known_mass(logits), torch.ones(2, 4, 3))


def test_the_label_255_counts_nothing_and_other_unknown_labels_are_refused(tmp_path):
    nodes = [
        ("ReduceMax", ["image"], "grey", {"axes": [1], "keepdims": 0}),
        ("Greater", ["grey", "half"], "bright", {}),
        ("Where", ["bright", "none", "one"], "label", {}),
    ]
    path = write_model(
        tmp_path / "m.onnx", nodes, outputs={"label": (TensorProto.INT64, None)},
        constants={"half": np.float32(0.5), "none": np.int64(255), "one": np.int64(1)},
    )  # fmt: skip
    teacher = load(path)
    logits, *_ = teacher.see(torch.tensor([-0.5, 0.5]).expand(1, 1, 4, 2))
    mass = teacher.known_mass(logits)
    torch.testing.assert_close(mass[0, 0], torch.tensor([1.0, 0.0]), rtol=0, atol=1e-5)
    with pytest.raises(
        ConfigError, match=r"gives the label (2\d|30), and teacher\.classes names 3"
    ):
        load(labels_of_grey(tmp_path / "more.onnx", 30, keepdims=0))


def test_values_of_a_sigmoid_are_told(tmp_path, caplog):
    path = write_model(tmp_path / "m.onnx", [("Sigmoid", ["image"], "logits", {})])
    load(path)
    assert "do not add up to 1" in caplog.text


OUTPUTS_OF_TWO = {"logits": (TensorProto.FLOAT, None), "more": (TensorProto.FLOAT, None)}
TWO_NODES = [("Identity", ["image"], "logits", {}), ("Neg", ["image"], "more", {})]
REFUSED = {
    "grey for rgb": ({}, {"channels": "grey"}, "takes 3 channels.*set teacher.channels to rgb"),
    "rgb for grey": (
        {"shape": ("b", 1, "h", "w")}, {}, "takes 1 channels.*set teacher.channels to grey",
    ),
    "channels last": (
        {"shape": ("b", 24, 24, 3)}, {}, r"takes 24 channels.*\(batch, channels, height, width\)",
    ),
    "whole numbers in": ({"dtype": TensorProto.UINT8}, {}, r"takes tensor\(uint8\); allowed are"),
    "three axes": ({"shape": (3, "h", "w")}, {}, "export it with an input of four axes"),
    "a batch of four": ({"shape": (4, 3, "h", "w")}, {}, "exactly 4 images.*dynamic batch axis"),
    "half free": ({"shape": ("b", 3, 16, "w")}, {}, r"one side of it fixed: set teacher\.size"),
    "two inputs": (
        {"inputs": ("image", "mask"), "nodes": [("Add", ["image", "mask"], "logits", {})]}, {},
        "has 2 inputs .*whose forward takes the image alone",
    ),
    "too few names": ({}, {"classes": ("a", "b"), "class_map": {"a": "a"}}, "no class .*'b', 'c'"),
    "more classes": (
        {}, {"classes": (*ABC, "d")}, "gives 3 classes .*teacher.classes names 4: name every class",
    ),
    "two predictions": (
        {"nodes": TWO_NODES, "outputs": OUTPUTS_OF_TWO}, {}, "has 2 outputs.*set teacher.output",
    ),
    "unknown output": ({}, {"output": "logit"}, "no output 'logit'.*did you mean 'logits'"),
    "unknown features": ({}, {"features": "deep"}, r"no output 'deep' \(teacher.features\)"),
    "features of three axes": (
        {
            "nodes": [*TWO_NODES, ("ReduceMax", ["image"], "f", {"axes": [1], "keepdims": 0})],
            "outputs": OUTPUTS_OF_TWO | {"f": (TensorProto.FLOAT, None)},
        },
        {"output": "logits", "features": "f"},
        r"allowed are \(B, C, h, w\) and \(B, C\)",
    ),
    "three axes out": (
        {"nodes": [("ReduceMax", ["image"], "logits", {"axes": [1], "keepdims": 0})]}, {},
        r"allowed are logits or probabilities \(B, K, h, w\)",
    ),
    "not finite": (
        {"nodes": [("Log", ["minus"], "logits", {}), ("Neg", ["image"], "minus", {})][::-1]}, {},
        "not finite.*check teacher.normalise",
    ),
    "one answer for all": (
        {"nodes": [("ReduceMax", ["image"], "logits", {"axes": [0], "keepdims": 1})]}, {},
        "gives 1 answers for 2 images.*dynamic batch axis",
    ),
    "size baked in": (
        {
            "nodes": [("Add", ["image", "fixed"], "logits", {})],
            "constants": {"fixed": np.zeros((1, 3, 20, 20), np.float32)},
        },
        {},
        r"does not take 2 images of 224x224.*set teacher\.size",
    ),
    "unknown class": ({}, {"class_map": {"aa": "a"}}, "'aa', which is no class of the teacher"),
    "unknown student class": ({}, {"class_map": {"a": "z"}}, "'z', which is no class of the targ"),
    "no map": ({}, {"classes": ("x", "y", "z")}, "no map from the teacher's classes.*class_map"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_is_not_as_it_is_described_is_refused(tmp_path, name):
    model, described, message = REFUSED[name]
    path = write_model(tmp_path / "m.onnx", **model)
    with pytest.raises(ConfigError, match=message):
        load(path, **described)


def test_a_size_baked_in_is_cured_by_size(tmp_path):
    model, _, _ = REFUSED["size baked in"]
    path = write_model(tmp_path / "m.onnx", **model)
    logits, *_ = load(path, size=(20, 20)).see(noise(2, 1, 32, 48))
    assert logits.shape == (2, 3, 20, 20)
    with pytest.raises(ConfigError, match="does not take 2 images of 20x24"):
        load(path, size=(20, 24))


def test_an_unknown_operator_is_refused_by_name(tmp_path):
    path = write_model(tmp_path / "m.onnx", [("Telepathy", ["image"], "logits", {})])
    with pytest.raises(StudentError, match=r"refuses the teacher.*Telepathy.*older opset_version"):
        load(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\x80\x04\x95pickle", b"PK\x03\x04zip", b"\x08\x08" * 40]
)
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(EvdistillError, match=r"m\.onnx"):
        load(path)


def test_a_cut_or_missing_file_is_refused(tmp_path, segmenter):
    content = segmenter[0].read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(StudentError, match=r"refuses the teacher .*cut\.onnx"):
        load(cut, SIX_CLASSES, classes="cityscapes19")
    with pytest.raises(StudentError, match=r"does not exist.*did you mean .*cut\.onnx"):
        load(tmp_path / "cut1.onnx")
    with pytest.raises(StudentError, match="is a folder"):
        load(tmp_path)


def external(path, location):
    """Write a model with its weights in another file."""
    constants = {"scale": np.arange(300, dtype=np.float32).reshape(1, 3, 10, 10)}
    write_model(path, [("Mul", ["image", "scale"], "logits", {})], shape=(1, 3, 10, 10),
                constants=constants)  # fmt: skip
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    if location != "w.data":
        changed = onnx.load(path, load_external_data=False)
        for entry in changed.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        path.write_bytes(changed.SerializeToString())
    return path


def test_weights_in_another_file_belong_to_the_teacher(tmp_path):
    path = external(tmp_path / "m.onnx", "w.data")
    before = load(path)
    image = torch.ones(1, 1, 10, 10)
    expected = torch.arange(300.0).view(1, 3, 10, 10)
    torch.testing.assert_close(before.see(image)[0], expected)
    weights = tmp_path / "w.data"
    weights.write_bytes(weights.read_bytes()[:-4] + np.float32(7).tobytes())
    assert load(path).sha256 != before.sha256
    weights.unlink()
    with pytest.raises(StudentError, match=r"keeps its weights in 'w\.data', which does not exist"):
        load(path)


@pytest.mark.parametrize("location", ["../w.data", "/etc/hostname", "a/../../" + "x" * 200])
def test_weights_outside_the_folder_of_the_model_are_not_read(tmp_path, location):
    (tmp_path / "folder").mkdir()
    path = external(tmp_path / "folder" / "m.onnx", location)
    (tmp_path / "w.data").write_bytes(bytes(1200))
    with pytest.raises(StudentError, match="its weights must lie in its own folder") as caught:
        load(path)
    assert repr(location) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalise": "imagenet", "channels": "grey"}, r"for instance \{mean: \[0\.449\]"),
        ({"normalise": {"mean": [123.7], "std": [58.4]}}, r"got \(123\.7,\).*: divide .* by 255"),
        ({"normalise": {"mean": [0.5], "std": [0]}}, "std must lie in"),
        ({"normalise": {"mean": [0.5, 0.5], "std": [1, 1]}}, "1 or 3 values"),
        ({"normalise": "imagenett"}, r"one of 'imagenet', '-1..1'.*did you mean 'imagenet'"),
        ({"channels": "gray"}, "must be one of 'grey', 'rgb', 'bgr'.*did you mean"),
        ({"size": [4, 224]}, r"size must lie in 8\.\.8192, got \(4, 224\)"),
        ({"label_smoothing": 1}, "label_smoothing must lie in"),
        ({"output": "x", "features": "x"}, "both name 'x'"),
        ({"classes": 19}, "classes must be text"),
        ({"clases": "x"}, "unknown key clases; did you mean 'classes'"),
    ],
)
def test_a_wrong_description_is_refused(change, message):
    plain = {"onnx": "m.onnx", "classes": ["a"], "normalise": "imagenet"}
    with pytest.raises(ConfigError, match=message):
        from_mapping(OnnxTeacherConfig, plain | change)
    for key in plain:
        with pytest.raises(ConfigError, match=f"missing key {key}"):
            from_mapping(OnnxTeacherConfig, {k: v for k, v in plain.items() if k != key})


@pytest.mark.parametrize(
    "normalise", ["imagenet", "-1..1", "0..1", "0..255", "{mean: [0.4], std: [0.2]}"]
)
def test_a_description_is_read_back_from_its_yaml(tmp_path, normalise):
    path = tmp_path / "teacher.yaml"
    path.write_text(
        f"{{onnx: a/b.onnx, classes: [a, b], normalise: {normalise}, channels: bgr, "
        "size: [64, 96], class_map: {a: b}}\n"
    )
    found = read_onnx_teacher(path)
    assert (found.onnx, found.size) == (Path("a/b.onnx"), (64, 96))
    path.write_text(dump_yaml(found))
    assert read_onnx_teacher(path) == found
    assert from_mapping(OnnxTeacherConfig, to_mapping(found)) == found


def test_files_of_classes_count_from_the_yaml_and_are_kept(tmp_path):
    path = tmp_path / "teacher.yaml"
    (tmp_path / "names.txt").write_text("crane\n\ncrane\nmaillot\n" + "more\n" * 400)
    (tmp_path / "own.yaml").write_text(
        yaml.safe_dump({"classes": [{"name": "floor"}, {"name": "wall"}]})
    )
    for name, expected in (
        ("names.txt", ("crane", "crane", "maillot") + ("more",) * 400),
        ("own.yaml", ("floor", "wall")),
    ):
        path.write_text(f"{{onnx: m.onnx, classes: {name}, normalise: imagenet}}")
        found = read_onnx_teacher(path)
        assert found.class_names() == expected
        (tmp_path / name).unlink()
        assert found.class_names() == expected
    with pytest.raises(ConfigError, match=r"own\.yaml"):
        read_onnx_teacher(path)
    empty = OnnxTeacherConfig(onnx=path, classes=(), normalise="imagenet")
    with pytest.raises(ConfigError, match="name every output"):
        empty.class_names()


def test_classes_of_equal_names_all_have_the_place_of_the_name(tmp_path):
    # ImageNet has two cranes.
    ids = class_ids(("crane", "crane", "tree"), named_classes(("bird",)), {"crane": "bird"})
    assert ids == (0, 0, 255)


def test_eleven_classes_of_camvid_are_not_taken_for_those_of_dsec():
    ids = class_ids(CAMVID_CLASSES.names, SIX_CLASSES)
    by_name = dict(zip(CAMVID_CLASSES.names, ids, strict=True))
    assert by_name["road"] == SIX_CLASSES.names.index("flat")
    assert by_name["car"] == SIX_CLASSES.names.index("vehicle")


def test_a_gradient_is_not_lost_in_silence(tmp_path):
    teacher = load(write_model(tmp_path / "m.onnx"))
    image = noise(1, 1, 8, 8).requires_grad_()
    with pytest.raises(AssertionError):
        teacher.see(image)
    with torch.no_grad():
        assert teacher.see(image)[0].shape == (1, 3, 8, 8)


def test_no_cuda_in_the_runtime_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    path = write_model(tmp_path / "m.onnx")
    described = OnnxTeacherConfig(onnx=path, classes=ABC, normalise="0..1")
    load_teacher(replace(described, size=(16, 16)), THREE, torch.device("cuda", 0))
    assert "runs on the CPU" in caplog.text
