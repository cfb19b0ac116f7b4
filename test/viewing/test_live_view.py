"""The server of a live view, asked by a client that is no browser; recordings; slow viewers."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.foundation.worker import wait_until
from evdistill_core.inference.prediction import Prediction
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Time
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.recordings.opening import open_recording
from evdistill_core.viewing.live.address import ViewAddress, ViewError
from evdistill_core.viewing.live.controls import Controls
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import LiveView, Scene, Status
from evdistill_core.viewing.live.recorder import KEEP_FREE_BYTES, PacketRecorder
from evdistill_core.viewing.live.viewers import IN_FLIGHT

STATUS = Status(12_000.0, 20.0, 41, dropped=3, gaps=1, silence_s=0.01)
aiohttp = pytest.importorskip("aiohttp", reason="needs aiohttp: pip install .[view]")

T0_NS = 1_700_000_000_000_000_000


class Pipeline:
    def __init__(self):
        self.parameters = SegmentationParameters()

    def reconfigure(self, parameters):
        self.parameters = parameters


@pytest.fixture
def pipeline():
    return Pipeline()


@pytest.fixture
def view(pipeline, tmp_path):
    with make(pipeline, tmp_path) as view:
        yield view


def make(pipeline, folder, address=":0"):
    return LiveView(
        ViewAddress.parse(address),
        scene=Scene(title="test", source="/events", student="tiny", classes=SIX_CLASSES),
        status=lambda: STATUS,
        controls=Controls(lambda: pipeline.parameters, pipeline.reconfigure),
        folder=folder,
        max_rate_hz=200,
    )


def shot(index=0, width=346, height=260):
    rng = np.random.default_rng(index)
    n = 3000
    events = Events.from_columns(
        rng.integers(0, width, n), rng.integers(0, height, n), np.arange(n), rng.integers(0, 2, n),
        width=width, height=height,
    )  # fmt: skip
    mask = np.full((height, width), 255, np.uint8)
    mask[100:200, 100:200] = index % 6
    answer = Prediction(mask, np.zeros(mask.shape, np.float32))
    return Shot(index, 0, 50_000, T0_NS, events, answer, latency_ms=10.0)


def event_packet(seq):
    x = np.arange(50) + seq
    t = np.arange(50) * 10 + seq * 1000
    events = Events.from_columns(x, x, t, x % 2, width=346, height=260)
    message = EventPacket(
        Header(Time.from_ns(T0_NS + seq * 1_000_000), "camera"), 260, 346, seq, seq * 1_000_000,
        "libcaer_cmp", False, encode_libcaer_cmp(events, seq * 1000),
    )  # fmt: skip
    return Packet(EventPacket.TYPE, message.serialize(), T0_NS + seq * 1_000_000)


def ask(work):
    """Run a client; it has ten seconds."""

    async def limited():
        async with aiohttp.ClientSession() as session:
            return await asyncio.wait_for(work(session), 20)

    return asyncio.run(limited())


async def until(pipe, kind):
    """The next message of a kind ('picture' for a binary one)."""
    while True:
        message = await pipe.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.BINARY:
            if kind == "picture":
                return message.data
        elif (content := json.loads(message.data))["type"] == kind:
            return content


def test_the_page_is_one_file_that_asks_nobody_else_for_anything(view):
    async def work(session):
        async with session.get(view.url) as reply:
            return reply.status, reply.headers, await reply.text()

    status, headers, text = ask(work)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = headers["Content-Security-Policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert text.count(f'nonce="{nonce}"') == 2
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Frame-Options"] == "DENY"
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in outside
    assert "https://" not in outside


def test_a_page_is_told_what_is_shown_and_gets_pictures_only_while_it_looks(view):
    async def work(session):
        assert not view.is_watched
        view.offer(shot())
        async with session.ws_connect(f"{view.url}live") as pipe:
            hello = await until(pipe, "hello")
            assert [c["name"] for c in hello["classes"]] == list(SIX_CLASSES.names)
            assert hello["can_record"]
            assert {"window_us", "min_score"} <= {c["name"] for c in hello["controls"]}
            status = await until(pipe, "status")
            assert (status["dropped"], status["windows"]) == (3, 41)
            view.offer(shot(1))
            assert (await until(pipe, "picture"))[:4] == b"EVV1"
            await pipe.send_json({"looks": False})
            for _ in range(100):
                if not view.is_watched:
                    break
                await asyncio.sleep(0.02)
            assert not view.is_watched
        assert view.encoded == 1

    ask(work)
    assert wait_until(lambda: view.server.viewers == 0, timeout_s=5)


@pytest.mark.parametrize("path", ["", "live"])
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=["host", "origin"]
)
def test_a_web_page_elsewhere_cannot_talk_to_it(view, path, headers):
    async def work(session):
        async with session.get(view.url + path, headers=headers) as reply:
            return reply.status, await reply.text()

    status, text = ask(work)
    assert status == 403
    assert text.startswith("refused: ")
    assert text.count("\n") == 1


def test_elsewhere_than_on_loopback_only_the_printed_address_works(pipeline, tmp_path):
    with make(pipeline, tmp_path, "0.0.0.0:0") as view:
        base = f"http://127.0.0.1:{view.server.address.port}"
        token = view.url.partition("?token=")[2]
        assert len(token) >= 24

        async def work(session):
            found = []
            for query in ("", "?token=guess", f"?token={token}"):
                async with session.get(f"{base}/{query}") as reply:
                    found.append(reply.status)
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"{base}/live")
            async with session.ws_connect(f"{base}/live?token={token}") as pipe:
                await until(pipe, "hello")
            return found

        assert ask(work) == [403, 403, 200]


def test_parameters_change_from_the_page_and_a_bad_value_is_one_message(view, pipeline):
    async def work(session):
        async with session.ws_connect(f"{view.url}live") as pipe:
            await pipe.send_json({"do": "set", "name": "window_us", "value": 20_000})
            good = await until(pipe, "answer")
            await pipe.send_json({"do": "set", "name": "min_score", "value": 7})
            bad = await until(pipe, "answer")
            await pipe.send_json({"do": "fly"})
            odd = await until(pipe, "answer")
            await pipe.send_str("not json")
            worse = await until(pipe, "answer")
            await pipe.send_json({"do": "reset"})
            await until(pipe, "answer")
            return good, bad, odd, worse

    good, bad, odd, worse = ask(work)
    assert (good["is_done"], good["text"]) == (True, "window_us is 20000 us")
    assert (bad["is_done"], bad["text"]) == (False, "min_score must lie in 0..1, got 7.0")
    assert "cannot do 'fly'" in odd["text"]
    assert not worse["is_done"]
    assert pipeline.parameters == SegmentationParameters()


def test_a_change_from_elsewhere_reaches_the_page(view, pipeline):
    async def work(session):
        async with session.ws_connect(f"{view.url}live") as pipe:
            await until(pipe, "hello")
            pipeline.parameters = SegmentationParameters(min_score=0.9)  # as `ros2 param set` does
            return await until(pipe, "values")

    assert ask(work)["values"]["min_score"] == 0.9


def test_a_viewer_that_stalls_holds_up_nobody_and_is_reported(view):
    """One page draws, one never does: the first goes on to see every picture."""

    async def work(session):
        async with (
            session.ws_connect(f"{view.url}live") as good,
            session.ws_connect(f"{view.url}live") as stalled,
        ):
            await until(stalled, "hello")  # reads nothing after this
            seen = 0
            for i in range(60):
                view.offer(shot(i))
                await until(good, "picture")
                seen += 1
                await good.send_json({"drawn": seen})
            return seen

    assert ask(work) == 60
    assert wait_until(lambda: view.server.viewers == 0, timeout_s=5)
    counts = sorted(view.server.counts(), key=lambda c: c.sent)
    assert (counts[0].sent, counts[1].sent) == (IN_FLIGHT, 60)
    assert counts[0].dropped >= 60 - IN_FLIGHT - 1
    assert counts[1].dropped == 0
    lines = "\n".join(view.lines())
    assert f"view: {IN_FLIGHT} pictures to 127.0.0.1, {counts[0].dropped} dropped" in lines


def test_a_viewer_whose_network_stands_still_does_not_keep_the_command_from_ending(
    pipeline, tmp_path
):
    with make(pipeline, tmp_path) as view:
        port = view.server.address.port
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(
                b"GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert wait_until(lambda: view.is_watched, timeout_s=5)
            for i in range(30):
                view.offer(shot(i, 1280, 720))
                time.sleep(0.01)
            ending = threading.Thread(target=view.__exit__, args=(None, None, None))
            ending.start()
            ending.join(15)
            assert not ending.is_alive()


def test_record_writes_what_arrives_into_a_bag_that_opens(view, tmp_path):
    async def work(session):
        async with session.ws_connect(f"{view.url}live") as pipe:
            view.take(event_packet(0), "/camera/events")  # before the button: not in the bag
            await pipe.send_json({"do": "record", "on": True})
            begun = await until(pipe, "answer")
            for seq in range(1, 21):
                view.take(event_packet(seq), "/camera/events")
            await pipe.send_json({"do": "record", "on": True})
            twice = await until(pipe, "answer")
            await pipe.send_json({"do": "record", "on": False})
            return begun, twice, await until(pipe, "answer")

    begun, twice, ended = ask(work)
    (path,) = tmp_path.glob("events_*.mcap")
    assert begun["text"] == f"recording into {path}"
    assert (twice["is_done"], twice["text"]) == (False, f"{path} is being recorded already")
    assert ended["text"].startswith(f"recorded {path}: 20 messages, ")
    assert f"recorded {path}: 20 messages" in "\n".join(view.lines())
    with open_recording(path) as recording:
        assert recording.info.topic == "/camera/events"
        assert sum(len(batch.events) for batch in recording.batches()) == 1000


def test_a_recording_is_finished_when_the_command_ends(pipeline, tmp_path):
    with make(pipeline, tmp_path) as view:
        assert view._recorder is not None
        view._recorder.start()
        view.take(event_packet(1), "/camera/events")
    (path,) = tmp_path.glob("events_*.mcap")
    with open_recording(path) as recording:
        assert recording.info.topic == "/camera/events"


def test_a_full_disk_keeps_the_button_from_starting_and_ends_what_runs(tmp_path):
    free = {"bytes": KEEP_FREE_BYTES - 1}
    recorder = PacketRecorder(tmp_path, free_bytes=lambda folder: free["bytes"])
    with pytest.raises(RecordingError, match="256 MB are kept free"):
        recorder.start()
    free["bytes"] = KEEP_FREE_BYTES
    path = recorder.start()
    free["bytes"] = 0
    recorder.take(event_packet(1), "/camera/events")
    assert wait_until(lambda: recorder.state.trouble != "", timeout_s=5)
    state = recorder.stop()
    assert "ended early: the disk of" in state.text()
    assert path.exists(), "what came before is kept"


def test_a_taken_port_is_an_error_if_it_was_named_and_else_the_next_one(pipeline, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ViewError, match=rf"port {port} is taken: .*--view :{port + 1}"):
            make(pipeline, tmp_path, f":{port}")
    with make(pipeline, tmp_path, "") as first, make(pipeline, tmp_path, "") as second:
        assert first.server.address.port != second.server.address.port


def test_an_address_of_another_machine_is_told(pipeline, tmp_path):
    with pytest.raises(ViewError, match=r"is no address of this machine: take 127\.0\.0\.1"):
        make(pipeline, tmp_path, "192.0.2.1:8765")


def test_the_page_is_part_of_the_package():
    from evdistill_core.viewing.live import server

    assert (Path(server.__file__).parent / "page.html").is_file()
    assert server.page().count("NONCE") == 2
