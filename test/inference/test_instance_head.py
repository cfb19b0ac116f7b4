"""Students with an instance head: their file, and what runners give."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from students import random_checkpoint

from evdistill_core.export.student import export_student, load_trained
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.runner import StudentRunner, run_sequence, run_whole_sequence
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import MANIFEST, StudentFile, write_student
from evdistill_core.inference.torch_runner import load_network
from evdistill_core.models.network import output_of

RUNTIMES = ("onnxruntime", "torch")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "recurrent"])
def student(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("instances") / "a.evstudent"
    checkpoint = random_checkpoint(recurrent=request.param, instances=True)
    export_student(checkpoint, path)
    return StudentFile.open(path)


def windows(count=3, size=(40, 72)):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (count, 3, *size)).astype(np.float32)
    x[rng.random(x.shape) < 0.7] = 0
    return x


def test_the_file_says_that_there_is_a_head(student):
    assert student.info.network.has_instances
    assert student.info.network.options["instances"] is True
    assert "tell things of these classes apart: human, vehicle" in student.card()
    rows = student.info.parity["rows"]
    assert {(r["form"], r["output"]) for r in rows} == {
        (form, output)
        for form in ("folded", "onnx")
        for output in ("logits", "centre", "offset_px")
    }
    # Two computations were compared, of maps that are not constant.
    for output, largest in (("centre", 0.1), ("offset_px", 5)):
        (row,) = [r for r in rows if (r["form"], r["output"], r["height"]) == ("onnx", output, 264)]
        assert row["max_abs_logit"] > largest
        assert 0 < row["max_abs_difference"] < 1e-3 * row["max_abs_logit"]


def test_other_students_do_not_mention_a_head(student_path):
    with zipfile.ZipFile(student_path) as archive:
        assert "instances" not in archive.read(MANIFEST).decode()
    runner = make_runner(StudentFile.open(student_path), device="cpu")
    assert not runner.has_instances
    assert runner.run_whole(windows(1)[0]).instances is None


def test_the_onnx_model_names_its_outputs(student):
    session = onnxruntime.InferenceSession(student.onnx(), providers=["CPUExecutionProvider"])
    given = {v.name: v.shape for v in session.get_outputs()}
    assert list(given)[:3] == ["logits", "centre", "offset_px"]
    assert (given["centre"][1], given["offset_px"][1]) == (1, 2)
    assert given["centre"][2:] == given["offset_px"][2:] == given["logits"][2:]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", [(8, 8), (40, 72), (264, 352)])
def test_runners_give_what_the_trained_network_gives(student, runtime, size):
    x = windows(size=size)
    with torch.no_grad():
        logits, instances = output_of(load_network(student), torch.from_numpy(x)[None])
    runner = make_runner(student, runtime=runtime, device="cpu")
    assert runner.has_instances
    given = run_whole_sequence(runner, x)
    cells = (size[0] // 4, size[1] // 4)
    assert given.instances.centre.shape == cells
    assert given.instances.offset_px.shape == (2, *cells)
    assert given.instances.centre.dtype == given.instances.offset_px.dtype == np.float32
    np.testing.assert_allclose(given.logits, logits[0].numpy(), atol=2e-4)
    np.testing.assert_allclose(given.instances.centre, instances.centre[0, 0].numpy(), atol=2e-4)
    np.testing.assert_allclose(given.instances.offset_px, instances.offset_px[0].numpy(), atol=5e-3)
    np.testing.assert_array_equal(run_sequence(runner, x), given.logits)


def test_what_a_runner_gives_is_the_callers_to_keep(student):
    runner = make_runner(student, runtime="onnxruntime")
    first = run_whole_sequence(runner, windows())
    kept = [a.copy() for a in (first.logits, *first.instances)]
    run_whole_sequence(runner, windows() * 2)
    for array, copy in zip((first.logits, *first.instances), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_runtime_of_a_user_runs_the_student_without_its_head(student):
    class Own(StudentRunner):
        description = "one of a user"

        def run(self, input_chw):
            return np.zeros((6, 2, 2), np.float32)

    runner = Own(student)
    assert not runner.has_instances
    assert runner.run_whole(windows(1)[0]).instances is None


@pytest.mark.parametrize("claims", [True, False])
def test_a_model_without_what_the_file_promises_is_refused(student, student_path, claims, tmp_path):
    """The description has a head and the model has none, and the other way round."""
    plain = StudentFile.open(student_path)
    described, model = (student, plain) if claims else (plain, student)
    if described.info.network.is_recurrent != model.info.network.is_recurrent:
        pytest.skip("the state alone would be refused")
    path = tmp_path / "s.evstudent"
    write_student(path, described.info, weights=described.weights(), onnx=model.onnx())
    with pytest.raises(StudentError, match="export it again"):
        make_runner(StudentFile.open(path), runtime="onnxruntime")


def test_a_description_that_forgot_the_head_is_refused_by_torch(student, tmp_path):
    info = replace(student.info, network=replace(student.info.network, has_instances=False))
    path = tmp_path / "s.evstudent"
    write_student(path, info, weights=student.weights(), onnx=student.onnx())
    with pytest.raises(StudentError, match="describes another version"):
        make_runner(StudentFile.open(path), runtime="torch", device="cpu")


def test_a_head_needs_a_thing_class(student):
    stuff = ClassTable(tuple(replace(c, is_thing=False) for c in student.classes.classes))
    with pytest.raises(ConfigError, match="a class with is_thing: true"):
        replace(student.info, classes=stuff)


def test_a_student_can_be_exported_again(student, tmp_path):
    checkpoint, _ = load_trained(student.path)
    path = tmp_path / "again.evstudent"
    export_student(checkpoint, path)
    again = StudentFile.open(path)
    assert again.info.network == student.info.network
    assert json.dumps(again.info.parity) == json.dumps(student.info.parity)
