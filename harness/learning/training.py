"""One training, in a child process: train some rounds, evaluate, go on, until the target or the cap is reached.

Evaluations are untimed: only the rounds of training count, as their session reports them. Each evaluation goes to the
journal at once, and now and then the program's state is kept, so that a training that is interrupted goes on from
there, bit for bit. Where the task or the runtime has no state, it begins anew.
"""

from __future__ import annotations

import gc
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from harness import registry
from harness.child_tools import closed_on_error, notice_of, summed
from harness.job import LearnResult, Phase
from harness.learning.records import MOST_RETURNS, Evaluation
from harness.learning.trainings import Unfinished
from workloads.dataflow import Digest, GraphError, State

if TYPE_CHECKING:
    from harness.job import Folder, LearnJob
    from runtimes.protocol import Runtime
    from workloads.dataflow import Graph, Session, Workload

__all__ = ["learn"]


def learn(job: LearnJob, folder: Folder) -> LearnResult:
    """Do `job`; the evaluations are in its journal.

    Raises:
        Exception: whatever the workload, the runtime or a task raises.
    """
    pairing = job.pairing
    workload, runtime = registry.workloads().get(pairing.workload), registry.runtimes().get(pairing.runtime)
    parameters = msgspec.convert(pairing.parameters, workload.parameters)
    options = msgspec.convert(pairing.options, runtime.options)
    unfinished = Unfinished(Path(job.journal), Path(job.checkpoint))
    graph = _to_go_on(workload.build(parameters, job.seed), unfinished.checkpoint)
    evaluations = unfinished.keep_until(graph.first_round if graph.is_resumed else -1)
    folder.enter(Phase.STARTING)
    began = perf_counter()
    session = runtime.open(graph, options, folder.scratch)
    startup_s = perf_counter() - began
    with closed_on_error(session):
        pupil = _Pupil(
            session=session,
            graph=graph,
            workload=workload,
            runtime=runtime,
            parameters=parameters,
            job=job,
            round=graph.first_round,
            wall_s=evaluations[-1].wall_s if evaluations else 0.0,
        )
        _train(pupil, evaluations, unfinished, folder)
        folder.enter(Phase.CLOSING)
        session.close()
    return LearnResult(
        unit=graph.unit,
        units_per_round=graph.units_per_round,
        startup_s=startup_s,
        resumed_at=graph.first_round,
        notice=notice_of(runtime, options),
    )


def _train(pupil: _Pupil, evaluations: list[Evaluation], unfinished: Unfinished, folder: Folder) -> None:
    """Train until the end, with an evaluation first, last, and in between."""
    job = pupil.job
    kept_s = perf_counter()
    while True:
        if not evaluations or evaluations[-1].round < pupil.round:
            folder.enter(Phase.EVALUATING)
            evaluations.append(pupil.evaluated())
            unfinished.add(evaluations[-1])
        if pupil.round >= job.cap_rounds or (job.stop_at_target and _reached(evaluations[-1], job.target)):
            return
        if perf_counter() - kept_s >= job.checkpoint_s:
            pupil.keep(unfinished.checkpoint)
            kept_s = perf_counter()
        folder.enter(Phase.TRAINING)
        pupil.train(min(job.every_rounds - pupil.round % job.every_rounds, job.cap_rounds - pupil.round))


def _reached(evaluation: Evaluation, target: float | None) -> bool:
    return target is not None and evaluation.round > 0 and evaluation.mean_return >= target


def _to_go_on(graph: Graph, checkpoint: Path) -> Graph:
    """`graph`, to go on from the state at `checkpoint` if there is one that can be used."""
    if not checkpoint.exists():
        return graph
    try:
        return graph.resumed(State.load(checkpoint))
    except ValueError as error:
        sys.stderr.write(f"It begins anew, since it cannot go on from what was kept: {error}\n")
        return graph


@dataclass(slots=True, kw_only=True)
class _Pupil:
    """A living session that is trained and looked at."""

    session: Session
    graph: Graph
    workload: Workload
    runtime: Runtime
    parameters: Any
    job: LearnJob
    round: int
    """Rounds so far."""
    wall_s: float
    """Seconds that they took."""
    has_state: bool = field(default=True)

    def train(self, rounds: int) -> None:
        """Go on for so many rounds."""
        # What an evaluation leaves behind is not collected while rounds are timed, and what was there before it is
        # not looked at.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.wall_s += float(self.session.advance(rounds).sum()) / 1e9
        self.round += rounds

    def evaluated(self) -> Evaluation:
        """What has been learnt so far.

        Raises:
            ValueError: if a return is not finite, or the workload cannot evaluate these parameters.
        """
        assert self.workload.evaluate is not None
        tallies = self.session.tallies()
        returns = [
            float(one) for one in self.workload.evaluate(self.parameters, tallies, self.job.episodes, self.job.seed)
        ]
        if len(returns) != self.job.episodes or not all(map(math.isfinite, returns)):
            raise ValueError(
                f"After {self.round} rounds the evaluation gave {len(returns)} returns, some perhaps not finite, and "
                f"not {self.job.episodes} numbers: {returns[:3]}... What has been learnt may hold no numbers any more."
            )
        digest = Digest()
        digest.add(tallies)
        return Evaluation(
            round=self.round,
            units=self.round * self.graph.units_per_round,
            updates=summed(tallies)["updates"],
            wall_s=self.wall_s,
            episodes=len(returns),
            mean_return=math.fsum(returns) / len(returns),
            returns=returns if len(returns) <= MOST_RETURNS else [],
            digest=None if self.runtime.differs else digest.hexdigest(),
        )

    def keep(self, checkpoint: Path) -> None:
        """Have the program's state in a file, if it has one."""
        if not self.has_state:
            return
        try:
            self.session.state().save(checkpoint)
        except (GraphError, TypeError) as error:
            self.has_state = False
            sys.stderr.write(f"If it is interrupted, it begins anew: {error}\n")
