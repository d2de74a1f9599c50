"""A question as a command line."""

import shlex
from collections.abc import Mapping
from typing import Any

from query.header import Question

PLACEHOLDERS = {"feature": "0/310", "graph": "sum-3-4-a", "a": "moons-mars-a", "b": "moons-earth-a", "task": "sum"}
"""Examples where no atlas is at hand: those of `atlas demo`."""


def command(asked: Question, examples: Mapping[str, Any]) -> str:
    """A command line that asks the question, filled from `examples` (by name or type).

    It has the required parameters; if nothing is required, the first one that there is an example for.
    """
    chosen = [parameter for parameter in asked.parameters if parameter.required]
    others = (p for p in asked.parameters if p.name != "limit" and (p.name in examples or p.type in examples))
    chosen = chosen or [*others][:1]
    words = [f"atlas ask {asked.name}"]
    for parameter in chosen:
        value = examples.get(parameter.name, examples.get(parameter.type, parameter.name.upper()))
        words.append(f"{parameter.option} {shlex.quote(str(value))}")
    return " ".join(words)
