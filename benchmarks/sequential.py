"""An epoch of SASRec with the full softmax on Beauty, against the plain padded formulation, written here with torch's encoder layers, and
against RecBole's SASRec, which is the fairer peer, for it takes the last position before the logits: ``graphcl bench sequential``.

Ours: a row a user, real tokens alone, targets chosen before the product with the catalogue. The padded form: a row a prefix, 256 rows
of 50 positions a step, logits at every position, loss at the last. RecBole: the same rows, logits at the last position, drawing of the
batch included; in an environment of its own (``make test-recbole``), left out where that is not. All take some steps in turns; an
epoch is a step's median times the steps it has. Threads are as the environment sets them, the same for all.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import recbole_steps
from benchmarks.measure import OURS, medians, row, stamped, told
from graphcl import phase as phases
from graphcl import rundir
from graphcl.data.sequence_batches import prefix_rows
from graphcl.data.sequences import load_sequences
from graphcl.integrations.peer import write_placed
from graphcl.recipes import sasrec

DATA = "sequential/mclrec_Amazon_Beauty"
LENGTH, ROWS = 50, 256
PREFIXES = "graphcl, a row a prefix"
RECBOLE = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": LENGTH, "train_batch_size": ROWS,
    "loss_type": "CE", "train_neg_sample_args": None, "learning_rate": 1e-3,
    "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
}  # fmt: skip


def main(root: Path) -> dict[str, Any]:
    data = load_sequences(DATA)
    calls: dict[str, Any] = {}
    steps: dict[str, int] = {}
    for name, config in ((OURS, sasrec.Config()), (PREFIXES, sasrec.Config(rows="prefix", batch_size=ROWS))):
        phase = phases.start(sasrec, config, data.train, 0, "cpu")
        phase.model.train()
        batches = list(phase.batches(phase.streams["batches"]))

        def ours(phase=phase, turns=iter(batches * 100)) -> None:  # type: ignore[no-untyped-def]
            phase.step(phase.model, phase.inputs, next(turns), phase.streams["views"])

        calls[name], steps[name] = ours, len(batches)
    rows = list(prefix_rows(data.train, LENGTH, ROWS)(phase.streams["batches"]))
    padded = iter(rows * 100)
    step = padded_step(data.train.num_items)
    calls["padded"], steps["padded"] = lambda: step(next(padded)), len(rows)
    with ExitStack() as held:
        about = None
        if recbole_steps.PYTHON.exists():
            folder = held.enter_context(tempfile.TemporaryDirectory())
            log, owners = data.log, data.log.users
            places = torch.arange(len(owners)) - log.pointers[owners]
            write_placed(Path(folder), "log", owners.numpy(), log.items.numpy(), places.numpy())
            peer = held.enter_context(recbole_steps.recbole(folder, "log", "SASRec", RECBOLE))
            calls[peer.name], steps[peer.name], about = peer.step, peer.about["steps"], peer.about
        seconds = medians(calls, 6)
    epochs = {name: seconds[name] * steps[name] for name in calls}
    told_steps = "steps: " + ", ".join(f"{name} {count}" for name, count in steps.items())
    alike = epochs.pop(PREFIXES)
    lines = [
        row("an epoch of SASRec, full softmax, Beauty", epochs, reach={"padded": 5}, note=told_steps),
        row("the same, a row a prefix here too, 256 a step", {**epochs, OURS: alike}, note=told_steps),
    ]
    for line in lines:
        print(line["what"], told(line), file=sys.stderr)
    result = stamped("sequential", peer=about, rows=lines, summary={line["what"]: told(line) for line in lines})
    rundir.write_json(root / "results" / "sequential.json", result)
    return result


def padded_step(num_items: int):  # type: ignore[no-untyped-def]
    """A training step over a prefix batch, padded to 50 positions."""
    layer = nn.TransformerEncoderLayer(64, 2, 256, 0.5, "gelu", layer_norm_eps=1e-12, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    table, places = nn.Embedding(num_items + 1, 64), nn.Embedding(LENGTH, 64)
    before = nn.Sequential(nn.LayerNorm(64, eps=1e-12), nn.Dropout(0.5))
    model = nn.ModuleList([encoder, table, places, before])
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    causal = nn.Transformer.generate_square_subsequent_mask(LENGTH)

    def step(batch) -> None:  # type: ignore[no-untyped-def]
        items = F.pad(batch.items, (0, LENGTH - batch.items.shape[1]), value=num_items)
        wanted = torch.full(items.shape, -100)
        width = batch.items.shape[1]
        wanted[batch.places // width, batch.places % width] = batch.targets
        h = encoder(before(table(items) + places.weight), mask=causal, is_causal=True)
        logits = h @ table.weight[:num_items].T
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step
