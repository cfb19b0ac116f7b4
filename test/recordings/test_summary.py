import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evdistill_core.recordings.summary import RATE_BINS, RateHistogram


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10**10), min_size=1, max_size=50),
    st.integers(1, 100),
    st.integers(1, 10),
)
def test_every_event_is_in_one_bin_of_its_time(times, bins, piece):
    rate = RateHistogram()
    for i in range(0, len(times), piece):
        rate.add(np.array(times[i : i + piece], np.int64))
    later = np.array([t - times[0] for t in times if t >= times[0]])
    assert rate.outside == len(times) - len(later)
    expected = np.bincount(later // rate.bin_us, minlength=RATE_BINS)
    assert np.array_equal(rate.counts, expected)
    rates_hz, span_s = rate.rates_hz(bins)
    assert len(rates_hz) <= bins
    assert (rates_hz * span_s).sum() == pytest.approx(len(later))


def test_nothing_gives_one_empty_span():
    rates_hz, span_s = RateHistogram().rates_hz(60)
    assert rates_hz.tolist() == [0.0]
    assert span_s == 0.001
