"""Physical actions from other processes: a socket without a name in the file system, and a thread that listens.

A sender is a few bytes: it travels to a process by fork, as an argument of a process that is started, or pickled
in any other way. It connects when it is first used. What one sender sends in one process arrives in order.
"""

from __future__ import annotations

import hmac
import os
import pickle
import secrets
import socket
import sys
import tempfile
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final

from runtimes.reactor.errors import ReactorError, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Receiver", "Sender", "not_negative"]

_BACKLOG: Final = 128
_GRACE_S: Final = 0.5
"""How long the thread may take to end."""
_MESSAGES_AT_ONCE: Final = 256
"""So many of one sender are taken before the others are looked at."""


def not_negative(delay_ns: int) -> int:
    """`delay_ns` with which an action is scheduled.

    Raises:
        ValueError: if it is negative.
    """
    if delay_ns < 0:
        raise ValueError(f"An event was asked for {-delay_ns} ns in the past. Give a delay of 0 ns or more.")
    return delay_ns


class Sender:
    """Schedules a physical action from any process of this machine."""

    def __init__(self, name: str, address: str, key: bytes) -> None:
        """Send to the program that listens at `address`; `name` is the action's, for messages."""
        self._name = name
        self._address = address
        self._key = key
        self._connection: Connection | None = None
        self._process = 0
        self._lock = threading.Lock()

    def schedule(self, value: Any = None, *, delay_ns: int = 0) -> None:
        """Schedule an event at the physical time of its arrival plus the delays. From any thread or process.

        Raises:
            ReactorError: if the program has ended, or `value` cannot be pickled.
            ValueError: for a negative delay.
        """
        not_negative(delay_ns)
        try:
            message = pickle.dumps((value, delay_ns), protocol=5)
        except Exception as error:
            raise ReactorError(
                f"'{self._name}' cannot be scheduled with what cannot be pickled: {summary_of(error)}"
            ) from error
        try:
            with self._lock:
                self._connected().send_bytes(message)
        except (OSError, EOFError) as error:
            raise ReactorError(f"'{self._name}' cannot be scheduled: its program has ended.") from error

    def close(self) -> None:
        """Disconnect this process; another `schedule` connects again."""
        if self._connection is not None and self._process == os.getpid():
            self._connection.close()
        self._connection = None

    def _connected(self) -> Connection:
        """The connection of this process; one that was forked along belongs to another."""
        if self._connection is None or self._process != os.getpid():
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with line:
                line.connect(self._address)
                self._connection, self._process = Connection(line.detach()), os.getpid()
            self._connection.send_bytes(self._key)
        return self._connection

    # No __del__: a connection closes itself when it goes. In a cycle of both it may have gone before, and the
    # descriptor that it would be asked to close again could be another's by then.

    def __reduce__(self) -> tuple[type[Sender], tuple[str, str, bytes]]:
        """Travel without the connection."""
        return Sender, (self._name, self._address, self._key)


class Receiver:
    """Takes up what senders send, in a thread of the process where the action's reactor lives."""

    def __init__(
        self, name: str, schedule: Callable[[Any, int], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        """Call `schedule` with each value and delay; `on_failure` with what goes wrong."""
        self._schedule = schedule
        self._on_failure = on_failure
        self._key = secrets.token_bytes(16)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._folder = None if sys.platform == "linux" else tempfile.TemporaryDirectory(prefix="reactor-")
        # A first byte of zero: a name that no path leads to, and that goes with the socket.
        name_of_socket = f"reactor-{os.getpid()}-{secrets.token_hex(8)}"
        self._address = f"\0{name_of_socket}" if self._folder is None else f"{self._folder.name}/{name_of_socket}"
        self._socket.bind(self._address)
        self._socket.listen(_BACKLOG)
        self._end, self._ended = Pipe(duplex=False)
        self._known: set[Connection] = set()
        self.sender = Sender(name, self._address, self._key)
        """What other processes schedule the action with."""
        self._thread = threading.Thread(target=self._receive, name="reactor-senders", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up; whoever sends now is told that the program has ended."""
        self._ended.close()
        if self._thread is not threading.current_thread():
            self._thread.join(_GRACE_S)

    def _receive(self) -> None:
        """Take what comes, until the end."""
        connections: list[Connection] = []
        try:
            while True:
                for ready in wait([self._socket, self._end, *connections]):
                    if ready is self._end:
                        return
                    if ready is self._socket:
                        connections.append(Connection(self._socket.accept()[0].detach()))
                    elif isinstance(ready, Connection) and not self._take_from(ready):
                        connections.remove(ready)
                        self._known.discard(ready)
                        ready.close()
        except Exception as error:  # noqa: BLE001 - it ends the program, in whose thread
            self._on_failure(error)
        finally:
            self._socket.close()
            for connection in (*connections, self._end):
                connection.close()
            if self._folder is not None:
                self._folder.cleanup()

    def _take_from(self, connection: Connection) -> bool:
        """Take messages of one sender; whether there may be more."""
        for _ in range(_MESSAGES_AT_ONCE):
            try:
                if not connection.poll():
                    return True
                message = connection.recv_bytes()
            except (EOFError, OSError):
                return False
            if connection not in self._known:
                # Anyone on this machine may connect; only who was given a sender knows the key.
                if not hmac.compare_digest(message, self._key):
                    return False
                self._known.add(connection)
                continue
            value, delay_ns = pickle.loads(message)  # noqa: S301 - from who knows the key
            self._schedule(value, delay_ns)
        return True
