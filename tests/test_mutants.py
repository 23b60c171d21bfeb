"""The planted faults of ``make mutants`` must still fit the code; whether they are caught takes minutes, not here."""

from __future__ import annotations

from pathlib import Path

import pytest

import anmok
from mutants import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    source = (Path(anmok.__file__).parent / fault.file).read_text(encoding="utf-8")
    assert source.count(fault.old) == 1
    assert fault.new != fault.old
