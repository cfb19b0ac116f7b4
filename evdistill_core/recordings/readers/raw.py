"""Prophesee RAW files: a text header, then the words of EVT3, EVT2 or EVT2.1 as the sensor sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from evdistill_core.events.decoders import Decoder, make_decoder
from evdistill_core.events.decoders.base import TimeHighDecoder
from evdistill_core.events.decoders.evt2 import TIME_HIGH
from evdistill_core.events.decoders.evt21 import Evt21Decoder
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.base import EventBatch, checked_size
from evdistill_core.recordings.read_options import AS_THE_FILE_SAYS, ReadOptions
from evdistill_core.recordings.readers.bounded import zero_tail, zeros_left_out
from evdistill_core.recordings.readers.chips import GENERATIONS, camera_size, sensor_size
from evdistill_core.recordings.readers.records import SeekTable, StreamRecording, text_header

ENCODINGS = {
    "EVT3": "evt3", "3.0": "evt3",
    "EVT2": "evt2", "2.0": "evt2",
    "EVT21": "evt21", "2.1": "evt21",
}  # fmt: skip
WORD_BYTES = {"evt3": 2, "evt2": 4, "evt21": 8}
#: Larger than every frame that 11 bit addresses can fill.
UNKNOWN_SIZE = (2048, 2048)
CHUNK_BYTES = 1 << 18
EVT3_TIME_HIGH = 8  # upper four bits of a word
EVT3_TIME_LOW_ZERO = (6 << 12).to_bytes(2, "little")
SEEK_SAMPLES = 256
SEEK_BYTES = 1 << 14
# EVT3's clock turns every 16.8 s. Sensors repeat its upper part so often that 2 s fill this much at
# the least; larger steps in time are looked at more closely.
EVT3_SEEK_STEP = 1 << 18
EVT3_LARGE_STEP = 1 << 10  # of the upper 12 bits: 4.2 s
# Below this a file is decoded sooner than a quiet stretch in it could be told from a turn.
EVT3_SEEK_FROM_BYTES = 1 << 26


class RawRecording(StreamRecording):
    """Events and triggers of one Prophesee sensor.

    Args:
        path: the file.

    Raises:
        RecordingError: the header lacks the encoding, or names one that we do not read.
    """

    takes = frozenset({"size", "camera"})

    def __init__(self, path: Path, options: ReadOptions = AS_THE_FILE_SAYS) -> None:
        fields, self._data_at = text_header(path)
        encoding, marks = _encoding(path, fields)
        super().__init__(path, "prophesee-raw", encoding, options)
        self._legacy_halves = marks.get("endianness", "") == "legacy"
        self._is_big = marks.get("endianness", "") == "big"
        self._word = WORD_BYTES[encoding]
        end = path.stat().st_size
        zeros = zero_tail(path, self._data_at)
        if zeros:
            self._warn(zeros_left_out(end - zeros, end))
        left = max(end - zeros - self._data_at, 0)
        self._bytes = left // self._word * self._word
        if left % self._word and zeros:
            self._bytes += self._word  # the last word may end in zeros of its own
        elif left % self._word:
            self._warn(f"cut off: the last {left % self._word} bytes are no whole word")
        self._table: SeekTable | None = None
        self._size = self._told_size({**fields, **marks}) or self._guessed_size()

    def _told_size(self, fields: dict[str, str]) -> tuple[int, int] | None:
        """Return width and height: as the user says, or wherever the header tells them."""
        if self._options.size:
            return self._options.size
        if self._options.camera:
            return camera_size(self._path, self._options.camera)
        size = _size(fields)
        return checked_size(self._path, *size) if size else None

    def _guessed_size(self) -> tuple[int, int]:
        """Take the largest coordinates; costs one pass over the file."""
        self._size = UNKNOWN_SIZE
        width = height = 1
        for batch in self._all_batches():
            if len(batch.events):
                width = max(width, int(batch.events.x.max()) + 1)
                height = max(height, int(batch.events.y.max()) + 1)
        self._size = (width, height)
        self._warn_guessed()
        return self._size

    def _decoder(self) -> Decoder:
        width, height = self._size
        if self._encoding == "evt21" and self._legacy_halves:
            return Evt21Decoder(width=width, height=height, half_order="lower")
        return make_decoder(self._encoding, width=width, height=height)

    def _all_batches(self) -> Iterator[EventBatch]:
        return self._batches_at(0, None)

    def _batches_from(self, start_us: int) -> Iterator[EventBatch]:
        if self._encoding == "evt3" and self._bytes < EVT3_SEEK_FROM_BYTES:
            return self._all_batches()
        self._table = self._table or self._sampled()
        if not len(self._table.places):
            return self._all_batches()
        place, t_us = self._table.before(start_us)
        return self._batches_at(0, None) if place == 0 else self._batches_at(place, t_us)

    def _batches_at(self, place: int, t_us: int | None) -> Iterator[EventBatch]:
        self._counts = Counter()
        decoder = self._decoder()
        if t_us is not None and isinstance(decoder, TimeHighDecoder):
            decoder.start_at(t_us)
        with self._path.open("rb") as file:
            file.seek(self._data_at + place)
            while place < self._bytes:
                data = self._ordered(file.read(min(CHUNK_BYTES, self._bytes - place)))
                if not data:
                    raise RecordingError(f"{self._path} became shorter while it was read")
                begun = place > 0
                place += len(data)
                self._fraction = place / self._bytes
                decoded = decoder.decode(data if begun else self._begun(data), 0)
                if len(decoded.events) or len(decoded.triggers):
                    yield self._batch(decoded.events, decoded.triggers)
                self._note(decoder)
        if isinstance(decoder, Evt21Decoder):
            rest = decoder.finish()
            if len(rest.events) or len(rest.triggers):
                yield self._batch(rest.events, rest.triggers)
            self._note(decoder)
        self._judge(decoder)

    def _ordered(self, data: bytes) -> bytes:
        """Return words with their lowest byte first, whatever the header says of the file's."""
        if not self._is_big:
            return data
        data = data[: len(data) // self._word * self._word]
        return np.frombuffer(data, f">u{self._word}").astype(f"<u{self._word}").tobytes()

    def _begun(self, data: bytes) -> bytes:
        """Return the first words of the file, made complete.

        Converters write TIME_LOW only once it is not zero: behind the TIME_HIGH that such a file
        begins with, time is known. A sensor repeats its TIME_HIGH every few microseconds; what it
        sends before the first TIME_LOW has no time.
        """
        if self._encoding != "evt3" or len(data) < 2 or data[1] >> 4 != EVT3_TIME_HIGH:
            return data
        words = np.frombuffer(data, "<u2", len(data) // 2)
        highs = words[words >> np.uint16(12) == EVT3_TIME_HIGH]
        if len(highs) > 1 and highs[0] == highs[1]:
            return data
        return data[:2] + EVT3_TIME_LOW_ZERO + data[2:]

    def _note(self, decoder: Decoder) -> None:
        counters = decoder.counters
        for name in ("unknown_words", "backward_time", "out_of_frame", "discarded_before_sync"):
            self._counts[name] = getattr(counters, name)

    def _judge(self, decoder: Decoder) -> None:
        """Words without a meaning do not occur in a whole file."""
        unknown = decoder.counters.unknown_words
        if unknown * 2 > self._bytes // self._word:
            raise RecordingError(
                f"{self._path}: {unknown} of {self._bytes // self._word} words are no "
                f"{self._encoding}: the file is damaged, or its header names the wrong encoding"
            )
        if unknown:
            self._warn(f"{unknown} words are no {self._encoding}: left out, the file is damaged")

    def _sampled(self) -> SeekTable:
        """Find time words spread over the file, dense enough to tell how often the clock turned."""
        step = -(-self._bytes // SEEK_SAMPLES)
        if self._encoding == "evt3":
            step = min(step, EVT3_SEEK_STEP)
        ahead = list(range(0, self._bytes, max(step // self._word, 1) * self._word))[::-1]
        found: list[tuple[int, int]] = []
        decoder = self._decoder()
        assert isinstance(decoder, TimeHighDecoder)
        with self._path.open("rb") as file:
            while ahead:
                place = ahead[-1]
                sample = self._first_time_word(file, place)
                if found and sample and self._is_far(found[-1], place, sample[1]):
                    middle = (found[-1][0] + place) // 2
                    ahead.append(middle // self._word * self._word)
                    continue
                ahead.pop()
                if sample:
                    decoder.decode(sample[1] * 2, 0)
                    found.append((sample[0], decoder.high_us()))
        places, times = zip(*found, strict=True) if found else ((), ())
        return SeekTable(np.array(places, np.int64), np.array(times, np.int64))

    def _is_far(self, last: tuple[int, int], place: int, word: bytes) -> bool:
        """Tell whether a sample of EVT3 is so much later than the last that it may be a turn on."""
        if self._encoding != "evt3" or place - last[0] <= SEEK_BYTES:
            return False
        high = int.from_bytes(word, "little") & 0xFFF
        return (high - (last[1] >> 12)) % (1 << 12) > EVT3_LARGE_STEP

    def _first_time_word(self, file: IO[bytes], place: int) -> tuple[int, bytes] | None:
        """Return the place of the first time word from ``place`` on, and the word."""
        file.seek(self._data_at + place)
        data = self._ordered(file.read(min(SEEK_BYTES, self._bytes - place)))
        data = data[: len(data) // self._word * self._word]
        if self._encoding == "evt3":
            found = np.flatnonzero(np.frombuffer(data, "<u2") >> np.uint16(12) == TIME_HIGH)
        elif self._encoding == "evt2":
            found = np.flatnonzero(np.frombuffer(data, "<u4") >> np.uint32(28) == TIME_HIGH)
        else:
            # Time words have one half of zeros; the other one, whichever it is, starts with an 8.
            halves = np.frombuffer(data, "<u4").reshape(-1, 2)
            is_time = (halves >> np.uint32(28) == TIME_HIGH) & (halves[:, ::-1] == 0)
            found = np.flatnonzero(is_time.any(axis=1))
        if not len(found):
            return None
        at = int(found[0]) * self._word
        return place + at, data[at : at + self._word]


def _encoding(path: Path, fields: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return the encoding, and what stands behind it as ``;key=value``."""
    name, *options = fields.get("format", fields.get("evt", "")).split(";")
    encoding = ENCODINGS.get(name.strip().upper())
    if encoding is None:
        what = f"names the encoding {name[:40]!r}" if name else "names no encoding"
        raise RecordingError(
            f"{path}: the header {what}; read are {', '.join(WORD_BYTES)} ('% format EVT3' or "
            "'% evt 3.0')"
        )
    pairs = (option.split("=", 1) for option in options if "=" in option)
    return encoding, {key.strip().lower(): value.strip() for key, value in pairs}


def _size(known: dict[str, str]) -> tuple[int, int] | None:
    """Return width and height from wherever the header tells them."""
    pair = known.get("geometry", "").lower().split("x")
    if len(pair) != 2:
        pair = [known.get("width", ""), known.get("height", "")]
    if all(side.strip().isdecimal() and len(side) < 12 for side in pair):
        return int(pair[0]), int(pair[1])
    names = (known.get(key, "") for key in ("plugin_name", "sensor_name", "camera_name"))
    named = next((size for name in names if (size := sensor_size(name))), None)
    return named or GENERATIONS.get(known.get("sensor_generation", ""))
