"""Labelling by keystroke: the image that teaches most comes next, and a random stream says how good the result is.

>>> from anmok.labelling import LabelSession
>>> with LabelSession.open(Path("photos"), ("good", "defect"), store=Path("labels")) as session:
...     for task in session.next(5):
...         session.answer(task, ask_somebody(session.photo(task)), seconds=2.0)
...     print(session.verdict(wait=10).head.estimate)
"""

from __future__ import annotations

from anmok.labelling.agreement import Agreement, Disagreement, Pace
from anmok.labelling.box_book import Box
from anmok.labelling.box_standing import BoxStanding
from anmok.labelling.boxes import BoxSession, BoxTask
from anmok.labelling.exporting import Exported
from anmok.labelling.looking import Look, Looker, Served
from anmok.labelling.outlook import Curve, Outlook
from anmok.labelling.proposing import Finder, ServedFinder
from anmok.labelling.session import LabelSession, Task
from anmok.labelling.standing import Measured, Standing

__all__ = [
    "Agreement",
    "Box",
    "BoxSession",
    "BoxStanding",
    "BoxTask",
    "Curve",
    "Disagreement",
    "Exported",
    "Finder",
    "LabelSession",
    "Look",
    "Looker",
    "Measured",
    "Outlook",
    "Pace",
    "Served",
    "ServedFinder",
    "Standing",
    "Task",
]
