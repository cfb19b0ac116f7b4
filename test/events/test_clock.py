import numpy as np
import pytest

from evdistill_core.events.clock import SensorClock

S_US, S_NS = 1_000_000, 1_000_000_000


def run(clock, seconds, *, offset_ns, start_us=0, drift_ppm=0.0, seed=0, rate_hz=100):
    """Observe messages with 1.5 ms transfer and now and then a long scheduling delay."""
    rng = np.random.default_rng(seed)
    errors = []
    for k in range(int(seconds * rate_hz)):
        t_us = start_us + k * S_US // rate_hz
        truth_ns = int(t_us * 1000 * (1 + drift_ppm * 1e-6)) + offset_ns
        delay_ns = 1_500_000 + int(rng.exponential(300_000)) + (rng.random() < 0.02) * 80_000_000
        clock.observe(t_us, truth_ns + delay_ns)
        errors.append(clock.to_host_ns(t_us) - truth_ns - 1_500_000)
    return np.array(errors)


def test_delays_do_not_get_through():
    errors = run(SensorClock(), 20, offset_ns=1_700_000_000 * S_NS)
    assert abs(errors[500:]).max() < 50_000


def test_drift_is_followed_within_half_a_millisecond():
    for drift_ppm in (100, -100):
        errors = run(SensorClock(), 40, offset_ns=5 * S_NS, drift_ppm=drift_ppm)
        assert abs(errors[1500:]).max() < 700_000


def test_one_wrong_stamp_does_no_harm_for_long():
    clock = SensorClock()
    run(clock, 5, offset_ns=5 * S_NS)
    before = clock.to_host_ns(0)
    clock.observe(5 * S_US, 3 * S_NS)  # two driver generations stamped twice the epoch, or zero
    assert abs(clock.to_host_ns(0) - before) < 100_000


def test_a_host_clock_that_was_set_is_taken_over_and_counted():
    clock = SensorClock()
    run(clock, 5, offset_ns=5 * S_NS)
    errors = run(clock, 5, offset_ns=3605 * S_NS, start_us=5 * S_US)
    assert abs(errors[300:]).max() < 500_000
    assert clock.jumps == 1


def test_reset_forgets_at_once():
    clock = SensorClock()
    run(clock, 5, offset_ns=5 * S_NS)
    clock.reset()
    assert clock.offset_ns is None
    clock.observe(0, 9 * S_NS)
    assert clock.to_host_ns(S_US) == 10 * S_NS
    assert clock.jumps == 0


def test_without_stamps_sensor_time_is_all_there_is():
    clock = SensorClock()
    for stamp_ns in (0, -5):
        clock.observe(100, stamp_ns)
    assert clock.to_host_ns(1234) == 1_234_000


@pytest.mark.parametrize("step_us", [-10 * S_US, 100 * S_US])
def test_sensor_time_that_jumps_without_a_reset_is_survived(step_us):
    clock = SensorClock()
    run(clock, 5, offset_ns=5 * S_NS)
    host_ns, t_us = 10 * S_NS, 5 * S_US + step_us
    for k in range(300):
        clock.observe(t_us + k * 10_000, host_ns + k * 10_000_000)
    last_us = t_us + 299 * 10_000
    assert clock.to_host_ns(last_us) == pytest.approx(host_ns + 299 * 10_000_000, abs=1000)
