"""The line to a host: looked up once, checked, and held to one deadline."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from anmok.addresses.places import NOT_PUBLIC, Place
from anmok.addresses.ranges import is_public
from anmok.errors import AddressRefused, BadMedia

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]  # name, port -> IP addresses, or OSError
Connect: TypeAlias = Callable[[str, int, float], socket.socket]  # IP address, port, seconds -> connected, or OSError

UNREACHED = "the host of the address cannot be reached, or broke off"
_TRIED = 4  # addresses of one name
# A name server that never answers holds a thread for as long as the system's resolver waits: some 10 to 30 seconds.
_LOOK_UPS = threading.BoundedSemaphore(64)


class Deadline:
    """One end for all that is done for an address."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._ends = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left, above 0.

        Raises:
            BadMedia: none are.
        """
        seconds = self._ends - time.monotonic()
        if seconds <= 0:
            raise self.passed()
        return seconds

    def passed(self) -> BadMedia:
        return BadMedia(f"the address did not bring the whole file within {self._seconds:g} s")


def look_up(name: str, port: int) -> list[str]:
    """The IP addresses of a full name, by the system's resolver. The dot at the end keeps it from its search list.

    Raises:
        OSError: there is no such name.
    """
    found = socket.getaddrinfo(f"{name}.", port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(place[0]) for *_, place in found]


def dial(address: str, port: int, seconds: float) -> socket.socket:
    """A TCP connection to an IP address. Nothing is looked up, and no proxy is asked.

    Raises:
        OSError: there is nobody, or not within ``seconds``.
    """
    line = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.enter_context(line)
        line.settimeout(seconds)
        line.connect((address, port))
        undo.pop_all()  # it holds from here on
    return line


@contextlib.contextmanager
def connected(place: Place, resolve: Resolve, connect: Connect, deadline: Deadline) -> Iterator[socket.socket]:
    """A line to the place, with TLS where its scheme asks for it. It is closed with the block.

    Raises:
        AddressRefused: the name leads to nobody, or to any address that is not public.
        BadMedia: nobody answers, the certificate is not that of the host, or the deadline passed.
    """
    addresses = [place.host] if place.is_number else _checked(place, resolve, deadline)
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(_first(addresses, place.port, connect, deadline))
        if place.scheme == "https":
            line = stack.enter_context(_secured(line, place.host, deadline))
        yield line


def _checked(place: Place, resolve: Resolve, deadline: Deadline) -> list[str]:
    addresses = _resolved(place, resolve, deadline)
    if not addresses or not all(is_public(address) for address in addresses):
        raise AddressRefused(NOT_PUBLIC)
    return list(dict.fromkeys(addresses))[:_TRIED]


def _resolved(place: Place, resolve: Resolve, deadline: Deadline) -> Sequence[str]:
    """What the name leads to; nothing where it does not exist. A resolver cannot be interrupted, only left behind."""
    answers: queue.SimpleQueue[Sequence[str]] = queue.SimpleQueue()
    look_ups = _LOOK_UPS

    def ask() -> None:
        found: Sequence[str] = ()
        try:
            with contextlib.suppress(OSError, UnicodeError):  # no such name, or one that no name server takes
                found = resolve(place.host, place.port)
        finally:
            answers.put(found)
            look_ups.release()

    if not look_ups.acquire(timeout=deadline.left()):
        raise deadline.passed()
    try:
        threading.Thread(target=ask, name="anmok-look-up", daemon=True).start()
    except RuntimeError as error:  # the machine has no thread left
        look_ups.release()
        raise BadMedia(UNREACHED) from error
    try:
        return answers.get(timeout=deadline.left())
    except queue.Empty:
        raise deadline.passed() from None


def _first(addresses: Sequence[str], port: int, connect: Connect, deadline: Deadline) -> socket.socket:
    """The first address that answers; each may take its share of the time that is left."""
    for tried, address in enumerate(addresses):
        with contextlib.suppress(OSError):
            return connect(address, port, deadline.left() / (len(addresses) - tried))
    deadline.left()
    raise BadMedia(UNREACHED)


def _secured(line: socket.socket, host: str, deadline: Deadline) -> ssl.SSLSocket:
    context = ssl.create_default_context()  # the system's authorities; verifies the chain and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        line.settimeout(deadline.left())  # over the whole handshake
        return context.wrap_socket(line, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise BadMedia("the host of the address has no valid certificate for its name") from error
    except TimeoutError:
        raise deadline.passed() from None
    except (OSError, ValueError) as error:  # ValueError: a name that OpenSSL does not take
        raise BadMedia(UNREACHED) from error


class Incoming(io.RawIOBase):
    """What arrives on a line. Every wait ends at the deadline, and every byte counts, of header and chunks too."""

    def __init__(self, line: socket.socket, deadline: Deadline, allowed: int) -> None:
        self._line, self._deadline, self._allowed = line, deadline, allowed

    def allow(self, more: int) -> None:
        """Let so many more bytes in."""
        self._allowed += more

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As of any raw file.

        Raises:
            BadMedia: the deadline passed, the line broke, or more came than is let in.
        """
        view = memoryview(buffer).cast("B")[: self._allowed]
        if not view:
            raise BadMedia("the address answers with more than is let in")
        try:
            self._line.settimeout(self._deadline.left())
            count = self._line.recv_into(view)
        except TimeoutError:
            raise self._deadline.passed() from None
        except OSError as error:
            raise BadMedia(UNREACHED) from error
        self._allowed -= count
        return count
