"""XSimGCF taken apart, on validation: ``python -m benchmarks.ablation DATA`` writes ``results/ablation-DATA.json``.

Scores XSimGCL's embeddings, each closed form, and their sums by weight, on the validation part of the run
``benchmarks/runs/xsimgcl-DATA-lightgcnpp/seed0``, which must have finished. Test is not looked at: the weight in a configuration of
``xsimgcf`` is the best one here. With ``--forms`` or ``--weights`` a part is measured; rows measured before stay in the file.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, stamped
from graphcl import bench, phase, rundir, runs
from graphcl.contracts import Scorer
from graphcl.recipes import bspm, ease, gfcf
from graphcl.recipes.xsimgcf import Beside

METRIC = "ndcg@20"
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.8)
SHARPEN = (0.6, 0.75, 0.9)
CLOSED = {
    "gfcf": lambda data: gfcf.build(gfcf.Config(), data),
    "gfcf without low pass": lambda data: gfcf.build(gfcf.Config(alpha=0.0), data),
    **{
        f"gfcf without low pass, sharpened by {t}": lambda data, t=t: bspm.build(
            bspm.Config(alpha=0.0, sharpen=t, solver="euler"), data
        )
        for t in SHARPEN
    },
    "ease, l2 200": lambda data: ease.build(ease.Config(l2=200.0), data),
    "ease, l2 500": lambda data: ease.build(ease.Config(l2=500.0), data),
}


def main(
    data: str, weights: tuple[float, ...] = WEIGHTS, forms: tuple[str, ...] = tuple(CLOSED), root: Path = ROOT / "benchmarks"
) -> dict[str, Any]:
    run = runs.load(root / "runs" / f"xsimgcl-{data}-lightgcnpp" / "seed0")
    rows: list[dict[str, Any]] = []

    def row(what: str, weight: float | None, scorer: Scorer) -> None:
        means = phase.select_report(scorer, run.plan, METRIC).means
        rows.append({"what": what, "weight": weight, **{key: means[key] for key in ("recall@20", METRIC)}})
        print(rows[-1], flush=True)

    row("xsimgcl", None, run.scorer)
    for name in forms:
        if name.startswith("ease") and "ease" in bench.skipped(run.split):
            continue
        closed = CLOSED[name](run.plan.train)
        row(name, None, closed)
        for weight in weights:
            row(f"xsimgcl beside {name}", weight, Beside(run.scorer, closed, weight))
        del closed
        gc.collect()  # EASE's is items x items
    path = root / "results" / f"ablation-{data}.json"
    before = rundir.read_json(path)["rows"] if path.exists() else []
    made = {(line["what"], line["weight"]) for line in rows}
    rows = sorted([line for line in before if (line["what"], line["weight"]) not in made] + rows, key=lambda line: -line[METRIC])
    name, command = f"ablation-{data}", f"python -m benchmarks.ablation {data}"
    result = stamped(name, command=command, data=data, settings=run.config["settings"], rows=rows)
    rundir.write_json(path, result)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--forms", default=";".join(CLOSED), help="separated by semicolons")
    parser.add_argument("--weights", default=",".join(map(str, WEIGHTS)))
    given = parser.parse_args()
    main(given.data, tuple(float(weight) for weight in given.weights.split(",")), tuple(given.forms.split(";")))
