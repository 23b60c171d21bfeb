"""From the text of an address to the place that it names: scheme, host, port and what to ask there for."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from anmok.addresses.ranges import is_public
from anmok.errors import AddressRefused

PORTS = frozenset({80, 443, 8080, 8443})
NOT_PUBLIC = "the address does not lead to a public host"

_USUAL = {"http": 80, "https": 443}
_LONGEST = 4096  # letters; signed addresses of object stores have up to some 2,500
_LONGEST_HOST = 253
_ODD = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")  # what readers of addresses have disagreed about
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BRACKETS = re.compile(r"\[([^\]]*)\](?::[0-9]*)?")
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
# IDNA 2003, which Python has, and IDNA 2008, which browsers have, make different hosts of these.
_TWO_READINGS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
# Special-use names (RFC 6761, 6762, 7686, 8375, 9476) and those that private networks are used to.
_PRIVATE_ENDS = (
    *("localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa"),
    *("in-addr.arpa", "ip6.arpa", "onion", "alt", "invalid", "test", "example"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address leads. ``host`` is a name in its IDNA form, or an IP address in its usual notation."""

    scheme: str
    host: str
    port: int
    target: str  # path and query in ASCII, as the request line holds it
    is_number: bool  # is the host an IP address, which was found public?

    @property
    def netloc(self) -> str:
        """Host and port as the ``Host`` header has them: the port only where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _USUAL[self.scheme] else f"{host}:{self.port}"

    def moved(self, location: str, ports: Collection[int]) -> Place:
        """Where a redirect from here leads. ``location`` is the header as ``http.client`` reads it (Latin-1).

        Raises:
            AddressRefused: as :func:`place_of`, and for a way down from https to http.
        """
        ascii_only = "".join(letter if letter.isascii() else quote(letter.encode("latin-1")) for letter in location)
        _check_letters(ascii_only)  # before `urljoin`, which would drop some of them in silence
        try:
            url = urljoin(f"{self.scheme}://{self.netloc}{self.target}", ascii_only)
        except ValueError:
            raise AddressRefused("the address is not written as one") from None
        place = place_of(url, ports)
        if self.scheme == "https" and place.scheme != "https":
            raise AddressRefused("the address leads from https to http")
        return place


def place_of(url: str, ports: Collection[int] = PORTS) -> Place:
    """The place that an absolute address names. Nothing is looked up.

    Raises:
        AddressRefused: it is none of http or https, has a port that is not among ``ports``, a user, a host that
            is no public one or is written oddly, or letters that no address has.
    """
    _check_letters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused("the address is not written as one") from None
    if parts.scheme not in _USUAL or not parts.netloc:
        raise AddressRefused("the address must begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise AddressRefused("the address has a user or password in it")
    port = _USUAL[parts.scheme] if port is None else port
    if port not in ports:
        allowed = ", ".join(str(one) for one in sorted(ports))
        raise AddressRefused(f"the address has a port that is not opened; those that are: {allowed}")
    host, is_number = _host(parts.netloc, parts.hostname or "")
    target = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/", safe=_PRINTABLE)
    return Place(parts.scheme, host, port, target, is_number)


def _check_letters(text: str) -> None:
    if len(text) > _LONGEST:
        raise AddressRefused(f"the address has {len(text):,} letters; {_LONGEST:,} are the limit")
    if _ODD.search(text) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise AddressRefused("the address has spaces, backslashes or letters in it that do not show")


def _host(netloc: str, host: str) -> tuple[str, bool]:
    """The host in its one notation, and whether it is an IP address."""
    if netloc.startswith("["):
        if _BRACKETS.fullmatch(netloc) is None:
            raise AddressRefused("the address is not written as one")
        return _number(host, IPv6Address), True
    host = _ascii(host)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # then it is a number to every reader of addresses, in whatever notation
        return _number(host, IPv4Address), True
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused("the address has a host that is no name")
    if len(labels) == 1 or any(f".{host}".endswith(f".{end}") for end in _PRIVATE_ENDS):
        raise AddressRefused(NOT_PUBLIC)
    return host, False


def _ascii(host: str) -> str:
    if len(host) > _LONGEST_HOST:
        raise AddressRefused("the address has a host that is no name")
    if host.isascii():
        return host.lower()
    if _TWO_READINGS.search(host):
        raise AddressRefused("the address has a host that two readers take for different ones; give its xn-- form")
    try:
        return host.encode("idna").decode("ascii").lower()  # digits of other scripts and sizes become plain ones
    except UnicodeError:
        raise AddressRefused("the address has a host that is no name") from None


def _number(host: str, kind: type[IPv4Address | IPv6Address]) -> str:
    try:
        found = kind(host)
    except ValueError:
        raise AddressRefused("the address has an IP number that is not written in full") from None
    if not is_public(str(found)):
        raise AddressRefused(NOT_PUBLIC)
    return str(found)
