"""Where the page may be served, and who may ask for it."""

import pytest

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.viewing.live.address import Access, ViewAddress

LOCAL = Access(ViewAddress("127.0.0.1", 8765))
OPEN = Access(ViewAddress("0.0.0.0", 8765), "secret")


@pytest.mark.parametrize(
    ("text", "host", "port", "is_chosen", "is_loopback"),
    [
        ("", "127.0.0.1", 8765, False, True),
        (":9000", "127.0.0.1", 9000, True, True),
        ("9000", "127.0.0.1", 9000, True, True),
        ("localhost:0", "localhost", 0, True, True),
        ("0.0.0.0:80", "0.0.0.0", 80, True, False),
        ("robot-1.lan", "robot-1.lan", 8765, False, False),
        ("[::1]:8080", "::1", 8080, True, True),
        ("192.168.1.7:8080", "192.168.1.7", 8080, True, False),
    ],
)
def test_addresses_as_users_write_them(text, host, port, is_chosen, is_loopback):
    address = ViewAddress.parse(text)
    assert (address.host, address.port, address.is_chosen) == (host, port, is_chosen)
    assert address.is_loopback == is_loopback


@pytest.mark.parametrize("text", ["http://localhost:80", "a b:1", "::1:80", "host:port", "/x"])
def test_another_form_is_refused_with_the_right_one(text):
    with pytest.raises(ConfigError, match=r"HOST:PORT.*such as 127.0.0.1:8765, got "):
        ViewAddress.parse(text)


def test_a_port_out_of_range_is_named():
    with pytest.raises(ConfigError, match=r"0\.\.65535, got 70000"):
        ViewAddress.parse(":70000")
    with pytest.raises(ConfigError, match=r"0\.\.65535, got 99999"):
        ViewAddress.parse("99999")


def test_loopback_needs_no_token_and_others_get_a_fresh_one():
    assert not Access.to(ViewAddress.parse("")).token
    tokens = {Access.to(ViewAddress.parse("0.0.0.0:8765")).token for _ in range(3)}
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 24


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "localhost"])
def test_this_machine_may_ask_under_its_own_names(host):
    assert not LOCAL.refusal(host=host, origin=None, token="")
    assert not LOCAL.refusal(host=host, origin=f"http://{host}", token="")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "", "127.0.0.1.evil:8765"])
def test_a_name_that_was_bent_to_this_machine_is_refused(host):
    assert "answers to 127.0.0.1:8765 only" in LOCAL.refusal(host=host, origin=None, token="")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000"])
def test_a_page_from_elsewhere_may_not_talk_to_this_one(origin):
    for access in (LOCAL, OPEN):
        text = access.refusal(host="localhost:8765", origin=origin, token="secret")
        assert text == f"a page of {origin} may not talk to this one"


@pytest.mark.parametrize("token", ["", "secre", "secret2", "sécret"])
def test_elsewhere_than_on_loopback_the_token_decides(token):
    assert "token is missing or wrong" in OPEN.refusal(host="robot:8765", origin=None, token=token)
    assert not OPEN.refusal(host="robot:8765", origin="http://robot:8765", token="secret")
