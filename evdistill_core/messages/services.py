"""Requests and replies of the services that our nodes offer: parameters, life cycle, switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar

from evdistill_core.messages.message import (
    Array,
    Bool,
    Bytes,
    Float64,
    Float64s,
    Message,
    Scalar,
    String,
    Text,
    UInt8,
    UInt64,
)

Int64 = Annotated[int, Scalar("int64", "q")]
Int64s = Annotated[Sequence[int], Array(Scalar("int64", "q"))]
Bools = Annotated[Sequence[bool], Array(Scalar("bool", "?"))]
Strings = Annotated[Sequence[str], Array(Text())]


@dataclass(frozen=True)
class ParameterValue(Message):
    """One of several values, chosen by ``kind``."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/ParameterValue"
    NOT_SET: ClassVar[int] = 0
    BOOL: ClassVar[int] = 1
    INTEGER: ClassVar[int] = 2
    DOUBLE: ClassVar[int] = 3
    STRING: ClassVar[int] = 4
    BYTES: ClassVar[int] = 5
    BOOLS: ClassVar[int] = 6
    INTEGERS: ClassVar[int] = 7
    DOUBLES: ClassVar[int] = 8
    STRINGS: ClassVar[int] = 9

    kind: UInt8 = NOT_SET
    bool_value: Bool = False
    integer_value: Int64 = 0
    double_value: Float64 = 0.0
    string_value: String = ""
    byte_array_value: Bytes = b""
    bool_array_value: Bools = ()
    integer_array_value: Int64s = ()
    double_array_value: Float64s = ()
    string_array_value: Strings = ()

    @classmethod
    def of(cls, value: object) -> ParameterValue:
        """Wrap a truth value, a number, a text, or a list of whole numbers or fractions."""
        if isinstance(value, bool):
            return cls(cls.BOOL, bool_value=value)
        if isinstance(value, int):
            return cls(cls.INTEGER, integer_value=value)
        if isinstance(value, float):
            return cls(cls.DOUBLE, double_value=value)
        if isinstance(value, str):
            return cls(cls.STRING, string_value=value)
        if isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
            return cls(cls.INTEGERS, integer_array_value=tuple(value))
        if isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value):
            return cls(cls.DOUBLES, double_array_value=tuple(float(v) for v in value))
        raise TypeError(f"no kind of parameter for {value!r}")

    @property
    def value(self) -> object:
        """The value; None where none is set."""
        return {
            self.BOOL: self.bool_value,
            self.INTEGER: self.integer_value,
            self.DOUBLE: self.double_value,
            self.STRING: self.string_value,
            self.BYTES: self.byte_array_value,
            self.BOOLS: self.bool_array_value,
            self.INTEGERS: self.integer_array_value,
            self.DOUBLES: self.double_array_value,
            self.STRINGS: self.string_array_value,
        }.get(self.kind)


@dataclass(frozen=True)
class Parameter(Message):
    """A name and its value."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/Parameter"

    name: String = ""
    value: ParameterValue = ParameterValue()


@dataclass(frozen=True)
class FloatingPointRange(Message):
    """Smallest and largest value."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/FloatingPointRange"

    from_value: Float64 = 0.0
    to_value: Float64 = 0.0
    step: Float64 = 0.0


@dataclass(frozen=True)
class IntegerRange(Message):
    """Smallest and largest value."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/IntegerRange"

    from_value: Int64 = 0
    to_value: Int64 = 0
    step: UInt64 = 0


@dataclass(frozen=True)
class ParameterDescriptor(Message):
    """What `ros2 param describe` shows; each range has one entry or none."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/ParameterDescriptor"

    name: String = ""
    kind: UInt8 = 0
    description: String = ""
    additional_constraints: String = ""
    read_only: Bool = False
    dynamic_typing: Bool = False
    floating_point_range: Sequence[FloatingPointRange] = ()
    integer_range: Sequence[IntegerRange] = ()


@dataclass(frozen=True)
class ListParametersResult(Message):
    """Names, and the prefixes that stand before a point in them."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/ListParametersResult"

    names: Strings = ()
    prefixes: Strings = ()


@dataclass(frozen=True)
class SetParametersResult(Message):
    """Whether a value was taken, and why not."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/SetParametersResult"

    successful: Bool = False
    reason: String = ""


@dataclass(frozen=True)
class Empty(Message):
    """A request without content: one byte, because no ROS message has none."""

    structure_needs_at_least_one_member: UInt8 = 0


@dataclass(frozen=True)
class ListParametersRequest(Message):
    """Which parameters are there?"""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/ListParameters_Request"

    prefixes: Strings = ()
    depth: UInt64 = 0


@dataclass(frozen=True)
class ListParametersResponse(Message):
    """Those."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/ListParameters_Response"

    result: ListParametersResult = ListParametersResult()


@dataclass(frozen=True)
class GetParametersRequest(Message):
    """Which values do they have?"""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/GetParameters_Request"

    names: Strings = ()


@dataclass(frozen=True)
class GetParametersResponse(Message):
    """One value a name, not set where the name is unknown."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/GetParameters_Response"

    values: Sequence[ParameterValue] = ()


@dataclass(frozen=True)
class GetParameterTypesRequest(GetParametersRequest):
    """Of which kind are they?"""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/GetParameterTypes_Request"


@dataclass(frozen=True)
class GetParameterTypesResponse(Message):
    """One kind of ``ParameterValue`` a name."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/GetParameterTypes_Response"

    types: Bytes = b""


@dataclass(frozen=True)
class DescribeParametersRequest(GetParametersRequest):
    """What are they?"""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/DescribeParameters_Request"


@dataclass(frozen=True)
class DescribeParametersResponse(Message):
    """One description a name."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/DescribeParameters_Response"

    descriptors: Sequence[ParameterDescriptor] = ()


@dataclass(frozen=True)
class SetParametersRequest(Message):
    """Set each that can be set."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/SetParameters_Request"

    parameters: Sequence[Parameter] = ()


@dataclass(frozen=True)
class SetParametersResponse(Message):
    """One result a parameter."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/SetParameters_Response"

    results: Sequence[SetParametersResult] = ()


@dataclass(frozen=True)
class SetParametersAtomicallyRequest(SetParametersRequest):
    """Set all, or none."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/SetParametersAtomically_Request"


@dataclass(frozen=True)
class SetParametersAtomicallyResponse(Message):
    """One result for all."""

    TYPE: ClassVar[str] = "rcl_interfaces/srv/SetParametersAtomically_Response"

    result: SetParametersResult = SetParametersResult()


@dataclass(frozen=True)
class State(Message):
    """A state of a life cycle."""

    TYPE: ClassVar[str] = "lifecycle_msgs/msg/State"
    ACTIVE: ClassVar[int] = 3

    number: UInt8 = 0
    label: String = ""


@dataclass(frozen=True)
class Transition(Message):
    """A step from one state to another."""

    TYPE: ClassVar[str] = "lifecycle_msgs/msg/Transition"

    number: UInt8 = 0
    label: String = ""


@dataclass(frozen=True)
class TransitionDescription(Message):
    """A step with both states."""

    TYPE: ClassVar[str] = "lifecycle_msgs/msg/TransitionDescription"

    transition: Transition = Transition()
    start_state: State = State()
    goal_state: State = State()


@dataclass(frozen=True)
class GetStateRequest(Empty):
    """In which state are you?"""

    TYPE: ClassVar[str] = "lifecycle_msgs/srv/GetState_Request"


@dataclass(frozen=True)
class GetStateResponse(Message):
    """In this one."""

    TYPE: ClassVar[str] = "lifecycle_msgs/srv/GetState_Response"

    current_state: State = State()


@dataclass(frozen=True)
class ChangeStateRequest(Message):
    """Take this step."""

    TYPE: ClassVar[str] = "lifecycle_msgs/srv/ChangeState_Request"

    transition: Transition = Transition()


@dataclass(frozen=True)
class ChangeStateResponse(Message):
    """Whether it was taken."""

    TYPE: ClassVar[str] = "lifecycle_msgs/srv/ChangeState_Response"

    success: Bool = False


@dataclass(frozen=True)
class GetAvailableTransitionsRequest(Empty):
    """Which steps are possible now?"""

    TYPE: ClassVar[str] = "lifecycle_msgs/srv/GetAvailableTransitions_Request"


@dataclass(frozen=True)
class GetAvailableTransitionsResponse(Message):
    """Those."""

    TYPE: ClassVar[str] = "lifecycle_msgs/srv/GetAvailableTransitions_Response"

    available_transitions: Sequence[TransitionDescription] = ()


@dataclass(frozen=True)
class TriggerRequest(Empty):
    """Do it."""

    TYPE: ClassVar[str] = "std_srvs/srv/Trigger_Request"


@dataclass(frozen=True)
class TriggerResponse(Message):
    """Whether it was done."""

    TYPE: ClassVar[str] = "std_srvs/srv/Trigger_Response"

    success: Bool = False
    message: String = ""


@dataclass(frozen=True)
class SetBoolRequest(Message):
    """On or off."""

    TYPE: ClassVar[str] = "std_srvs/srv/SetBool_Request"

    data: Bool = False


@dataclass(frozen=True)
class SetBoolResponse(TriggerResponse):
    """Whether it was done."""

    TYPE: ClassVar[str] = "std_srvs/srv/SetBool_Response"


@dataclass(frozen=True)
class ServiceType:
    """One ROS 2 service type.

    Attributes:
        name: as ROS writes it, ``std_srvs/srv/Trigger``.
        request: message that a client sends.
        response: message that it gets.
    """

    name: str
    request: type[Message]
    response: type[Message]


def _table() -> Mapping[str, ServiceType]:
    pairs: list[tuple[type[Message], type[Message]]] = [
        (ListParametersRequest, ListParametersResponse),
        (GetParametersRequest, GetParametersResponse),
        (GetParameterTypesRequest, GetParameterTypesResponse),
        (DescribeParametersRequest, DescribeParametersResponse),
        (SetParametersRequest, SetParametersResponse),
        (SetParametersAtomicallyRequest, SetParametersAtomicallyResponse),
        (GetStateRequest, GetStateResponse),
        (ChangeStateRequest, ChangeStateResponse),
        (GetAvailableTransitionsRequest, GetAvailableTransitionsResponse),
        (TriggerRequest, TriggerResponse),
        (SetBoolRequest, SetBoolResponse),
    ]
    types = [ServiceType(a.TYPE.removesuffix("_Request"), a, b) for a, b in pairs]
    return MappingProxyType({t.name: t for t in types})


SERVICE_TYPES = _table()

# As the type descriptions of ROS Jazzy have them (a test compares them where it is installed).
SERVICE_HASHES: Mapping[str, str] = MappingProxyType(
    dict(
        line.split()
        for line in """
rcl_interfaces/srv/ListParameters_Request RIHS01_a1b0b5d6b967a5b8ac5bc8563c3ea678f349e312a6a4967227c5a96bc5ce38df
rcl_interfaces/srv/ListParameters_Response RIHS01_31b937b82de3612426be79f231e386259f97e8dc843e3f2845288b4bfa296bdd
rcl_interfaces/srv/GetParameters_Request RIHS01_135a9e1c3d7cebef792f6687d7ddf99949b21a0bd9a320d863a9110a3f5cf4d6
rcl_interfaces/srv/GetParameters_Response RIHS01_9fa773b46e39cc5d02db6224d8fd520bb9caeeffc2b27c96c1e59431baba9f2a
rcl_interfaces/srv/GetParameterTypes_Request RIHS01_87d7ec5ef545d4daa289d500025d31fb2437bc8b8365ca367161c4dac4be33fd
rcl_interfaces/srv/GetParameterTypes_Response RIHS01_ac1335dce67c478e669434f6ac2fbff34fcd529580f272d3006785ba8b54e47f
rcl_interfaces/srv/DescribeParameters_Request RIHS01_05dd1c2bc87dec2627105c8070d6f9725c781a4f2ab852975bf105462b82b644
rcl_interfaces/srv/DescribeParameters_Response RIHS01_ad6747319613c6131589e062e095b469a46cc764f7d0f12a001a49e6cd893995
rcl_interfaces/srv/SetParameters_Request RIHS01_130d46386b7e84ea9ecf60608a4d83cbe5e5cb7c6cc5b712b7a4e3a6c254e932
rcl_interfaces/srv/SetParameters_Response RIHS01_7a0e8140a0b8d98308fa81a5403a766e610af29a239caf54b7553227906fc266
rcl_interfaces/srv/SetParametersAtomically_Request RIHS01_db0bd950ed5ed867a0e90b225e44dea382d762c0762ff3e0ee842190042a59e5
rcl_interfaces/srv/SetParametersAtomically_Response RIHS01_31b1a38c5b0b9d893ee24da45f69638f4561c78461d82d52750f429b534502b8
lifecycle_msgs/srv/GetState_Request RIHS01_77a9c844e7975f15bc2221e8bbebafc4d118afb78c7f7071eef91f83f940f2f6
lifecycle_msgs/srv/GetState_Response RIHS01_fe249babab472e42cb5653b5d6a6b0c42a003b0fdfb84851aea3fde08760b4f5
lifecycle_msgs/srv/ChangeState_Request RIHS01_d74c6f524e14cade7b67e7297190360ed749264af300524fc1456f27cc2a553a
lifecycle_msgs/srv/ChangeState_Response RIHS01_e1ddfed0271fefe63767aa71561926e4d9eac0f1ddf9e71a8873eb46b36deac2
lifecycle_msgs/srv/GetAvailableTransitions_Request RIHS01_52a73c0b5d7489bee0df6ddb0aec45c41289d223ff225b58fe11d859ac8109a6
lifecycle_msgs/srv/GetAvailableTransitions_Response RIHS01_4711339461aadf02bcfff797a198de911f885074bd3f2fe9f7b677ef87f0741c
std_srvs/srv/Trigger_Request RIHS01_d010825374ce8918e72bfd826c82603e60f45419e932ea976f807b74a863a199
std_srvs/srv/Trigger_Response RIHS01_2d946c21e2fc3f1e9ca6986a8191d85fcc70097a8bb7771a053564bc47009cdf
std_srvs/srv/SetBool_Request RIHS01_c62fbb99d94e1b25e8ef9e109f9581956bb1b3361a45a4e5810c36a90d29932e
std_srvs/srv/SetBool_Response RIHS01_d0814e7f7b4880ab77e9c57426c7aa1562ab69f11eef8e2e968812f9cbd0b059
""".strip().splitlines()  # noqa: E501 - a hash has no place to break
    )
)
"""RIHS01 hash of every request and response."""
