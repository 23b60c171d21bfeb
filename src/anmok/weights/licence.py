"""The licence gate. Acceptance is named on every run, by a flag or in the environment; it is never stored."""

from __future__ import annotations

import os
from collections.abc import Collection

from anmok.catalogue.sources import Licence
from anmok.errors import LicenceRequired

VARIABLE = "ANMOK_ACCEPT_LICENCES"


def accepted(accept: Collection[str] = ()) -> frozenset[str]:
    """The licences that the caller accepts by name, and those in ``ANMOK_ACCEPT_LICENCES`` (with commas)."""
    # A bare "elpv" is a collection of letters too.
    named = (accept,) if isinstance(accept, str) else tuple(accept)
    stripped = (name.strip() for name in (*named, *os.environ.get(VARIABLE, "").split(",")))
    return frozenset(name for name in stripped if name)


def require_licence(licence: Licence, accept: Collection[str] = ()) -> None:
    """Let through what anyone may use, and what the user has accepted by name.

    Raises:
        LicenceRequired: with the terms, and the flag and variable that accept them.
    """
    if licence.is_accepted_by_default or licence.id in accepted(accept):
        return
    terms = f" ({licence.url})" if licence.url else ""
    raise LicenceRequired(
        f"{licence.name}: {licence.summary}{terms}; if you agree, pass --accept-licence {licence.id}"
        f" or set {VARIABLE}={licence.id}"
    )
