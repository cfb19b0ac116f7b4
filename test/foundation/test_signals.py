import signal
import threading

import pytest

from evdistill_core.foundation.signals import SIGNALS, StopSignals, interrupted_once


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
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_the_first_interrupts_and_the_next_do_not_disturb_the_unwinding(number, error):
    before = [signal.getsignal(n) for n in SIGNALS]
    unwound = False

    def block():
        nonlocal unwound
        with interrupted_once():
            try:
                signal.raise_signal(number)
            finally:
                for each in SIGNALS:
                    signal.raise_signal(each)
                unwound = True

    with pytest.raises(error) as caught:
        block()
    assert unwound
    assert [signal.getsignal(n) for n in SIGNALS] == before
    if error is SystemExit:
        assert caught.value.code == 143
