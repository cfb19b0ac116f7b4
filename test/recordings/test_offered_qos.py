"""Offered QoS in both forms of rosbag2."""

import pytest
import yaml

from evdistill_core.recordings.offered_qos import KEYS, is_latched, with_numbers

WORDS = """- history: keep_last
  depth: 1
  reliability: best_effort
  durability: transient_local
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 0, nsec: 5}
  liveliness: manual_by_topic
  liveliness_lease_duration: {sec: 1, nsec: 2}
  avoid_ros_namespace_conventions: false
"""
NUMBERS = [
    {
        "history": 1,
        "depth": 1,
        "reliability": 2,
        "durability": 1,
        "deadline": {"sec": 9223372036, "nsec": 854775807},
        "lifespan": {"sec": 0, "nsec": 5},
        "liveliness": 3,
        "liveliness_lease_duration": {"sec": 1, "nsec": 2},
        "avoid_ros_namespace_conventions": False,
    }
]


def test_words_become_numbers_and_numbers_stay():
    text = with_numbers(WORDS)
    assert yaml.safe_load(text) == NUMBERS
    assert with_numbers(text) == text
    assert list(yaml.safe_load(text)[0]) == list(KEYS)
    assert is_latched(text)
    assert not is_latched(text.replace("durability: 1", "durability: 2"))
    assert (with_numbers(""), with_numbers("[]"), is_latched("")) == ("", "", False)
    two = with_numbers(WORDS + WORDS.replace("transient_local", "volatile"))
    assert [profile["durability"] for profile in yaml.safe_load(two)] == [1, 2]
    assert is_latched(two)


@pytest.mark.parametrize(
    "text",
    [
        "history: keep_last",
        "- 3",
        "[",
        "- &a [*a]",
        "- " * 70_000,
        WORDS * 65,
        WORDS.replace("keep_last", "keep_some"),
        WORDS.replace("keep_last", "9"),
        WORDS.replace("depth: 1", "depth: -1"),
        WORDS.replace("depth: 1", "depth: many"),
        WORDS.replace("depth: 1", "depth: true"),
        WORDS.replace("{sec: 0, nsec: 5}", "0.5"),
        WORDS.replace(" false", " 0"),
        "2020-99-99",
    ],
)
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        with_numbers(text)
