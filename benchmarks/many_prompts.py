"""How long `atlas ingest` takes over many pictures: seconds, per phase and a graph, on the shipped model.

python benchmarks/many_prompts.py --prompts 200
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ingest.demo.facts import PICTURE_TASKS
from ingest.demo.world import draw


def main() -> None:
    """Draw, ingest and load in a temporary home; print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = _draw(folder, chosen.prompts, chosen.seed)
        begin = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "atlas",
                "ingest",
                str(prompts),
                "--model",
                "demo",
                "--transcoders",
                "demo",
                "--home",
                str(folder / "home"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - begin
        manifests = [
            json.loads(path.read_text()) for path in (folder / "home").glob("artefacts/graph/*/*/manifest.json")
        ]
        phases: Counter[str] = Counter()
        for manifest in manifests:
            phases.update(manifest["provenance"]["seconds"])
        size = sum(path.stat().st_size for path in (folder / "home" / "artefacts").rglob("*") if path.is_file())
        print(
            json.dumps(
                {
                    "prompts": chosen.prompts,
                    "graphs": len(manifests),
                    "seconds": round(seconds, 1),
                    "seconds_a_graph": round(seconds / len(manifests), 3),
                    "phases_a_graph": {phase: round(total / len(manifests), 4) for phase, total in phases.items()},
                    "artefact_bytes_a_graph": size // len(manifests),
                    "database_bytes": (folder / "home" / "stores" / "atlas.duckdb").stat().st_size,
                    "peak_memory_bytes": max(manifest["provenance"]["peak_memory_bytes"] for manifest in manifests),
                },
                indent=1,
            )
        )


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
