"""A thread that cannot fail unseen, and the two queues that join such threads."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Worker:
    """Runs one function in a thread; whatever it raises is kept and reported, never swallowed.

    Args:
        name: of the thread, shown in reports.
        work: called once; returning ends the thread.
        on_failure: called in the thread with a report and the error when ``work`` raises.
    """

    def __init__(
        self, name: str, work: Callable[[], None], on_failure: Callable[[str, Exception], None]
    ) -> None:
        self._work = work
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; tell whether it came in time. Safe before start and from inside."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        # The one broad except of the project: a thread that dies silently looks like a camera
        # that went quiet. It reports and ends.
        except Exception as error:  # noqa: BLE001
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._on_failure(
                f"{self._thread.name} failed: {type(error).__name__}: {error} "
                f"({where.name}, {where.filename.rsplit('/', 1)[-1]}:{where.lineno})",
                error,
            )


class BoundedQueue(Generic[T]):
    """First in, first out, bounded by count and by bytes; one lock, one condition.

    Args:
        max_items: most items held, at least 1.
        max_bytes: most bytes held; an item larger than this is still taken by an empty queue.
    """

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._has_lost = False
        self._closed = False
        self._changed = threading.Condition()

    def offer(self, item: T, size_bytes: int) -> list[T] | None:
        """Add an item at once; a full queue is emptied first.

        A consumer that is behind by a whole queue is not helped by losing one packet now and one
        in a moment: each loss costs the decoder its state. So the backlog goes in one piece.

        Returns:
            What was thrown out to make room, usually nothing; None when the queue is closed and
            the item was not taken.
        """
        with self._changed:
            if self._closed:
                return None
            lost: list[T] = []
            if self._is_full(size_bytes):
                lost = [held for held, _ in self._items]
                self._items.clear()
                self._bytes = 0
                self._has_lost = True
            self._append(item, size_bytes)
            return lost

    def put(self, item: T, size_bytes: int) -> bool:
        """Add an item, waiting for room; False when the queue was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._is_full(size_bytes))
            if self._closed:
                return False
            self._append(item, size_bytes)
            return True

    def try_put(self, item: T, size_bytes: int) -> bool:
        """Add an item if there is room; False when the queue is full or closed."""
        with self._changed:
            if self._closed or self._is_full(size_bytes):
                return False
            self._append(item, size_bytes)
            return True

    def get(self, timeout_s: float | None = None) -> tuple[T, bool] | None:
        """Take the oldest item.

        Returns:
            The item, and whether others were thrown out just before it; None after the timeout,
            or when closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items), timeout_s)
            if not self._items:
                return None
            item, size_bytes = self._items.popleft()
            self._bytes -= size_bytes
            after_loss, self._has_lost = self._has_lost, False
            self._changed.notify_all()
            return item, after_loss

    def get_all(
        self, timeout_s: float | None = None, *, max_items: int, max_bytes: int
    ) -> tuple[list[T], bool]:
        """Take the oldest items; as ``get``, but several that are there.

        Args:
            timeout_s: how long to wait for one; None is for ever.
            max_items: most items taken.
            max_bytes: once they have so many bytes, no more are taken.

        Returns:
            The items, and whether others were thrown out just before the first; none after the
            timeout, or when closed and empty.
        """
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait_for(lambda: self._closed or bool(self._items), timeout_s)
            taken: list[T] = []
            taken_bytes = 0
            while self._items and len(taken) < max_items and taken_bytes < max_bytes:
                item, size_bytes = self._items.popleft()
                taken.append(item)
                taken_bytes += size_bytes
            if not taken:
                return taken, False
            self._bytes -= taken_bytes
            after_loss, self._has_lost = self._has_lost, False
            self._changed.notify_all()
            return taken, after_loss

    def close(self) -> None:
        """Take nothing more; what is held can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[T]:
        """Throw everything out and return it."""
        with self._changed:
            lost = [held for held, _ in self._items]
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
            return lost

    @property
    def is_finished(self) -> bool:
        """Closed and empty: ``get`` will never return an item again."""
        with self._changed:
            return self._closed and not self._items

    @property
    def fill(self) -> tuple[int, int]:
        """Items and bytes held now."""
        with self._changed:
            return len(self._items), self._bytes

    def _is_full(self, size_bytes: int) -> bool:
        if not self._items:
            return False
        return len(self._items) >= self._max_items or self._bytes + size_bytes > self._max_bytes

    def _append(self, item: T, size_bytes: int) -> None:
        self._items.append((item, size_bytes))
        self._bytes += size_bytes
        self._changed.notify_all()


class Mailbox(Generic[T]):
    """Room for one item; the newest wins."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def replace(self, item: T) -> T | None:
        """Put an item in at once and return the one that it pushed out, if any.

        After ``close`` the item itself comes back: it was not taken.
        """
        with self._changed:
            if self._closed:
                return item
            pushed_out, self._item = self._item, item
            self._changed.notify_all()
            return pushed_out

    def put(self, item: T) -> T | None:
        """Wait until the room is free, then put the item in; the item comes back when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is None)
            if self._closed:
                return item
            self._item = item
            self._changed.notify_all()
            return None

    def get(self, timeout_s: float | None = None) -> T | None:
        """Take the item, waiting for one; None after the timeout, or when closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None, timeout_s)
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Take nothing more; an item inside can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_finished(self) -> bool:
        """Closed and empty."""
        with self._changed:
            return self._closed and self._item is None


def wait_until(condition: Callable[[], bool], *, timeout_s: float, step_s: float = 0.01) -> bool:
    """Poll a condition; tell whether it came true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(step_s)
    return True
