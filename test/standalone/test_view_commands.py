"""The live view of each command, asked as a browser would: live, play, view --live, demo."""

import asyncio
import json
import re
import signal
import threading
import time

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="needs aiohttp: pip install .[view]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def url_of(command):
    """Wait for the line in which a command tells where its page is."""
    end_s = time.monotonic() + 100
    while time.monotonic() < end_s:
        line = command.process.stdout.readline()
        assert line, f"{command.process.args} ended"
        if line.startswith("live view: "):
            return line.split()[-1]
    raise AssertionError("no page")


def watch(url, pictures, *, ask=()):
    """Look like a page that draws everything; return the headers of pictures and all texts."""

    async def look():
        headers, texts = [], []
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}live") as pipe:
            for request in ask:
                await pipe.send_json(request)
            while len(headers) < pictures:
                message = await pipe.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    length = int.from_bytes(message.data[4:8], "little")
                    headers.append(json.loads(message.data[8 : 8 + length]))
                    await pipe.send_json({"drawn": len(headers)})
                else:
                    assert message.type is aiohttp.WSMsgType.TEXT, message
                    texts.append(json.loads(message.data))
        return headers, texts

    return asyncio.run(asyncio.wait_for(look(), 100))


def of_kind(texts, kind):
    return [t for t in texts if t["type"] == kind]


def test_live_shows_masks_and_takes_parameters(
    evdistill, camera, tiny_student, street_packets, tmp_path
):
    camera.advertise()
    live = evdistill("live", "--student", tiny_student, "--view", ":0")
    url = url_of(live)
    stopping = threading.Event()

    def drive():
        while not stopping.is_set():  # a busy machine computes few windows of one turn
            camera.send(street_packets)

    driver = threading.Thread(target=drive)
    driver.start()
    request = {"do": "set", "name": "window_us", "value": 25_000}
    try:
        headers, texts = watch(url, 12, ask=[request])
    finally:
        stopping.set()
        driver.join()
    assert all("mask" in h["planes"] for h in headers)
    assert {tuple(h["sensor"]) for h in headers} == {(346, 260)}
    assert [a["text"] for a in of_kind(texts, "answer")] == ["window_us is 25000 us"]
    assert headers[-1]["t_end_us"] - headers[-1]["t_start_us"] == 25_000
    hello = of_kind(texts, "hello")[0]
    assert hello["source"] == "/event_camera/events"
    assert hello["can_record"]
    assert of_kind(texts, "status")[-1]["events_per_s"] > 0
    live.send(signal.SIGTERM)
    assert live.wait() == 0, live.output
    assert "view: 12 pictures to 127.0.0.1" in live.output


def test_play_shows_what_it_sends(evdistill, street_packets):
    play = evdistill("play", "demo/davis346_street.mcap", "--loop", "--view", ":0")
    headers, texts = watch(url_of(play), 20)
    assert all(h["planes"].keys() <= {"events", "grey"} for h in headers)
    assert sum(h["events"] for h in headers) > 1000
    hello = of_kind(texts, "hello")[0]
    assert (hello["controls"], hello["can_record"]) == ([], False)
    play.send(signal.SIGINT)
    assert play.wait() == 130, play.output
    assert "view: 20 pictures to 127.0.0.1" in play.output


def test_view_live_shows_a_topic_with_what_a_node_says_of_it(
    evdistill, camera, tiny_student, street_packets
):
    view = evdistill("view", "--live", "/event_camera/events", "--view", ":0")
    url = url_of(view)
    live = evdistill("live", "--student", tiny_student)
    evdistill("play", "demo/davis346_street.mcap", "--loop")

    deadline = time.monotonic() + 90
    headers: list = []
    while not any("mask" in h["planes"] for h in headers):
        assert time.monotonic() < deadline, "no mask came"
        headers, texts = watch(url, 20)
    assert [c["name"] for c in of_kind(texts, "hello")[-1]["classes"]][-1] == "vehicle"
    live.send(signal.SIGTERM)
    view.send(signal.SIGINT)
    assert view.wait() == 130, view.output


def test_demo_shows_the_recording_over_and_over_and_says_who_looked(
    evdistill, tiny_student, tmp_path
):
    demo = evdistill("demo", "--student", tiny_student, "--view", ":0")
    headers, _ = watch(url_of(demo), 10)
    assert "mask" in headers[-1]["planes"]
    demo.send(signal.SIGINT)
    assert demo.wait() == 130, demo.output
    assert "view: 10 pictures to 127.0.0.1" in demo.output


def test_live_feeds_rerun_and_foxglove(evdistill, camera, tiny_student, street_packets, tmp_path):
    reason = "needs rerun-sdk and foxglove-sdk: pip install .[rerun,foxglove]"
    pytest.importorskip("rerun", reason=reason)
    pytest.importorskip("foxglove", reason=reason)
    from rerun.chunk import RrdReader

    camera.advertise()
    path = tmp_path / "street.rrd"
    live = evdistill(
        "live", "--student", tiny_student, "--rerun", path, "--foxglove", ":0", "--view", ":0"
    )
    url = url_of(live)
    stopping = threading.Event()

    def drive():
        while not stopping.is_set():
            camera.send(street_packets)

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        watch(url, 12)
    finally:
        stopping.set()
        driver.join()
    live.send(signal.SIGINT)
    assert live.wait() == 130, live.output
    assert "foxglove: 0 windows to ws://127.0.0.1:" in live.output
    (sent,) = re.findall(r"rerun: (\d+) windows to", live.output)
    rows = {"/camera/mask": 0, "/camera/boxes": 0}
    for chunk in RrdReader(path).stream().collect().stream():
        if str(chunk.entity_path) in rows:
            rows[str(chunk.entity_path)] += chunk.to_record_batch().num_rows
    assert rows == {"/camera/mask": int(sent), "/camera/boxes": int(sent)}
    assert int(sent) >= 12


def test_what_cannot_be_shown_is_one_clear_line(evdistill):
    for arguments, text in (
        (("live", "--view=http://x"), "the address of a view is HOST:PORT"),
        (("live", "--rerun=x.mcap"), "--rerun takes FILE.rrd, HOST:PORT of a viewer"),
        (("live", "--rerun", "setup.py/a.rrd"), "setup.py"),
        (("live", "--foxglove=http://x"), "--foxglove: the address of a view is HOST:PORT"),
        (("play", "demo/davis346_street.mcap", "--view=192.0.2.1:80"), "is no address of this"),
        (("demo", "--view", "--out", "x"), "leave out --out, or --view"),
        (("view", "demo/davis346_street.mcap", "--live", "/e"), "not both"),
        (("view",), "name a RECORDING, or a topic with --live TOPIC"),
    ):
        command = evdistill(*arguments)
        assert command.wait() == 2, command.output
        last = command.output.strip().splitlines()[-1]
        assert text in last
        assert last.startswith(f"evdistill {arguments[0]}: error: ")
