"""Damage: what lines, disks, drivers and people do to bytes, in batches and one by one."""

from __future__ import annotations

import numpy as np

INTERESTING = np.array(
    [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
     0x100000000, 0x3FFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF],
    np.uint64,
)  # fmt: skip
NOT_UTF8 = (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\xf8\x88\x80\x80\x80")


class PacketMutator:
    """Makes many damaged packets at once out of a corpus.

    Args:
        corpus: good payloads, one behind the other.
        longest: bytes of the longest packet made.
    """

    def __init__(self, corpus: bytes, longest: int = 256) -> None:
        padded = corpus + bytes(max(0, 2 * longest - len(corpus)))
        self._corpus = np.frombuffer(padded, np.uint8)
        self._longest = longest

    def batch(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (count, longest) bytes and the length of each packet.

        A tenth is random from end to end; the others are pieces of the corpus, a fifth of them
        joined with another piece; three places a packet on average are damaged (a bit, a byte, or
        a word of two to eight bytes set to a value at a limit); lengths are cut anywhere, so most
        are no whole number of words.
        """
        longest = self._longest
        starts = rng.integers(0, len(self._corpus) - longest + 1, count)
        starts -= np.where(rng.random(count) < 0.8, starts % 8, 0)  # most keep the words whole
        packets = self._corpus[starts[:, None] + np.arange(longest)]
        noise = np.flatnonzero(rng.random(count) < 0.1)
        packets[noise] = rng.integers(0, 256, (len(noise), longest), dtype=np.uint8)
        joined = np.flatnonzero(rng.random(count) < 0.2)
        half = longest // 2
        packets[joined, half:] = packets[rng.permutation(count)[: len(joined)], :half]
        flat = packets.reshape(-1)
        places = rng.integers(0, flat.size, 2 * count)
        flat[places] ^= np.uint8(1) << rng.integers(0, 8, 2 * count, dtype=np.uint8)
        places = rng.integers(0, flat.size, count // 2)
        flat[places] = rng.integers(0, 256, len(places), dtype=np.uint8)
        for size in (2, 4, 8):
            places = rng.integers(0, flat.size - 8, count // 6) // size * size
            values = rng.choice(INTERESTING, len(places)).astype("<u8").view(np.uint8)
            for byte in range(size):
                flat[places + byte] = values.reshape(-1, 8)[:, byte]
        return packets, rng.integers(0, longest + 1, count)


def mutate(seed: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """Return a damaged copy of one input; a few kinds of damage, one on top of the other."""
    data = bytearray(seed)
    for _ in range(int(rng.integers(1, 6))):
        if not data:
            return bytes(rng.integers(0, 256, int(rng.integers(0, 64)), dtype=np.uint8))
        at = int(rng.integers(0, len(data)))
        if rng.random() < 0.4:
            at = min(at, int(rng.integers(0, 512)))  # headers decide most
        kind = int(rng.integers(0, 9))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[at] = int(rng.integers(0, 256))
        elif kind == 2:
            size = int(rng.choice([1, 2, 4, 8]))
            order = "little" if rng.random() < 0.7 else "big"
            value = int(rng.choice(INTERESTING)) & ((1 << (8 * size)) - 1)
            data[at : at + size] = value.to_bytes(size, order)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + int(rng.integers(1, 64))]
        elif kind == 5:
            count = int(rng.integers(1, 64))
            data[at:at] = data[at : at + count] if rng.random() < 0.5 else bytes(count)
        elif kind == 6:
            other = others[int(rng.integers(0, len(others)))]
            piece = int(rng.integers(0, max(1, len(other))))
            data[at : at + 200] = other[piece : piece + 200]
        elif kind == 7:
            data[at:at] = NOT_UTF8[int(rng.integers(0, len(NOT_UTF8)))]
        else:
            digits = b"9999999999999999999", b"-1", b"1e309", b"nan", b"0"
            data[at : at + 1] = digits[int(rng.integers(0, len(digits)))]
    return bytes(data)
