"""What a type checker sees of a reactor: the types of ports, of their values, and of reactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy import api

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from runtimes.reactor import Bank, Input, LogicalAction, Output, Reactor, Timer, bank, ms, reaction

class Sender(Reactor):
    tick = Timer(1 * ms)
    number = Output[int]()
    later = LogicalAction[str]()

    @reaction(tick, effects=[number, later])
    def send(self) -> None:
        self.number.set(1)
        self.number.set("one")          # WRONG: Output[int]
        self.later.schedule("text")
        self.later.schedule(2)          # WRONG: LogicalAction[str]
        reveal_type(self.later.value)   # str

class Receiver(Reactor):
    number = Input[int]()
    text = Input[str]()

    @reaction(number, sources=[text])
    def hear(self) -> None:
        reveal_type(self.number.value)   # int
        reveal_type(self.number.get())   # int | None
        self.numbr.value                 # WRONG: no such port

class LouderSender(Sender):
    @reaction(Sender.tick, effects=[Sender.number])
    def send(self) -> None:
        self.number.set(100)

class Main(Reactor):
    def __init__(self) -> None:
        self.sender = Sender()
        self.receivers = bank(2, lambda index: Receiver())
        reveal_type(self.receivers[0])   # Receiver
        self.connect(self.sender.number, self.receivers.each(lambda receiver: receiver.number), broadcast=True)
        self.connect(self.sender.number, self.receivers[0].text)   # WRONG: int to str
        reveal_type(self.sender.send)    # a reaction is a method without arguments
"""


def test_a_type_checker_knows_ports_values_and_reactions(tmp_path: Path, repository: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    lines = PROGRAM.splitlines()
    output, _, _ = api.run(
        ["--config-file", str(repository / "pyproject.toml"), "--cache-dir", str(tmp_path), str(program)]
    )
    found = [line.split(":", 3)[1:] for line in output.splitlines() if line.count(":") >= 3]
    errors = {int(number) for number, kind, _ in found if kind.strip() == "error"}
    assert errors == {at for at, line in enumerate(lines, start=1) if "# WRONG" in line}, output
    revealed = {int(number): text for number, kind, text in found if "Revealed type" in text}
    expected = {"str": "str", "int": "int", "int | None": "int | None", "Receiver": "Receiver"}
    for at, line in enumerate(lines, start=1):
        if "reveal_type" in line:
            comment = line.split("# ")[1]
            assert expected.get(comment, "def ()") in revealed[at], output
