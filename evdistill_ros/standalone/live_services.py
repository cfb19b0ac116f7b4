"""What `ros2 param`, `ros2 lifecycle get` and the switches of a node find at the DDS front end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evdistill_core.foundation.config import to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.messages.services import (
    SERVICE_TYPES,
    ChangeStateRequest,
    ChangeStateResponse,
    DescribeParametersRequest,
    DescribeParametersResponse,
    FloatingPointRange,
    GetAvailableTransitionsRequest,
    GetAvailableTransitionsResponse,
    GetParametersRequest,
    GetParametersResponse,
    GetParameterTypesRequest,
    GetParameterTypesResponse,
    GetStateRequest,
    GetStateResponse,
    IntegerRange,
    ListParametersRequest,
    ListParametersResponse,
    ListParametersResult,
    Parameter,
    ParameterDescriptor,
    ParameterValue,
    SetBoolRequest,
    SetBoolResponse,
    SetParametersAtomicallyRequest,
    SetParametersAtomicallyResponse,
    SetParametersRequest,
    SetParametersResponse,
    SetParametersResult,
    State,
    TriggerRequest,
    TriggerResponse,
)
from evdistill_core.perception.front_end import FrontEnd
from evdistill_core.perception.parameter_changes import changed, constraints, unknown_names
from evdistill_core.perception.parameters import Declaration, declarations
from evdistill_ros import qos
from evdistill_ros.dds import DdsNode

_ACTIVE = State(State.ACTIVE, "active")


class LiveServices:
    """Offers the services of a node; they end with it.

    Args:
        node: in whose thread requests are answered.
        front_end: whose parameters are shown and changed.
        use_sim_time: value of the parameter of that name, which every ROS node has.
        on_change: called after parameters have changed.
        log: told what somebody has switched, in words.
    """

    def __init__(
        self,
        node: DdsNode,
        front_end: FrontEnd,
        *,
        use_sim_time: bool,
        on_change: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self._front_end = front_end
        self._use_sim_time = use_sim_time
        self._on_change = on_change
        self._log = log
        parameters: dict[str, Callable[[Any], Any]] = {
            "list_parameters": self._list,
            "get_parameters": self._get,
            "get_parameter_types": self._get_types,
            "describe_parameters": self._describe,
            "set_parameters": self._set,
            "set_parameters_atomically": self._set_atomically,
        }
        others: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "get_state": ("lifecycle_msgs/srv/GetState", self._get_state),
            "change_state": ("lifecycle_msgs/srv/ChangeState", self._change_state),
            "get_available_transitions": (
                "lifecycle_msgs/srv/GetAvailableTransitions",
                self._get_available_transitions,
            ),
            "reset": ("std_srvs/srv/Trigger", self._reset),
            "enable": ("std_srvs/srv/SetBool", self._enable),
        }
        for name, handler in parameters.items():
            kind = f"rcl_interfaces/srv/{name.title().replace('_', '')}"
            node.create_service(f"~/{name}", SERVICE_TYPES[kind], handler, qos.PARAMETERS)
        for name, (kind, handler) in others.items():
            node.create_service(f"~/{name}", SERVICE_TYPES[kind], handler)

    def _values(self) -> dict[str, object]:
        """Return every parameter with its value, in order."""
        values = to_mapping(self._front_end.perception.parameters)
        return {**values, "use_sim_time": self._use_sim_time}

    def _declarations(self) -> Mapping[str, Declaration]:
        own = declarations(type(self._front_end.perception.parameters))
        return {**own, "use_sim_time": Declaration("Take the time from /clock.")}

    def _list(self, request: ListParametersRequest) -> ListParametersResponse:
        # No name of ours has a point in it, so there are no prefixes.
        names = [n for n in self._values() if not request.prefixes or n in request.prefixes]
        return ListParametersResponse(ListParametersResult(names, ()))

    def _get(self, request: GetParametersRequest) -> GetParametersResponse:
        return GetParametersResponse(self._asked(request.names))

    def _get_types(self, request: GetParameterTypesRequest) -> GetParameterTypesResponse:
        return GetParameterTypesResponse(bytes(v.kind for v in self._asked(request.names)))

    def _asked(self, names: Sequence[str]) -> list[ParameterValue]:
        values = self._values()
        return [
            ParameterValue.of(values[name]) if name in values else ParameterValue()
            for name in names
        ]

    def _describe(self, request: DescribeParametersRequest) -> DescribeParametersResponse:
        values, known = self._values(), self._declarations()
        return DescribeParametersResponse(
            [_described(n, known[n], values[n]) for n in request.names if n in known]
        )

    def _set(self, request: SetParametersRequest) -> SetParametersResponse:
        return SetParametersResponse([self._take([one]) for one in request.parameters])

    def _set_atomically(
        self, request: SetParametersAtomicallyRequest
    ) -> SetParametersAtomicallyResponse:
        return SetParametersAtomicallyResponse(self._take(request.parameters))

    def _take(self, wanted: Sequence[Parameter]) -> SetParametersResult:
        current = self._front_end.perception.parameters
        values = {p.name: p.value.value for p in wanted}
        unknown = unknown_names(values, type(current))
        if unknown:
            return SetParametersResult(False, "; ".join(unknown))
        if values.get("use_sim_time", self._use_sim_time) != self._use_sim_time:
            return SetParametersResult(False, "use_sim_time changes only at the start")
        try:
            after = changed(current, values)
        except ConfigError as error:
            return SetParametersResult(False, str(error))
        self._front_end.reconfigure(after)
        self._on_change()
        return SetParametersResult(True, "")

    def _get_state(self, request: GetStateRequest) -> GetStateResponse:
        return GetStateResponse(_ACTIVE)

    def _change_state(self, request: ChangeStateRequest) -> ChangeStateResponse:
        self._log("a transition was refused: evdistill live is active until it ends")
        return ChangeStateResponse(False)

    def _get_available_transitions(
        self, request: GetAvailableTransitionsRequest
    ) -> GetAvailableTransitionsResponse:
        return GetAvailableTransitionsResponse(())

    def _reset(self, request: TriggerRequest) -> TriggerResponse:
        return TriggerResponse(True, self._front_end.reset())

    def _enable(self, request: SetBoolRequest) -> SetBoolResponse:
        is_change = self._front_end.switch(on=request.data)
        said = f"switched {'on' if request.data else 'off'}"
        if is_change:
            self._log(f"{said} by ~/enable")
        return SetBoolResponse(True, said)


def _described(name: str, declaration: Declaration, value: object) -> ParameterDescriptor:
    unit = f" [{declaration.unit}]" if declaration.unit else ""
    fractions: list[FloatingPointRange] = []
    wholes: list[IntegerRange] = []
    low, high = declaration.low, declaration.high
    if low is not None and high is not None and not isinstance(value, list):
        if isinstance(value, float):
            fractions.append(FloatingPointRange(float(low), float(high)))
        else:
            wholes.append(IntegerRange(int(low), int(high), 1))
    return ParameterDescriptor(
        name=name,
        kind=ParameterValue.of(value).kind,
        description=declaration.text + unit,
        additional_constraints=constraints(declaration),
        read_only=not declaration.dynamic,
        floating_point_range=fractions,
        integer_range=wholes,
    )
