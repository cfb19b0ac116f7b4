"""Decoders: payload bytes of one encoding to events, one file an encoding."""

from __future__ import annotations

from evdistill_core.events.decoders.base import Decoded, Decoder, DecoderCounters
from evdistill_core.events.decoders.evt2 import Evt2Decoder
from evdistill_core.events.decoders.evt3 import Evt3Decoder
from evdistill_core.events.decoders.evt21 import Evt21Decoder
from evdistill_core.events.decoders.libcaer import LibcaerDecoder
from evdistill_core.events.decoders.libcaer_cmp import LibcaerCmpDecoder
from evdistill_core.events.decoders.mono import MonoDecoder, TriggerDecoder
from evdistill_core.foundation.errors import EncodingError

__all__ = ["KNOWN_ENCODINGS", "Decoded", "Decoder", "DecoderCounters", "make_decoder"]

_DECODERS: dict[str, type[Decoder]] = {
    d.encoding: d
    for d in (
        Evt3Decoder,
        Evt2Decoder,
        Evt21Decoder,
        LibcaerDecoder,
        LibcaerCmpDecoder,
        MonoDecoder,
        TriggerDecoder,
    )
}
KNOWN_ENCODINGS = tuple(_DECODERS)


def make_decoder(encoding: str, *, width: int, height: int) -> Decoder:
    """Return a fresh decoder for one stream.

    Args:
        encoding: what the messages say in their ``encoding``.
        width: columns of the sensor, 1..4096.
        height: rows of the sensor, 1..4096.

    Raises:
        EncodingError: no decoder of ours knows the encoding.
        ValueError: the frame size is out of range.
    """
    if encoding not in _DECODERS:
        raise EncodingError(
            f"unknown event encoding {encoding[:40]!r}; known: {', '.join(KNOWN_ENCODINGS)}. "
            "Set the driver to one of these (metavision_driver: evt3)"
        )
    return _DECODERS[encoding](width=width, height=height)
