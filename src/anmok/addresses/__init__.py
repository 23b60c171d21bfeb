"""The guarded reader of addresses: what a server may open on behalf of whoever asks, and nothing behind its walls.

One policy, for the address in a request and for each address that it is redirected to:

=====================  ====================================================================
scheme                 http and https; never from https down to http
port                   80, 443, 8080, 8443, unless the caller gives others
user and password      refused, an empty one too
numbers for a host     only in full (``93.184.215.14``, ``[2606:2800:...]``); ``127.1``, octal, hex refused
names                  to their IDNA form; no bare names, no names of private networks, no trailing dot
look-up                once, as a full name (no search list); every answer must be public
connection             to the address that was checked; TLS is verified against the name
proxies, cookies       none, whatever the environment says
redirects              3 at most, each checked as the first one
compressed answers     refused: a picture is compressed already
size                   counted while it arrives, the header too
time                   one deadline over look-up, connection, TLS, header and body of all hops
content                must begin as a picture or clip does, or the rest is not read
=====================  ====================================================================

What is not allowed is :class:`~anmok.errors.AddressRefused`; what is allowed and could not be brought is
:class:`~anmok.errors.BadMedia`. A name that does not exist and one that leads to a private network are told in
the same words, so that nobody learns the names of that network by asking.

What this cannot see: a host of the own network under a public address, and a NAT64 prefix that a network chose
for itself (RFC 6052, 2.2). Where there is such a thing, the firewall has to know it.
"""

from __future__ import annotations

from anmok.addresses.fetching import REDIRECTS, SECONDS, fetch
from anmok.addresses.lines import Connect, Resolve, dial, look_up
from anmok.addresses.places import PORTS, Place, place_of
from anmok.addresses.ranges import is_public
from anmok.addresses.signatures import is_media

__all__ = [
    "PORTS",
    "REDIRECTS",
    "SECONDS",
    "Connect",
    "Place",
    "Resolve",
    "dial",
    "fetch",
    "is_media",
    "is_public",
    "look_up",
    "place_of",
]
