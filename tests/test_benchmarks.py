"""Benchmarks stay honest: configurations can run, and the README says what the results say."""

import gzip
import itertools
import json
import random
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from benchmarks import hetero, measure, peers, pipeline, report, roofline, scale, steps
from benchmarks.rows import kind_of
from graphcl import bench, pretrain, runs, sequence_run
from graphcl import phase as phases
from graphcl.contracts import Targets
from graphcl.data import protocol as protocols
from graphcl.data.protocol import PROTOCOLS
from graphcl.data.registry import find as find_data
from graphcl.data.synth import synth, synth_pairs
from graphcl.graph import bipartite
from graphcl.interactions import Interactions, Vocabulary
from graphcl.planted import planted, planted_attributed
from graphcl.rank import DotScorer, evaluate
from graphcl.recipes import lightgcl, lightgcn, sgl, simgcl, xsimgcl
from graphcl.recipes.configure import configure, find
from graphcl.sequence_rank import evaluate_next
from graphcl.streams import Streams
from graphcl.train import fit
from tests.dense import BATCH, ITEMS, NODES, USERS, log
from tests.toy import toy_frame

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = [
    path for path in sorted((ROOT / "benchmarks" / "configs").glob("*.json")) if "peer" not in json.loads(path.read_text())
]
RESULTS = [path for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")) if "seeds" in json.loads(path.read_text())]


def made_up(users: int, items: int, interactions: int, seed: int) -> Interactions:
    columns = synth_pairs(users, items, interactions, seed=seed)
    return Interactions(*columns, Vocabulary(np.arange(users)), Vocabulary(np.arange(items)))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_names_what_exists(path):
    config = json.loads(path.read_text())
    module = find(config["recipe"])
    configure(module, {"settings": config["settings"]})
    for key, grid in config.get("grid", {}).items():
        for value in grid:
            configure(module, {"grid": {key: value}})
    assert find_data(config["data"]).name == config["data"].rpartition("/")[2]
    assert config["protocol"] in PROTOCOLS
    assert config["published"] is None or config["published"]["source"]


@pytest.fixture(scope="module")
def small_data():
    """Of each kind a set that is learned in no time."""
    log = runs.load_data(toy_frame())[0]
    return {
        "general": protocols.plan(log), "sequential": sequence_run.load_split(toy_frame(), "valid", {}),
        "hetero": planted(), "attributed": planted_attributed(),
    }  # fmt: skip


def different(paths):
    """Configurations that build different things: of those that differ in data and in how long they train, one."""
    found = {}
    for path in paths:
        config = bench.read_config(path)
        built = {key: value for key, value in config["settings"].items() if key not in ("epochs", "patience", "learning_rate")}
        found.setdefault((config["recipe"], json.dumps(built, sort_keys=True)), path)
    return list(found.values())


@pytest.mark.parametrize("path", different(CONFIGS), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of settings that are too large for so little data
def test_a_configuration_steps_once(path, small_data, tmp_path):
    config = bench.read_config(path)
    module, settings = find(config["recipe"]), dict(config["settings"])
    data = small_data[module.KIND]
    if config["recipe"] == "pathgcl":
        pytest.skip("its preset names files beside the data set")
    if "item_embeddings" in settings:
        settings["item_embeddings"] = str(tmp_path / "items.npy")
        np.save(settings["item_embeddings"], np.random.default_rng(0).standard_normal((data.train.num_items, 8)))
    chosen, _ = configure(module, {"settings": settings})
    rng = Streams(0)["init"]
    if "embed" in vars(module):
        assert np.isfinite(module.embed(chosen, data, rng=rng)).all()
    elif "restore" in vars(module):
        scorer = module.build(chosen, data.train, rng=rng)
        if module.KIND == "sequential":
            assert 0 <= evaluate_next(scorer, data.valid, ks=(10,)).keep["hr@10"] <= 1
        else:
            assert not scorer.score(torch.arange(5)).isnan().any()
    else:
        log = module.KIND in ("general", "sequential")
        phase = phases.start(module, chosen, data.train, 0, "cpu") if log else pretrain.start(module, chosen, data, 0, "cpu")
        before = [parameter.clone() for parameter in phase.model.parameters()]
        batch = next(phase.batches(phase.streams["batches"]))
        for epoch in fit(
            phase.model, phase.inputs, step=phase.step, batches=lambda rng: iter([batch]), streams=phase.streams, epochs=1
        ):
            assert all(np.isfinite(value) for value in epoch.terms.values())
        moved = [not torch.equal(a, b) for a, b in zip(before, phase.model.parameters(), strict=True)]
        assert any(moved)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_of_its_configuration(path):
    result = json.loads(path.read_text())
    config = bench.read_config(ROOT / "benchmarks" / "configs" / path.name)
    for key in ("recipe", "data", "protocol", "published"):
        assert result[key] == config[key]
    if "peer" in config:
        assert config["settings"].items() <= result["settings"].items()
    else:  # a changed preset or default would leave a result of other settings behind
        chosen = {key: result["settings"][key] for key in config.get("grid", {})}
        full = bench.full_settings(config, {**config["settings"], **chosen})
        assert {key: full[key] for key in result["settings"]} == result["settings"]
        assert config["settings"].items() <= result["settings"].items()
    for key, scores in (result.get("grid") or {}).items():
        assert float(max(scores, key=scores.get)) == result["settings"][key]
    done = [seed["seed"] for seed in result["seeds"]]
    assert done == config["seeds"][: len(done)]  # a table says where some are still to come
    assert done
    for key in kind_of(config["data"]).metrics:
        values = [bench.tested(seed["metrics"])[key] for seed in result["seeds"]]
        assert result["summary"][key]["mean"] == pytest.approx(sum(values) / len(values), rel=1e-12)


# --- speed: peers compute what ours does ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    train = log()
    return train, bipartite(train)


def first_losses(recipe, toy, make, matrices, **settings):
    """Ours and the peers' losses over two steps from one table; the second also compares the gradient, through Adam."""
    train, graph = toy
    ours = steps.OurStep(recipe, graph, train, dim=8, learning_rate=0.05, **settings)
    others = steps.torch_peers(ours, make(ours), matrices(graph))
    return [[float(step(BATCH)) for _ in range(2)] for step in (ours, *others.values())]


def coo_and_csr(graph):
    return {"coo": peers.coo(graph), "csr": peers.csr(graph)}


MODELS = {
    "lightgcn": (lightgcn, lambda ours: peers.lightgcn, {}),
    "xsimgcl": (xsimgcl, lambda ours: peers.xsimgcl, {"eps": 0.0, "num_layers": 2}),
    "simgcl": (simgcl, lambda ours: peers.simgcl, {"eps": 0.0}),
    "sgl": (
        sgl,
        lambda ours: lambda p, c: peers.sgl(p, [peers.times(peers.coo(g)) for g in steps.sgl_views(ours)], USERS, c),
        {"fraction": 0.3},
    ),
    "lightgcl": (lightgcl, lambda ours: lambda p, c: peers.lightgcl(p, ours.graph, c), {"rank": 2, "svd": "exact"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_peer_has_the_same_loss(name, toy):
    recipe, make, settings = MODELS[name]
    ours, *others = first_losses(recipe, toy, make, coo_and_csr, **settings)
    assert ours[0] != pytest.approx(ours[1], rel=1e-3)  # a step that moves
    for other in others:
        assert other == pytest.approx(ours, rel=1e-4)


def test_pyg_has_the_same_loss(toy):
    train, graph = toy
    ours = steps.OurStep(lightgcn, graph, train, dim=8, learning_rate=0.05, decay=0.1)
    theirs, form = peers.pyg_lightgcn(graph, ours.config, ours.table.detach())
    assert form in ("CSR adjacency", "edge_index")
    assert [float(theirs(BATCH)) for _ in range(2)] == pytest.approx([float(ours(BATCH)) for _ in range(2)], rel=1e-4)


def test_noise_of_the_peers_has_our_length(toy):
    table = torch.randn(NODES, 8)
    clean, noisy = (peers.propagated(table, peers.times(peers.coo(toy[1])), 1, eps)[1] for eps in (0.0, 0.3))
    moved = (noisy - clean).norm(dim=1)
    assert moved[clean.abs().sum(1) > 0].numpy() == pytest.approx(0.3, rel=1e-5)


def test_products_by_hand_have_the_gradient_of_autograd(toy):
    matrix, x = peers.csr(toy[1]), torch.randn(NODES, 3, requires_grad=True)
    grad = torch.randn(NODES, 3)
    (by_hand,) = torch.autograd.grad(peers.SymmetricProduct.apply(matrix, x), x, grad)
    (made,) = torch.autograd.grad(peers.times(peers.coo(toy[1]))(x), x, grad)
    torch.testing.assert_close(by_hand, made)


@pytest.mark.parametrize("make", [steps.lightgcn_row, steps.xsimgcl_row, steps.simgcl_row, steps.sgl_row, steps.lightgcl_row])
def test_a_row_of_steps(make, toy):
    train, graph = toy
    settings = {"rank": 2} if make is steps.lightgcl_row else {}
    line = make(graph, train, repeats=1, dim=8, batch_size=4, **settings)
    for peer, ratio in line["ratios"].items():
        assert ratio == line["values"][peer] / line["values"]["graphcl"] > 0
    assert line["what"].endswith("d 8, batch 4")
    assert line["device"] == "cpu"


def test_the_row_of_products(toy):
    line = steps.product_row(toy[1], dim=8, repeats=1)
    assert set(line["ratios"]) == {"torch COO", "torch CSR", "torch CSR, symmetric by hand"}
    assert line["reach"] == {"torch COO": 10, "torch CSR": 5}


# --- speed: what stands around the steps ------------------------------------------------------------------------------------


def pairs_of(matrix):
    return sorted(zip(*(part.tolist() for part in matrix.nonzero()), strict=True))


def test_samplers_keep_their_contract(toy):
    matrix = toy[0].matrix
    held = [matrix.indices[a:b] for a, b in itertools.pairwise(matrix.indptr)]
    at_once = pipeline.sampled_at_once(matrix, np.random.default_rng(0))
    assert sorted(map(tuple, at_once[:, :2].tolist())) == pairs_of(matrix)
    by_loop = pipeline.sampled_by_loop(held, ITEMS, 300, random.Random(0))
    assert set(map(tuple, by_loop[:, :2].tolist())) == set(pairs_of(matrix))
    for drawn in (at_once, by_loop):
        assert not set(map(tuple, drawn[:, [0, 2]].tolist())) & set(pairs_of(matrix))
        assert 0 <= drawn[:, 2].min() <= drawn[:, 2].max() < ITEMS


def test_the_loop_that_ranks_finds_our_lists_and_metrics():
    rng = np.random.default_rng(0)
    users, items = (torch.from_numpy(rng.standard_normal((n, 8)).astype(np.float32)) for n in (7, 40))
    seen = rng.random((7, 40)) < 0.2
    mask, truth = (
        sparse.csr_matrix(seen, dtype=np.float32),
        sparse.csr_matrix(~seen & (rng.random((7, 40)) < 0.2), dtype=np.float32),
    )
    report = evaluate(DotScorer(users, items), truth, mask=mask, train=mask, ks=(20,))
    lists, means = pipeline.ranked_by_loop(users, items, report.users, truth, mask)
    assert lists.tolist() == report.top.tolist()
    assert means == pytest.approx({name: report.means[f"{name}@20"] for name in ("recall", "ndcg")})


def test_reading_plainly_finds_our_graph(tmp_path):
    (tmp_path / "train.txt").write_text("0 0 1\n1 1 2 3\n2 0 3\n3 3 4\n")
    with gzip.open(tmp_path / "test.txt.gz", "wt") as file:
        file.write("2 1\n4 5\n")
    adj, parts = pipeline.read_plainly({"train": tmp_path / "train.txt", "test": tmp_path / "test.txt.gz"})
    assert pairs_of(parts["test"]) == [(2, 1), (4, 5)]
    assert adj.toarray() == pytest.approx(bipartite(log()).ops[0].to_scipy().toarray(), rel=1e-6)


def test_rows_of_sampling_and_ranking(toy):
    large, held_out = made_up(30, 40, 200, 0), made_up(30, 40, 100, 1)
    sampled = pipeline.sample_row(toy[0], repeats=1)
    assert set(sampled["ratios"]) == {"NumPy, vectorised", "Python loop"}
    assert sampled["reached"] is (sampled["values"]["graphcl"] < 0.3)
    ranked = pipeline.rank_row(SimpleNamespace(train=large, test=held_out), repeats=1)
    assert ranked["reach"] == {"user by user": 20}


def test_implicit_is_left_out_where_it_is_not(toy, tmp_path):
    line = pipeline.implicit_row(toy[0], tmp_path, {"graphcl": 1.0}, python=tmp_path / "python")
    assert "make bench-implicit" in line["skipped"]
    assert measure.told(line).startswith("skipped: ")


# --- speed: rows ------------------------------------------------------------------------------------------------------------


def test_a_row_divides_by_ours_and_says_whether_it_reached():
    line = measure.row("x", {"graphcl": 2.0, "a": 10.0, "b": 3.0}, reach={"a": 5}, stretch={"b": 9})
    assert (line["ratios"], line["reached"]) == ({"a": 5.0, "b": 1.5}, True)
    assert measure.row("x", {"graphcl": 2.0, "a": 9.9}, reach={"a": 5})["reached"] is False
    assert measure.row("x", {"graphcl": 2.0, "a": 10.0}, reach={"a": 5}, limit=2)["reached"] is False
    assert measure.row("x", {"graphcl": 2.0, "a": 9.9}, limit=2.1)["reached"] is True
    assert measure.row("x", {"graphcl": 2.0, "a": 9.9})["reached"] is None
    assert measure.told(line) == "2 s; 5 x a, 1.5 x b, reached"
    assert measure.told(measure.row("x", {"graphcl": 2.0, "a": 4.0}, unit="MB")) == "2 MB; 2 x a"


def test_medians_are_taken_in_turns_and_follow_their_like():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.01))}
    seconds = measure.medians(calls, repeats=6)
    assert "".join(order) == "ab" + 2 * ("a" + "aaa" + "b" + "bbb")
    assert seconds["b"] > 0.01 > seconds["a"]
    order.clear()
    measure.medians(calls, repeats=1)
    assert "".join(order) == "ab" + "aabb"


def test_a_device_that_is_not_here():
    with pytest.raises(ValueError, match="device must be auto or one of"):
        measure.devices("tpu")


def test_another_process_answers_or_says_why_not():
    assert measure.elsewhere("-c", "print('noise'); print('[1]')") == [1]
    with pytest.raises(RuntimeError, match=r"ended with 1: .*gone"):
        measure.elsewhere("-c", "raise SystemExit('gone')")


# --- scale ------------------------------------------------------------------------------------------------------------------


def test_batches_are_pairs_of_the_log():
    data = made_up(2000, 500, 40_000, 0)
    batch = next(scale.triples(data, 1))
    known = set(zip(data.users.tolist(), data.items.tolist(), strict=True))
    assert set(zip(batch.users.tolist(), (batch.positives - 2000).tolist(), strict=True)) <= known
    assert 2000 <= int(batch.negatives.min()) <= int(batch.negatives.max()) < 2500


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    return scale.one(synth(tmp_path_factory.mktemp("scale") / "log.parquet", 1000, 200, 20_000))


def test_everything_is_measured_at_a_size(sized):
    found = sized
    assert found["users"] == 1000
    assert found["edges"] == found["interactions"] == 20_000
    assert all(found[key] > 0 for key in found if key.startswith(("seconds", "gib")))
    assert scale.told(found).startswith("read ")


def test_the_line_goes_through_large_sizes_only():
    sizes = [{"interactions": m * 10**6, "edges": m * 10**6, "seconds_x": s} for m, s in ((1, 9), (10, 2), (20, 4), (30, 6))]
    line = scale.line(sizes, "seconds_x")
    assert line == pytest.approx({"nanoseconds_per_edge": 200, "seconds_at_zero": 0, "largest_deviation": 0}, abs=1e-6)
    sizes[2]["seconds_x"] = 4.3  # the line is 0.1 higher: 2.1, 4.1, 6.1
    assert scale.line(sizes, "seconds_x")["largest_deviation"] == pytest.approx(0.2 / 4.1)
    assert scale.line(sizes[:2], "seconds_x") is None


# --- RecBole ----------------------------------------------------------------------------------------------------------------


def test_without_recbole_the_way_to_get_it_is_named(tmp_path, toy):
    compare = bench.program(ROOT / "benchmarks" / "speed-recbole.py").__globals__["compare"]
    with pytest.raises(FileNotFoundError, match="make test-recbole"):
        compare(*(toy[0],) * 2, python=tmp_path / "python")


# --- breakdown --------------------------------------------------------------------------------------------------------------


def test_a_kernel_stands_against_the_larger_of_its_bounds():
    allowed = roofline.Machine(memory=1e9, cache=1e10, gemm=1e12)
    kernel = roofline.Kernel("sleep", lambda: time.sleep(0.02), memory=1e7, cache=5e7, flops=1e9)
    (line,) = roofline.against(iter([kernel]), allowed, repeats=1)
    assert (line["by"], line["bound"]) == ("memory", 0.01)
    assert line["times"] == line["seconds"] / 0.01 >= 2


def test_every_kernel_of_the_roofline_runs(toy):
    found = roofline.against(roofline.kernels(toy[1], torch.arange(4), dim=8), roofline.Machine(1e9, 1e10, 1e12), repeats=1)
    by_name = {line["kernel"]: line for line in found}
    entries = toy[1].ops[0].nnz
    assert by_name["product"]["cache_bytes"] == 4 * entries * 8
    assert by_name["Adam"]["memory_bytes"] == 28 * NODES * 8
    assert by_name["all-key InfoNCE, forward and backward"]["flops"] == 8 * 4 * ITEMS * 8
    assert all(line["times"] > 0 for line in found)


def test_a_step_is_taken_apart(toy):
    program = bench.program(ROOT / "benchmarks" / "breakdown.py").__globals__
    ours = steps.OurStep(lightgcn, toy[1], toy[0], dim=8, batch_size=4)
    assert program["phases"](ours, [BATCH] * 3).keys() == {"losses", "backward", "Adam"}
    operators = program["operators"](ours, [BATCH] * 3)
    shares = [line["share"] for line in operators]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1


# --- the report -------------------------------------------------------------------------------------------------------------


def test_a_report_tells_what_was_reached_and_what_was_not(sized):
    rows = [
        measure.row("a step", {"graphcl": 0.01, "torch": 0.05}, reach={"torch": 7}, note="noted"),
        measure.row("memory", {"graphcl": 200.0, "torch": 4000.0}, unit="MB", limit=400, device="cuda"),
        measure.skipped("another", "not here"),
    ]
    made = report.speed(measure.stamped("speed", rows=rows))
    assert "| a step | 10 ms | 5 x torch | 7 x torch | **no** |" in made
    assert "| memory (cuda) | 200 MB | 20 x torch | under 400 MB | yes |" in made
    assert "| another | skipped: not here |  |  |  |" in made
    assert made.endswith("- a step: noted.")
    found = {**sized, "nanoseconds_per_edge_lightgcn": 10.0, "nanoseconds_per_edge_xsimgcl": 20.0}
    assert "| 10.0 / 20.0 |" in report.scale(measure.stamped("scale", sizes=[found], lines={"lightgcn": None}))
    lines = roofline.against(
        iter([roofline.Kernel("copy", lambda: time.sleep(0.01), memory=1e6)]), roofline.Machine(1e9, 1, 1), 1
    )
    step = {
        "step": "LightGCN",
        "data": "toy",
        "phases": {"losses": 0.5},
        "operators": [{"operator": "aten::mm", "seconds": 0.1, "share": 0.2}],
    }
    told = report.taken_apart(
        measure.stamped("breakdown", steps=[step], machine={"memory": 1e9, "cache": 1e9, "gemm": 1e9}, roofline=lines)
    )
    assert "| `aten::mm` | 100 ms | 20% |" in told
    assert "| copy | " in told


@pytest.mark.parametrize("recipe", ["meow", "adameow"])
def test_the_dense_step_has_our_loss(recipe):
    """The rival of the step's benchmark computes what ours does, from the same parameters; both without dropout."""
    module = find(recipe)
    config = module.Config(
        dim=6, dropout=0.0, neighbours=(6,), edge_mask=(0.2,), **({"clusters": (1, 48)} if recipe == "meow" else {"projected": 6})
    )
    losses = []
    for form in ("graphcl", "dense"):
        phase = pretrain.start(module, config, planted(), 0, "cpu")
        phase.model.train()
        step = hetero.dense_step(phase, config, recipe) if form == "dense" else None
        if step is None:
            terms = phase.step(phase.model, phase.inputs, Targets(), torch.Generator().manual_seed(0))
            losses.append(float(sum(terms.values()).detach()))
        else:
            losses.append(float(step()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
