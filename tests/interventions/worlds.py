"""The random world of tests/science as a case of interventions."""

from functools import cache

from ingest.interventions.case import Case
from tests.science.world import case


@cache
def clean(name: str = "topk") -> Case:
    made = case(name)
    return Case(
        model=made.model,
        bank=made.bank,  # type: ignore[arg-type]  # written down once more for the laws
        inputs=made.inputs,
        run=made.run,
        encoded=made.encoded,
        prompt_length=len(made.inputs.positions),
        answer_position=len(made.inputs.positions) - 1,
    )
