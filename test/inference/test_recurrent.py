"""Recurrent students: their file, and the state that runners carry."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.parity import compare
from evdistill_core.inference.runner import Output, run_sequence
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import MANIFEST, NetworkInfo, StudentFile, write_student
from evdistill_core.inference.torch_runner import load_network
from evdistill_core.models.network import logits_of, zero_state

RUNTIMES = ("onnxruntime", "torch")
SIZE = (40, 72)


@pytest.fixture(scope="module")
def student(recurrent_student):
    return StudentFile.open(recurrent_student)


def windows(count=4, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, 3, *size)).astype(np.float32)
    x[rng.random(x.shape) < 0.7] = 0
    return x


def stepped(network, x_tchw):
    """Reference: one window after the other through ``forward``, state in hand."""
    x = torch.from_numpy(x_tchw)
    state, logits = zero_state(network, x[:1]), []
    with torch.no_grad():
        for window in x:
            step, state = network(window[None], state)
            logits.append(step[0].numpy())
    return logits, state


def test_the_file_says_what_is_carried(student):
    network = student.info.network
    assert network.is_recurrent
    assert (network.state_channels, network.state_stride) == (8, 8)
    assert network.state_shape(*SIZE) == (1, 8, 5, 9)
    assert "Recurrent: a state of 8 channels" in student.card()
    rows = student.info.parity["rows"]
    assert {r["form"] for r in rows} == {"folded", "onnx"}
    assert 0 < max(r["max_abs_difference"] for r in rows) < 1e-4


def test_other_students_do_not_mention_a_state(student_path):
    with zipfile.ZipFile(student_path) as archive:
        network = json.loads(archive.read(MANIFEST))["network"]
    assert not [key for key in network if key.startswith("state")]
    assert not StudentFile.open(student_path).info.network.is_recurrent


def test_the_onnx_model_takes_and_gives_the_state(student):
    session = onnxruntime.InferenceSession(student.onnx(), providers=["CPUExecutionProvider"])
    taken, given = session.get_inputs(), session.get_outputs()
    assert [v.name for v in taken] == ["input", "state"]
    assert [v.name for v in given] == ["logits", "state_out"]
    # Channels are fixed; one free height and width serve the input and the state alike.
    assert taken[0].shape == [1, 3, "8*h", "8*w"]
    assert taken[1].shape == given[1].shape == [1, 8, "h", "w"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", [(8, 8), SIZE, (264, 352)])
def test_runners_follow_the_trained_network_over_a_sequence(student, runtime, size):
    x = windows(6, size=size)
    expected, _ = stepped(load_network(student), x)
    runner = make_runner(student, runtime=runtime, device="cpu")
    assert runner.is_recurrent
    for window, logits in zip(x, expected, strict=True):
        np.testing.assert_allclose(runner.run(window), logits, atol=2e-4)
    # The state matters: what came before changed the last answer.
    runner.reset()
    assert np.abs(runner.run(x[-1]) - expected[-1]).max() > 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_reset_begins_anew_to_the_last_bit(student, runtime):
    runner = make_runner(student, runtime=runtime, device="cpu")
    x = windows()
    first = [runner.run(w) for w in x]
    runner.reset()
    for window, logits in zip(x, first, strict=True):
        np.testing.assert_array_equal(runner.run(window), logits)
    runner.warm_up(64, 64)
    np.testing.assert_array_equal(runner.run(x[0]), first[0])
    np.testing.assert_array_equal(run_sequence(runner, x), first[-1])
    np.testing.assert_array_equal(run_sequence(runner, x[2]), run_sequence(runner, x[2:3]))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_runner_has_a_state_of_its_own(student, runtime):
    left, right = (make_runner(student, runtime=runtime, device="cpu") for _ in range(2))
    a, b = windows(seed=1), windows(seed=2)
    apart = [run_sequence(left, a), run_sequence(right, b)]
    left.reset()
    right.reset()
    for one, other in zip(a, b, strict=True):
        together = [left.run(one), right.run(other)]
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_size_begins_a_stream(student, runtime):
    runner = make_runner(student, runtime=runtime, device="cpu")
    fresh = run_sequence(runner, windows(1, size=(24, 32)))
    run_sequence(runner, windows())
    np.testing.assert_array_equal(runner.run(windows(1, size=(24, 32))[0]), fresh)


def test_a_pass_over_a_sequence_is_the_steps_one_by_one(student):
    network = load_network(student)
    x = windows(5)
    logits, state = stepped(network, x)
    with torch.no_grad():
        rolled, rolled_state = network(torch.from_numpy(x)[None])
        again, _ = network.forward_with_features(torch.from_numpy(x)[None])
    np.testing.assert_allclose(rolled[0].numpy(), logits[-1], atol=1e-4)
    np.testing.assert_allclose(rolled_state.numpy(), state.numpy(), atol=1e-4)
    torch.testing.assert_close(rolled, again)


def test_sequences_of_a_batch_do_not_mix(student):
    network = load_network(student)
    x = torch.from_numpy(np.stack([windows(3, seed=s) for s in range(2)]))
    with torch.no_grad():
        together = logits_of(network, x)
        single = torch.cat([logits_of(network, x[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, single, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_a_network_without_state_sees_the_last_window(student_path):
    student = StudentFile.open(student_path)
    network, x = load_network(student), torch.from_numpy(windows())
    with torch.no_grad():
        torch.testing.assert_close(logits_of(network, x[None]), network(x[-1:]))
    runner = make_runner(student, device="cpu")
    assert not runner.is_recurrent
    np.testing.assert_array_equal(run_sequence(runner, x.numpy()), runner.run(x[-1].numpy()))


def test_a_model_whose_state_is_not_as_described_is_refused(student, tmp_path):
    wrong = replace(student.info.network, state_channels=16)
    path = tmp_path / "s.evstudent"
    info = replace(student.info, network=wrong)
    write_student(path, info, weights=student.weights(), onnx=student.onnx())
    with pytest.raises(StudentError, match="a state of 16 channels"):
        make_runner(StudentFile.open(path), runtime="onnxruntime")
    with pytest.raises(StudentError, match="another version"):
        make_runner(StudentFile.open(path), runtime="torch", device="cpu")


@pytest.mark.parametrize(("channels", "stride"), [(8, 0), (0, 8), (-1, 8), (8, 3), (8, 4096)])
def test_a_state_that_cannot_be_is_refused(channels, stride):
    with pytest.raises(ValueError, match=r"state"):
        NetworkInfo(
            name="onboard-seg",
            size_multiple=8,
            output_stride=4,
            parameters=1,
            state_channels=channels,
            state_stride=stride,
        )


def test_parity_of_a_recurrent_network_is_judged_after_several_windows():
    seen = []

    def remember(x):
        seen.append(x.shape)
        return Output(x.sum(0))

    (row,) = compare(remember, {"same": remember}, channels=3, sizes=[(8, 16)], windows=4)
    assert seen == [(4, 3, 8, 16)] * 2
    assert row.is_equal


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_state_stays_on_the_gpu_and_follows_the_cpu(student, precision):
    expected, _ = stepped(load_network(student), windows(8))
    runner = make_runner(student, device="cuda", precision=precision)
    found = [runner.run(w) for w in windows(8)]
    tolerance = 2e-3 if precision == "fp32" else 5e-2
    for logits, truth in zip(found, expected, strict=True):
        assert np.abs(logits - truth).max() <= tolerance * max(1.0, np.abs(truth).max())
    runner.reset()
    np.testing.assert_allclose(runner.run(windows(8)[0]), found[0], atol=1e-3)
