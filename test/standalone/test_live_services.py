"""What `ros2 param` and `ros2 lifecycle` ask the DDS front end, without ROS and without DDS."""

from types import SimpleNamespace

import pytest

from evdistill_core.messages.services import (
    SERVICE_TYPES,
    DescribeParametersRequest,
    GetParametersRequest,
    GetParameterTypesRequest,
    ListParametersRequest,
    Parameter,
    ParameterValue,
    SetBoolRequest,
    SetParametersAtomicallyRequest,
    SetParametersRequest,
)
from evdistill_core.perception.parameters import SegmentationParameters, defaults
from evdistill_ros.standalone.live_services import LiveServices


class FrontEnd:
    """As much of a front end as the services use."""

    def __init__(self):
        self.perception = SimpleNamespace(parameters=SegmentationParameters(student="a.evstudent"))
        self.is_on, self.resets = True, 0

    def reconfigure(self, parameters):
        self.perception.parameters = parameters

    def switch(self, *, on):
        changed, self.is_on = on != self.is_on, on
        return changed

    def reset(self):
        self.resets += 1
        return "begun again"


@pytest.fixture
def served():
    handlers, said, changes = {}, [], []
    node = SimpleNamespace(
        create_service=lambda name, kind, handler, qos=None: handlers.setdefault(
            name, (kind, handler)
        )
    )
    front = FrontEnd()
    LiveServices(
        node, front, use_sim_time=False, on_change=lambda: changes.append(1), log=said.append
    )

    def call(name, request=None):
        kind, handler = handlers[f"~/{name}"]
        request = kind.request() if request is None else request
        # Through the wire both ways, as a client sends and reads it.
        reply = handler(type(request).parse(request.serialize()))
        return kind.response.parse(reply.serialize())

    return SimpleNamespace(call=call, front=front, said=said, changes=changes, names=set(handlers))


def parameters(**values):
    return [Parameter(name, ParameterValue.of(value)) for name, value in values.items()]


def test_every_service_has_the_type_that_ros_gives_it(served):
    assert served.names == {
        f"~/{n}" for n in (
            "list_parameters", "get_parameters", "get_parameter_types", "describe_parameters",
            "set_parameters", "set_parameters_atomically", "get_state", "change_state",
            "get_available_transitions", "reset", "enable",
        )
    }  # fmt: skip
    assert "rcl_interfaces/srv/GetParameterTypes" in SERVICE_TYPES


def test_parameters_are_listed_and_read(served):
    listed = served.call("list_parameters", ListParametersRequest()).result.names
    assert list(listed) == [*defaults(), "use_sim_time"]
    some = served.call("list_parameters", ListParametersRequest(("roi",), 1)).result.names
    assert list(some) == ["roi"]
    names = ("min_score", "student", "roi", "publish_overlay", "window_us", "nothing")
    got = served.call("get_parameters", GetParametersRequest(names)).values
    assert [v.value for v in got] == [0.4, "a.evstudent", (0, 0, 0, 0), True, 0, None]
    types = served.call("get_parameter_types", GetParameterTypesRequest(names)).types
    assert list(types) == [v.kind for v in got] == [3, 4, 7, 1, 2, 0]


def test_descriptions_have_text_unit_and_range(served):
    names = ("min_score", "window_us", "device", "roi", "nothing")
    found = served.call("describe_parameters", DescribeParametersRequest(names)).descriptors
    score, window, device, roi = found
    assert (score.floating_point_range[0].to_value, score.read_only) == (1.0, False)
    assert (window.integer_range[0].to_value, "[us]" in window.description) == (10_000_000, True)
    assert (device.read_only, "one of auto, cpu, cuda" in device.additional_constraints) == (
        True,
        True,
    )
    assert (roi.kind, list(roi.integer_range)) == (ParameterValue.INTEGERS, [])


def test_each_parameter_is_set_for_itself_or_all_together(served):
    wanted = parameters(min_score=1, device="cuda", min_scor=0.5, top=1)
    results = served.call("set_parameters", SetParametersRequest(wanted)).results
    assert [r.successful for r in results] == [True, False, False, False]
    assert "cannot change while the node is configured" in results[1].reason
    assert "did you mean 'min_score'?" in results[2].reason
    assert served.front.perception.parameters.min_score == 1.0
    assert served.changes == [1]
    both = parameters(min_score=0.2, max_rate_hz=-1.0)
    refused = served.call("set_parameters_atomically", SetParametersAtomicallyRequest(both)).result
    assert (refused.successful, "max_rate_hz must lie in 0..1000" in refused.reason) == (
        False,
        True,
    )
    assert served.front.perception.parameters.min_score == 1.0


def test_the_time_of_the_graph_is_fixed(served):
    for value, taken in ((False, True), (True, False)):
        wanted = SetParametersRequest(parameters(use_sim_time=value))
        assert served.call("set_parameters", wanted).results[0].successful is taken


def test_the_life_cycle_is_one_state(served):
    state = served.call("get_state").current_state
    assert (state.number, state.label) == (3, "active")
    assert served.call("change_state").success is False
    assert "active until it ends" in served.said[0]
    assert list(served.call("get_available_transitions").available_transitions) == []


def test_reset_and_enable(served):
    assert served.call("reset").success
    assert served.front.resets == 1
    for on in (False, False, True):
        reply = served.call("enable", SetBoolRequest(on))
        assert (reply.success, served.front.is_on) == (True, on)
    assert served.said == ["switched off by ~/enable", "switched on by ~/enable"]
