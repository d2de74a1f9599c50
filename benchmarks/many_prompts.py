"""What `atlas ingest` costs beside its engine: wall time of the whole command against the sum of the tracer's phases.

python benchmarks/many_prompts.py --prompts 100

The shipped model, renderings of all picture tasks. `work_seconds` runs from the moment the model is open until the
command has ended: tracing, writing and loading. Starting Python and opening the model are printed beside it.
`engine_seconds` is the sum of the phases that each graph's provenance tells; `ratio` is work over engine. Writing and
loading beside the trace slow the phases down where cores are few, so some of the prompts are traced once more with
nothing beside them: `ratio_undisturbed` is work over that engine's time for as many graphs.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from atlas.domain.example import read_prompts
from ingest.demo.facts import PICTURE_TASKS
from ingest.demo.shipped import shipped
from ingest.demo.world import draw
from ingest.pipeline import TraceSettings
from ingest.session import Request, open_tracer

_OPENED = re.compile(r"opened in ([0-9.]+) s")
_TRACED = re.compile(r"failed in ([0-9.]+) s")
_ALONE = 25
"""Prompts traced once more."""
_LOADED = re.compile(r"^loaded: .* in ([0-9.]+) s")


def main() -> None:
    """Draw, ingest and load in a temporary home; print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        prompts = _draw(folder, chosen.prompts, chosen.seed)
        times = _ingest(prompts, home)
        alone = _undisturbed(prompts) * chosen.prompts
        manifests = [json.loads(path.read_text()) for path in home.glob("artefacts/graph/*/*/manifest.json")]
        phases: Counter[str] = Counter()
        for manifest in manifests:
            phases.update(manifest["provenance"]["seconds"])
        engine = sum(phases.values())
        size = sum(path.stat().st_size for path in (home / "artefacts").rglob("*") if path.is_file())
        print(
            json.dumps(
                {
                    "prompts": chosen.prompts,
                    "graphs": len(manifests),
                    **{what: round(seconds, 1) for what, seconds in times.items()},
                    "engine_seconds": round(engine, 1),
                    "phases_a_graph": {phase: round(total / len(manifests), 4) for phase, total in phases.items()},
                    "artefact_bytes_a_graph": size // len(manifests),
                    "database_bytes": (home / "stores" / "atlas.duckdb").stat().st_size,
                    "peak_memory_bytes": max(manifest["provenance"]["peak_memory_bytes"] for manifest in manifests),
                    "engine_undisturbed_seconds": round(alone, 1),
                    "ratio": round(times["work_seconds"] / engine, 3),
                    "ratio_undisturbed": round(times["work_seconds"] / alone, 3),
                },
                indent=1,
            )
        )


def _ingest(prompts: Path, home: Path) -> dict[str, float]:
    """Run the command and show what it says; seconds of its parts."""
    demo = ("--model", "demo", "--transcoders", "demo")
    command = [sys.executable, "-m", "atlas", "ingest", str(prompts), *demo, "--home", str(home)]
    said: dict[str, Any] = {}
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            for name, pattern in (("opening", _OPENED), ("tracing", _TRACED), ("loading", _LOADED)):
                if found := pattern.search(line):
                    said[name] = float(found[1]), time.perf_counter() - begin
    end = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"atlas ingest ended with {process.returncode}")
    opening, opened_at = said["opening"]
    return {
        "start_seconds": opened_at - opening,
        "opening_seconds": opening,
        "work_seconds": end - opened_at,
        "tracing_seconds": said["tracing"][0],
        "last_load_seconds": said["loading"][0],
    }


def _undisturbed(prompts: Path) -> float:
    """Seconds of all phases, a graph, of a tracer that has the machine for itself."""
    options = {"prompts": prompts, "example": None, "model": shipped("model"), "transcoders": shipped("transcoders")}
    tracer = open_tracer(Request(**options, device="cpu", precision="fp32", seed=0, settings=TraceSettings()))
    examples = [line.example for line in read_prompts(prompts) if line.example is not None][:_ALONE]
    tracer.find(tracer.prepare(examples[0]))  # warm
    found = [tracer.find(tracer.prepare(example)).provenance["seconds"] for example in examples]
    return sum(sum(seconds.values()) for seconds in found) / len(found)


def _draw(folder: Path, count: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        sample = draw(PICTURE_TASKS[number % len(PICTURE_TASKS)], rng)
        assert sample.image is not None
        sample.image.save(folder / f"{number}.png")
        lines.append(
            json.dumps(
                {
                    "prompt": sample.question,
                    "images": [f"{number}.png"],
                    "task": sample.task,
                    "concept": sample.concept,
                    "expected": sample.answer,
                }
            )
        )
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(lines))
    return path


if __name__ == "__main__":
    main()
