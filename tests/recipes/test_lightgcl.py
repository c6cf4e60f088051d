"""LightGCL's (released) loss and gradient against dense float64 with LAPACK's SVD."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from graphcl.graph import Graph
from graphcl.interactions import Interactions, Vocabulary
from graphcl.recipes import lightgcl
from tests import dense


def test_constants():
    config = lightgcl.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 2, 4096, 1e-3)
    assert (config.rank, config.weight, config.temperature, config.clamp) == (5, 0.2, 0.2, 5.0)
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
    config = lightgcl.Config(dim=dense.WIDTH, num_layers=2, rank=2, weight=0.7, temperature=0.25, decay=0.03)
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


def components() -> tuple[torch.Tensor, Graph]:
    """Three parts apart and an isolated node: two users with one item each, then 6 users with 7 items in a ring with chords."""
    pairs = [(0, 0), (1, 1)] + [(2 + u, 2 + (u + step) % 7) for u in range(6) for step in (0, 1, 3)]
    users, items = np.array(pairs, dtype=np.int32).T
    log = Interactions(users, items, Vocabulary(np.arange(9)), Vocabulary(np.arange(9)))
    matrix = torch.zeros(9, 9, dtype=torch.float64)
    matrix[users, items] = 1
    degrees = [matrix.sum(side).clamp_min(1).rsqrt() for side in (1, 0)]
    return degrees[0][:, None] * matrix * degrees[1], dense.exact(lightgcl.bipartite(log))


def test_svd_of_the_largest_component():
    """The matrix has a singular value of 1 for each of its parts, so rank 3 of the whole knows these and nothing else; of the largest
    part it knows three directions, and nothing of the others."""
    matrix, graph = components()
    assert_close(torch.linalg.svdvals(matrix)[:4] > 1 - 1e-9, torch.tensor([True, True, True, False]))
    op = graph.ops[0]

    def view(*args, **options):
        return entries_of(lightgcl.svd_view(op, graph.kinds, 3, *args, **options))

    inside = matrix.clone()
    inside[:2] = 0
    wanted = {"exact": best(matrix, 3), "component": best(inside, 3)}
    for how, low in wanted.items():
        assert_close(view(how)[:9, 9:], low, rtol=0, atol=1e-7)
        assert_close(view(how)[9:, :9], low.T, rtol=0, atol=1e-7)
        assert view(how)[:9, :9].abs().max() == view(how)[9:, 9:].abs().max() == 0
    assert_close(view(), view("component"))
    assert wanted["component"][:2].abs().max() < 1e-12
    assert not torch.allclose(wanted["component"], wanted["exact"], atol=0.1)


def best(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    u, s, vt = torch.linalg.svd(matrix)
    return u[:, :rank] @ torch.diag(s[:rank]) @ vt[:rank]


def test_component_is_exact_where_the_graph_is_connected():
    """But for nodes without edges, of which neither knows anything."""
    graph = dense.inputs()
    views = [entries_of(lightgcl.svd_view(graph.ops[0], graph.kinds, 2, how)) for how in ("exact", "component")]
    assert torch.equal(*views)


def test_sketched_view():
    """The recipe draws it after the table, from the same generator: another seed, another view; "exact" and "component" have none."""
    for how, same in (("sketch", False), ("component", True), ("exact", True)):
        config = lightgcl.Config(dim=dense.WIDTH, rank=2, svd=how)
        ops = [lightgcl.build(config, dense.log(), rng=dense.generator(seed)).contrasts[0].views.op for seed in (0, 1, 0)]
        assert torch.equal(entries_of(ops[0]), entries_of(ops[2]))
        assert torch.allclose(entries_of(ops[0]), entries_of(ops[1]), atol=1e-6) == same
    with pytest.raises(ValueError, match="svd must be one of component, exact, sketch, got 'lanczos'"):
        lightgcl.build(lightgcl.Config(svd="lanczos"), dense.log(), rng=dense.generator(0))
