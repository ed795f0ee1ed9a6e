"""Turns what a user wrote into a workload with its parameters, a runtime with its options, a file to write.

Parameters and options become the struct that the workload or runtime declares. Values come from the
command line as text, or from a suite as TOML values. Each is converted alone, so that a message can name
the parameter, the value and the rule.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import msgspec

from harness import registry
from harness.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from runtimes.protocol import Runtime
    from workloads.dataflow import Workload

__all__ = [
    "Field",
    "bind",
    "check_writable",
    "chosen_runtime",
    "chosen_workload",
    "fields_of",
    "parse_assignments",
    "parse_runtime",
    "spell",
]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter or option, as people read it."""

    name: str
    type: str
    """What values it takes: `int >= 1`, `local | driver`."""
    default: Any
    description: str


def fields_of(struct: type[msgspec.Struct]) -> list[Field]:
    """The fields of `struct` in order."""
    return [_field(declared) for declared in msgspec.structs.fields(struct)]


def chosen_workload(name: str, given: Mapping[str, Any], *, is_text: bool) -> tuple[Workload, msgspec.Struct]:
    """The workload called `name`, and its parameters; `given` and `is_text` as for `bind`.

    Raises:
        UsageError: for an unknown workload or parameter, or a value that breaks its rule.
    """
    workload = registry.workloads().get(name)
    owner = f"workload '{workload.name}'"
    return workload, bind(workload.parameters, given, noun="parameter", owner=owner, is_text=is_text)


def chosen_runtime(text: str) -> tuple[Runtime, msgspec.Struct]:
    """The runtime that `text` (`NAME` or `NAME:key=value,key=value`) names, and its options.

    Raises:
        UsageError: for an unknown runtime or option, or a value that breaks its rule.
    """
    name, given = parse_runtime(text)
    runtime = registry.runtimes().get(name)
    return runtime, bind(runtime.options, given, noun="option", owner=f"runtime '{name}'", is_text=True)


def check_writable(path: Path) -> None:
    """Raise if no file can be written at `path`.

    Raises:
        UsageError: for a folder, or a path in one that is not there or cannot be written.
    """
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written. Name a file in a folder that is there and can be written.")


def bind(
    struct: type[msgspec.Struct], given: Mapping[str, Any], *, noun: str, owner: str, is_text: bool
) -> msgspec.Struct:
    """An instance of `struct` from `given`; what is not given has its default.

    `noun` and `owner` stand in messages: "parameter", "workload 'simulation'". With `is_text`, values are
    strings that spell numbers, true and false, null, or JSON for lists.

    Raises:
        UsageError: for an unknown name, a value that breaks its rule, or values that do not go together.
    """
    declared = {field.name: field for field in msgspec.structs.fields(struct)}
    for name in given:
        if name not in declared:
            raise UsageError(f"Unknown {noun} '{name}' of {owner}. {did_you_mean(name, declared)}")
    values = {name: _convert(declared[name], value, noun, owner, is_text=is_text) for name, value in given.items()}
    try:
        return struct(**values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{owner[:1].upper()}{owner[1:]}: {error}") from error


def parse_assignments(texts: Iterable[str], *, flag: str) -> dict[str, str]:
    """`["a=1", "b=x"]` as a mapping.

    Raises:
        UsageError: for a text without `=`, or a name given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"'{text}' after {flag} is not an assignment. Write NAME=VALUE.")
        if name.strip() in values:
            raise UsageError(f"'{name.strip()}' is given twice after {flag}. Give it once.")
        values[name.strip()] = value
    return values


def parse_runtime(text: str) -> tuple[str, dict[str, str]]:
    """`ray-packed:driver_slice=false,inline_bytes=0` as a name and its options, still as text.

    Raises:
        UsageError: for an option without `=`, one given twice, or no name.
    """
    name, colon, options = text.partition(":")
    if not name.strip():
        raise UsageError(f"'{text}' names no runtime. Write NAME or NAME:key=value,key=value.")
    parts = options.split(",") if colon and options else []
    return name.strip(), parse_assignments(parts, flag=f"'--runtime {name.strip()}:'")


def spell(value: Any) -> str:
    """`value` as JSON; as Python has it where JSON has no such number."""
    return repr(value) if _has_infinite(value) else msgspec.json.encode(value).decode()


def _finite(value: Any) -> Any:
    """`value`, unless there is a number in it that is not finite, which no type excludes."""
    if _has_infinite(value):
        raise msgspec.ValidationError("Expected finite numbers")
    return value


def _has_infinite(value: Any) -> bool:
    """Whether `value`, or anything in it, is infinite or not a number."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_infinite, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_infinite, value))


def _field(declared: msgspec.structs.FieldInfo) -> Field:
    info = msgspec.inspect.type_info(declared.type)
    description = ""
    if isinstance(info, msgspec.inspect.Metadata):
        description = (info.extra_json_schema or {}).get("description", "")
    return Field(
        name=declared.name,
        type=_wording(info),
        default=msgspec.to_builtins(_default(declared)),
        description=description,
    )


def _default(declared: msgspec.structs.FieldInfo) -> Any:
    if declared.default_factory is not msgspec.NODEFAULT:
        return declared.default_factory()
    return None if declared.default is msgspec.NODEFAULT else declared.default


def _convert(declared: msgspec.structs.FieldInfo, value: Any, noun: str, owner: str, *, is_text: bool) -> Any:
    try:
        return _finite(_from_text(value, declared.type) if is_text else msgspec.convert(value, declared.type))
    except msgspec.ValidationError as error:
        field = _field(declared)
        shown = repr(value) if is_text else spell(value)
        about = f" ({field.description})" if field.description else ""
        finite = ", finite" if "float" in field.type else ""
        raise UsageError(
            f"{noun.capitalize()} '{field.name}' of {owner} cannot be {shown}: it takes {field.type}{finite}{about}. "
            f"{_remedy(declared, value, field)}"
        ) from error


def _remedy(declared: msgspec.structs.FieldInfo, value: Any, field: Field) -> str:
    """The nearest allowed value, or the default."""
    choices = _choices(msgspec.inspect.type_info(declared.type))
    if choices and isinstance(value, str):
        return did_you_mean(value, choices)
    return f"Give another value, or leave it out for the default, {spell(field.default)}."


def _from_text(text: str, declared: Any) -> Any:
    """`text` as a value of the type `declared`."""
    try:
        return msgspec.convert(text, declared, strict=False)
    except msgspec.ValidationError:
        if not text.startswith(("[", "{")):
            raise
    try:
        return msgspec.convert(msgspec.json.decode(text), declared)
    except msgspec.DecodeError as error:
        raise msgspec.ValidationError(str(error)) from error


def _choices(info: msgspec.inspect.Type) -> list[str]:
    """The strings that a type of literals allows; none for other types."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _choices(info.type)
    if isinstance(info, msgspec.inspect.LiteralType):
        return [value for value in info.values if isinstance(value, str)]
    return []


_PLAIN = {
    msgspec.inspect.BoolType: "true | false",
    msgspec.inspect.StrType: "text",
    msgspec.inspect.NoneType: "null",
    msgspec.inspect.AnyType: "any value",
}


def _wording(info: msgspec.inspect.Type) -> str:
    """`int >= 1`, `local | driver`, `list of float`."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _wording(info.type)
    if isinstance(info, msgspec.inspect.LiteralType):
        return " | ".join(str(value) for value in info.values)
    if isinstance(info, msgspec.inspect.UnionType):
        return " | ".join(_wording(member) for member in info.types)
    if isinstance(info, msgspec.inspect.CollectionType):
        return f"list of {_wording(info.item_type)}"
    if isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return ", ".join(_number_rules(info))
    return _PLAIN.get(type(info), type(info).__name__.removesuffix("Type").lower())


def _number_rules(info: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> list[str]:
    name = "int" if isinstance(info, msgspec.inspect.IntType) else "float"
    bounds = ((">=", info.ge), (">", info.gt), ("<=", info.le), ("<", info.lt), ("multiple of", info.multiple_of))
    rules = [f"{sign} {bound}" for sign, bound in bounds if bound is not None]
    return [f"{name} {rules[0]}", *rules[1:]] if rules else [name]
