import threading

import pytest

from evdistill_core.foundation.worker import BoundedQueue, Mailbox, Worker, wait_until


def test_queue_keeps_order_and_ends():
    queue = BoundedQueue(max_items=3, max_bytes=100)
    assert queue.offer("a", 1) == []
    assert queue.offer("b", 1) == []
    queue.close()
    assert queue.offer("c", 1) is None
    assert not queue.put("c", 1)
    assert queue.get() == ("a", False)
    assert not queue.is_finished
    assert queue.get() == ("b", False)
    assert queue.get(timeout_s=0) is None
    assert queue.is_finished


@pytest.mark.parametrize(("max_items", "max_bytes"), [(2, 1000), (1000, 20)])
def test_full_queue_gives_the_backlog_back_in_one_piece(max_items, max_bytes):
    queue = BoundedQueue(max_items=max_items, max_bytes=max_bytes)
    assert queue.offer(1, 10) == []
    assert queue.offer(2, 10) == []
    assert queue.fill == (2, 20)
    assert queue.offer(3, 10) == [1, 2]
    assert queue.fill == (1, 10)
    assert queue.offer(4, 1) == []
    assert queue.get() == (3, True)
    assert queue.get() == (4, False)


def test_trying_to_put_neither_waits_nor_throws_out():
    queue = BoundedQueue(max_items=2, max_bytes=10)
    assert queue.try_put("a", 4)
    assert not queue.try_put("large", 7)
    assert queue.try_put("b", 6)
    assert not queue.try_put("c", 0)
    assert [queue.get()[0] for _ in range(2)] == ["a", "b"]
    queue.close()
    assert not queue.try_put("d", 1)


def test_an_item_larger_than_the_queue_still_passes():
    queue = BoundedQueue(max_items=2, max_bytes=10)
    assert queue.offer("large", 1000) == []
    assert queue.get() == ("large", False)


def test_put_waits_for_room_and_loses_nothing():
    queue = BoundedQueue(max_items=2, max_bytes=1000)
    got = []

    def take():
        while (item := queue.get()) is not None:
            got.append(item[0])

    thread = threading.Thread(target=take)
    thread.start()
    assert all(queue.put(i, 1) for i in range(200))
    queue.close()
    thread.join(10)
    assert got == list(range(200))


def test_close_wakes_a_waiting_put():
    queue = BoundedQueue(max_items=1, max_bytes=1000)
    queue.put(0, 1)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(queue.put(1, 1)))
    thread.start()
    queue.close()
    thread.join(10)
    assert taken == [False]


def test_mailbox_newest_wins_and_every_item_is_accounted_for():
    box = Mailbox()
    lost, got = [], []

    def take():
        while (item := box.get()) is not None:
            got.append(item)

    thread = threading.Thread(target=take)
    thread.start()
    for i in range(1, 2000):
        pushed_out = box.replace(i)
        if pushed_out is not None:
            lost.append(pushed_out)
    box.close()
    thread.join(10)
    assert sorted(lost + got) == list(range(1, 2000))
    assert got == sorted(got)
    assert got[-1] == 1999
    assert box.is_finished


def test_mailbox_put_waits_so_that_nothing_is_lost():
    box = Mailbox()
    got = []
    thread = threading.Thread(target=lambda: got.extend(iter(box.get, None)))
    thread.start()
    assert [box.put(i) for i in range(1, 200)] == [None] * 199
    box.close()
    thread.join(10)
    assert got == list(range(1, 200))
    assert box.put(1) == 1
    assert box.replace(1) == 1


def test_worker_reports_what_its_function_raises():
    reports = []

    def work():
        raise ZeroDivisionError("by nought")

    worker = Worker("mill", work, lambda report, error: reports.append(report))
    worker.start()
    assert worker.join(10)
    assert len(reports) == 1
    assert reports[0].startswith("mill failed: ZeroDivisionError: by nought (work, test_worker.py:")


def test_worker_join_before_start_returns():
    assert Worker("idle", lambda: None, lambda *_: None).join(0)


def test_wait_until():
    assert wait_until(lambda: True, timeout_s=0)
    assert not wait_until(lambda: False, timeout_s=0)
