"""Workload `training`: deep reinforcement learning in lock-step, with DQN, DDPG, TD3 or SAC.

`replay -scatter-> learner[M] -gather-> optimiser`; one round later `optimiser -broadcast-> actor[N], learner[M]`,
`actor -gather-> replay` and `learner -gather-> replay`. A round is one step of the optimiser. Meanwhile each actor
takes a fixed number of steps in each of its E environments, with the weights of the round before: so the ratio of
updates to environment steps is fixed. `docs/training.md` says more.

`workload.py` is the graph; `actor.py`, `memory.py`, `learner.py` and `optimiser.py` are its tasks. `dqn.py`, `ddpg.py`,
`td3.py` and `sac.py` are the algorithms, each with its arguments: they fill in what `algorithm.py` asks for, with
networks of `networks.py`. `arguments.py` is what all have, `parameters.py` what the workload takes. `spaces.py` says
what passes between environments and networks, `device.py` where PyTorch computes, `evaluation.py` plays greedily.
"""

from workloads.training.parameters import Parameters
from workloads.training.workload import WORKLOAD, evaluate

__all__ = ["WORKLOAD", "Parameters", "evaluate"]
