"""One worker of a running program, and what it does in a tag that its events have brought about.

The calling process is worker 0. A program with one worker is this alone: nothing to wait for and
nothing to publish. What is present pushes the reactions it triggers; where all tags are known
beforehand, `clocked` runs them.
"""

from __future__ import annotations

from contextlib import nullcontext
from heapq import heappop, heappush
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from runtimes.reactor.bodies import Bodies
from runtimes.reactor.clocked import ClockedTags
from runtimes.reactor.home import Home, Settings
from runtimes.reactor.lanes import Lanes
from runtimes.reactor.live import Clock
from runtimes.reactor.peers import Peers
from runtimes.reactor.ports import Ports
from runtimes.reactor.reactions import shutdown, startup
from runtimes.reactor.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtimes.reactor.board import Board
    from runtimes.reactor.events import Gate
    from runtimes.reactor.memory import Segment
    from runtimes.reactor.observe import Notes
    from runtimes.reactor.partition import Partition
    from runtimes.reactor.post import Post
    from runtimes.reactor.watch import Watched

__all__ = ["Worker"]


class Worker:
    """Runs the reactions that live here, tag after tag."""

    def __init__(  # noqa: PLR0913 - a worker and everything it shares
        self,
        partition: Partition,
        number: int,
        *,
        shared: Segment | None = None,
        posts: Mapping[int, Post] | None = None,
        board: Board | None = None,
        look_around: Callable[[], None] = lambda: None,
        gate: Gate | None = None,
        settings: Settings | None = None,
        watched: Watched | None = None,
    ) -> None:
        """Make worker `number`. `look_around` is called while it waits, and raises if a peer has died."""
        self.partition = partition
        self.number = number
        self.home = home = Home(
            partition=partition, number=number, settings=settings or Settings(), gate=gate, watched=watched
        )
        self.clock = home.clock
        self._assembly = partition.assembly
        self._lanes = Lanes(home, shared, dict(posts or {}))
        self.sources = Sources(home)
        self._ports = Ports(home, self._lanes, self.sources)
        self._bodies = Bodies(home, self._ports, self.sources.modes)
        self.peers = Peers(home, self._lanes, board, look_around)
        self.clocked = ClockedTags(home, self._ports, self.sources, self._bodies, self.peers)
        """What it does in the tags of a clocked program."""
        self._segments = [] if home.clocked else self._cut()

    @property
    def notes(self) -> Notes:
        """What was noted of the run."""
        return self.home.notes

    @property
    def failure(self) -> BaseException | None:
        """What went wrong in a thread of this worker other than its own."""
        return self.sources.failure

    @property
    def timeline(self) -> bool:
        """Whether spans are noted."""
        return self.home.settings.timeline

    @property
    def wants_stop(self) -> bool:
        """Whether one of its reactions has requested a stop."""
        return self.clock.stop_requested

    # Running

    def begin(self, start_ns: int) -> None:
        """Be at the beginning: what happens at the first tag stands in the queue."""
        self.clock.start_ns = start_ns
        self.sources.begin()

    def adopt(self, other: Worker) -> None:
        """Go on where `other` was, which ran the whole program so far: take over what belongs to reactors here."""
        for name in Clock.__slots__:
            setattr(self.clock, name, getattr(other.clock, name))
        if self.number == 0:
            self.notes.take(other.notes, spans=self.timeline)
        self._lanes.adopt(other._lanes)
        self.sources.adopt(other.sources)

    def next_tag(self) -> tuple[int, int]:
        """The tag of this worker's earliest event."""
        if self.clock.turn == 0:
            return (0, 0)
        return self.home.queue.next_tag()

    def earliest_by_worker(self, partition: Partition) -> dict[int, tuple[int, int]]:
        """The earliest event of each worker that is to take over reactors of this one."""
        earliest: dict[int, tuple[int, int]] = {}
        for time_ns, microstep, _, source, holder in sorted(self.home.queue.heap):
            if holder:
                earliest.setdefault(partition.placement[source.element.owner.path], (time_ns, microstep))
        return earliest

    def run_tag(self, number: int, time_ns: int, microstep: int, taking_part: int, *, last: bool) -> None:
        """Run tag `number` of the program with the workers whose bits are set in `taking_part`.

        Raises:
            ReactionFailed: if a reaction of this worker raised.
            Aborted: if another worker gave up.
        """
        clock = self.clock
        clock.turn = clock.number = number
        clock.time_ns = time_ns
        clock.microstep = microstep
        busy = self.sources.busy
        if busy is None:
            self._run_events(number, taking_part, last=last)
        else:
            with busy:
                self._run_events(number, taking_part, last=last)
        clock.turn = number + 1

    def _run_events(self, number: int, taking_part: int, *, last: bool) -> None:
        """Run what the events of the tag trigger, in order of rank."""
        home, clock = self.home, self.clock
        if home.inbox is not None:
            home.inbox.empty_into(home.queue)
        home.queue.fire(clock.time_ns, clock.microstep)
        if number == 0:
            self._push(self._ranks_with(startup))
        if last:
            self._bodies.shutting_down = True
            self._push(self._ranks_with(shutdown))
        for limit, then in self._segments:
            self._drain(limit)
            then(taking_part)
        self._drain(len(self._assembly.reactions))
        clock.rank = -1
        self.sources.after_tag()

    def run_alone(self, tags: int, stop_at: tuple[int, int], ends_ns: list[int]) -> None:
        """Run up to `tags` tags before `stop_at`, while there are events and nobody requests a stop.

        For a worker without peers, modes and events from outside, in fast mode: what `run_tag` does, with nobody
        to ask in between. Saves 2 us a tag.
        """
        home, clock, bodies, rank = self.home, self.clock, self._bodies.by_rank, -1
        ready, heap = home.ready, home.queue.heap
        number = clock.turn
        end = number + tags
        stop_ns = stop_at[0]
        try:
            while heap and number < end and not clock.stop_requested:
                event = heappop(heap)
                time_ns, microstep, _, source, holder = event
                if time_ns >= stop_ns and (time_ns, microstep) >= stop_at:
                    heappush(heap, event)
                    break
                if not holder:
                    continue
                clock.number, clock.time_ns, clock.microstep = number, time_ns, microstep
                source.fire(time_ns, microstep, holder)
                while heap and heap[0][0] == time_ns and heap[0][1] == microstep:
                    event = heappop(heap)
                    if event[4]:
                        event[3].fire(time_ns, microstep, event[4])
                while ready:
                    following = heappop(ready)
                    if following > rank:
                        rank = clock.rank = following
                        bodies[following]()
                clock.rank = rank = -1
                number += 1
                ends_ns.append(perf_counter_ns())
        except Exception as error:  # noqa: BLE001 - it is raised with its place
            home.fail(rank, error)
        finally:
            clock.turn = number

    def ask(self, path: str, method: str, now: tuple[int, int, int]) -> Any:
        """What `method` of a reactor that lives here gives, after the tag with number, time and microstep `now`.

        That tag is shown meanwhile, also by a worker that took no part in it. Its own last tag comes back then: by
        it recordings say when a watchdog expired. So no handler of a watchdog runs meanwhile.
        """
        clock = self.clock
        own = clock.number, clock.time_ns, clock.microstep
        with self.sources.busy or nullcontext():
            clock.number, clock.time_ns, clock.microstep = now
            try:
                return getattr(self._assembly.reactors[path], method)()
            finally:
                clock.number, clock.time_ns, clock.microstep = own

    def let_go(self) -> None:
        """Take from ports and plans what they look through, so that the memory behind it goes at once."""
        self.sources.end()
        self.clocked.let_go()
        self._bodies.by_rank.clear()
        self._ports.let_go()

    def drop_lanes(self) -> None:
        """Let go of all values, once others have adopted them."""
        self._lanes.let_go()

    def leave_to(self, successor: Worker) -> None:
        """Let go of what `successor`, in this process, has adopted, and of the reactors that live in others now.

        A forked worker never leaves the frames that hold its predecessor, and would keep a copy of every array.
        """
        self.drop_lanes()
        for path in set(self.home.paths) - set(successor.home.paths):
            self._assembly.reactors[path].moved_away()

    # Steps of a tag

    def _push(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            heappush(self.home.ready, rank)

    def _drain(self, limit: int) -> None:
        """Run what is ready and comes before rank `limit`."""
        ready, clock, bodies = self.home.ready, self.clock, self._bodies.by_rank
        rank = clock.rank
        try:
            while ready and ready[0] < limit:
                following = heappop(ready)
                if following > rank:
                    rank = clock.rank = following
                    bodies[following]()
        except Exception as error:  # noqa: BLE001 - it is raised with its place
            self.home.fail(rank, error)

    def _cut(self) -> list[tuple[int, Callable[[int], None]]]:
        """Where a tag that is not clocked is cut: up to which rank to run, and what to do then."""
        segments: list[tuple[int, Callable[[int], None]]] = []
        cues = self.peers.cues
        published = 0
        done = 0
        for at, cue in enumerate(cues):
            if cue.wait is not None:
                following = next(c.rank for c in cues[at:] if c.rank is not None)
                segments.append((following, self.peers.waiting(*cue.wait)))
            elif cue.publish:
                segments.append((done + 1, self.peers.publishing(published)))
                published += 1
            else:
                assert cue.rank is not None
                done = cue.rank
        return segments

    def _ranks_with(self, trigger: object) -> list[int]:
        """Reactions with that trigger whose mode is, or for shutdown ever was, active."""
        rows, modes = self._assembly.reactions, self.sources.modes
        found = [rank for rank in self.home.ranks if trigger in rows[rank].declared.triggers]
        if modes is None:
            return found
        counts = modes.started if trigger is shutdown else modes.active
        return [rank for rank in found if (mode := rows[rank].mode) is None or counts[mode]]
