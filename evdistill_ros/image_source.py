"""Which topic the images of an event camera come from: raw or compressed, as it is published."""

from __future__ import annotations

from collections.abc import Callable, Collection

from evdistill_core.messages.standard import CompressedImage, Image
from evdistill_core.perception.messages import COMPRESSED


class ImageSource:
    """Subscribes to a topic with the type that it has; to its compressed copy if it has none.

    While nobody publishes images, a topic whose name ends with ``compressed`` is expected to carry
    CompressedImage, any other one Image.

    Args:
        topic: where images are expected, resolved.
        types_of: returns the types with which a topic is published now.
        subscribe: subscribes to a topic with a type, and returns what ends it.
        log: told the topic when it is another than expected.
    """

    def __init__(
        self,
        topic: str,
        *,
        types_of: Callable[[str], Collection[str]],
        subscribe: Callable[[str, str], Callable[[], None]],
        log: Callable[[str], None],
    ) -> None:
        self._topic = topic
        self._types_of = types_of
        self._subscribe = subscribe
        self._log = log
        is_compressed = topic.rsplit("/", 1)[-1] == COMPRESSED[1:]
        self._source = (topic, CompressedImage.TYPE if is_compressed else Image.TYPE)
        self._end = self._take(*(self._found() or self._source))

    def follow(self) -> None:
        """Change to what is published now, if that is something else."""
        found = self._found()
        if found is not None and found != self._source:
            self._end()
            self._end = self._take(*found)

    def _found(self) -> tuple[str, str] | None:
        """Return topic and type of the best source; None: nobody publishes images."""
        types = self._types_of(self._topic)
        for type_name in (Image.TYPE, CompressedImage.TYPE):
            if type_name in types:
                return self._topic, type_name
        copy = self._topic + COMPRESSED
        return (
            (copy, CompressedImage.TYPE) if CompressedImage.TYPE in self._types_of(copy) else None
        )

    def _take(self, topic: str, type_name: str) -> Callable[[], None]:
        self._source = topic, type_name
        if type_name != Image.TYPE:
            self._log(f"images from {topic} ({type_name})")
        return self._subscribe(topic, type_name)
