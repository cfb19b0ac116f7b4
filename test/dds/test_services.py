"""Services as rmw_cyclonedds calls them, within one process; test/ros calls them from ROS."""

import itertools
import struct
import time

import pytest

from evdistill_core.messages.services import (
    SERVICE_TYPES,
    SetBoolRequest,
    SetBoolResponse,
    TriggerResponse,
)
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode
from evdistill_ros.dds.endpoints import Publisher, Subscription
from evdistill_ros.dds.names import dds_reply_topic, dds_request_topic

TRIGGER, SET_BOOL = (SERVICE_TYPES[f"std_srvs/srv/{n}"] for n in ("Trigger", "SetBool"))


def wait_for(predicate, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.002)
    return predicate()


class Client:
    """Puts the 16 bytes of rmw_cyclonedds in front, and looks for them in the answers."""

    def __init__(self, node, name, service, number=7):
        self.service, self.number, self.got = service, number, []
        self.count = itertools.count(1)
        self.requests = Publisher(
            node, name, service.request.TYPE, qos.DEFAULT, 100, dds_request_topic(name)
        )
        self.replies = Subscription(
            node, name, service.response.TYPE, qos.DEFAULT,
            lambda p: self.got.append(bytes(p.data)), dds_reply_topic(name),
        )  # fmt: skip

    def send(self, body):
        header = struct.pack("<Qq", self.number, next(self.count))
        self.requests.publish(body[:4] + header + body[4:])
        return header

    def call(self, request):
        assert self.requests.wait_for_subscriber(30)
        assert self.replies.wait_for_publisher(30)
        header = self.send(request.serialize())
        mine = lambda: [d for d in self.got if d[4:20] == header]  # noqa: E731
        assert wait_for(mine), "no answer"
        data = mine()[0]
        return self.service.response.parse(data[:4] + data[20:])

    def close(self):
        self.requests.close()
        self.replies.close()


@pytest.fixture
def nodes(domain):
    with (
        DdsNode("server", "/left", on_warning=lambda _: None) as server,
        DdsNode("caller") as caller,
    ):
        yield server, caller


def test_an_answer_finds_its_client(nodes):
    server, caller = nodes
    asked = []

    def answer(request):
        asked.append(request.data)
        return SetBoolResponse(request.data, f"number {len(asked)}")

    service = server.create_service("~/enable", SET_BOOL, answer)
    one, two = (Client(caller, "/left/server/enable", SET_BOOL, n) for n in (1, 2))
    assert one.call(SetBoolRequest(True)) == SetBoolResponse(True, "number 1")
    assert two.call(SetBoolRequest(False)) == SetBoolResponse(False, "number 2")
    assert one.call(SetBoolRequest(False)) == SetBoolResponse(False, "number 3")
    assert (asked, service.answered, service.damaged) == ([True, False, False], 3, 0)
    one.close()
    two.close()


def test_a_request_that_cannot_be_read_is_counted_and_the_next_one_answered(nodes):
    server, caller = nodes
    service = server.create_service("/reset", TRIGGER, lambda _: TriggerResponse(True, "done"))
    client = Client(caller, "/reset", TRIGGER)
    assert client.requests.wait_for_subscriber(30)
    client.requests.publish(b"\0\1\0\0\1")  # no header, no body
    client.send(b"\0\1\0\0" + bytes(99))  # far too long
    assert wait_for(lambda: service.damaged == 2)
    assert client.call(TRIGGER.request()) == TriggerResponse(True, "done")
    client.close()


def test_a_client_on_another_rmw_is_left_alone_and_told_of(domain, monkeypatch):
    warnings = []
    with DdsNode("server", on_warning=warnings.append) as server, DdsNode("caller") as caller:
        service = server.create_service("/reset", TRIGGER, lambda _: TriggerResponse(True))
        client = Client(caller, "/reset", TRIGGER)
        monkeypatch.setattr(service.requests, "sender_guid", lambda: b"\x01\x0f" + bytes(14))
        assert client.requests.wait_for_subscriber(30)
        client.send(TRIGGER.request().serialize())
        client.send(TRIGGER.request().serialize())
        assert wait_for(lambda: service.foreign == 2)
        time.sleep(0.1)
        assert (client.got, service.answered, len(warnings)) == ([], 0, 1)
        client.close()
    assert "run it with RMW_IMPLEMENTATION=rmw_cyclonedds_cpp" in warnings[0]
