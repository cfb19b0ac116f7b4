"""One viewer: room for one picture, a few texts, and a count of what it missed."""

from __future__ import annotations

import asyncio
import json
from collections import deque

IN_FLIGHT = 2
"""Pictures on their way to a page that has not drawn them yet. One would wait for the way back."""
MAX_REPLIES = 32


class Viewer:
    """What is to be sent to one page; used in the thread of the server alone.

    A page tells when it has drawn a picture. Until then at most ``IN_FLIGHT`` pictures are on their
    way, and of those that come meanwhile the newest waits: a slow page sees fewer pictures, never
    old ones, and nobody waits for it.

    Args:
        name: for people.

    Attributes:
        looks: the page is visible.
        wants_image: it shows the camera's image.
        sent: pictures sent.
        dropped: pictures that a newer one replaced, since the page was slow.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.looks = True
        self.wants_image = True
        self.sent = self.dropped = 0
        self._in_flight = 0
        self._picture: bytes | None = None
        self._states: dict[str, str] = {}
        self._replies: deque[str] = deque(maxlen=MAX_REPLIES)
        self._changed = asyncio.Event()

    def offer(self, picture: bytes) -> None:
        """Put a picture in; one that waits is replaced and counted."""
        if not self.looks:
            return
        self.dropped += self._picture is not None
        self._picture = picture
        self._changed.set()

    def tell(self, kind: str, text: str) -> None:
        """Send a state; of each kind only the newest one waits."""
        self._states[kind] = text
        self._changed.set()

    def reply(self, text: str) -> None:
        """Send an answer to something that the page asked for."""
        self._replies.append(text)
        self._changed.set()

    def drawn(self) -> None:
        """The page has drawn a picture."""
        self._in_flight = max(0, self._in_flight - 1)
        self._changed.set()

    def set_looks(self, looks: bool) -> None:
        """The page was hidden or shown; what waits for a hidden one is no loss."""
        self.looks = looks
        if not looks:
            self._picture = None

    async def next(self) -> str | bytes:
        """Wait for the next thing to send: answers first, then states, then the picture."""
        while True:
            if self._replies:
                return self._replies.popleft()
            if self._states:
                return self._states.pop(next(iter(self._states)))
            if self._picture is not None and self._in_flight < IN_FLIGHT:
                picture, self._picture = self._picture, None
                self._in_flight += 1
                self.sent += 1
                return picture
            self._changed.clear()
            await self._changed.wait()


def answer(is_done: bool, text: str) -> str:
    """Return the answer to a request of a page."""
    return json.dumps({"type": "answer", "is_done": is_done, "text": text})
