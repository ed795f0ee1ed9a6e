"""An environment that fails in its fourth step, or when it is made: `tests.runtimes.breaking_environment:Breaks-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np


class Breaks(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps > 3:
            raise ArithmeticError("three are enough")
        return np.zeros(2, np.float32), 0.0, False, False, {}


gymnasium.register("Breaks-v0", Breaks)
