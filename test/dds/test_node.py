"""Messages over real DDS, within one process."""

import os
import threading
import time

import numpy as np
import pytest

from evdistill_core.foundation.errors import ConfigError, MessageError
from evdistill_ros import qos
from evdistill_ros.dds import DdsError, DdsNode, library
from evdistill_ros.dds import domain as domains
from evdistill_ros.dds.graph import participant_info

IMAGE = "sensor_msgs/msg/Image"
PACKET = "event_camera_msgs/msg/EventPacket"


def message(size):
    return b"\x00\x01\x00\x00" + os.urandom(size)


def wait_for(predicate, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.002)
    return predicate()


@pytest.mark.parametrize("profile", [qos.RESULTS, qos.EVENTS], ids=["reliable", "best_effort"])
def test_bytes_arrive_as_they_were_sent(domain, topic, profile):
    received = []
    sizes = [1, 2, 3, 4, 5, 99, 1400, 65_536, 1_000_003, 2_000_000]
    with DdsNode("out") as out, DdsNode("into") as into:
        sub = into.create_subscription(topic, IMAGE, profile, received.append)
        pub = out.create_publisher(topic, IMAGE, profile)
        assert pub.wait_for_subscriber(30)
        assert sub.wait_for_publisher(30)
        for i, size in enumerate(sizes):
            data = message(size)
            assert pub.publish(data)
            assert wait_for(lambda n=i + 1: len(received) == n)
            packet = received[i]
            got = bytes(packet.data)
            assert got[: len(data)] == data
            assert got[len(data) :] == bytes(-len(data) % 4)
            assert packet.type_name == IMAGE
            assert packet.topic == topic
            assert abs(time.time_ns() - packet.receive_time_ns) < 10e9
        assert (pub.sent, sub.received, sub.lost) == (len(sizes), len(sizes), 0)


@pytest.mark.parametrize("wrap", [memoryview, bytearray, lambda b: np.frombuffer(b, np.uint8)])
def test_any_contiguous_bytes_can_be_published(domain, topic, wrap):
    received = []
    data = message(96)
    with DdsNode("n") as node:
        node.create_subscription(topic, IMAGE, qos.RESULTS, received.append)
        pub = node.create_publisher(topic, IMAGE, qos.RESULTS)
        assert pub.wait_for_subscriber(30)
        pub.publish(wrap(data))
        assert wait_for(lambda: received)
    assert bytes(received[0].data) == data


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0", b"\0\0\0\0abcd", b"\0\7\0\0abcd"])
def test_what_is_no_little_endian_cdr_is_refused(domain, topic, data):
    with DdsNode("n") as node:
        pub = node.create_publisher(topic, IMAGE, qos.RESULTS)
        with pytest.raises(MessageError, match="CDR header"):
            pub.publish(data)
        assert pub.sent == 0


def test_a_received_message_outlives_its_node_and_cannot_be_written(domain, topic):
    received = []
    data = message(100_000)
    with DdsNode("n") as node:
        node.create_subscription(topic, IMAGE, qos.RESULTS, received.append)
        pub = node.create_publisher(topic, IMAGE, qos.RESULTS)
        assert pub.wait_for_subscriber(30)
        pub.publish(data)
        assert wait_for(lambda: received)
    view = received.pop().data
    assert view.readonly
    array = np.frombuffer(view, np.uint8)
    del view
    assert array.tobytes() == data


def test_a_reliable_reader_of_a_best_effort_writer_is_told_the_cure(domain, topic):
    warnings = []
    with DdsNode("n", on_warning=warnings.append) as node:
        sub = node.create_subscription(topic, IMAGE, qos.RESULTS, lambda p: None)
        node.create_publisher(topic, IMAGE, qos.EVENTS)
        assert wait_for(lambda: sub.incompatible and len(warnings) == 2)
        assert "subscribe with best_effort" in sub.incompatible
        assert sub.matched_count == 0
    assert all(topic in w for w in warnings)


def test_a_latched_reader_of_a_volatile_writer_is_told_the_cure(domain, topic):
    with DdsNode("n", on_warning=lambda w: None) as node:
        sub = node.create_subscription(topic, IMAGE, qos.LATCHED, lambda p: None)
        node.create_publisher(topic, IMAGE, qos.RESULTS)
        assert wait_for(lambda: sub.incompatible)
    assert "subscribe with volatile" in sub.incompatible


def test_another_type_on_the_topic_is_warned_about(domain, topic):
    warnings = []
    with DdsNode("a", on_warning=warnings.append) as a, DdsNode("b") as b:
        a.create_subscription(topic, IMAGE, qos.RESULTS, lambda p: None)
        b.create_publisher(topic, PACKET, qos.RESULTS)
        assert wait_for(lambda: warnings)
    assert PACKET in warnings[0]


def test_nothing_is_replaced_that_a_fast_dds_reader_has_not_confirmed(domain, topic, monkeypatch):
    """It never returns from a take after a GAP for a message that it holds in part."""
    from evdistill_ros.dds import endpoints

    received = []
    with DdsNode("out") as out, DdsNode("into") as into:
        into.create_subscription(topic, IMAGE, qos.RESULTS, received.append)
        pub = out.create_publisher(topic, IMAGE, qos.RESULTS)
        assert pub.wait_for_subscriber(30)
        assert [g[:2] for g in pub._subscriber_guids()] == [b"\x01\x10"]
        data = message(100)
        monkeypatch.setattr(pub, "_subscriber_guids", lambda: [b"\x01\x0f" + bytes(14)])
        pub._on_status()
        # One that confirms gets everything.
        for _ in range(20):
            assert pub.publish(data)
            assert wait_for(lambda: pub.wait_for_acks(1))
        assert (pub.sent, pub.held_back) == (20, 0)
        # One that does not gets as many as are kept, until it must be dead.
        monkeypatch.setattr(library.library(), "dds_wait_for_acks", lambda *_: library.TIMEOUT)
        # The last one above was not yet known to be confirmed: it is one of the five.
        assert [pub.publish(data) for _ in range(8)] == [True] * 4 + [False] * 4
        assert (pub.sent, pub.held_back) == (24, 4)
        monkeypatch.setattr(endpoints, "PATIENCE_S", 0.0)
        assert pub.publish(data)
        monkeypatch.undo()
        pub._on_status()
        assert all(pub.publish(data) for _ in range(50))  # nobody of that kind is there any more


def test_a_late_joiner_gets_what_was_latched(domain, topic):
    received = []
    with DdsNode("a") as a:
        pub = a.create_publisher(topic, IMAGE, qos.LATCHED)
        pub.publish(message(10))
        newest = message(10)
        pub.publish(newest)
        with DdsNode("b") as b:
            b.create_subscription(topic, IMAGE, qos.LATCHED, received.append)
            assert wait_for(lambda: received)
            time.sleep(0.1)
    assert [bytes(p.data[:14]) for p in received] == [newest]


def test_a_publisher_disappears_and_returns(domain, topic):
    received = []
    with DdsNode("listener") as listener:
        sub = listener.create_subscription(topic, IMAGE, qos.EVENTS, received.append)
        for turn in (1, 2, 3):
            with DdsNode("camera") as camera:
                pub = camera.create_publisher(topic, IMAGE, qos.EVENTS)
                assert pub.wait_for_subscriber(30)
                assert listener.wait_for_publisher(topic, 10)
                pub.publish(message(50))
                assert wait_for(lambda n=turn: len(received) == n)
            assert wait_for(lambda: sub.matched_count == 0)
            assert wait_for(lambda: listener.find_topic(topic) == [])
        assert listener.failure is None
    # A writer that leaves sends a sample without data: it must not reach the callback.
    assert sub.received == 3


def test_a_topic_tells_type_qos_and_hash(domain, topic):
    with DdsNode("a") as a, DdsNode("b") as b:
        assert b.wait_for_publisher(topic, 0.05) == []
        a.create_publisher(topic, PACKET, qos.EVENTS)
        (found,) = b.wait_for_publisher(topic, 10)
        assert found.type_name == PACKET
        assert found.qos.reliability == "best_effort"
        assert found.qos.durability == "volatile"
        assert found.type_hash.startswith("RIHS01_d6fa1762")
        assert b.graph.topics()[topic] == {PACKET}


def test_private_names_and_namespaces(domain):
    with DdsNode("n", "robot1", remaps={"~/events": "/cam/events"}) as node:
        assert node.fully_qualified_name == "/robot1/n"
        assert node.create_publisher("~/mask", IMAGE).topic == "/robot1/n/mask"
        assert node.resolve("~/events") == "/cam/events"


def test_close_is_idempotent_and_final(domain, topic):
    node = DdsNode("n")
    pub = node.create_publisher(topic, IMAGE)
    sub = node.create_subscription(topic, IMAGE, qos.RESULTS, lambda p: None)
    node.close()
    node.close()
    pub.close()
    sub.close()
    assert node.closed
    assert pub.matched_count == sub.matched_count == 0
    with pytest.raises(DdsError, match="closed"):
        pub.publish(message(4))
    with pytest.raises(DdsError, match="closed"):
        node.create_publisher(topic, IMAGE)


def test_close_while_traffic_flows(domain, topic):
    for _ in range(5):
        received, stop, errors = [], threading.Event(), []
        out, into = DdsNode("out"), DdsNode("into")
        into.create_subscription(topic, IMAGE, qos.EVENTS, received.append)
        pub = out.create_publisher(topic, IMAGE, qos.EVENTS)

        def send(pub=pub, stop=stop, errors=errors):
            data = message(50_000)
            while not stop.is_set():
                try:
                    pub.publish(data)
                except DdsError as error:
                    errors.append(error)
                    return

        thread = threading.Thread(target=send)
        thread.start()
        assert wait_for(lambda r=received: len(r) > 10)
        into.close()
        count = len(received)
        out.close()
        thread.join(5)
        assert not thread.is_alive()
        assert len(received) == count
        assert len(errors) == 1


def test_a_node_can_be_closed_by_its_own_callback(domain, topic):
    node = DdsNode("n")
    done = threading.Event()

    def stop(packet):
        node.close()
        done.set()

    node.create_subscription(topic, IMAGE, qos.RESULTS, stop)
    pub = node.create_publisher(topic, IMAGE)
    assert pub.wait_for_subscriber(30)
    pub.publish(message(4))
    assert done.wait(10)
    assert node.failure is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failing_callback_is_not_a_quiet_topic(domain, topic):
    with DdsNode("n") as node:

        def fail(packet):
            raise RuntimeError("broken callback")

        node.create_subscription(topic, IMAGE, qos.RESULTS, fail)
        pub = node.create_publisher(topic, IMAGE)
        assert pub.wait_for_subscriber(30)
        pub.publish(message(4))
        assert wait_for(lambda: node.failure is not None)
        assert "broken callback" in str(node.failure)


def test_memory_returns_to_dds_and_the_domain_waits_for_it(domain, topic):
    held = []
    with DdsNode("n") as node:
        pub = node.create_publisher(topic, IMAGE, qos.EVENTS)
        node.create_subscription(topic, IMAGE, qos.EVENTS, lambda p: held.append(p.data))
        assert pub.wait_for_subscriber(30)
        pub.publish(message(500))
        assert wait_for(lambda: held)
        views = node.domain_state.views
        assert len(views) == 1
    assert domain in domains._domains  # one message still lives in its memory
    with DdsNode("n") as node:
        assert node.domain_state.views is views
        held.clear()
        assert not views
    assert domain not in domains._domains


def test_a_domain_kept_for_its_messages_is_configured_anew(domain, topic, monkeypatch):
    held = []
    with DdsNode("n") as node:
        pub = node.create_publisher(topic, IMAGE, qos.EVENTS)
        node.create_subscription(topic, IMAGE, qos.EVENTS, lambda p: held.append(p.data))
        assert pub.wait_for_subscriber(30)
        pub.publish(message(4))
        assert wait_for(lambda: held)
    kept = domains._domains[domain]
    held.clear()  # after its last node has left
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    with DdsNode("n") as node:
        assert node.domain_state is not kept
        assert "ros_discovery_off" in node.domain_state.xml
    assert domain not in domains._domains


@pytest.mark.slow
def test_memory_stays_flat(domain, topic):
    psutil = pytest.importorskip("psutil")
    data = message(200_000)
    with DdsNode("n") as node:
        sub = node.create_subscription(topic, IMAGE, qos.EVENTS, lambda p: len(p.data))
        pub = node.create_publisher(topic, IMAGE, qos.EVENTS)
        assert pub.wait_for_subscriber(30)
        sizes = []
        for _ in range(4):
            for _ in range(1000):
                pub.publish(data)
            assert wait_for(lambda: sub.received == pub.sent)
            sizes.append(psutil.Process().memory_info().rss)
    assert sizes[-1] - sizes[0] < 20e6  # a leak would be 600 MB


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EVDISTILL_LIBDDSC", str(tmp_path / "libddsc.so"))
    monkeypatch.setattr(library, "_library", None)
    with pytest.raises(DdsError, match=r"libddsc\.so cannot be used"):
        library.library()


@pytest.mark.parametrize(("distro", "gid_bytes"), [("jazzy", 16), ("", 16), ("humble", 24)])
def test_gids_have_the_size_of_the_distribution(monkeypatch, distro, gid_bytes):
    monkeypatch.setenv("ROS_DISTRO", distro)
    guids = [bytes([i]) * 16 for i in range(3)]
    data = participant_info(guids[0], "/ns", "name", [guids[1]], [guids[2], guids[1]])
    # Header, gid, count, "/ns" and "name" with their ends and padding, two counts, three gids.
    assert len(data) == 4 + gid_bytes + 4 + 8 + 12 + 4 + 4 + 3 * gid_bytes
    assert data[4 : 4 + gid_bytes] == guids[0].ljust(gid_bytes, b"\0")
    assert data.endswith(guids[1].ljust(gid_bytes, b"\0"))


def test_profiles_say_what_does_not_match():
    assert qos.RESULTS.accepts(qos.RESULTS) == ""
    assert qos.EVENTS.accepts(qos.RESULTS) == ""
    assert "best_effort" in qos.RESULTS.accepts(qos.EVENTS)
    assert "volatile" in qos.LATCHED.accepts(qos.RESULTS)
    for bad in ({"reliability": "x"}, {"durability": "x"}, {"depth": -1}, {"lifespan_ms": 0}):
        with pytest.raises(ConfigError):
            qos.QosProfile(**bad)


def test_the_child_of_a_fork_is_told(domain, topic):
    with DdsNode("n") as node:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                node.create_publisher(topic, IMAGE)
            except DdsError as error:
                code = 0 if "fork" in str(error) else 2
            node.close()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert node.create_publisher(topic, IMAGE).publish(message(4))
