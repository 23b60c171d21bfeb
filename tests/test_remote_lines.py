"""The line to a vendor: events however they are cut, an end in bytes and seconds, and who is asked."""

from __future__ import annotations

import ssl
import time
from typing import Any

import pytest

from anmok import calling
from anmok.calling import Server
from anmok.errors import BadRequest, Refused
from remote_vendor import EVENTS, Answer, Vendor, Write, there_fixture  # noqa: F401  # a fixture


def streamed(there: Vendor, data: Answer | bytes, server: Server | None = None) -> list[dict[str, Any]]:
    there.says(data)
    return list(calling.events(server or Server(there.root), "x", {}))


def test_events_are_read_however_they_are_cut() -> None:
    data = (
        b': hello\r\nevent: message\r\nid: 7\r\ndata: {"a":\r\ndata:  "\xea\xb0\x80"}\r\n\r\nretry: 5\n\n\n'
        b'data:{"b": 2}\n\ndata: {"c": "data: x\\n"}\n\n: bye\n\ndata: [DONE]\n\ndata: {"never": 1}\n\n'
    )
    whole = [b'{"a":\n  "\xea\xb0\x80"}', b'{"b": 2}', b'{"c": "data: x\\n"}', b"[DONE]", b'{"never": 1}']
    for size in range(1, len(data) + 1):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [one.strip() for one in calling._data(pieces)] == whole, size
    assert list(calling._data([b"data: 1"])) == [b" 1"]
    assert list(calling._data([b"datum: 1\n\n", b""])) == []


def test_nothing_is_read_after_the_end_was_said(there: Vendor) -> None:
    assert streamed(there, b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 1}\n\n') == [{"a": 1}]
    assert streamed(there, b'data: {"a": 1}\n\ndata: {"b": 1}') == [{"a": 1}, {"b": 1}]
    assert streamed(there, Answer(b'{"a": 1}', kind="application/json; charset=utf-8")) == [{"a": 1}]


def test_an_answer_has_an_end_in_bytes_and_in_seconds(there: Vendor) -> None:
    with pytest.raises(Refused, match="too long or too slow"):
        streamed(there, b'data: {"a": "' + b"x" * 5000 + b'"}\n\n', Server(there.root, most_bytes=4000))

    def trickle(write: Write) -> None:
        for _ in range(100):
            write(b": on\n\n")
            time.sleep(0.02)

    began = time.monotonic()
    with pytest.raises(Refused, match="too long or too slow"):
        streamed(there, Answer(trickle), Server(there.root, seconds=0.2))
    assert time.monotonic() - began < 1.5
    with pytest.raises(Refused, match="answered 500 .x{200}.$"):
        streamed(there, Answer(b"x" * 10**7, 500, EVENTS))


def test_what_cannot_be_written_as_utf8_does_not_break_a_request(there: Vendor) -> None:
    there.says(Answer(b"{}", kind="application/json"))
    assert calling.whole(Server(there.root), "x", {"text": "a\ud800b 가"}) == {}
    assert there.asked[0].body == {"text": "a?b 가"}


def test_a_server_is_an_address_and_keeps_its_key_to_itself() -> None:
    server = Server("https://host:8443/v1", "m", {"authorization": "Bearer s3cret"}, "s3cret")
    assert server.place == "host:8443"
    assert "s3cret" not in repr(server)
    assert calling.told(server, b'{"detail": "no s3cret\x1b[31m\\nhere"}') == '{"detail": "no ***[31m\\nhere"}'
    assert calling.told(server, b'[{"error": {"message": "a"}}]') == "a"
    for address in ("host/v1", "https://u@host", "https://host/v1#x", "https://[x/v1", "https://host /v1", ""):
        with pytest.raises(BadRequest, match="want an address"):
            Server(address)


def test_whoever_answers_over_tls_has_to_prove_who_he_is() -> None:
    assert calling._trusted().verify_mode == ssl.CERT_REQUIRED
    assert calling._trusted().check_hostname
