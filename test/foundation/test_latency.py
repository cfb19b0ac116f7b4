import pytest

from evdistill_core.foundation.latency import LatencyRing, percentiles_ms


def test_percentiles_are_values_that_were_seen():
    assert percentiles_ms(range(1, 101)).to_dict() == {"p50": 50, "p95": 95, "p99": 99}
    assert percentiles_ms([7.0]).to_dict() == {"p50": 7, "p95": 7, "p99": 7}
    assert percentiles_ms([3, 1, 2]).p50 == 2


def test_nothing_measured_is_zero():
    assert LatencyRing().percentiles().to_dict() == {"p50": 0, "p95": 0, "p99": 0}


def test_ring_keeps_the_latest():
    ring = LatencyRing(capacity=10)
    for value in [1000] * 50 + [1] * 10:
        ring.add(value)
    result = ring.percentiles()
    assert result.p99 == pytest.approx(1)
    assert result.count == 60
