import hashlib
import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import (
    ASSETS,
    NetworkInfo,
    StudentFile,
    StudentInfo,
    shipped_students,
    student_path,
    write_student,
)
from evdistill_core.representations.spec import InputSpec

# Written by the version before format 2: `onboard-cls` of width 0.25, random weights.
VERSION_1 = Path(__file__).parents[1] / "golden" / "students" / "version1.evstudent"
INFO = StudentInfo(
    network=NetworkInfo(
        name="onboard-seg",
        options={"width": 0.25},
        size_multiple=8,
        output_stride=4,
        parameters=123,
    ),
    input=InputSpec(bins=3, size_multiple=8),
    classes=SIX_CLASSES,
    provenance={"trained_on": ["nothing"], "score": {"miou": 0.5}},
)
WEIGHTS = {"a": np.arange(2000, dtype=np.float32), "b": np.array(3, np.int64)}


@pytest.fixture
def small(tmp_path):
    """A student file with stand-ins for weights and ONNX: its wrapping is what counts here."""
    path = tmp_path / "small.evstudent"
    write_student(path, INFO, weights=WEIGHTS, onnx=b"onnx" * 100, card="# card\n")
    return path


def rewrite(path, changes=None, manifest=None):
    """Write the zip again with other members or other manifest values."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(members["student.json"])
    content.update(manifest or {})
    members["student.json"] = json.dumps(content).encode()
    members.update(changes or {})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)


def test_round_trip(small):
    student = StudentFile.open(small)
    assert student.info == INFO
    assert (student.input, student.classes) == (INFO.input, SIX_CLASSES)
    weights = student.weights()
    assert weights.keys() == WEIGHTS.keys()
    for key, value in WEIGHTS.items():
        assert weights[key].dtype == value.dtype
        np.testing.assert_array_equal(weights[key], value)
    assert student.has_onnx
    assert student.onnx() == b"onnx" * 100
    assert student.card() == "# card\n"
    student.verify()


def test_weights_are_stored_once(student_path):
    """A whole student: the ONNX model refers to the weights, and comes back with them inside."""
    with zipfile.ZipFile(student_path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        stored = archive.read("model.onnx")
        weights = archive.read("weights.safetensors")
    assert sizes["model.onnx"] < 0.2 * sizes["weights.safetensors"]
    student = StudentFile.open(student_path)
    assert student.size_bytes < len(weights) + 20_000 < len(student.onnx()) + len(weights)
    learned = [v.tobytes() for v in student.weights().values() if v.nbytes >= 64]
    assert not [v for v in learned if v in stored]
    assert not [v for v in learned if v not in student.onnx()]
    student.verify()


def replace_weights(path, weights):
    """Put other weights into a student file, checksums included."""
    data = safetensors.numpy.save(weights)
    with zipfile.ZipFile(path) as archive:
        members = json.loads(archive.read("student.json"))["members"]
    digest = hashlib.sha256(data).hexdigest()
    members["weights.safetensors"] = {"bytes": len(data), "sha256": digest}
    rewrite(path, {"weights.safetensors": data}, {"members": members})


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_an_onnx_model_without_its_weights_is_refused(student_path, tmp_path, change):
    path = tmp_path / "a.evstudent"
    shutil.copy(student_path, path)
    weights = StudentFile.open(path).weights()
    name = max(weights, key=lambda k: weights[k].nbytes)
    largest = weights.pop(name)
    if change == "misshapen":
        weights[name] = largest[:-1]
    replace_weights(path, weights)
    student = StudentFile.open(path)
    message = r"a.evstudent: tensor '.*' of the ONNX model is not in weights.safetensors: no tensor"
    for use in (student.onnx, student.verify, lambda: make_runner(student, runtime="onnxruntime")):
        with pytest.raises(StudentError, match=message):
            use()


def test_damaged_weights_reach_no_runtime(student_path, tmp_path):
    path = tmp_path / "a.evstudent"
    shutil.copy(student_path, path)
    with zipfile.ZipFile(path) as archive:
        weights = bytearray(archive.read("weights.safetensors"))
    weights[-5] ^= 1
    rewrite(path, {"weights.safetensors": bytes(weights)})
    for runtime in ("onnxruntime", "torch"):
        with pytest.raises(StudentError, match=r"weights.safetensors differs from its checksum"):
            make_runner(StudentFile.open(path), runtime=runtime, device="cpu")


def test_a_file_of_format_version_1_runs_as_before():
    student = StudentFile.open(VERSION_1)
    with zipfile.ZipFile(VERSION_1) as archive:
        assert json.loads(archive.read("student.json"))["format_version"] == 1
        assert student.onnx() == archive.read("model.onnx")
    student.verify()
    x = np.random.default_rng(0).normal(0, 1, (2, 40, 48)).astype(np.float32)
    logits = make_runner(student, runtime="onnxruntime", device="cpu").run(x)
    on_torch = make_runner(student, runtime="torch", device="cpu").run(x)
    np.testing.assert_allclose(logits, on_torch, atol=1e-5)
    assert logits.std() > 0.05


def test_equal_students_give_equal_files(small, tmp_path):
    write_student(tmp_path / "b", INFO, weights=WEIGHTS, onnx=b"onnx" * 100, card="# card\n")
    assert small.read_bytes() == (tmp_path / "b").read_bytes()


def test_a_strided_view_is_written_as_it_looks(tmp_path):
    view = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_student(tmp_path / "s", INFO, weights={"a": view})
    np.testing.assert_array_equal(StudentFile.open(tmp_path / "s").weights()["a"], view)


def test_without_onnx(tmp_path):
    write_student(tmp_path / "s", INFO, weights=WEIGHTS)
    student = StudentFile.open(tmp_path / "s")
    assert not student.has_onnx
    assert student.card() == ""
    with pytest.raises(StudentError, match="runtime: torch"):
        student.onnx()


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(StudentError, match="no student file at"):
        StudentFile.open(tmp_path / "none.evstudent")
    with pytest.raises(StudentError, match="cannot read student file"):
        StudentFile.open(tmp_path)


def test_students_of_the_package_have_names(small, tmp_path, monkeypatch):
    """A file of the user's own comes first; a name with a folder is a path."""
    monkeypatch.chdir(tmp_path)
    assert "street6" in shipped_students()
    assert StudentFile.open("street6").path == ASSETS / "street6.evstudent"
    assert student_path("./street6") == ASSETS / "street6.evstudent"
    with pytest.raises(StudentError, match=r"no student file at street7; .* by name: street6"):
        StudentFile.open("street7")
    with pytest.raises(StudentError, match="no student file at runs/street6"):
        StudentFile.open("runs/street6")
    shutil.copy(small, tmp_path / "street6")
    assert StudentFile.open("street6").path == Path("street6")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), bytes(5000)])
def test_no_zip(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(StudentError, match="no student file, or only a part of one"):
        StudentFile.open(tmp_path / "s")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated(small, share):
    data = small.read_bytes()
    small.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StudentError, match="export it again"):
        StudentFile.open(small)


def test_every_flipped_byte_is_harmless_or_named(small):
    """Whatever byte is damaged: a StudentError, or the same content."""
    data = small.read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for at in rng.choice(len(data), 300, replace=False):
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        small.write_bytes(bytes(broken))
        try:
            student = StudentFile.open(small)
            student.verify()
            assert student.weights().keys() == WEIGHTS.keys()
            np.testing.assert_array_equal(student.weights()["a"], WEIGHTS["a"])
        except StudentError:
            errors += 1
    assert errors > 200


def test_a_checkpoint_becomes_a_student_by_export(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(1)}, tmp_path / "last.pt")
    with pytest.raises(StudentError, match=r"last\.pt is a checkpoint, .*evdistill export .*last"):
        StudentFile.open(tmp_path / "last.pt")


def test_another_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "s", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(StudentError, match=r"0 members student.json"):
        StudentFile.open(tmp_path / "s")
    with zipfile.ZipFile(tmp_path / "s", "w") as archive:
        archive.writestr("student.json", "{}")
    with pytest.raises(StudentError, match="a zip, but no student file"):
        StudentFile.open(tmp_path / "s")


def test_wrong_checksum(small):
    for name in ("weights.safetensors", "model.onnx", "MODEL_CARD.md"):
        copy = small.with_name(name)
        shutil.copy(small, copy)
        rewrite(copy, {name: b"something else"})
        with pytest.raises(StudentError, match=f"{name} differs from its checksum"):
            StudentFile.open(copy).verify()


def test_member_missing_or_twice(small):
    rewrite(small, {"model.onnx": None})
    with pytest.raises(StudentError, match=r"0 members model.onnx"):
        StudentFile.open(small).onnx()
    with zipfile.ZipFile(small, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("weights.safetensors", b"other")
    with pytest.raises(StudentError, match=r"2 members weights.safetensors"):
        StudentFile.open(small).weights()


def test_other_entries_are_ignored(small, tmp_path):
    rewrite(small, {"../../evil": b"x", "/etc/evil": b"x", "sub/student.json": b"{}"})
    before = sorted(p.name for p in tmp_path.iterdir())
    student = StudentFile.open(small)
    student.verify()
    assert student.info == INFO
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_zip_bomb(small):
    """A few kilobytes that would unpack to 400 MB."""
    rewrite(small, {"weights.safetensors": bytes(400_000_000)})
    assert small.stat().st_size < 1_000_000
    with pytest.raises(StudentError, match="declares 400000000 bytes in"):
        StudentFile.open(small).weights()


def test_size_that_lies(small):
    """The declared size is changed in the directory of the zip: reading stops all the same."""
    data = bytearray(small.read_bytes())
    with zipfile.ZipFile(small) as archive:
        start = archive.start_dir
    at = data.find(b"weights.safetensors", start) - 46 + 24
    for size in (10, 0xFFFFFFF0):
        data[at : at + 4] = struct.pack("<I", size)
        small.write_bytes(bytes(data))
        with pytest.raises(StudentError):
            StudentFile.open(small).weights()


def test_huge_manifest(small):
    rewrite(small, {"student.json": b" " * (2 << 20)})
    with pytest.raises(StudentError, match=r"student.json declares 2097152 bytes, above the limit"):
        StudentFile.open(small)


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'"text"'])
def test_manifest_that_is_no_mapping(small, text):
    rewrite(small, {"student.json": text})
    with pytest.raises(StudentError, match="export it again"):
        StudentFile.open(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "student format 3, this version reads 1 and 2; update evdistill"),
        ({"format_version": None}, "student format None"),
        ({"task": "detection"}, "must be one of segmentation, recognition, got 'detection'"),
        ({"task": "recognition"}, "onboard-seg is no network for recognition"),
        ({"network": None}, "network must be a mapping"),
        ({"input": {"kind": "hologram"}}, "unknown representation"),
        ({"input": {"size_multiple": 12}}, "must be a multiple of 8 for this network, got 12"),
        ({"classes": []}, "1..254 classes, got 0"),
        ({"classes": [{"name": "a", "color_rgb": ["r", 0, 0]}]}, "cannot run"),
        ({"classes": 3}, "a class table is a list"),
        ({"members": []}, "members must be a mapping"),
        ({"members": {}}, "holds no weights"),
        ({"members": {"weights.safetensors": 3}}, "must be a mapping, got 3"),
        ({"members": {"weights.safetensors": {"bytes": 3}}}, "missing key members"),
        ({"provenance": 3}, "provenance must be a mapping"),
    ],
)
def test_wrong_manifest(small, change, message):
    rewrite(small, manifest=change)
    with pytest.raises(StudentError, match=message):
        StudentFile.open(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a name with spaces"}, "a network's name is made of"),
        ({"name": "onboard-cls"}, "onboard-cls is no network for segmentation"),
        ({"size_multiple": 0}, "size_multiple must lie in 1..1024, got 0"),
        ({"output_stride": "4"}, "network.output_stride must be a whole number"),
        ({"extra": 1}, "unknown key network.extra"),
    ],
)
def test_wrong_network(small, change, message):
    with zipfile.ZipFile(small) as archive:
        network = json.loads(archive.read("student.json"))["network"]
    rewrite(small, manifest={"network": {**network, **change}})
    with pytest.raises(StudentError, match=message):
        StudentFile.open(small)


def test_weights_that_are_no_safetensors(small):
    junk = b"\xff" * 100
    with zipfile.ZipFile(small) as archive:
        members = json.loads(archive.read("student.json"))["members"]
    members["weights.safetensors"] = {"bytes": 100, "sha256": hashlib.sha256(junk).hexdigest()}
    rewrite(small, {"weights.safetensors": junk}, {"members": members})
    with pytest.raises(StudentError, match=r"damaged weights.safetensors"):
        StudentFile.open(small).weights()


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_student(tmp_path / "s", INFO, weights=WEIGHTS)
    assert list(tmp_path.iterdir()) == []
