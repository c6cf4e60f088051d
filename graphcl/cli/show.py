"""What a person sees: progress bars, tables, nested figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphcl.pretrain import NodeRun
    from graphcl.runs import AnyRun


@contextmanager
def bars() -> Iterator[tuple[Callable[[str, dict[str, Any]], None], Callable[[Any], Any]]]:
    """An observer that draws a bar of steps with the last epoch's figures, and a wrapper that draws ranking."""
    from tqdm import tqdm

    bar = tqdm(desc="training", unit="step", file=sys.stderr, disable=not sys.stderr.isatty())

    def observe(kind: str, what: dict[str, Any]) -> None:
        if kind == "step":
            bar.update()
            return
        held_out = what.get("valid") or what.get("test") or {}
        shown = {"epoch": what["epoch"], **{k: f"{v:.4f}" for k, v in what["terms"].items()}}
        watched = ("hr@10", "ndcg@10") if "valid_masked" in what else ("recall@20", "ndcg@20")
        shown |= {k: f"{held_out[k]:.4f}" for k in watched if k in held_out}
        shown |= {f"gap {kind}": f"{gap['mean']:+.3f}" for kind, gap in what.get("gaps", {}).items()}
        bar.set_postfix(shown)
        if bar.disable:
            print(" ".join(f"{k} {v}" for k, v in shown.items()), file=sys.stderr, flush=True)

    def progress(blocks: Any) -> Any:
        return tqdm(blocks, desc="ranking", unit="block", file=sys.stderr, leave=False, disable=not sys.stderr.isatty())

    try:
        yield observe, progress
    finally:
        bar.close()


COLUMNS = ("recall@20", "ndcg@20", "hr@20", "mrr@20", "coverage@20")
SEQUENCE_COLUMNS = ("hr@10", "ndcg@10", "hr@20", "ndcg@20")


def probes(run: NodeRun) -> None:
    """Metrics of a run on a graph: a line for each label rate, and one or two for the clusters."""
    result = run.result
    metrics = result["metrics"]
    test, spread = (metrics[key] for key in ("test", "test_std"))
    told = f"{result['best_epoch'] or result['epochs']} of {result['epochs']} epochs, {result['seconds']['train']:.1f} s"
    print(
        f"{result['recipe']} on {result['dataset']}, {chosen(run)}: {told}. "
        + ("Probes on test nodes, spread over fits:" if test else "No labels to evaluate with.")
    )
    rates = [key.partition("@")[2] for key in test if key.startswith("ma_f1@")]
    if rates:
        print(f"{'labels a class':16}" + "".join(f"{name:>18}" for name in ("ma_f1", "mi_f1", "auc")))
    for rate in rates:
        figures = [f"{test[key]:.4f} ± {spread[key]:.4f}" for key in (f"ma_f1@{rate}", f"mi_f1@{rate}", f"auc@{rate}")]
        print(f"{rate:16}" + "".join(f"{figure:>18}" for figure in figures))
    if "kmeans" in metrics or result["selected_on"] == "test":
        _clusters("clusters", test, {})
        _clusters("  when chosen", metrics.get("chosen", {}), {})
        test, spread = metrics.get("kmeans", {}), metrics.get("kmeans_std", {})
    _clusters("k-means", test, spread)


def _clusters(name: str, means: Mapping[str, float], spread: Mapping[str, float]) -> None:
    told = [
        f"{key:>6} {means[key]:.4f}" + (f" ± {spread[key]:.4f}" if key in spread else "")
        for key in ("acc", "nmi", "ari", "f1")
        if key in means
    ]
    if told:
        print(f"{name:16}" + "".join(told))


CHOSEN = {
    "valid": "epoch chosen on validation",
    "loss": "epoch of the lowest training loss",
    "modularity": "epoch of the most modular clusters",
    "test": "BEST EPOCH CHOSEN ON TEST, as papers do",
    None: "no epoch chosen",
}


def chosen(run: AnyRun) -> str:
    """What chose the epoch of a run's figures."""
    if "best_epochs" in run.result:
        return "EACH CLUSTER METRIC'S MAXIMUM OVER EPOCHS, as papers do"
    return CHOSEN[run.result["selected_on"]]


def table(runs: Sequence[AnyRun]) -> None:
    """Test metrics of runs, one line each; of a run on a graph its probes."""
    first = runs[0].result
    metrics = first["metrics"]
    if runs[0].config.get("kind") in ("hetero", "attributed"):
        probes(runs[0])  # type: ignore[arg-type]
        return
    if "test" not in metrics:
        print(f"{first['recipe']} on {first['dataset']}: {first['epochs']} epochs, protocol {first['protocol']}, no test part")
        return
    of = f" of {first['users']['test']:,} users" if "users" in first else ""
    print(f"{first['dataset']}, protocol {first['protocol']}, {chosen(runs[0])}, test part{of}:")
    for part, about in (
        (("test", "seen items kept"), ("test_masked", "seen items masked")) if "test_masked" in metrics else (("test", ""),)
    ):
        columns = SEQUENCE_COLUMNS if about else COLUMNS
        print(f"{about or 'recipe':18}" + "".join(f"{c:>12}" for c in columns) + f"{'epoch':>7}{'seconds':>9}")
        for run in runs:
            result = run.result
            figures = "".join(f"{result['metrics'][part][c]:12.4f}" for c in columns)
            print(f"{result['recipe']:18}{figures}{result['best_epoch'] or '-':>7}{result['seconds']['train']:9.1f}")


def nested(value: dict[str, Any], indent: int = 0) -> None:
    for key, inner in value.items():
        if isinstance(inner, dict):
            print(" " * indent + f"{key}:")
            nested(inner, indent + 2)
        else:
            inner = ("no", "yes")[inner] if isinstance(inner, bool) else inner
            shown = f"{inner:,}" if isinstance(inner, int) else f"{inner:.4g}" if isinstance(inner, float) else inner
            print(" " * indent + f"{key:28} {shown}")
