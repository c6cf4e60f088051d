"""LightGCL's (released) loss and gradient against dense float64 with LAPACK's SVD."""

import logging

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from graphcl.interactions import Interactions, Vocabulary
from graphcl.recipes import lightgcl
from tests import dense


def test_constants():
    config = lightgcl.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 2, 4096, 1e-3)
    assert (config.rank, config.svd, config.weight, config.temperature, config.clamp) == (5, "sketch", 0.2, 0.2, 5.0)
    assert (config.decay, config.dropout, config.epochs) == (1e-7, 0.0, 100)


def truncated(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    """[dense.NODES, dense.NODES] whose user-item block is the best approximation of ``matrix``'s of that rank, and its transpose below."""
    u, s, vt = torch.linalg.svd(matrix[dense.USER_ROWS, dense.ITEM_ROWS])
    block = u[:, :rank] @ torch.diag(s[:rank]) @ vt[:rank]
    out = torch.zeros(dense.NODES, dense.NODES, dtype=torch.float64)
    out[dense.USER_ROWS, dense.ITEM_ROWS], out[dense.ITEM_ROWS, dense.USER_ROWS] = block, block.T
    return out


def contrast(relayed, main, anchors, among, temperature, terms):
    """Log-sum-exp of dots over all nodes of the kind, minus the bounded positive; repeats count."""
    for b in anchors:
        logits = torch.stack([(relayed[b] * main[k]).sum() / temperature for k in among])
        positive = (relayed[b] * main[b]).sum() / temperature
        bounded = positive if abs(positive.item()) <= 5 else positive.detach().clamp(-5, 5)
        terms.append((torch.logsumexp(logits, 0) - bounded, abs(positive.item()) > 5))
    return torch.stack([t for t, _ in terms]).mean()


def test_loss_and_gradient():
    config = lightgcl.Config(dim=dense.WIDTH, num_layers=2, rank=2, svd="exact", weight=0.7, temperature=0.25, decay=0.03)
    model = lightgcl.build(config, dense.log(), rng=dense.generator(0))
    graph = dense.inputs()
    view = model.contrasts[0].views
    assert_close(entries_of(view.op), truncated(dense.normalised(dense.adjacency()), 2).float(), rtol=0, atol=1e-6)
    view.op = lightgcl.svd_view(graph.ops[0], graph.kinds, 2)  # the same in float64
    with torch.no_grad():
        model.encoder.embedding *= 0.7  # so that some positives are beyond the clamp and some are not

    def expected(table, rng):
        main = dense.propagate(table, dense.normalised(dense.adjacency()), 2)
        low = truncated(dense.normalised(dense.adjacency()), 2)
        main, relayed = sum(main), table + sum(low @ h for h in main[:-1])
        users, items = [], []
        total = contrast(relayed, main, dense.BATCH.users.tolist(), range(dense.USERS), 0.25, users)
        total = total + contrast(
            relayed,
            main,
            torch.cat([dense.BATCH.positives, dense.BATCH.negatives]).tolist(),
            range(dense.USERS, dense.NODES),
            0.25,
            items,
        )
        beyond = [b for _, b in users + items]
        assert any(beyond)
        assert not all(beyond)
        return {"bpr": dense.bpr(main), "decay": 0.03 * table.square().sum(), "contrast": 0.7 * total}

    dense.agree(model, graph, expected)


def entries_of(op) -> torch.Tensor:
    return op @ torch.eye(op.shape[1], dtype=op.left.dtype)


def test_full_rank_view_is_the_graph():
    """Rank 4 is all there is: one of five users has nothing."""
    graph = dense.inputs()
    table = torch.randn(dense.NODES, dense.WIDTH, generator=dense.generator(1), dtype=torch.float64)
    view = lightgcl.svd_view(graph.ops[0], graph.kinds, 4)
    assert_close(view @ table, dense.normalised(dense.adjacency()) @ table, rtol=0, atol=1e-10)
    single = lightgcl.svd_view(lightgcl.bipartite(dense.log()).ops[0], graph.kinds, 4)
    assert_close(single @ table.float(), (dense.normalised(dense.adjacency()) @ table).float(), rtol=0, atol=1e-5)


def test_dropout_is_of_each_directed_entry_anew_for_every_layer():
    """Half of the entries gone, the others doubled; a layer's two directions, and two layers, drop different ones."""
    graph, op = dense.inputs(), dense.normalised(dense.adjacency())
    changed = lightgcl.edge_dropout(0.5, 2)(graph, dense.generator(0))
    first, second = (dense.entries(op) for op in changed.ops)
    for dropped in (first, second):
        kept = dropped != 0
        assert_close(dropped[kept], 2 * op[kept], rtol=1e-12, atol=0)
        assert 0 < kept.sum() < (op != 0).sum()
        assert not torch.equal(kept, kept.T)
    assert not torch.equal(first, second)
    assert lightgcl.edge_dropout(0.0, 2) is None


def test_evaluation_has_no_dropout():
    model = lightgcl.build(lightgcl.Config(dim=dense.WIDTH, rank=2, dropout=0.5), dense.log(), rng=dense.generator(0)).double()
    table = model.encoder.embedding.detach()
    op = dense.normalised(dense.adjacency())
    assert_close(model.embed(dense.inputs()), table + op @ table + op @ op @ table, rtol=1e-12, atol=1e-15)


def test_a_graph_that_falls_apart(caplog):
    """Two users with one item each beside 6 users and 7 items: rank 3 of the whole is which part a node is in. With three parts and
    rank 2 the exact view says so too; of one part it says nothing."""
    pairs = [(0, 0), (1, 1)] + [(2 + u, 2 + (u + step) % 7) for u in range(6) for step in (0, 1, 3)]
    users, items = np.array(pairs, dtype=np.int32).T
    graph = dense.exact(lightgcl.bipartite(Interactions(users, items, Vocabulary(np.arange(8)), Vocabulary(np.arange(9)))))
    with caplog.at_level(logging.WARNING):
        lightgcl.svd_view(dense.inputs().ops[0], dense.inputs().kinds, 2)
        assert not caplog.records
        found = entries_of(lightgcl.svd_view(graph.ops[0], graph.kinds, 3))[:8, 8:]
    assert "comes 3 times" in caplog.text
    degree = graph.ops[0].degrees().double()
    part = torch.tensor([0, 1] + [2] * 6), torch.tensor([0, 1] + [2] * 7)
    roots = degree[:8].sqrt(), degree[8:].sqrt()
    same = part[0][:, None] == part[1]
    volume = torch.tensor([1.0, 1.0, 18.0], dtype=torch.float64)[part[0]]
    assert_close(found, same * roots[0][:, None] * roots[1] / volume[:, None], rtol=0, atol=1e-7)


def test_sketched_view():
    """The recipe draws it after the table, from the same generator: another seed, another view; an exact one has none."""
    for how, same in (("sketch", False), ("exact", True)):
        config = lightgcl.Config(dim=dense.WIDTH, rank=2, svd=how)
        ops = [lightgcl.build(config, dense.log(), rng=dense.generator(seed)).contrasts[0].views.op for seed in (0, 1, 0)]
        assert torch.equal(entries_of(ops[0]), entries_of(ops[2]))
        assert torch.allclose(entries_of(ops[0]), entries_of(ops[1]), atol=1e-6) == same
    with pytest.raises(ValueError, match="svd must be one of sketch, exact, got 'lanczos'"):
        lightgcl.build(lightgcl.Config(svd="lanczos"), dense.log(), rng=dense.generator(0))
