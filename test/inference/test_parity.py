import numpy as np
import pytest

from evdistill_core.foundation.errors import StudentError
from evdistill_core.inference.parity import ParityRow, compare, require_parity, rows_of
from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.runner import Output


def double(x):
    return Output(np.stack([2 * x[0], -x[0]]))


def row(**changes):
    values = {
        "form": "onnx",
        "height": 8,
        "width": 8,
        "max_abs_difference": 1e-5,
        "max_abs_logit": 3.0,
        "argmax_agreement": 1.0,
    }
    return ParityRow(**{**values, **changes})


def test_equal_forms_have_no_difference():
    rows = compare(double, {"same": double}, channels=3, sizes=[(8, 16), (4, 4)])
    assert [(r.height, r.width) for r in rows] == [(8, 16), (4, 4)]
    assert all(r.max_abs_difference == 0 and r.argmax_agreement == 1 for r in rows)
    assert rows[0].max_abs_logit > 2  # the inputs are not all zero
    require_parity(rows)


def test_the_difference_is_the_largest_of_all_logits():
    def off(x):
        y = double(x)
        y.logits[1, 2, 3] += 0.25
        return y

    rows = compare(double, {"same": double, "off": off}, channels=1, sizes=[(8, 8)])
    assert [r.form for r in rows] == ["same", "off"]
    assert rows[1].max_abs_difference == pytest.approx(0.25)
    with pytest.raises(StudentError, match="the off network differs from the trained one at 8x8"):
        require_parity(rows)


def test_maps_of_an_instance_head_are_compared_too():
    def with_instances(x, *, off_px=0.0):
        instances = InstanceOutput(x[0], np.stack([x[0], x[0] + np.float32(off_px)]))
        return Output(double(x).logits, instances)

    rows = compare(
        with_instances,
        {"same": with_instances, "off": lambda x: with_instances(x, off_px=0.5)},
        channels=1,
        sizes=[(8, 8)],
    )
    assert [(r.form, r.output) for r in rows if not r.is_equal] == [("off", "offset_px")]
    assert len(rows) == 6
    assert all(r.argmax_agreement == 1 for r in rows)
    with pytest.raises(StudentError, match=r"by 0\.5 in offset_px"):
        require_parity(rows)


def test_the_worst_thousandth_of_offsets_in_reduced_precision_does_not_count():
    rng = np.random.default_rng(0)
    logits = np.stack([np.zeros((40, 50)), np.ones((40, 50))]).astype(np.float32)
    offsets = rng.normal(0, 10, (2, 40, 50)).astype(np.float32)
    centre = np.zeros((1, 40, 50), np.float32)
    right = Output(logits, InstanceOutput(centre, offsets))

    def worst(wrong_cells, **options):
        shifted = offsets.copy()
        shifted[0].flat[:wrong_cells] += 100
        given = Output(logits, InstanceOutput(centre, shifted))
        rows = rows_of("int8", "int8", [(given, right)], size=(160, 200), **options)
        return next(r.max_abs_difference for r in rows if r.output == "offset_px")

    assert worst(3, thing_ids=[1]) == 0  # of 4,000 values
    assert worst(8, thing_ids=[1]) == pytest.approx(100, rel=1e-5)
    assert worst(3) == pytest.approx(100, rel=1e-5)
    assert worst(3, thing_ids=[0]) == 0  # no cell is a thing


@pytest.mark.parametrize(
    ("changes", "is_equal"),
    [
        ({}, True),
        ({"max_abs_difference": 2e-3, "max_abs_logit": 0.5}, False),
        ({"max_abs_difference": 0.9e-3, "max_abs_logit": 0.5}, True),
        ({"max_abs_difference": 2e-3, "max_abs_logit": 10.0}, True),
        ({"max_abs_difference": float("nan")}, False),
        ({"max_abs_difference": float("inf"), "max_abs_logit": float("inf")}, False),
        ({"argmax_agreement": 0.9}, False),
        # Offsets that miss by a few pixels change no box; in fp32 they are a wrong layer.
        ({"output": "offset_px", "precision": "int8", "max_abs_difference": 5.9}, True),
        ({"output": "offset_px", "precision": "int8", "max_abs_difference": 6.1}, False),
        ({"output": "offset_px", "max_abs_difference": 5.9}, False),
        ({"precision": "int8", "max_abs_difference": 5.9}, False),
    ],
)
def test_what_counts_as_equal(changes, is_equal):
    assert row(**changes).is_equal is is_equal
