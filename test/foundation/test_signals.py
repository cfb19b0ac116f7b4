import multiprocessing
import signal
import subprocess
import sys
import threading

import pytest

from evdistill_core.foundation import signals
from evdistill_core.foundation.signals import (
    SIGNALS,
    Interrupts,
    StopSignals,
    Terminated,
    exit_code,
    workers_without_signals,
)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_calls_what_was_registered_and_is_remembered(number):
    stopped = threading.Event()
    with StopSignals() as signals:
        signals.call(stopped.set)
        signal.raise_signal(number)
        assert stopped.wait(10)
    assert signals.received == [number]


def test_a_signal_that_comes_while_the_main_thread_holds_the_lock_that_stop_needs():
    lock, stopped = threading.Lock(), threading.Event()

    def stop():
        with lock:
            stopped.set()

    with StopSignals() as signals:
        signals.call(stop)
        with lock:
            signal.raise_signal(signal.SIGTERM)  # its handler has run when this returns
        assert stopped.wait(10)


def test_what_is_registered_late_is_called_at_once():
    with StopSignals() as signals:
        early = threading.Event()
        signals.call(early.set)
        signal.raise_signal(signal.SIGINT)
        assert early.wait(10)
        called = []
        signals.call(lambda: called.append(threading.current_thread()))
        assert called == [threading.main_thread()]


def test_many_signals_call_it_once_and_are_all_counted():
    calls = []
    with StopSignals() as signals:
        signals.call(lambda: calls.append(1))
        for _ in range(1000):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
    assert calls == [1]
    assert signals.received == [signal.SIGINT, signal.SIGTERM] * 1000


def test_only_the_named_signals_and_handlers_come_back():
    before = [signal.getsignal(n) for n in SIGNALS]
    with StopSignals(signal.SIGTERM):
        assert signal.getsignal(signal.SIGINT) is before[0]
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert "signals" not in [t.name for t in threading.enumerate()]


def test_the_handlers_come_back_after_an_error():
    before = [signal.getsignal(n) for n in SIGNALS]
    with pytest.raises(ValueError, match="ours"), StopSignals():
        raise ValueError("ours")
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143)],
)
def test_the_first_interrupts_and_repeats_do_not_disturb_the_unwinding(number, error, code):
    before = [signal.getsignal(n) for n in SIGNALS]
    unwound = False

    def block():
        nonlocal unwound
        with Interrupts():
            try:
                signal.raise_signal(number)
            finally:
                for each in SIGNALS:
                    signal.raise_signal(each)
                unwound = True

    with pytest.raises(error) as caught:
        block()
    assert unwound
    assert type(caught.value) is error
    assert exit_code(caught.value) == code
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_a_later_signal_ends_the_unwinding_too(monkeypatch):
    monkeypatch.setattr(signals, "REPEAT_S", 0.0)
    with Interrupts():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) as second:
            signal.raise_signal(signal.SIGINT)
    assert type(second.value) is KeyboardInterrupt


def test_the_first_may_only_ask_and_one_that_comes_after_the_block_is_the_same(monkeypatch):
    asked = []
    with Interrupts():
        with Interrupts(lambda: asked.append(1)) as inner:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert (asked, inner.received) == ([1], signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr(signals, "REPEAT_S", 0.0)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
    assert asked == [1]


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.received is None
            with pytest.raises(Terminated):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_listens_to_nothing():
    def block():
        with Interrupts():
            found.append(signal.getsignal(signal.SIGTERM))

    found = []
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


# Text, because a new process cannot import the modules of tests.
WORK = """
from evdistill_core.foundation.signals import end_with_parent
end_with_parent()
while True:
    pipe.send(pipe.recv())
"""


def test_a_worker_survives_the_signals_of_its_group_and_ends_with_its_parent():
    """The first signals come while Python starts in the worker."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=exec, args=(WORK, {"pipe": theirs}), daemon=True)
    with workers_without_signals():
        worker.start()
    _signal_from_elsewhere(worker.pid)
    for word in ("started", "running"):
        ours.send(word)
        assert ours.poll(60), f"the worker ended with {worker.exitcode}"
        assert ours.recv() == word
        _signal_from_elsewhere(worker.pid)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS)


def _signal_from_elsewhere(pid):
    send = f"import os; [os.kill({pid}, n) for n in {tuple(map(int, SIGNALS))}]"
    subprocess.run([sys.executable, "-c", send], check=True)
