"""A plan carried out on a graph's run: what came of it, and what of it is evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atlas.artefact.notes import read_notes
from atlas.artefact.read import read_description
from atlas.config import Home
from atlas.domain.evidence import Evidence, Mode
from atlas.domain.plan import Plan
from atlas.errors import InputError
from atlas.ids import FeatureId
from ingest.interventions.case import Case, Laboratory
from ingest.interventions.dose import dosed
from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.measure import Moved, Report, Token, measure
from ingest.interventions.record import Answer, Done, changed_activations, evidence_of, run_id
from ingest.interventions.resolve import resolve
from ingest.model.inputs import Position


@dataclass(frozen=True)
class Steered:
    """One plan that ran."""

    plan: Plan
    """What was asked."""
    dose: float | None
    """The dose of it; None if none was asked for."""
    run: str
    """Id of the run, as evidence has it."""
    changed: int
    """Activations of the prompt that are other than in the clean run."""
    predicted: float | None
    """Change of what the graph explains that its edges predict; see Answer.predicted."""
    report: Report
    """What came of it."""
    evidence: tuple[Evidence, ...]
    """What of it is evidence."""


@dataclass(frozen=True)
class Steering:
    """All runs of one command."""

    case: Case
    """The graph's clean run."""
    slug: str
    """The graph's readable name."""
    mode: Mode
    """What could follow."""
    answer: Answer | None
    """What the graph explains; None where logits do not give it."""
    labels: Mapping[FeatureId, str]
    """Labels given here to features of the set."""
    runs: tuple[Steered, ...]
    """One a dose, or one."""


def steer(
    home: Home,
    laboratory: Laboratory,
    graph: str,
    plan: Plan,
    mode: Mode,
    *,
    doses: Sequence[float] = (),
    top: int = 5,
    moved: int = 10,
    generate: int = 8,
) -> Steering:
    """Carry out a plan, at every dose if doses are given, in one batch. Nothing is written.

    Raises AtlasError, before the model runs with a change, for a graph, feature, position, supernode or value that
    cannot be used.
    """
    if not plan.changes:
        raise InputError("a plan without a change", "one change at least")
    plans = [dosed(plan, dose) for dose in doses] or [plan]
    case = laboratory.case(graph)
    resolve(plan, case, laboratory)  # as a whole: nothing is changed twice
    done = [[Done(c, resolve(Plan((c,)), case, laboratory)) for c in one.changes] for one in plans]
    answer = Answer.of(home, case)
    interventions = [Intervention(Edits.joined([one.edits for one in parts])) for parts in done]
    reports = measure(case, interventions, mode, answer=answer, top=top, moved=moved, generate=generate, alike=True)
    runs = [
        _steered(case, answer, plans[n], doses[n] if doses else None, done[n], mode, report)
        for n, report in enumerate(reports)
    ]
    assert case.graph is not None
    labels = {
        key.feature: note.text
        for key, note in read_notes(home).labels().items()
        if key.transcoders == case.bank.identity.key
    }
    return Steering(case, read_description(home, case.graph).slug, mode, answer, labels, tuple(runs))


def _steered(
    case: Case,
    answer: Answer | None,
    plan: Plan,
    dose: float | None,
    done: Sequence[Done],
    mode: Mode,
    report: Report,
) -> Steered:
    assert case.graph is not None
    edits, rows = Edits.joined([one.edits for one in done]), list[Evidence]()
    if answer is not None and report.observed is not None:
        said = (report.said_before, report.said_after)
        rows = evidence_of(case, answer, plan, done, mode, report.observed, said)
    return Steered(
        plan=plan,
        dose=dose,
        run=run_id(case.graph, plan, done, mode),
        changed=len(changed_activations(case, edits)),
        predicted=None if answer is None else answer.predicted(case, edits),
        report=report,
        evidence=tuple(rows),
    )


def records(made: Steering) -> list[dict[str, Any]]:
    """The runs as JSON objects, one a run."""
    return [_record(made, run) for run in made.runs]


def place_text(position: Position) -> str:
    """What stands at a position, for people: its token, or the cell of its picture."""
    if position.modality == "text":
        return repr(position.text)[1:-1]
    return f"image {position.image} ({position.row}, {position.col})"


def _record(made: Steering, run: Steered) -> dict[str, Any]:
    report = run.report
    return {
        "graph": made.case.graph,
        "slug": made.slug,
        "mode": made.mode,
        "run": run.run,
        "plan": run.plan.to_json(),
        "dose": run.dose,
        "changed_activations": run.changed,
        "answer_before": report.said_before,
        "answer_after": report.said_after,
        "flipped": report.flipped,
        "text_before": report.text_before,
        "text_after": report.text_after,
        "answer": _token(report.answer),
        "runner_up": _token(report.runner_up),
        "difference_before": report.difference_before,
        "difference_after": report.difference_after,
        "lead_after": report.lead_after,
        "target": None if made.answer is None else str(made.answer.node),
        "target_before": report.logit_before,
        "target_after": report.logit_after,
        "predicted": run.predicted,
        "observed": report.observed,
        "tokens": [_token(token) for token in report.tokens],
        "features": [_feature(made, moved) for moved in report.moved],
        "evidence_rows": len(run.evidence),
    }


def _token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "token": token.text, "before": token.before, "after": token.after}


def _feature(made: Steering, moved: Moved) -> dict[str, Any]:
    return {
        "feature": str(moved.feature),
        "position": moved.position,
        "place": place_text(made.case.inputs.positions[moved.position]),
        "label": made.labels.get(moved.feature),
        "before": moved.before,
        "after": moved.after,
    }
