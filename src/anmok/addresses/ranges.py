"""Which IP addresses are of the public internet."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

# `ipaddress.is_global` comes on top, but says yes to multicast, NAT64, 6to4, site-local and 192.0.0.8 (Python 3.11.7).
_CLOSED = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; the metadata of one cloud lies in it
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # public by number, and the host of every virtual machine of another cloud
        "169.254.0.0/16",  # link-local, metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# All that is given out lies here: ::, ::1, mapped, compatible, NAT64, unique-local, link-local, site-local and
# multicast addresses are outside.
_GIVEN_OUT = IPv6Network("2000::/3")
_CLOSED_INSIDE = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, ORCHID, benchmarks and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address in another coat
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, given back
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # the third quarter of an address whose last one is an IPv4 address (RFC 5214)
_WORD = 0xFFFFFFFF


def is_public(address: str) -> bool:
    """Is this an IP address of a host on the public internet? What is no address in its usual notation is not.

    The list follows IANA's registries of special-purpose addresses (RFC 6890 and its successors) and is stricter:
    what only might lead to a private network is not public either.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if not found.is_global:
        return False
    if isinstance(found, IPv6Address):
        return found.scope_id is None and _is_given_out(found)
    return not any(found in network for network in _CLOSED)


def _is_given_out(address: IPv6Address) -> bool:
    if address not in _GIVEN_OUT or any(address in network for network in _CLOSED_INSIDE):
        return False
    return int(address) >> 32 & _WORD not in _ISATAP
