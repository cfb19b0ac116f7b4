"""Requests and replies against the type descriptions of an installed ROS."""

import json
from pathlib import Path

import pytest

from evdistill_core.messages.message import Array, Nested, kinds
from evdistill_core.messages.services import (
    SERVICE_HASHES,
    SERVICE_TYPES,
    Parameter,
    ParameterValue,
    SetParametersRequest,
)

ROS_SHARE = Path("/opt/ros/jazzy/share")


def test_every_message_has_a_hash():
    names = {m.TYPE for t in SERVICE_TYPES.values() for m in (t.request, t.response)}
    assert names == set(SERVICE_HASHES)
    assert all(h.startswith("RIHS01_") and len(h) == 71 for h in SERVICE_HASHES.values())


def test_hashes_and_fields_are_those_of_an_installed_ros():
    compared = 0
    for service in SERVICE_TYPES.values():
        package, _, name = service.name.split("/")
        path = ROS_SHARE / package / "srv" / f"{name}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        hashes = {h["type_name"]: h["hash_string"] for h in content["type_hashes"]}
        described = content["type_description_msg"]["referenced_type_descriptions"]
        fields = {d["type_name"]: d["fields"] for d in described}
        for message in (service.request, service.response):
            assert SERVICE_HASHES[message.TYPE] == hashes[message.TYPE]
            check_fields(message, fields)
            compared += 1
    if not compared:
        pytest.skip(f"no ROS 2 type descriptions in {ROS_SHARE}")


def check_fields(message, described):
    """Compare number, order and nesting of the fields; names may differ (``kind``, ``type``)."""
    theirs = described[message.TYPE]
    ours = kinds(message)
    assert len(ours) == len(theirs), message.TYPE
    for (_, kind), field in zip(ours, theirs, strict=True):
        element = kind.element if isinstance(kind, Array) else kind
        nested = element.message.TYPE if isinstance(element, Nested) else ""
        assert nested == field["type"]["nested_type_name"], (message.TYPE, field["name"])
        if nested:
            check_fields(element.message, described)


def test_values_of_every_kind_survive_the_wire():
    values = [True, 7, -1.5, "grüße", [1, 2], [0.5, 1.0]]
    request = SetParametersRequest([Parameter("p", ParameterValue.of(v)) for v in values])
    back = SetParametersRequest.parse(request.serialize())
    assert [p.value.value for p in back.parameters] == [*values[:4], (1, 2), (0.5, 1.0)]
    with pytest.raises(TypeError, match="no kind of parameter"):
        ParameterValue.of({"a": 1})
