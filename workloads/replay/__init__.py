"""A replay buffer, prioritized or uniform, that needs NumPy alone; docs/replay.md says how to use it, and why so."""

from workloads.replay.frames import FrameReplay
from workloads.replay.n_step import NStep
from workloads.replay.prioritized import PrioritizedReplay
from workloads.replay.saving import SavedReplayError
from workloads.replay.spaces import named_arrays, transition_fields
from workloads.replay.sum_tree import SumTree
from workloads.replay.uniform import UniformReplay

__all__ = [
    "FrameReplay",
    "NStep",
    "PrioritizedReplay",
    "SavedReplayError",
    "SumTree",
    "UniformReplay",
    "named_arrays",
    "transition_fields",
]
