"""A Ray cluster on this machine alone: started as Ray's documentation advises, and gone without a trace.

Ray is imported when a cluster starts, after its settings stand in the environment.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import secrets
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from runtimes.protocol import Demands, RuntimeFailure, processors, value_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from runtimes.layout import Layout
    from workloads.dataflow import Graph

__all__ = [
    "INLINE_BYTES",
    "PRIVATE_SETTINGS",
    "RayCluster",
    "demands_of",
    "nbytes_of",
    "notice_of",
    "object_store_bytes",
    "private_settings",
]

PRIVATE_SETTINGS = (
    "RAY_max_direct_call_object_size",
    "RAY_AUTH_MODE",
    "RAY_task_events_report_interval_ms",
)
"""Settings that Ray does not document; a cluster has those that it is given and no others."""

INLINE_BYTES = 8_388_608
"""With private settings, values up to here travel inside the call."""

_STORE_MINIMUM_BYTES = 80_000_000
"""Ray refuses an object store below 75 MB."""
_STORE_UNDECLARED_BYTES = 256_000_000
"""Room for values whose size no port declares; the store takes memory only as it is used."""
_CLUSTER_BYTES = 500_000_000
"""Ray's own processes and the driver's."""
_ACTOR_BYTES = 180_000_000
"""A worker process with what tasks import; without PyTorch a third of that."""
_SOCKET_PATH_LIMIT = 107
"""Of an AF_UNIX socket, in bytes (unix(7), less the closing zero)."""
_SOCKET_BELOW_TEMP = "/session_2026-11-21_09-28-01_066797_4194304/sockets/plasma_store"
"""The longest path that Ray makes for a socket below its temporary folder."""
_END_S = 5.0
"""How long Ray's processes may take to end by themselves."""
_SERVICES = ("raylet", "gcs_server")
"""Without one of these nothing works."""
_SEMAPHORE = re.compile(r"sem\.(?:hdr|obj)(\d+)")
"""Named semaphores of Ray's mutable objects carry the pid of their maker."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps named semaphores, not a temporary file
_TOKEN = secrets.token_hex(32)
"""Ray reads its token once a process; without one it would write `~/.ray/auth_token`."""


class RayCluster:
    """Ray's processes on this machine, for this process alone."""

    def __init__(self, scratch: Path, store_bytes: int, private: Mapping[str, str] | None = None) -> None:
        """Start Ray with its files below `scratch`, an object store of `store_bytes`, and `private` settings.

        Raises:
            RuntimeFailure: if Ray does not start, or `scratch` is too long a path for its sockets.
        """
        _check_socket_path(scratch)
        self.scratch = scratch
        self.num_cpus = _physical_cores()
        self._processes: set[psutil.Process] = set()
        self._services: dict[str, psutil.Process] = {}
        self._others = set(psutil.Process().children(recursive=True))
        self._environment = {name: value for name, value in os.environ.items() if _is_rays(name)}
        self._handler = signal.getsignal(signal.SIGTERM)
        self._running = True
        _set_environment(private or {})
        try:
            self._start(store_bytes)
        except BaseException as error:
            self.stop()
            if isinstance(error, Exception):
                raise RuntimeFailure(f"Ray did not start: {type(error).__name__}: {error}") from error
            raise

    def note_processes(self) -> None:
        """Remember which processes Ray has by now, so that none outlives it even if its parent was killed."""
        for process in {psutil.Process(), *self._processes}:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._processes.update(process.children(recursive=True))
        self._processes -= self._others

    def check(self) -> None:
        """Nothing, as long as Ray's own processes live and every object fits into shared memory.

        Raises:
            RuntimeFailure: if one of them has died, which Ray itself notices after 15 s, or if Ray has begun to
                write objects to disk: what it measures is the disk then.
        """
        for name, process in self._services.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeFailure(f"Ray's process '{name}' (pid {process.pid}) has died.")
        spilled = next(self.scratch.glob("session_*/ray_spilled_objects*/*"), None)
        if spilled is not None:
            raise RuntimeFailure(
                "Ray's object store was full and it has begun to write objects to disk. "
                "Declare the large outputs with an ArraySpec, so that the store is made large enough."
            )

    def stop(self) -> None:
        """End Ray, and what is left of it. May be called twice."""
        if not self._running:
            return
        self._running = False
        import ray

        self.note_processes()
        try:
            ray.shutdown()
        finally:
            _, alive = psutil.wait_procs(self._processes, timeout=_END_S)
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(alive, timeout=_END_S)
            _unlink_semaphores(process.pid for process in self._processes)
            self._restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, store_bytes: int) -> None:
        import ray

        _check_shared_memory(store_bytes)
        _read_settings_again()
        ray.init(
            address="local",
            num_cpus=self.num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=store_bytes,
            _temp_dir=str(self.scratch),
        )
        self.note_processes()
        mine = set(psutil.Process().children()) - self._others
        self._services = {process.name(): process for process in mine if process.name() in _SERVICES}

    def _restore(self) -> None:
        """Undo what Ray and its settings changed in this process."""
        for name in [name for name in os.environ if _is_rays(name)]:
            del os.environ[name]
        os.environ.update(self._environment)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


def _is_rays(variable: str) -> bool:
    """Whether an environment variable is one of Ray's settings, or one that it sets: `breakpoint()` asks Ray then."""
    return variable.startswith("RAY_") or variable == "PYTHONBREAKPOINT"


def private_settings(inline_bytes: int = INLINE_BYTES) -> dict[str, str]:
    """Ray's private settings, as environment variables: inline values, no authentication, no task events."""
    return {
        "RAY_max_direct_call_object_size": str(inline_bytes),
        "RAY_AUTH_MODE": "disabled",
        "RAY_task_events_report_interval_ms": "0",
    }


def notice_of(settings: Mapping[str, str]) -> str | None:
    """Say that Ray runs with settings that it does not document, if it does."""
    if not settings:
        return None
    return f"private settings of Ray: {', '.join(f'{name}={value}' for name, value in settings.items())}"


def object_store_bytes(graph: Graph, ahead: int = 0) -> int:
    """How large an object store `graph` needs: two rounds of all its values, one being read and one written.

    With `ahead`, so many rounds more are in flight.
    """
    from workloads.dataflow import PortRef

    declared = sum(
        node.members * port.array.nbytes * (graph.slots_of(PortRef(node.path, port.name)) + ahead)
        for node in graph.tasks
        for port in node.outputs
        if port.array is not None
    )
    undeclared = any(port.always is None for node in graph.tasks for port in node.outputs)
    # A quarter more: the store's allocator rounds up and cannot use every gap.
    return max(_STORE_MINIMUM_BYTES, declared * 5 // 2) + (_STORE_UNDECLARED_BYTES if undeclared else 0)


def demands_of(layout: Layout, sent_bytes: int = 0) -> Demands:
    """What Ray takes for a graph that is laid out so.

    Every value is there three times: in the memory of the task that gives it, and in the object store for the
    round that is read and the one that is written. `sent_bytes` are those of copies that calls put there besides.
    """
    actors = len(layout.actors())
    values = 3 * value_bytes(layout.graph) + sent_bytes
    store_bytes = object_store_bytes(layout.graph, layout.ahead) + sent_bytes
    return Demands(
        processes=actors,
        memory_bytes=_CLUSTER_BYTES + actors * _ACTOR_BYTES + values,
        shared_memory_bytes=store_bytes if _needs_shared_memory(store_bytes) else 0,
    )


def nbytes_of(value: Any) -> int:
    """About how many bytes `value` takes when serialised: its arrays and strings, wherever they are nested."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if isinstance(value, dict):
        return sum(map(nbytes_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(nbytes_of, value))
    return 0


def _set_environment(private: Mapping[str, str]) -> None:
    """Put Ray's settings where this process and all that Ray starts read them."""
    for name in (*PRIVATE_SETTINGS, "RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK"):
        os.environ.pop(name, None)
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
        RAY_AUTH_TOKEN=_TOKEN,
        # Private, but of no effect on speed: a dead control service ends the run in seconds, not in a minute.
        RAY_gcs_rpc_server_reconnect_timeout_s="5",
    )
    os.environ.update(private)


def _read_settings_again() -> None:
    """Have Ray's library read its settings from the environment, in case a cluster before this one had others."""
    library: Any = importlib.import_module("ray._raylet")
    # Versions without these names have no such cache.
    with contextlib.suppress(AttributeError):
        library.Config.initialize("")
        library.AuthenticationTokenLoader.instance().reset_cache()


def _check_socket_path(scratch: Path) -> None:
    longest = len(os.fsencode(scratch)) + len(_SOCKET_BELOW_TEMP)
    if longest > _SOCKET_PATH_LIMIT:
        raise RuntimeFailure(
            f"Scratch folder '{scratch}' is {longest - _SOCKET_PATH_LIMIT} bytes too long: Ray keeps sockets "
            f"below it, whose paths may have {_SOCKET_PATH_LIMIT} bytes. Set TMPDIR to a shorter folder."
        )


def _check_shared_memory(store_bytes: int) -> None:
    """Refuse a store that would lie on disk."""
    if not _SHARED_MEMORY.is_dir() or not _needs_shared_memory(store_bytes):
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < store_bytes:
        raise RuntimeFailure(
            f"Ray's object store needs {store_bytes / 1e6:.0f} MB of shared memory, but {_SHARED_MEMORY} has "
            f"{free / 1e6:.0f} MB free, and a store on disk would be measured instead of Ray. Make it larger "
            "(in a container: --shm-size)."
        )


def _needs_shared_memory(store_bytes: int) -> bool:
    """Whether so large a store must be in shared memory: the least one may be anywhere, as little goes through it."""
    return store_bytes > _STORE_MINIMUM_BYTES + _STORE_UNDECLARED_BYTES


def _unlink_semaphores(pids: Iterable[int]) -> None:
    """Take away the named semaphores of processes that have ended; killed ones leave theirs behind."""
    ended = set(pids)
    for entry in _SHARED_MEMORY.glob("sem.*"):
        match = _SEMAPHORE.match(entry.name)
        if match is not None and int(match[1]) in ended:
            entry.unlink(missing_ok=True)


def _physical_cores() -> int:
    """Cores that this process may use: two processors of one core do not make two."""
    return min(processors(), psutil.cpu_count(logical=False) or processors())
