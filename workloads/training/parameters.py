"""The parameters of the workload: those of all algorithms side by side, made of their structs.

Each algorithm's struct has its own arguments and its own defaults. Here a parameter that has one default wherever there
is one keeps it; any other is null until it is given, and then what the chosen algorithm says. So nothing is said twice,
and a parameter that the algorithm does not have is an error that names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from workloads.training.ddpg import DDPG, DDPGArguments
from workloads.training.dqn import DQN, DQNArguments
from workloads.training.sac import SAC, SACArguments
from workloads.training.spaces import interface_of
from workloads.training.td3 import TD3, TD3Arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workloads.training.algorithm import Algorithm
    from workloads.training.arguments import Arguments

__all__ = ["Parameters", "algorithm_of", "arguments_of"]

AlgorithmName = Literal["dqn", "ddpg", "td3", "sac"]

STRUCTS: dict[str, type[Arguments]] = {
    struct.algorithm: struct for struct in (DQNArguments, DDPGArguments, TD3Arguments, SACArguments)
}
ALGORITHMS: dict[type[Arguments], type[Algorithm[Any]]] = {
    DQNArguments: DQN,
    DDPGArguments: DDPG,
    TD3Arguments: TD3,
    SACArguments: SAC,
}


class _Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to learn, with which algorithm, and how."""

    algorithm: Annotated[AlgorithmName, msgspec.Meta(description="what learns")] = "td3"

    def __post_init__(self) -> None:
        """Check that there are arguments for these parameters.

        Raises:
            ValueError: as `arguments_of`.
        """
        _ = arguments_of(self)


def _fields() -> list[tuple[str, Any, Any]]:
    """Name, type and default of every parameter, in the order of the algorithms."""
    by_name: dict[str, dict[str, msgspec.structs.FieldInfo]] = {}
    for algorithm, struct in STRUCTS.items():
        for field in msgspec.structs.fields(struct):
            by_name.setdefault(field.name, {})[algorithm] = field
    return [(name, *_merged(owners)) for name, owners in by_name.items()]


def _merged(owners: dict[str, msgspec.structs.FieldInfo]) -> tuple[Any, Any]:
    """Type and default of a parameter that these algorithms have."""
    first = next(iter(owners.values()))
    defaults = {field.default for field in owners.values()}
    if len(owners) == len(STRUCTS) and len(defaults) == 1:
        return first.type, first.default
    info = msgspec.inspect.type_info(first.type)
    assert isinstance(info, msgspec.inspect.Metadata)
    described = (info.extra_json_schema or {})["description"]
    told = ", ".join(f"{algorithm} {_spelled(field.default)}" for algorithm, field in owners.items())
    return Annotated[first.type | None, msgspec.Meta(description=f"{described}; null: {told}")], None


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


Parameters = msgspec.defstruct("Parameters", _fields(), bases=(_Checked,), module=__name__, frozen=True, kw_only=True)
Parameters.__doc__ = _Checked.__doc__


def arguments_of(parameters: msgspec.Struct) -> Arguments:
    """The arguments of the algorithm that `parameters` choose, with its defaults.

    Raises:
        ValueError: for a parameter that it does not have, or values that do not go together.
    """
    given = msgspec.structs.asdict(parameters)
    name = given.pop("algorithm")
    struct = STRUCTS[name]
    defaults = {field.name: field.default for field in msgspec.structs.fields(parameters)}
    known = {field.name for field in msgspec.structs.fields(struct)}
    values = {field: value for field, value in given.items() if value is not None and field in known}
    for field, value in given.items():
        if field not in known and value != defaults[field]:
            owners = [owner for owner, other in STRUCTS.items() if field in other.__struct_fields__]
            raise ValueError(
                f"{field}={value} does not go with algorithm='{name}': it is an argument of {_either(owners, 'and')}. "
                f"Leave it out, or choose algorithm={_either(owners, 'or')}."
            )
    return struct(**values)


def algorithm_of(arguments: Arguments) -> Algorithm[Any]:
    """The algorithm that `arguments` are of, for their environment.

    Raises:
        ValueError: for an environment that cannot be made or does not suit, or a device that is not there.
    """
    made = ALGORITHMS[type(arguments)]
    interface = interface_of(arguments.env_id)
    if interface.chooses != made.chooses:
        kinds = ("Discrete", "a bounded vector of floats")
        does, needs = kinds if interface.chooses else reversed(kinds)
        fitting = [struct.algorithm for struct, other in ALGORITHMS.items() if other.chooses != made.chooses]
        raise ValueError(
            f"Actions of '{arguments.env_id}' are {does}, but {arguments.algorithm} needs {needs}. "
            f"Choose algorithm={_either(fitting, 'or')}, or another environment."
        )
    _check_device(arguments.device)
    return made(arguments, interface)


def _either(names: Sequence[str], word: str) -> str:
    """`a, b or c`."""
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _check_device(device: str) -> None:
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"device='cuda' cannot be used: PyTorch {torch.__version__} sees no GPU here. Set device='cpu', or install "
            "a PyTorch with CUDA on a machine that has one."
        )
