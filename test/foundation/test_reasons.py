import threading

from evdistill_core.foundation.reasons import MAX_REASONS, OTHER, Reasons, sentences


def test_reasons_are_counted_in_order():
    reasons = Reasons()
    assert (reasons.total, reasons.as_dict()) == (0, {})
    reasons.add("late")
    reasons.add("damaged", 3)
    reasons.add("late")
    assert reasons.as_dict() == {"late": 2, "damaged": 3}
    assert reasons.total == 5
    said = sentences("image", {"late": 1234, "damaged": 1})
    assert said == ["1,234 images left out: late", "1 image left out: damaged"]


def test_damage_of_every_kind_takes_little_memory():
    reasons = Reasons()
    for i in range(1000):
        reasons.add(f"reason {i}")
    assert len(reasons.as_dict()) == MAX_REASONS + 1
    assert reasons.as_dict()[OTHER] == 1000 - MAX_REASONS
    assert reasons.total == 1000


def test_threads_lose_no_count():
    reasons = Reasons()

    def work():
        for _ in range(2000):
            reasons.add("x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons.total == 8000
