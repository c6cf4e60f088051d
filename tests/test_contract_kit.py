"""The contract tests of ``graphcl.testing`` over every class that is found, and on parts that break them.

A new view, objective, strategy for negatives, encoder or recipe is found by itself; the tables below say how one is made.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import graphcl.encoders
import graphcl.objectives
import graphcl.views
from graphcl.cluster import kmeans
from graphcl.contracts import Layers, Pair
from graphcl.encoders import LightGCN, ResidualGCN
from graphcl.encoders.readout import increment, layer, mean
from graphcl.objectives import (
    BSL,
    CCL,
    DCL,
    DHEL,
    JSD,
    AlignUniform,
    AllKeys,
    Bank,
    BarlowTwins,
    InBatch,
    InfoNCE,
    NegativeCosine,
    NTXent,
    ProtoNCE,
    VICReg,
    WeightedInfoNCE,
)
from graphcl.ops import LowRank
from graphcl.perturb.edges import drop_edges
from graphcl.perturb.noise import SignNoise
from graphcl.recipes import RECIPES, lightgcn
from graphcl.recipes.configure import find
from graphcl.recipes.settings import ClusterTraining, Pretraining, SequenceTraining, Training
from graphcl.testing import (
    WIDTH,
    Table,
    check_encoder,
    check_objective,
    check_operator,
    check_recipe,
    check_view,
    checkerboard,
    tiny_batch,
    tiny_graph,
    tiny_interactions,
    undisturbed,
)
from graphcl.views import CrossLayer, Prototypes, Relayed, RelayedLayers, TwoInputs, TwoNoises

SIZES = {"user": 5, "item": 6}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def low_rank() -> LowRank:
    return LowRank(torch.randn(11, 2, generator=generator()).double(), torch.randn(11, 2, generator=generator(1)).double())


def drop(graph, rng):
    return drop_edges(graph, 0.3, rng)


VIEWS = {
    "CrossLayer": lambda: CrossLayer(mean(), layer(1)),
    "Prototypes": lambda: Prototypes(3, layer(0), SIZES, WIDTH),
    "Relayed": lambda: Relayed(low_rank(), mean()),
    "RelayedLayers": lambda: RelayedLayers(low_rank(), (increment(1), increment(2)), WIDTH, rng=generator()).double(),
    "TwoInputs": lambda: TwoInputs(drop, mean()),
    "TwoInputs, every epoch": lambda: TwoInputs(drop, mean(), every="epoch"),
    "TwoNoises": lambda: TwoNoises(SignNoise(0.1), mean(1)),
}


@dataclasses.dataclass(frozen=True)
class Clustered:
    """An objective that is told clusters of the keys: here the nearest of two and of three fixed points."""

    objective: Callable

    def __call__(self, pair):
        keys, points = pair.key.all(), torch.randn(3, WIDTH, generator=generator(2)).double()
        found = [kmeans(keys, k, start=points[:k], max_iterations=0, rng=generator()) for k in (2, 3)]
        if isinstance(self.objective, WeightedInfoNCE):
            return self.objective(pair, torch.stack([clusters.nearest for clusters in found], 1))
        return self.objective(pair, found) + 0 * keys.sum()  # its keys are constants


NEGATIVES = {
    "InBatch": InBatch,
    "AllKeys": AllKeys,
    "Bank": lambda: Bank({"node": 12}, 12, WIDTH).double(),
}
OF_NUMBERED_KEYS = {
    "Approximate",
    "Clusters",
    "ClusterSampled",
    "Sampled",
}  # the check renumbers them, and so moves what is drawn
OBJECTIVES = {
    "AlignUniform": AlignUniform,
    "BSL": lambda: BSL(0.1, power=1.2),
    "BSL, paper, all keys": lambda: BSL(0.1, negative_temperature=0.2, negatives=AllKeys()),
    "BarlowTwins": BarlowTwins,
    "CCL": CCL,
    "CCL, all keys": lambda: CCL(0.2, among="all"),
    "DCL": DCL,
    "DCL, weighted, symmetric": lambda: DCL(sigma=0.5, symmetric=True),
    "DHEL": DHEL,
    "InfoNCE": lambda: InfoNCE(0.2),
    "InfoNCE, dot, clamped": lambda: InfoNCE(0.2, "dot", AllKeys(), clamp=5.0),
    "InfoNCE, sum": lambda: InfoNCE(0.2, reduction="sum"),
    "InfoNCE, decoupled": lambda: InfoNCE(0.2, negatives=AllKeys(), positive_in_denominator=False),
    "JSD": JSD,
    "NegativeCosine": lambda: NegativeCosine(stop_gradient=False),
    "NTXent": NTXent,
    "NTXent, cosine": lambda: NTXent(0.2, "cosine"),
    "ProtoNCE": lambda: Clustered(ProtoNCE(0.2)),
    "ProtoNCE, released": lambda: Clustered(ProtoNCE(0.2, "released")),
    "VICReg": VICReg,
    "WeightedInfoNCE": lambda: WeightedInfoNCE(0.2),
    "WeightedInfoNCE, cluster": lambda: Clustered(WeightedInfoNCE(0.2, "cluster")),
    "WeightedInfoNCE, learned": lambda: WeightedInfoNCE(0.2, "learned", dim=WIDTH, rng=generator()).double(),
    "WeightedInfoNCE, normalised": lambda: WeightedInfoNCE(
        0.2, "learned", dim=WIDTH, similarity="cosine", mode="normalised", rng=generator()
    ).double(),
}
ENCODERS = {
    "LightGCN": lambda: LightGCN(SIZES, WIDTH, 2, rng=generator()),
    "LightGCN, unit rows": lambda: LightGCN(SIZES, WIDTH, 3, unit=True, rng=generator()),
    "ResidualGCN": lambda: ResidualGCN(SIZES, WIDTH, 2, rng=generator()),
}


def classes(package: ModuleType) -> dict[str, type]:
    """Public classes that are defined in the modules of a package."""
    found = {}
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if inspect.isclass(value) and value.__module__ == info.name and not name.startswith("_"):
                found[name] = value
    return found


def takes(kind: type, argument: str) -> bool:
    """Whether an instance is called with ``argument`` first."""
    call = kind.forward if issubclass(kind, nn.Module) else kind.__call__
    return list(inspect.signature(call).parameters)[1:2] == [argument]


def missing(kinds: dict[str, type], table: dict) -> set[str]:
    return set(kinds) - {name.split(",")[0] for name in table}


def test_every_class_has_an_example():
    objectives = classes(graphcl.objectives)
    assert not missing({n: k for n, k in classes(graphcl.views).items() if hasattr(k, "passes")}, VIEWS)
    assert not missing(
        {n: k for n, k in objectives.items() if takes(k, "pair") and n not in ("ProtoNCE", "ClusterMeans")}, OBJECTIVES
    )  # they need clusterings
    assert not missing({n: k for n, k in objectives.items() if takes(k, "query")}, NEGATIVES) - OF_NUMBERED_KEYS
    assert not missing(
        {n: k for n, k in classes(graphcl.encoders).items() if issubclass(k, nn.Module) and hasattr(k, "fold_in")}, ENCODERS
    )


@pytest.mark.parametrize("rows", ["positives", "all-repeated"])
@pytest.mark.parametrize("name", VIEWS)
def test_view(name, rows):
    check_view(VIEWS[name](), rows=rows, num_keys=3 if name == "Prototypes" else None, dtype=torch.float64)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name):
    check_objective(OBJECTIVES[name]())


@pytest.mark.parametrize("name", NEGATIVES)
def test_negatives(name):
    check_objective(InfoNCE(0.2, negatives=NEGATIVES[name]()))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name):
    check_encoder(ENCODERS[name]().double())


@pytest.mark.parametrize(
    "name", [name for name in RECIPES if name not in ("popular", "pathgcl") and find(name).KIND != "sequential"]
)  # pathgcl needs a file of knowledge; there is no order in a checkerboard
def test_recipe_learns_the_checkerboard(name):
    check_recipe(
        importlib.import_module(RECIPES[name]), **({"weight": 0.02} if name == "pamc" else {})
    )  # its clusters would join


def test_popular_does_not_know_persons():
    with pytest.raises(AssertionError, match="of users"):
        check_recipe(importlib.import_module(RECIPES["popular"]))


def test_trained_recipes_share_their_settings():
    shared = {"general": Training, "hetero": Pretraining, "attributed": ClusterTraining, "sequential": SequenceTraining}
    for name, path in RECIPES.items():
        config = importlib.import_module(path).Config
        assert dataclasses.is_dataclass(config), name
        module = importlib.import_module(path)
        if {"dim"} <= {f.name for f in dataclasses.fields(config)} and "embed" not in vars(module):
            assert issubclass(config, shared[module.KIND]), name


# The data that comes with the kit


def test_tiny_graph_has_what_breaks_things():
    log, graph, batch = tiny_interactions(), tiny_graph(), tiny_batch()
    assert log.num_repeats == 1
    assert (graph.adj.degrees() == 0).nonzero().flatten().tolist() == [4, 10]
    known = log.matrix.toarray() > 0
    assert known[batch.users, batch.positives - 5].all()
    assert not known[batch.users, batch.negatives - 5].any()
    for rows in (batch.users, batch.positives, batch.negatives):
        assert len(rows.unique()) < len(rows)


def test_checkerboard():
    log, withheld = checkerboard(12, 10)
    matrix = log.matrix.toarray()
    for user in range(12):
        own = [i for i in range(10) if i % 2 == user % 2]
        assert withheld[user] in own
        assert matrix[user].nonzero()[0].tolist() == [i for i in own if i != withheld[user]]
    assert (matrix.sum(0) >= 3).all()
    with pytest.raises(ValueError, match="at least 6"):
        checkerboard(4, 10)


# Each check finds what it is there for


def fails(check, *args, match, **options):
    with pytest.raises(AssertionError, match=match):
        check(*args, **options)


@dataclasses.dataclass
class Breaking:
    """A view that does one thing wrong."""

    how: str
    passes = 0

    def __call__(self, forward):
        (first, *rest) = forward.pairs((forward.main, mean()), (forward.main, layer(0)))
        if self.how == "global":
            torch.rand(1)
        if self.how == "passes":
            forward.encode(forward.inputs)
        if self.how == "parameters":
            forward.main[0].data.add_(1)
        if self.how == "graph":
            forward.inputs.pairs.add_(0 * forward.inputs.pairs[0, 0] + 1)
        if self.how == "random":
            first = dataclasses.replace(first, query=first.query + np.random.default_rng().random())
        if self.how == "infinite":
            first = dataclasses.replace(first, query=first.query / 0)
        if self.how == "list":
            return [first, *rest]
        return (first, *rest)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("global", "global generator"),
        ("passes", "states 0 passes and makes 1"),
        ("parameters", "changed the parameters"),
        ("graph", "changed the graph"),
        ("random", "not a function"),
        ("infinite", "not finite"),
        ("list", "tuple"),
    ],
)
def test_a_breaking_view_is_found(how, match):
    fails(check_view, Breaking(how), match=match, dtype=torch.float64)


def test_a_sound_view_in_its_place_passes():
    check_view(Breaking("nothing"), dtype=torch.float64)


def naive_infonce(pair: Pair, temperature: float = 1e-3) -> torch.Tensor:
    logits = nn.functional.normalize(pair.query) @ nn.functional.normalize(pair.key.all()).T / temperature
    return -(logits[torch.arange(len(logits)), pair.positives].exp() / logits.exp().sum(1)).log().mean()


@pytest.mark.parametrize(
    ("objective", "match"),
    [
        (naive_infonce, "the loss is|not finite"),
        (lambda pair: (pair.query * pair.key.at(pair.positives)).sum(), "aligned pairs cost"),
        (lambda pair: -(pair.query[0] * pair.key.at(pair.positives)[0]).sum(), "order of pairs"),
        (lambda pair: -(pair.query * pair.key.at(pair.positives)).sum() * pair.key.all()[0].sum(), "numbering of keys"),
        (lambda pair: pair.query.sum(1), "scalar"),
    ],
)
def test_a_breaking_objective_is_found(objective, match):
    fails(check_objective, objective, match=match)


def test_a_broken_tile_is_found():
    @dataclasses.dataclass(frozen=True)
    class Tiled:
        tile_entries: int = 100

        def __call__(self, pair):
            keys = pair.key.at(pair.positives)
            return -(pair.query * keys).sum() * self.tile_entries + 0 * keys.sum()

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.tile_entries = 100

        forward = Tiled.__call__

    for objective in (Tiled(), Module()):
        fails(check_objective, objective, match="tile size")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda each: each[:-1], "2 layers instead of 3"),
        (lambda each: (each[0], each[1][:5], each[2]), "layer 1 has shape"),
        (lambda each: (each[0], each[1], each[2] / 0), "layer 2 is not finite"),
        (lambda each: (each[0], each[1], each[1] + torch.rand(1)), "global generator"),
        (lambda each: (each[0].detach(), each[1].detach(), each[2].detach().requires_grad_()), "reaches no layer"),
    ],
)
def test_a_breaking_encoder_is_found(change, match):
    class Encoder(nn.Module):
        num_layers = 2

        def __init__(self):
            super().__init__()
            self.inner = LightGCN(SIZES, WIDTH, 2, rng=generator()).double()

        def forward(self, inputs, *, rng=None, perturb=None):
            return Layers(tuple(change(tuple(self.inner(inputs, rng=rng, perturb=perturb).each[:]))))

    fails(check_encoder, Encoder(), match=match)


def test_an_encoder_that_forgets_the_noise_is_found():
    class Encoder(LightGCN):
        def forward(self, inputs, *, rng=None, perturb=None):
            return super().forward(inputs, rng=rng)

    fails(check_encoder, Encoder(SIZES, WIDTH, 2, rng=generator()).double(), match="perturb was not applied")


def test_a_breaking_operator_is_found():
    left, right = torch.randn(5, 2, generator=generator()).double(), torch.randn(4, 2, generator=generator(1)).double()
    dense = left @ right.T
    check_operator(LowRank(left, right), dense)
    fails(check_operator, LowRank(left, 2 * right), dense, match="op @ x differs")
    fails(check_operator, LowRank(right, left), dense, match=r"shape \(4, 5\) instead of \(5, 4\)")

    class Wrong(LowRank):
        T = property(lambda self: LowRank(self.right, -self.left))

    fails(check_operator, Wrong(left, right), dense, match=r"op\.T @ y differs")

    class Rows(LowRank):
        def rows(self, ids):
            return LowRank(self.left[ids.sort().values], self.right)

    fails(check_operator, Rows(left, right), dense, match=r"op\.rows")


def test_a_recipe_that_learns_nothing_is_found():
    fails(check_recipe, lightgcn, epochs=1, learning_rate=1e-9, match="of users")
    fails(check_recipe, SimpleNamespace(__name__="mine", KIND="general"), match="mine lacks Config")
    presets = SimpleNamespace(**{**vars(lightgcn), "PRESETS": {"general/x": {"widht": 8}}})
    fails(check_recipe, presets, match="widht")
    space = SimpleNamespace(**{**vars(lightgcn), "SPACE": {"decay": (1.0, 0.1)}})
    with pytest.raises(ValueError, match="the range of 'decay' must go from low to high"):
        check_recipe(space)


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: np.random.rand(), lambda: __import__("random").random()])  # noqa: NPY002
def test_a_draw_from_a_global_generator_is_found(draw):
    with pytest.raises(AssertionError, match="global generator"), undisturbed():
        draw()
    with undisturbed():
        torch.rand(1, generator=generator())


def test_table_is_a_key_side():
    rows = torch.arange(6.0).view(3, 2)
    table = Table(rows)
    assert len(table) == 3
    assert table.all() is rows
    assert torch.equal(table.at(torch.tensor([2, 0])), rows[[2, 0]])
