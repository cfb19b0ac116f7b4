import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "box_jitter.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("box_jitter", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["box_jitter"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_straight_track_has_no_jitter_and_one_jump_is_seen_in_the_middle(program):
    steady = [(k, 3 * k, 5, 3 * k + 10, 9) for k in range(9)]
    assert program.jitter_px([steady]).max() < 1e-9
    jump = list(steady)
    jump[4] = (4, 12, 12, 22, 9)  # its upper edge is 7 px off
    found = program.jitter_px([jump]).reshape(3, 4)
    # The line through seven values takes a seventh of the jump over.
    np.testing.assert_allclose(found[1], [0, 6, 0, 0], atol=1e-9)


def test_a_gap_cuts_a_track(program):
    track = [(k + 5 * (k > 6), 0, 0, 9, 9) for k in range(14)]
    assert len(program.jitter_px([track])) == 2 * 4


def test_boxes_of_a_steady_thing_jitter_by_less_than_two_pixels(program):
    rough, smooth = (
        np.percentile(program.jitter_px(program.made_up(2.0, smooth=s)), 95) for s in (False, True)
    )
    assert smooth < 2.0 < rough
