"""Around what others wrote, in a thread that must outlive whatever it raises."""

from __future__ import annotations

from types import TracebackType


class Caught:
    """Keeps the exception as ``error``."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True
