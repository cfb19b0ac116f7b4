"""use_sim_time, and bags that loop, jump and pause: rclpy node and DDS front end on a real ROS."""

import sys

import numpy as np
import pytest
from ros_graph import Process, S, node_process, stamps

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture(params=["rclpy", "dds"])
def front_end(request, tiny_student):
    """Start the node under test in either form with use_sim_time."""

    def start():
        # Windows end by the events alone: a publisher that a busy machine holds up is no pause.
        given = ["-p", "use_sim_time:=true", "-p", "deadline_ms:=0.0"]
        if request.param == "rclpy":
            return node_process(tiny_student, *given)
        return Process(
            sys.executable, "-m", "evdistill_core", "live", "--student", tiny_student, *given
        )

    return start


def spans(packets):
    return {p.receive_time_ns for p in packets}


def test_a_looped_bag_with_clock_starts_anew(front_end, graph, packets):
    from rclpy.qos import QoSProfile
    from rosgraph_msgs.msg import Clock

    clock = graph.node.create_publisher(Clock, "/clock", QoSProfile(depth=10))

    def tick(stamp_ns):
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp_ns, S)
        clock.publish(message)

    with front_end() as node:
        # No /clock yet: the node must find the topic and report all the same.
        assert graph.spin(60, lambda: graph.events.get_subscription_count() > 0), "nobody listens"
        assert graph.spin(60, lambda: clock.get_subscription_count() > 0)
        graph.spin(0.5)
        for turn in range(2):
            for packet in packets[:43]:
                tick(packet.receive_time_ns)
                graph.events.publish(bytes(packet.data))
                graph.spin(0.012)
            if turn == 0:
                first_turn = len(graph.got["mask"])
        jump_to = packets[0].receive_time_ns + 60 * S
        tick(jump_to)
        graph.spin(2.5)
        level, _, values = graph.values()
        _, _, of_results = graph.values("/segmentation: results")
        node.end()
    # The recording is years old; its results are not, by the time of the graph.
    ages_ms = {**values, **of_results}
    assert 0 <= float(ages_ms["age_ms_p50"]) < 5_000
    assert int(values["breaks_clock"]) == 2, values
    assert int(values["messages_received"]) == 86
    accounted = sum(int(values.get(f"messages_{n}", 0)) for n in ("used", "damaged", "discarded"))
    assert accounted + int(values["queue_packets"]) == 86
    assert level == 1  # quiet for more than a second: WARN
    times = stamps(graph.got["mask"])
    assert first_turn >= 6
    backward = np.flatnonzero(np.diff(times) < 0)
    assert len(backward) == 1, "exactly one step back: where the bag restarted"
    # No window holds events of both turns: each stamp lies in the bag's own span.
    assert min(times) >= packets[0].receive_time_ns
    assert max(times) <= packets[42].receive_time_ns + S // 10
    reported = graph.got["diagnostics"][-1].header.stamp
    assert reported.sec * S + reported.nanosec == jump_to


def test_loops_jumps_and_pauses_without_clock(tiny_student, graph, packets):
    with node_process(tiny_student) as node:
        graph.send(packets[:43])  # a pause of more than a second follows
        before_pause = stamps(graph.got["mask"])
        graph.send(packets[43:60])
        _, _, paused = graph.values()
        after_pause = stamps(graph.got["mask"])[len(before_pause) :]
        graph.send(packets[:43])  # the bag restarts
        graph.send(packets[80:])  # and skips
        graph.spin(1.0)
        _, _, values = graph.values()
        node.end()
    # A busy machine may hold the sender up for long enough to make a pause of its own.
    assert int(paused.get("breaks_pause", 0)) >= 1, paused
    assert len(after_pause) >= 2
    assert int(values["breaks_time"]) >= 1, values
    assert int(values["breaks_seq"]) >= 1
    assert int(values["messages_used"]) == 43 + 17 + 43 + len(packets[80:])
