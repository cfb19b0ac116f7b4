import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.prediction import Guess, Recognition
from evdistill_core.inference.ranking import Ranker, RankingConfig


def events(count):
    zeros = np.zeros(count, np.int64)
    return Events.from_columns(zeros, zeros, np.arange(count), zeros, width=4, height=4)


def rank(logits, count=5, **config):
    logits = np.asarray(logits, np.float32)
    ranker = Ranker(RankingConfig(**config), [f"class {i}" for i in range(len(logits))])
    return ranker(logits, events(count), stride=4.0, span_us=(0, 1)).guesses


def reference(logits, top_k, min_score):
    powers = [math.exp(v - max(logits)) for v in logits]
    scores = [p / sum(powers) for p in powers]
    order = sorted(range(len(logits)), key=lambda i: (-scores[i], i))
    return [(i, scores[i]) for i in order[:top_k] if scores[i] >= min_score]


@given(
    st.lists(st.integers(-640, 640).map(lambda v: v / 8), min_size=1, max_size=12),
    st.integers(1, 14),
    st.integers(0, 100).map(lambda v: v / 100),
)
def test_likeliest_first_as_a_slow_reference_says(logits, top_k, min_score):
    found = rank(logits, top_k=top_k, min_score=min_score)
    expected = reference(logits, top_k, min_score)
    sure = [(i, s) for i, s in expected if abs(s - min_score) > 1e-9]
    assert [g.class_id for g in found if abs(g.score - min_score) > 1e-9] == [i for i, _ in sure]
    assert all(0 <= g.score <= 1 for g in found)
    for guess in found:
        assert guess.score == pytest.approx(dict(expected).get(guess.class_id, min_score), abs=1e-9)


def test_equal_scores_go_by_class_id():
    assert [g.class_id for g in rank([1.0, 2.0, 2.0, 1.0], top_k=4)] == [1, 2, 0, 3]


def test_scores_are_probabilities_of_all_classes_even_when_few_are_named():
    (first, second) = rank([0.0, math.log(3.0), math.log(4.0)], top_k=2)
    assert (first.class_id, second.class_id) == (2, 1)
    assert first.score == pytest.approx(0.5)
    assert second.score == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("count", "min_events", "named"), [(0, 1, 0), (0, 0, 1), (9, 10, 0), (10, 10, 1)]
)
def test_too_few_events_say_nothing(count, min_events, named):
    assert len(rank([0.0, 9.0], count, min_events=min_events, top_k=1)) == named


def test_new_settings_hold_from_the_next_window_on():
    ranker = Ranker(RankingConfig(), "abc")
    logits = np.array([0.0, 1.0, 2.0], np.float32)
    assert len(ranker(logits, events(1), stride=1.0, span_us=(0, 1)).guesses) == 3
    ranker.configure(RankingConfig(top_k=1))
    assert len(ranker(logits, events(1), stride=1.0, span_us=(0, 1)).guesses) == 1


@pytest.mark.parametrize("shape", [(3,), (4, 1), (4, 8, 8), ()])
def test_logits_that_are_not_one_a_class_are_refused(shape):
    with pytest.raises(StudentError, match=r"\(4,\) logits, one a class"):
        Ranker(RankingConfig(), "abcd")(
            np.zeros(shape, np.float32), events(1), stride=1.0, span_us=(0, 1)
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(StudentError, match="not finite"):
        rank([0.0, bad])


@pytest.mark.parametrize(
    "values", [{"top_k": 0}, {"top_k": 256}, {"min_score": 1.1}, {"min_events": -1}]
)
def test_settings_out_of_range_are_refused(values):
    (name,) = values
    with pytest.raises(ConfigError, match=name):
        RankingConfig(**values)


def test_guesses_out_of_order_are_refused():
    with pytest.raises(ValueError, match="sorted by score"):
        Recognition((Guess(0, 0.1), Guess(1, 0.9)))
