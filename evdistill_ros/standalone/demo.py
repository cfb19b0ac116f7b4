"""The demo: a camera process, a perception process, and this one, which watches and measures.

The three talk over real DDS on loopback, in a domain of their own, so that a robot's graph on the
same machine is not disturbed. What is measured is what a robot would get: the time from sending
the packet with a window's last event to the arrival of that window's mask in another process.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from evdistill_core.perception.result_files import ResultFiles, write_report
from evdistill_ros.dds import DdsNode
from evdistill_ros.standalone.children import Child, ChildError
from evdistill_ros.standalone.observer import (
    Observer,
    build_report,
    cut_off_windows,
    read_log,
)
from evdistill_ros.standalone.own_domain import own_domain

READY_TIMEOUT_S = 180.0  # the first start compiles kernels
SILENCE_S = 1.0
PAGE = "live view: "
"""How the line begins in which ``evdistill live`` tells where its page is."""

NEXT = """what next:
  evdistill demo --view                     watch it live in your browser, and turn the knobs
  evdistill live --view --events TOPIC      the same with the topic of your camera's driver
  evdistill distill-on RECORDINGS --images LABELLED       a student for your own camera"""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demo plays and where it leaves its results.

    Attributes:
        recording: what ``evdistill play`` can play.
        out: folder of the results.
        live_arguments: passed to ``evdistill live``.
    """

    recording: Path
    out: Path
    live_arguments: tuple[str, ...] = ()


def run_demo(
    options: DemoOptions,
    *,
    say: Callable[[str], None],
    show: Callable[[list[tuple[str, str]]], None],
) -> dict[str, object]:
    """Run the three processes and write the results.

    Args:
        options: see there.
        say: takes one line of text.
        show: takes the rows of the live table, about once a second.

    Returns:
        The report, as written to report.json.

    Raises:
        ChildError: a process failed or did not come up; its last words are in the message.
    """
    with ExitStack() as stack:
        stack.enter_context(own_domain())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evdistill-demo-")))
        files = stack.enter_context(ResultFiles(options.out, has_legend=True))
        sent, results = scratch / "sent.jsonl", scratch / "results.jsonl"
        arguments = [*options.live_arguments, "--result-log", str(results)]
        live = stack.enter_context(Child("live", arguments, scratch))
        observer = Observer(stack.enter_context(DdsNode("demo_observer", on_warning=say)))
        say("loading the student ...")
        _wait_until(lambda: observer.is_ready, [live], "evdistill live did not get ready")
        arguments = [str(options.recording), "--wait-for-subscriber", "--timeout", "30"]
        play = stack.enter_context(Child("play", [*arguments, "--send-log", str(sent)], scratch))
        say(f"playing {options.recording.name} into /event_camera/events")
        began = time.monotonic()
        while play.is_running:
            live.require_running()
            show(observer.rows())
            time.sleep(0.25)
        play.require_success()
        seconds = time.monotonic() - began
        _wait_until(lambda: observer.silent_s() > SILENCE_S, [live], "masks do not end")
        peak_mb = live.peak_memory_mb()
        live.stop(signal.SIGTERM)
        live.require_success()
        show(observer.rows())
        if not observer.masks:
            raise ChildError(f"no mask was received; evdistill live said: {live.last_words()}")
        packets, windows = read_log(sent), read_log(results)
        observer.write(files, cut_off=cut_off_windows(packets, windows))
        report = build_report(observer, packets, windows) | {
            "recording": str(options.recording),
            "rss_mb": round(peak_mb, 1),
            "wall_s": round(seconds, 2),
        }
    write_report(options.out, report)
    return report


def show_demo(options: DemoOptions, view: str, *, say: Callable[[str], None]) -> None:
    """Play the recording over and over and show it on a page, until Ctrl-C; nothing is written.

    Args:
        options: as for ``run_demo``; ``out`` does not matter.
        view: address of the page, as a user wrote it.
        say: takes one line of text.

    Raises:
        ChildError: a process failed or did not come up; its last words are in the message.
        KeyboardInterrupt: Ctrl-C, once the processes have ended and viewers have been counted.
    """
    with ExitStack() as stack:
        stack.enter_context(own_domain())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evdistill-demo-")))
        say("loading the student ...")
        live = Child("live", [*options.live_arguments, f"--view={view}"], scratch)
        stack.enter_context(live)
        _wait_until(lambda: bool(live.lines(PAGE)), [live], "evdistill live did not get ready")
        say(live.lines(PAGE)[0])
        arguments = [str(options.recording), "--loop", "--wait-for-subscriber", "--timeout", "30"]
        play = stack.enter_context(Child("play", arguments, scratch))
        say(f"playing {options.recording.name} over and over; Ctrl-C ends it")
        try:
            while True:
                live.require_running()
                play.require_running()
                time.sleep(0.25)
        except KeyboardInterrupt:
            play.stop(signal.SIGTERM)
            live.stop(signal.SIGTERM)
            for text in live.lines("view: "):
                say(text)
            raise


def dropped_note(report: Mapping[str, object]) -> str:
    """Return what to say of windows that were not computed; empty if all were.

    Args:
        report: of ``run_demo``.
    """
    done, dropped = report["windows"], report["windows_dropped"]
    assert isinstance(done, int)
    assert isinstance(dropped, int)
    if not dropped:
        return ""
    windows = f"{dropped} of {done + dropped} windows were"
    if dropped == 1:
        windows = f"1 of {done + dropped} windows was"
    return (
        f"{windows} dropped because this machine was busy: the network had not finished when the "
        "next window came. Close other programs and run the demo again. If it stays so, ask for "
        "fewer windows in a parameter file: a longer window_us, or max_rate_hz"
    )


def _wait_until(condition: Callable[[], bool], children: list[Child], failure: str) -> None:
    end = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        for child in children:
            child.require_running()
        if time.monotonic() > end:
            words = "; ".join(child.last_words() for child in children)
            raise ChildError(f"{failure} within {READY_TIMEOUT_S:g} s; it said: {words}")
        time.sleep(0.05)
