"""Addresses that a server must not open: refused by their text or by what their names lead to, with no connection."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from address_server import ELSEWHERE, PUBLIC, Network
from anmok import addresses
from anmok.errors import AddressRefused

LIMIT = 1000
NOT_PUBLIC = "the address does not lead to a public host"

ODD_LETTERS = [
    "http://93.184.215.14 /a.png",
    " http://93.184.215.14/a.png",
    "http://93.184.215.14/a.png\n",
    "http://example\t.com/a.png",
    "http://example.com/a.png\r\nHost: 127.0.0.1",
    "http://example.com\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\a.png",
    "http://example.com\x00.127.0.0.1/",
    "http://example\u2028.com/",
    "http://example.com/\ud800",
    "http://example.com/" + 5000 * "a",
]
NOT_HTTP = [
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "ftp://93.184.215.14/a.png",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:11211/stats",
    "jar:http://127.0.0.1!/a.png",
    "data:image/png;base64,AAAA",
    "ws://93.184.215.14/",
    "ldap://127.0.0.1/",
    "//93.184.215.14/a.png",
    "/etc/passwd",
    "http:/127.0.0.1/",
    "http:127.0.0.1",
    "http:///127.0.0.1/",
    "https://",
    "",
]
WITH_USER = [
    "http://user:password@93.184.215.14/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1@93.184.215.14/",
    "http://@93.184.215.14/",
    "http://:@93.184.215.14/",
    "http://93.184.215.14:80@127.0.0.1/",
    "https://a@b@127.0.0.1/",
]
OTHER_PORTS = [f"http://93.184.215.14:{port}/" for port in (0, 22, 25, 111, 2375, 5432, 6379, 8000, 9200, 27017, 65535)]
NOT_WRITTEN = [
    "http://93.184.215.14:65536/",
    "http://93.184.215.14:-1/",
    "http://93.184.215.14:\uff18\uff10/",
    "http://[::1/",
    "http://[::1]evil.example.com/",
    "http://::1/",
    "http://[1::2::3]/",
    "http://[]/",
    "http://[v1.a]/",
]
ODD_NUMBERS = [
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://127.000.000.001/",
    "http://127.0.0.0x1/",
    "http://1.2.3.4.5/",
    "http://127.0.0.1.1/",
    "http://999.1.1.1/",
    "http://4294967297/",
    "http://3232235521/",
    "http://0xA9FEA9FE/",
    "http://425.510.425.510/",
    "http://example.0x/",
    "http://example.1/",
    "http://%31%32%37.0.0.1/",
]
NO_NAMES = [
    "http://127.0.0.1./",
    "http://localhost./",
    "http://example.com./",
    "http://example..com/",
    "http://.example.com/",
    "http://-a.example.com/",
    "http://127.0.0.1%2f.example.com/",
    "http://x[::1].example.com/",
    "http://exa$mple.com/",
    "http://a;b.example.com/",
    "http://" + 64 * "a" + ".com/",
    "http://" + 60 * "abcd." + "com/",
    "http://" + 64 * "ä" + ".com/",
]
TWO_READINGS = ["http://stra\u00dfe.example.com/", "http://a\u200d.example.com/"]
PRIVATE_NUMBERS = [
    "http://127.0.0.1/",
    "http://127.255.255.254/",
    "http://\uff11\uff12\uff17.0.0.1/",  # full-width digits
    "http://127\u30020\u30020\u30021/",  # ideographic full stops
    "http://\u2460\u2461\u2466.0.0.1/",  # digits in circles
    "http://0.0.0.0/",
    "http://0.1.2.3/",
    "http://10.0.0.1/",
    "http://100.64.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.0.0.8/",
    "http://192.0.0.192/",
    "http://192.0.2.1/",
    "http://192.31.196.1/",
    "http://192.52.193.1/",
    "http://192.88.99.1/",
    "http://192.168.1.1/",
    "http://192.175.48.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:93.184.215.14]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::1]/",
    "http://[100::1]/",
    "http://[2001::1]/",
    "http://[2001:0:7f00:1::]/",
    "http://[2001:2::1]/",
    "http://[2001:10::1]/",
    "http://[2001:20::1]/",
    "http://[2001:db8::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2620:4f:8000::1]/",
    "http://[2a00:1450::5efe:10.0.0.1]/",
    "http://[2a00:1450::200:5efe:10.0.0.1]/",
    "http://[3ffe::1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[2606:4700::1111%25lo]/",
    "http://[febf::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[4000::1]/",
]
PRIVATE_NAMES = [
    "http://localhost/",
    "http://LOCALHOST/",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/",  # letters in circles
    "http://a.localhost/",
    "http://localhost.localdomain/",
    "http://metadata/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://redis/",
    "http://printer.local/",
    "http://router.lan/",
    "http://nas.home.arpa/",
    "http://1.0.0.127.in-addr.arpa/",
    "http://wiki.corp/",
    "http://example.test/",
    "http://hidden.onion/",
]
LITERAL = [
    *((url, "spaces, backslashes|letters; 4,096") for url in ODD_LETTERS),
    *((url, "must begin with http:// or https:// and a host") for url in NOT_HTTP),
    *((url, "a user or password in it") for url in WITH_USER),
    *((url, "a port that is not opened; those that are: 80, 443, 8080, 8443") for url in OTHER_PORTS),
    *((url, "not written as one|not written in full") for url in NOT_WRITTEN),
    *((url, "an IP number that is not written in full") for url in ODD_NUMBERS),
    *((url, "a host that is no name") for url in NO_NAMES),
    *((url, "give its xn-- form") for url in TWO_READINGS),
    *((url, NOT_PUBLIC) for url in (*PRIVATE_NUMBERS, *PRIVATE_NAMES)),
]

# What a name leads to; in each at least one answer that is not public.
LED_ASTRAY: dict[str, Sequence[str]] = {
    "loopback.example.com": ["127.0.0.1"],
    "127.0.0.1.nip.example.com": ["127.0.0.1"],
    "metadata.example.com": ["169.254.169.254"],
    "first.example.com": ["10.0.0.1", PUBLIC],
    "second.example.com": [PUBLIC, "192.168.0.1"],
    "last.example.com": [PUBLIC, ELSEWHERE, "2606:4700::1111", "1.1.1.1", "8.8.8.8", "::1"],
    "six.example.com": ["::1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "nat64.example.com": ["64:ff9b::7f00:1"],
    "6to4.example.com": ["2002:7f00:1::"],
    "teredo.example.com": ["2001::1"],
    "zone.example.com": ["fe80::1%2"],
    "public-zone.example.com": ["2606:4700::1111%2"],
    "multicast.example.com": ["224.0.0.1"],
    "nowhere.example.com": ["0.0.0.0"],
    "nobody.example.com": [],
    "words.example.com": ["localhost"],
    "odd.example.com": ["127.1"],
    "empty.example.com": [""],
}


@pytest.mark.parametrize(("url", "why"), LITERAL)
def test_refused_by_its_text_alone(url: str, why: str) -> None:
    network = Network({})
    with pytest.raises(AddressRefused, match=why):
        addresses.fetch(url, LIMIT, resolve=network.resolve, connect=network.connect)
    assert (network.looked_up, network.connected) == ([], [])


@pytest.mark.parametrize("name", LED_ASTRAY)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refused_by_what_the_name_leads_to(name: str, scheme: str) -> None:
    network = Network(LED_ASTRAY)
    with pytest.raises(AddressRefused, match=f"^{NOT_PUBLIC}$"):
        addresses.fetch(f"{scheme}://{name}/a.png", LIMIT, resolve=network.resolve, connect=network.connect)
    assert (network.looked_up, network.connected) == ([name], [])


def test_the_list_is_as_long_as_promised() -> None:
    urls = [url for url, _ in LITERAL] + [f"http://{name}/" for name in LED_ASTRAY]
    assert len(set(urls)) == len(urls) >= 160  # issue 4 asks for 80


def test_a_name_that_does_not_exist_is_told_as_a_private_one_is() -> None:
    network = Network(LED_ASTRAY)
    told = set()
    for host in ("no-such-name.example.com", "loopback.example.com", "intranet", "10.0.0.1", "a.internal"):
        with pytest.raises(AddressRefused) as caught:
            addresses.fetch(f"http://{host}/", LIMIT, resolve=network.resolve, connect=network.connect)
        told.add(str(caught.value))
    assert told == {NOT_PUBLIC}
    assert network.connected == []


@pytest.mark.parametrize(
    ("url", "netloc", "target"),
    [
        ("http://example.com", "example.com", "/"),
        ("HTTPS://Example.COM:443/A.png?b=C#d", "example.com", "/A.png?b=C"),
        ("http://example.com:8080/", "example.com:8080", "/"),
        ("https://example.com:80/?", "example.com:80", "/"),
        ("http://example.com?x=1", "example.com", "/?x=1"),
        ("http://93.184.215.14/a", "93.184.215.14", "/a"),
        ("http://[2606:4700:0::1111]:8080/a", "[2606:4700::1111]:8080", "/a"),
        ("https://b\u00fccher.example.com/\uc548\ubaa9.png", "xn--bcher-kva.example.com", "/%EC%95%88%EB%AA%A9.png"),
        ("https://xn--bcher-kva.example.com/%20a", "xn--bcher-kva.example.com", "/%20a"),
        ("http://my_bucket.example.com/a?q='\"<>{}|^`", "my_bucket.example.com", "/a?q='\"<>{}|^`"),
        ("http://1and1.com/", "1and1.com", "/"),
        ("http://example.x0/", "example.x0", "/"),
    ],
)
def test_what_is_allowed_has_one_form(url: str, netloc: str, target: str) -> None:
    place = addresses.place_of(url)
    assert (place.netloc, place.target) == (netloc, target)


def test_other_ports_are_opened_where_the_caller_says_so() -> None:
    assert addresses.place_of("http://example.com:9000/", {9000}).port == 9000
    with pytest.raises(AddressRefused, match="those that are: 9000"):
        addresses.place_of("http://example.com/", {9000})


@pytest.mark.parametrize(
    "address", ["1.1.1.1", PUBLIC, "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert addresses.is_public(address)


@given(
    st.text(max_size=60).map("http://{}".format) | st.from_regex(r"https?://[0-9a-fx.:\[\]@%/\\]{1,40}", fullmatch=True)
)
@example("http://\u0130.example.com/")
@example("http://a.example.com:\u0661/")
@example("http://\u2100.example.com/")
def test_any_text_is_a_safe_place_or_refused(url: str) -> None:
    try:
        place = addresses.place_of(url)
    except AddressRefused:
        return
    assert place.port in addresses.PORTS
    assert place.host.isascii()
    assert place.target.isascii()
    assert place.target.startswith("/")
    assert not set("\r\n @\\\t") & set(place.host + place.target)
    assert addresses.is_public(place.host) if place.is_number else "." in place.host
    again = addresses.place_of(f"{place.scheme}://{place.netloc}{place.target}")
    assert again == place


@given(st.ip_addresses().map(str))
def test_no_number_is_public_that_the_standard_library_calls_special(address: str) -> None:
    found = ipaddress.ip_address(address)
    if found.is_multicast or found.is_private or found.is_reserved or found.is_loopback or found.is_link_local:
        assert not addresses.is_public(address)


def test_names_are_looked_up_as_full_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getaddrinfo(host: str, port: int, *, type: int, proto: int) -> list[tuple[object, ...]]:
        asked.append((host, port, type, proto))
        six = (socket.AF_INET6, type, proto, "", ("2606:4700::1111", port, 0, 0))
        return [(socket.AF_INET, type, proto, "", (PUBLIC, port)), six]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert addresses.look_up("example.com", 443) == [PUBLIC, "2606:4700::1111"]
    assert asked == [("example.com.", 443, socket.SOCK_STREAM, socket.IPPROTO_TCP)]
