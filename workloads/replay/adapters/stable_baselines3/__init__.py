"""Prioritized replay for Stable-Baselines3: a class for `replay_buffer_class=`, and algorithms that use it whole."""

from workloads.replay.adapters.stable_baselines3.algorithms import (
    PrioritizedDDPG,
    PrioritizedDQN,
    PrioritizedSAC,
    PrioritizedTD3,
)
from workloads.replay.adapters.stable_baselines3.buffer import PrioritizedReplayBuffer, PrioritizedSamples

__all__ = [
    "PrioritizedDDPG",
    "PrioritizedDQN",
    "PrioritizedReplayBuffer",
    "PrioritizedSAC",
    "PrioritizedSamples",
    "PrioritizedTD3",
]
