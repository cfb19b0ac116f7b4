"""The live pipeline: packets in, predictions out; two threads, one mailbox, all counters.

::

    push --> queue --> [ingest: decode, cut, build input] --> mailbox --> [inference] --> on_result

The caller's thread only appends to the queue. The ingest thread keeps the decoder's state; the
inference thread keeps the network and the tracks. Between them is room for one window: when the
network is slower than the camera the newest window wins, and the drop is counted.

A recurrent student's state lives in the runner. Every break of the stream (a jump in time, a gap,
lost packets, another size, a pause, a looped bag) sets it back, counted as ``state_resets``; a
window that was dropped or skipped is a step that the state does not take, and nothing else.

``lossless`` (offline): the queue and the mailbox make their writers wait instead, so that every
window is computed and the same input gives the same masks.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.latency import LatencyRing, Percentiles
from evdistill_core.foundation.worker import BoundedQueue, Mailbox, Worker
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.perception.ingest import Incoming, Ingest, Job, RestartReason
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.predictor import WindowPredictor
from evdistill_core.perception.result import Result

STAGES = (
    "queue",
    "decode",
    "window",
    "mailbox",
    "represent",
    "infer",
    "postprocess",
    "publish",
    "total",
)
"""Names of the latencies, in the order in which a packet meets them.

queue: packet received until taken. decode: one packet. window: the window's last packet received
until the window is closed. mailbox: waiting for the network. represent: what is left of the
network's input when the window is closed. infer, postprocess: the rest of its computation.
publish: ``on_result``. total: the window's last packet received until ``on_result`` returned.
"""


@dataclass(frozen=True)
class Snapshot:
    """All counters at one moment.

    Attributes:
        time_ns: monotonic time of the snapshot.
        counters: name to count. ``messages_received`` = ``messages_used`` + ``messages_damaged``
            + ``messages_lost_queue`` + ``messages_discarded`` + ``messages_waiting``;
            ``windows`` = ``windows_done`` + ``windows_dropped`` + ``windows_discarded`` + at most
            two that wait or are being computed. ``state_resets``: breaks of the stream after
            which a recurrent student restarted.
        latency_ms: stage to percentiles of the latest windows (packets for queue and decode).
        queue_packets: packets waiting.
        queue_bytes: bytes waiting.
        last_message_ns: monotonic time of the latest packet, 0 before the first.
        width: columns of the sensor, 0 before the first packet.
        height: rows of the sensor.
        input: what the network is fed, see ``WorkingSize.to_dict``; empty before the first window.
        input_note: what a user must know of it; empty where nothing is reduced.
    """

    time_ns: int
    counters: dict[str, int]
    latency_ms: dict[str, Percentiles]
    queue_packets: int
    queue_bytes: int
    last_message_ns: int
    width: int
    height: int
    input: dict[str, object] = field(default_factory=dict)
    input_note: str = ""


class Perception:
    """Runs a student on a stream of event packets.

    Args:
        student: its input description and class table.
        runner: the loaded network, see ``make_runner``.
        parameters: those of the student's task; they say what becomes of its logits.
        on_result: called with each result in the inference thread; its time counts as ``publish``.
        lossless: make ``push`` wait instead of dropping (recordings).
    """

    def __init__(
        self,
        student: StudentFile,
        runner: Runner,
        parameters: PerceptionParameters,
        on_result: Callable[[Result], None],
        *,
        lossless: bool = False,
    ) -> None:
        self._runner = runner
        self._on_result = on_result
        self._lossless = lossless
        self._keeps_all = lossless or parameters.keep_windows
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._latency = {stage: LatencyRing() for stage in STAGES}
        self._last_message_ns = 0
        self._failure: Exception | None = None
        self._failure_report = ""
        self._discard = False
        self._queue: BoundedQueue[Incoming] = BoundedQueue(
            max_items=64 if lossless else parameters.queue_packets,
            max_bytes=parameters.queue_bytes,
        )
        self._mailbox: Mailbox[Job] = Mailbox()
        self._ingest = Ingest(
            student.info.input,
            parameters,
            hand_over=self._hand_over,
            count=self._count,
            record=self._record,
            lossless=lossless,
        )
        self._predict = WindowPredictor(student, runner, parameters, self._count)
        self._workers = [
            Worker("ingest", self._run_ingest, self._fail),
            Worker("inference", self._infer, self._fail),
        ]

    def start(self) -> None:
        """Start both threads; a recurrent student begins without memory."""
        self._runner.reset()
        for worker in self._workers:
            worker.start()

    def push(self, packet: Packet) -> bool:
        """Hand in a serialized event message.

        Returns:
            False once the pipeline has ended (the packet is counted as discarded): ``check``
            tells why.
        """
        return self._enter(packet, len(packet.data))

    def push_events(self, decoded: DecodedPacket) -> bool:
        """Hand in events that are decoded already (files without packets); see ``push``."""
        return self._enter(decoded, 13 * len(decoded.events))

    def stop(self, *, drain: bool = True, timeout_s: float = 30.0) -> None:
        """End both threads; calling it again does nothing.

        Args:
            drain: finish what was handed in, the last incomplete window included; else throw it
                away, counted.
            timeout_s: how long to wait for them.

        Raises:
            RuntimeError: a thread did not end.
        """
        if not drain:
            self._discard = True
            self._count("messages_discarded", len(self._queue.clear()))
        self._queue.close()
        for worker in self._workers:
            if not worker.join(timeout_s):
                raise RuntimeError(f"a pipeline thread did not end within {timeout_s:g} s")

    def start_anew(self, reason: RestartReason) -> None:
        """Forget the stream so far: the next packet is treated as the first one.

        What waits is thrown away, counted as discarded; decoder, windows, filters, tracks, the
        state of a recurrent student and the offset between sensor and host restart.

        Args:
            reason: ``clock``: the host's time has jumped (``/clock`` of a looped bag); ``reset``:
                somebody asked for it. Counted as ``breaks_clock`` or ``breaks_reset``.
        """
        self._count("messages_discarded", len(self._queue.clear()))
        self._ingest.start_anew(reason)

    def check(self) -> None:
        """Raise what ended a thread, if anything did.

        Raises:
            EvdistillError: bad input (a damaged student, an unknown encoding).
            OSError: ``on_result`` could not write (disk full).
            RuntimeError: a mistake of ours, with a report of where.
        """
        if isinstance(self._failure, EvdistillError | OSError):
            raise self._failure
        if self._failure is not None:
            raise RuntimeError(self._failure_report) from self._failure

    @property
    def has_failed(self) -> bool:
        """Whether a thread has ended because of an error."""
        return self._failure is not None

    @property
    def parameters(self) -> PerceptionParameters:
        """The parameters in force."""
        return self._predict.parameters

    def reconfigure(self, parameters: PerceptionParameters) -> None:
        """Take new values of the dynamic parameters, from the next packet and window on."""
        self._predict.parameters = parameters
        self._ingest.parameters = parameters

    def counters(self) -> dict[str, int]:
        """Return all counters of this moment; much cheaper than a snapshot."""
        with self._lock:
            counters = dict(self._counters)
        return counters | self._ingest.stream_counters()

    @property
    def silence_s(self) -> float | None:
        """Seconds since the latest packet; None before the first."""
        last_ns = self._last_message_ns
        return (time.monotonic_ns() - last_ns) / 1e9 if last_ns else None

    def snapshot(self) -> Snapshot:
        """Return all counters and latencies of this moment."""
        packets, size = self._queue.fill
        counters = self.counters()
        with self._lock:
            latency = {stage: ring.percentiles() for stage, ring in self._latency.items()}
            last_message_ns = self._last_message_ns
        working = self._predict.size
        return Snapshot(
            time_ns=time.monotonic_ns(),
            counters=counters,
            latency_ms=latency,
            queue_packets=packets,
            queue_bytes=size,
            last_message_ns=last_message_ns,
            width=self._ingest.size[0],
            height=self._ingest.size[1],
            input={} if working is None else working.to_dict(),
            input_note="" if working is None else working.note(),
        )

    def _enter(self, content: Packet | DecodedPacket, size_bytes: int) -> bool:
        now_ns = time.monotonic_ns()
        item = Incoming(content, now_ns)
        lost: list[Incoming] | None = []
        if not self._lossless:
            lost = self._queue.offer(item, size_bytes)
        elif not self._queue.put(item, size_bytes):
            lost = None
        with self._lock:
            self._last_message_ns = now_ns
            self._counters["messages_received"] += 1
            if lost is None:
                self._counters["messages_discarded"] += 1
            elif lost:
                self._counters["messages_lost_queue"] += len(lost)
                self._counters["queue_overflows"] += 1
        return lost is not None

    def _hand_over(self, job: Job) -> None:
        self._count("windows")
        pushed_out = self._mailbox.put(job) if self._keeps_all else self._mailbox.replace(job)
        if pushed_out is None:
            return
        self._count("windows_discarded" if pushed_out is job else "windows_dropped")
        self._count("events_in_dropped_windows", len(pushed_out.window.events))

    def _run_ingest(self) -> None:
        self._ingest.run(self._queue)
        if not self._discard:
            self._ingest.flush()
        self._mailbox.close()

    def _infer(self) -> None:
        while not self._mailbox.is_finished:
            job = self._mailbox.get()
            if job is None:
                continue
            if self._discard:
                self._count("windows_discarded")
                self._count("events_in_dropped_windows", len(job.window.events))
                continue
            result = self._predict(job)
            published_ns = time.monotonic_ns()
            self._on_result(result)
            done_ns = time.monotonic_ns()
            self._record(
                result.latency_ms
                | {
                    "publish": (done_ns - published_ns) / 1e6,
                    "total": (done_ns - job.received_ns) / 1e6,
                }
            )
            self._count("windows_done")

    def _fail(self, report: str, error: Exception) -> None:
        self._failure_report = report
        self._failure = error
        self._queue.close()
        self._mailbox.close()

    def _count(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counters[name] += amount

    def _record(self, latency_ms: dict[str, float]) -> None:
        with self._lock:
            for stage, value_ms in latency_ms.items():
                self._latency[stage].add(value_ms)
