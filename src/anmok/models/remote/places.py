"""Where a vendor is, which model to ask there and with which key: all of it from the environment, none of it kept.

===============================  ==========================================================  ==========================
variable                         what                                                        unless set
===============================  ==========================================================  ==========================
ANMOK_OPENAI_MODEL               the model's name there                                      an error
ANMOK_OPENAI_BASE_URL            above ``/chat/completions``                                 https://api.openai.com/v1
ANMOK_OPENAI_API_KEY             a key for that address, whoever is there                    none
OPENAI_API_KEY                   OpenAI's own key: goes to api.openai.com and nowhere else   none
ANMOK_GEMINI_MODEL               as above                                                    an error
ANMOK_GEMINI_BASE_URL            above ``/models``                                           Google's, ``/v1beta``
ANMOK_GEMINI_API_KEY             as above                                                    none
GEMINI_API_KEY, GOOGLE_API_KEY   Google's own: to generativelanguage.googleapis.com alone    none
ANMOK_HUGGINGFACE_MODEL          ``owner/name`` on the hub                                   an error
ANMOK_HUGGINGFACE_BASE_URL       an inference endpoint of your own                           the hub's router
ANMOK_HUGGINGFACE_PROVIDER       who runs it: ``auto``, ``hf-inference``, ``together`` ...   auto
ANMOK_HUGGINGFACE_API_KEY        a key for that address, or of that provider                 none
HF_TOKEN, or what you logged in  the hub's own: to huggingface.co and .cloud alone           none
ANMOK_REMOTE_SECONDS             the longest silence of a vendor                             120
===============================  ==========================================================  ==========================

A key of a vendor never goes to another address: whoever sets ``ANMOK_OPENAI_BASE_URL`` to a server of a friend does
not hand over a key to OpenAI.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from anmok.calling import is_address
from anmok.errors import BadRequest, Unauthorized

_LONGEST_SILENCE: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Vendor:
    """Facts of a door. ``homes`` are the hosts (with a dot in front: all below it) that the vendor's own ``keys`` may
    go to."""

    prefix: str
    address: str
    homes: tuple[str, ...]
    keys: tuple[str, ...]
    example: str


VENDORS: Final[Mapping[str, Vendor]] = {
    "openai": Vendor(
        "ANMOK_OPENAI", "https://api.openai.com/v1", ("api.openai.com",), ("OPENAI_API_KEY",), "the model's id there"
    ),
    "gemini": Vendor(
        "ANMOK_GEMINI",
        "https://generativelanguage.googleapis.com/v1beta",
        ("generativelanguage.googleapis.com",),
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "the model's id there",
    ),
    "huggingface": Vendor(
        "ANMOK_HUGGINGFACE", "", (".huggingface.co", ".huggingface.cloud"), ("HF_TOKEN",), "owner/name on the hub"
    ),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where to ask, for what, and with what. ``address`` is empty where the vendor's client knows it."""

    address: str
    model: str
    remedy: str  # what to do where the key is not taken
    silence: float
    provider: str = ""
    key: str = field(default="", repr=False)


def found(door: str) -> Place:
    """The place behind ``openai``, ``gemini`` or ``huggingface``, as the environment has it now.

    Raises:
        BadRequest: no model is named, or the address is none, or the silence no number.
        Unauthorized: there is no key where one is needed.
    """
    vendor = VENDORS[door]
    address = os.environ.get(f"{vendor.prefix}_BASE_URL", "").strip().rstrip("/") or vendor.address
    if address and not is_address(address):
        raise BadRequest(f"{vendor.prefix}_BASE_URL: want an address such as https://host/v1, without user or password")
    model = os.environ.get(f"{vendor.prefix}_MODEL", "").strip()
    if not model or not model.isprintable() or len(model) > 200 or any(letter in model for letter in "?#%\\ "):
        raise BadRequest(
            f"{vendor.prefix}_MODEL: set it to {vendor.example}; this card does not choose a model for you"
        )
    is_home = not address or _is_home(address, vendor.homes)
    key = _key(vendor, is_home=is_home)
    needed = vendor.keys[0] if is_home else f"{vendor.prefix}_API_KEY"
    if not key and (is_home or door == "huggingface"):
        raise Unauthorized(f"no key for {urlsplit(address).netloc or 'huggingface.co'}: set {needed}")
    provider = os.environ.get(f"{vendor.prefix}_PROVIDER", "").strip()
    return Place(address, model, f"set {needed}", _silence(), provider, key)


def _is_home(address: str, homes: tuple[str, ...]) -> bool:
    """Whether the vendor's own key may go there: to its hosts, and not in clear."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return parts.scheme == "https" and any(host == one or (one[0] == "." and host.endswith(one)) for one in homes)


def _key(vendor: Vendor, *, is_home: bool) -> str:
    own = os.environ.get(f"{vendor.prefix}_API_KEY", "").strip()
    if not own and is_home:
        own = next((found for name in vendor.keys if (found := os.environ.get(name, "").strip())), "")
        own = own or (_logged_in() if "HF_TOKEN" in vendor.keys else "")
    if not own.isascii() or not own.isprintable():
        raise Unauthorized(f"{vendor.prefix}_API_KEY, or {' or '.join(vendor.keys)}: holds no key")
    return own


def _logged_in() -> str:
    """The token that ``hf auth login`` left, where ``HF_HOME`` says."""
    from huggingface_hub import get_token

    return get_token() or ""


def _silence() -> float:
    text = os.environ.get("ANMOK_REMOTE_SECONDS", "").strip() or "120"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_SILENCE:
        raise BadRequest(f"ANMOK_REMOTE_SECONDS {text[:20]!r}: want seconds, above 0 and up to {_LONGEST_SILENCE:.0f}")
    return seconds
