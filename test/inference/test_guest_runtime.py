"""Runtimes of a user's own: what they are given, what they must give, where they may be named."""

import sys

import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError, PluginError, StudentError
from evdistill_core.inference.runtimes import RUNTIMES, make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.perception.parameter_files import load_parameters, parse_assignments
from evdistill_core.perception.parameters import declarations, markdown_table

MODULE = """
import numpy as np
from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.runner import StudentRunner

class Loudest(StudentRunner):
    '''Says class 0 where there is no input, and class 1 elsewhere.'''

    def __init__(self, student, *, device, precision, threads):
        super().__init__(student)
        self.asked = (device, precision, threads)
        self.classes = len(student.classes)

    @property
    def description(self):
        return f"{self._info.name} on loudness"

    def run(self, input_chw):
        s = self.output_stride
        loud = np.abs(input_chw).sum(0)[::s, ::s]
        logits = np.zeros((self.classes, *loud.shape), np.float32)
        logits[0], logits[1] = 0.5, loud
        return logits

def refuses(student, **choices):
    raise StudentError("not this one")

def breaks(student, **choices):
    return {}["missing"]

def wrong(student, **choices):
    return object()

number = 3
"""


@pytest.fixture(autouse=True)
def guests(tmp_path, monkeypatch):
    (tmp_path / "guest_runtimes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(RUNTIMES, "_found", {})
    yield
    sys.modules.pop("guest_runtimes", None)


@pytest.fixture
def student(tiny_student):
    return StudentFile.open(tiny_student)


def test_it_is_told_what_was_asked_for_and_runs(student):
    runner = make_runner(
        student, runtime="guest_runtimes:Loudest", device="cpu", precision="fp32", threads=3
    )
    assert runner.asked == ("cpu", "fp32", 3)
    assert (runner.size_multiple, runner.output_stride, runner.is_recurrent) == (8, 4, False)
    x = np.zeros((5, 32, 64), np.float32)
    x[0, :16] = 2.0
    runner.warm_up(32, 64)
    logits = runner.run(x)
    assert logits.shape == (6, 8, 16)
    assert (logits.argmax(0) == np.repeat([[1], [0]], 4, axis=0)).all()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("refuses", StudentError, "^not this one$"),
        ("breaks", ConfigError, r"cannot load .*tiny.evstudent: KeyError: 'missing' \(.*, line \d"),
        ("wrong", ConfigError, "gives object without description, size_multiple.*StudentRunner"),
        ("number", ConfigError, "is int, no function"),
        ("loudest", PluginError, "has no 'loudest'; did you mean 'Loudest'"),
    ],
)
def test_what_goes_wrong_is_one_line(student, name, error, said):
    with pytest.raises(error, match=said):
        make_runner(student, runtime=f"guest_runtimes:{name}")


def test_a_parameter_may_name_it_and_naming_imports_nothing():
    overrides = parse_assignments(["runtime:=guest_runtimes:Loudest"])
    assert load_parameters(None, overrides).runtime == "guest_runtimes:Loudest"
    assert "guest_runtimes" not in sys.modules
    with pytest.raises(ConfigError, match=r"unknown runtime 'onxruntime'.*mean 'onnxruntime'"):
        load_parameters(None, {"runtime": "onxruntime"})
    assert not declarations()["runtime"].dynamic  # nobody on the network can set it
    assert (
        "| auto, onnxruntime, openvino, tensorrt, torch, or package.module:function | no |"
        in markdown_table()
    )
