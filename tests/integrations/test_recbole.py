"""Recipes as RecBole models: what RecBole's trainer is given, and what its evaluator finds, is what graphcl has."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.integrations.lane import recbole

from recbole.config import Config  # isort: skip
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.trainer import Trainer
from recbole.utils import InputType, ModelType

import graphcl
from graphcl import export, metrics, runs
from graphcl.contracts import Batch, Part
from graphcl.data import protocol as protocols
from graphcl.data.split import split
from graphcl.integrations import peer
from graphcl.rank import evaluate
from graphcl.recipes import RECIPES, xsimgcf
from graphcl.recipes.configure import configure, find
from graphcl.streams import Streams

POSITIVE = {"val_interval": {"rating": "[4,inf)"}}  # of MovieLens-100K, as dataset.cfg has it
TRAINED = [
    name
    for name in RECIPES
    if find(name).KIND == "general" and "restore" not in vars(find(name)) and name not in ("lightgcl_paper", "pathgcl")
]
CLOSED = [name for name in RECIPES if find(name).KIND == "general" and "restore" in vars(find(name))]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:nn.functional|`torch.cuda")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """RecBole writes checkpoints and logs where it stands, and takes pytest's arguments for settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv[:1])


def write_log(folder, name="toy", users=30, items=40, seed=0):
    """A made-up log as atomic files: text ids, a user of one interaction, users of two, an item that is in test alone."""
    rng = np.random.default_rng(seed)
    degrees = np.concatenate([[1, 2, 2], rng.integers(4, 15, users - 3)])
    pairs = [(u, i) for u, n in enumerate(degrees) for i in rng.choice(items, n, replace=False)]
    (folder / name).mkdir(exist_ok=True)
    lines = "".join(f"u-{u}\t{i:03d}x\n" for u, i in pairs)
    (folder / name / f"{name}.inter").write_text("user_id:token\titem_id:token\n" + lines)


def flow(model, dataset="toy", folder=None, **settings):
    """RecBole's flow up to its loaders."""
    if folder is not None:
        settings = {"data_path": str(folder), "load_col": {"inter": ["user_id", "item_id"]}, **settings}
    settings = {**recbole.EVALUATION, "show_progress": False, "state": "ERROR", "gpu_id": "", **settings}
    config = Config(model=model, dataset=dataset, config_dict=settings)
    return config, loaders(config)


def loaders(config):
    recbole.init_seed(config["seed"], True)  # the split is drawn by the global generator
    return data_preparation(config, create_dataset(config))


@pytest.fixture
def toy(tmp_path):
    write_log(tmp_path)
    return tmp_path


def split_again(config):
    """RecBole's split as ours: the same seed draws the same one."""
    return recbole.split_of(*(part.dataset for part in loaders(config)))


# --- metrics ----------------------------------------------------------------------------------------------------------------


class FixedScores(GeneralRecommender):
    """Scores that were drawn once. Made from normal draws in float64, so there are no ties."""

    type, input_type = ModelType.GENERAL, InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.one = nn.Parameter(torch.zeros(1))
        table = np.random.default_rng(7).standard_normal((self.n_users, self.n_items))
        self.table = torch.from_numpy(table).float()

    def full_sort_predict(self, interaction):
        return self.table[interaction[self.USER_ID]].clone().view(-1)


class OursOf:
    """The same scores in our rows, for our ranking."""

    def __init__(self, model, made, tokens):
        users, items = (torch.from_numpy(v.rows(t.astype(object))) for v, t in tokens)
        self.num_items = made.train.num_items
        self.table = torch.empty(made.train.num_users, self.num_items)
        self.table[users[1:, None], items[None, 1:]] = model.table[1:, 1:]

    def score(self, users):
        return self.table[users]


def both(config, parts, protocol="recbole"):
    """RecBole's test and validation metrics of fixed scores, and ours on RecBole's split under our protocol."""
    model = FixedScores(config, parts[0].dataset)
    trainer = Trainer(config, model)
    theirs = [recbole.metrics_of(trainer.evaluate(part, load_best_model=False)) for part in parts[1:]]
    made = recbole.split_of(*(part.dataset for part in parts))
    names = parts[0].dataset.field2id_token
    ours = OursOf(model, made, [(made.train.user_ids, names["user_id"]), (made.train.item_ids, names["item_id"])])
    plan = protocols.plan(made, protocol)
    found = [
        evaluate(
            ours, part.matrix, mask=[m.matrix for m in mask], train=plan.train.matrix, ks=config["topk"], metrics=metrics.ACCURACY
        )
        for part, mask in ((plan.select, plan.select_mask), (plan.test, plan.test_mask))
    ]
    return theirs, found, made


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_recboles_on_a_made_up_log(tmp_path, seed):
    write_log(tmp_path, seed=seed)
    config, parts = flow(FixedScores, folder=tmp_path, topk=[1, 3, 10], seed=seed)
    theirs, ours, made = both(config, parts)
    assert len(ours[1].users) < made.train.num_users  # some have no test
    for a, b in zip(theirs, ours, strict=True):
        assert set(a) == {f"{name}@{k}" for name in metrics.ACCURACY for k in (1, 3, 10)}
        assert a == pytest.approx({key: b.means[key] for key in a}, abs=1e-12)
        assert 0 < a["ndcg@10"] < 1


def test_metrics_are_recboles_on_movielens():
    config, parts = flow(FixedScores, "ml-100k", **POSITIVE)
    theirs, ours, made = both(config, parts)
    assert sum(map(len, made.parts.values())) == 55_375
    for a, b in zip(theirs, ours, strict=True):
        assert len(a) == 18
        assert a == pytest.approx({key: b.means[key] for key in a}, abs=1e-12)


def test_a_mask_of_another_protocol_would_be_seen():
    config, parts = flow(FixedScores, "ml-100k", **POSITIVE)
    (_, theirs), (_, ours), _ = both(config, parts, protocol="lightgcnpp")  # validation stays in the ranking
    assert theirs["recall@40"] - ours.means["recall@40"] > 1e-5


def test_metrics_of_one_user_by_hand(tmp_path):
    """Three held-out items at ranks 2, 3 and 6 of eight rankable ones, cut at 4."""
    (tmp_path / "one").mkdir()
    others = "".join(f"b\ti{n}\n" for n in range(1, 7))
    rows = {"train": f"a\tx\nb\ty\nc\ti7\n{others}", "valid": "b\tx\n", "test": "a\ti2\na\ti3\na\ti6\n"}
    for part, text in rows.items():
        (tmp_path / "one" / f"one.{part}.inter").write_text("user_id:token\titem_id:token\n" + text)
    config, parts = flow(
        FixedScores, "one", tmp_path, topk=[4], benchmark_filename=["train", "valid", "test"], eval_batch_size=100
    )
    model = FixedScores(config, parts[0].dataset)
    order = ["i1", "i2", "i3", "y", "i4", "i6", "i5", "i7"]
    ids = parts[0].dataset.field2token_id["item_id"]
    user = parts[0].dataset.field2token_id["user_id"]["a"]
    for rank, name in enumerate(order):
        model.table[user, ids[name]] = 10.0 - rank
    found = recbole.metrics_of(Trainer(config, model).evaluate(parts[2], load_best_model=False))
    dcg = 1 / math.log2(3) + 1 / math.log2(4)
    assert found == pytest.approx(
        {
            "recall@4": 2 / 3, "precision@4": 2 / 4, "hr@4": 1.0, "mrr@4": 1 / 2, "map@4": (1 / 2 + 2 / 3) / 3,
            "ndcg@4": dcg / (1 + 1 / math.log2(3) + 1 / math.log2(4)),
        }
    )  # fmt: skip


# --- splits -----------------------------------------------------------------------------------------------------------------


def test_recboles_split_becomes_ours(toy):
    _, parts = flow(FixedScores, folder=toy)
    made = recbole.split_of(*(part.dataset for part in parts))
    for part, ours in zip(parts, (made.train, made.valid, made.test), strict=True):
        names = part.dataset.field2id_token
        wanted = {
            (names["user_id"][u], names["item_id"][i])
            for u, i in zip(part.dataset.inter_feat["user_id"].tolist(), part.dataset.inter_feat["item_id"].tolist(), strict=True)
        }
        got = set(zip(ours.user_ids.ids[ours.users], ours.item_ids.ids[ours.items], strict=True))
        assert got == wanted
    assert "[PAD]" not in set(made.train.user_ids.ids) | set(made.train.item_ids.ids)
    assert made.train.num_users == 30


def test_protocol_recbole_gives_each_user_as_many_as_recbole_does():
    """Which pairs are held out is drawn; how many of each user is not."""
    _, parts = flow(FixedScores, "ml-100k", **POSITIVE)
    made, _ = runs.load_data("ml-100k", "recbole")
    theirs = recbole.split_of(*(part.dataset for part in parts))

    def sizes(of):
        ids = [str(u) for u in of.train.user_ids.ids]
        return {
            user: tuple(int(n) for n in counts)
            for user, *counts in zip(
                ids, *(np.bincount(p.users, minlength=len(ids)) for p in (of.train, of.valid, of.test)), strict=True
            )
        }

    assert sizes(made) == sizes(theirs)


# --- a wrapped recipe -------------------------------------------------------------------------------------------------------


def wrapped(recipe, folder, **settings):
    config, parts = flow(recbole.recbole_model(recipe), folder=folder, **settings)
    return config, parts, config.model_class(config, parts[0].dataset)


def our_batch(model, parts, interaction):
    """RecBole's batch in our rows, by the ids' names."""
    names = parts[0].dataset.field2id_token
    data = model.data
    user, item, negative = (
        torch.from_numpy(known.rows(names[of][interaction[field].numpy()].astype(object)))
        for known, of, field in (
            (data.user_ids, "user_id", "user_id"), (data.item_ids, "item_id", "item_id"), (data.item_ids, "item_id", "neg_item_id"),
        )
    )  # fmt: skip
    return Batch(user, data.num_users + item, data.num_users + negative)


def small(recipe):
    """Settings that fit a toy graph."""
    return {"rank": 3} if recipe.startswith("lightgcl") else {}


@pytest.mark.parametrize("recipe", TRAINED)
def test_the_loss_is_our_own_on_the_same_batch(recipe, toy):
    settings = {"dim": 8, "num_layers": 2, **small(recipe)}
    config, parts, model = wrapped(recipe, toy, graphcl_settings=settings, train_batch_size=64)
    module = find(recipe)
    chosen, _ = configure(module, {"set": settings})
    streams = Streams(config["seed"])
    ours = module.build(chosen, model.data, rng=streams["init"])
    graph = recbole.inputs_of(module, chosen, model.data)
    for part in ours.modules():
        if isinstance(part, Part):
            part.start_epoch(graph, 1, streams["views"])
    model.train()
    for interaction, _ in zip(parts[0], range(3), strict=False):
        terms = model.calculate_loss(interaction)
        wanted = ours.losses(graph, our_batch(model, parts, interaction), streams["views"])
        assert len(terms) == len(wanted) >= 2
        assert [t.item() for t in terms] == [t.item() for t in wanted.values()]
    sum(terms).backward()
    sum(wanted.values()).backward()
    for a, b in zip(model.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
        assert a.grad.abs().sum() > 0


@pytest.mark.parametrize("recipe", ["xsimgcl", *CLOSED])
def test_scores_stand_in_recboles_numbering(recipe, toy):
    settings = {"factors": 5} if recipe == "gfcf" else {}
    _, parts, model = wrapped(recipe, toy, graphcl_settings=settings)
    model.eval()
    names = parts[0].dataset.field2id_token
    users = torch.tensor([3, 1, 7])
    with torch.no_grad():
        flat = model.full_sort_predict(Interaction({"user_id": users}))
        scores = flat.view(3, model.n_items)
        assert flat.shape == (3 * 41,)  # 40 items and [PAD]
        assert torch.isneginf(scores[:, 0]).all()
        ours = model.scorer.score(torch.from_numpy(model.data.user_ids.rows(names["user_id"][users].astype(object))))
        for item in range(1, model.n_items):
            row = int(model.data.item_ids.rows([names["item_id"][item]])[0])
            assert torch.equal(scores[:, item], ours[:, row])
        pairs = Interaction({"user_id": torch.tensor([7, 3, 7]), "item_id": torch.tensor([5, 5, 40])})
        # Scored for the same two users: BLAS may sum a product of three rows in another order.
        scores = model.full_sort_predict(Interaction({"user_id": torch.tensor([3, 7])})).view(2, model.n_items)
        assert torch.equal(model.predict(pairs), torch.stack([scores[1, 5], scores[0, 5], scores[1, 40]]))


def test_a_recipes_own_scorer_ranks(toy):
    """It was left out: RecBole ranked by the embeddings alone under the recipe's name."""
    settings = {"factors": 5, "beside_weight": 2.0}
    _, _, model = wrapped("xsimgcf", toy, graphcl_settings=settings)
    model.eval()
    users = torch.tensor([1, 3, 7])
    names = model._users[users]
    wanted = xsimgcf.scorer(xsimgcf.Config(**settings), model.data, model.learned).score(names)
    assert torch.equal(model.scores(users)[:, 1:], wanted[:, model._items[1:]])
    assert not torch.equal(model.scores(users)[:, 1:], model.learned.score(names)[:, model._items[1:]])
    assert np.array_equal(model.embeddings().items, model.learned.items.numpy())


def test_scores_are_made_anew_when_weights_move(toy):
    _, _, model = wrapped("lightgcn", toy)
    ask = Interaction({"user_id": torch.tensor([1])})
    model.eval()
    before = model.full_sort_predict(ask)
    assert torch.equal(before, model.full_sort_predict(ask))
    other = {key: value + 1 for key, value in model.state_dict().items()}
    model.load_state_dict(other)
    assert not torch.equal(before, model.full_sort_predict(ask))


def test_an_epoch_begins_with_the_first_loss_after_train(toy, monkeypatch):
    """SGL's graphs change once an epoch, though RecBole tells nobody of epochs; steps are closed before the next begins."""
    _, parts, model = wrapped("sgl", toy, train_batch_size=64, graphcl_settings={"dim": 4})
    heard = []
    monkeypatch.setattr(Part, "after_step", lambda part, inputs, step, rng: heard.append(("after", step)))
    (view,) = model._parts
    start = type(view).start_epoch

    def listened(part, inputs, epoch, rng):
        heard.append(("epoch", epoch))
        start(part, inputs, epoch, rng)

    monkeypatch.setattr(type(view), "start_epoch", listened)
    graphs = []
    for _ in range(2):
        model.train()
        for interaction, _ in zip(parts[0], range(2), strict=False):
            model.calculate_loss(interaction)
            graphs.append(view._graphs[0])
        model.eval()
    steps = [("after", 1), ("after", 2)]
    assert heard == [("epoch", 1), *steps, ("epoch", 2), *steps]
    assert graphs[0] is graphs[1] is not graphs[2] is graphs[3]


def test_embeddings_leave_by_the_ids_of_the_files(toy, tmp_path):
    outcome = recbole.run("xsimgcl", "toy", {"data_path": str(toy), "epochs": 2, "graphcl_settings": {"dim": 8}, **quiet()})
    model = outcome.model
    found = model.embeddings()
    assert sorted(found.user_ids) == sorted(f"u-{u}" for u in range(30))
    assert sorted(found.item_ids) == sorted(f"{i:03d}x" for i in range(40))
    assert (found.users.shape, found.items.shape) == ((30, 8), (40, 8))
    ids = outcome.model.data.user_ids
    user, item = "u-5", found.item_ids[9]
    score = found.users[list(found.user_ids).index(user)] @ found.items[9]
    theirs = Interaction(
        {
            "user_id": torch.tensor([int((model._users == int(ids.rows([user])[0])).nonzero())]),
            "item_id": torch.tensor([int((model._items == int(model.data.item_ids.rows([item])[0])).nonzero())]),
        }
    )
    assert score == pytest.approx(model.predict(theirs).item(), rel=1e-5)
    export.write(found, tmp_path / "embeddings.npz")
    with np.load(tmp_path / "embeddings.npz") as file:
        assert file["users"].tolist() == found.users.tolist()
    with pytest.raises(ValueError, match="ease has no embeddings"):
        wrapped("ease", toy)[2].embeddings()


def quiet():
    return {"show_progress": False, "state": "ERROR", "gpu_id": "", "load_col": {"inter": ["user_id", "item_id"]}}


# --- RecBole's flow ---------------------------------------------------------------------------------------------------------


def test_recboles_own_flow_trains_saves_and_loads(toy):
    """A checkpoint holds the class by the recipe's name; the best epoch is loaded before the test, and in a new process too."""
    with recbole.compatible():
        config, parts, model = wrapped("sgl", toy, epochs=3, graphcl_settings={"dim": 8})
        trainer = Trainer(config, model)
        trainer.fit(*parts[:2], verbose=False)
        result = trainer.evaluate(parts[2])
        again = torch.load(trainer.saved_model_file, map_location="cpu")
    assert again["config"].model_class is recbole.recbole_model("sgl")
    assert 0 < result["ndcg@10"] < 1
    for key, value in again["state_dict"].items():
        assert torch.equal(value, model.state_dict()[key])
    program = "import sys, torch; print(torch.load(sys.argv[1], weights_only=False)['config'].model_class.named)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, trainer.saved_model_file], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "sgl"


def test_what_recbole_is_shielded_from_is_put_back(monkeypatch):
    key = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    monkeypatch.setattr(sys, "argv", ["program", "--learning_rate=9"])
    monkeypatch.delenv(key, raising=False)
    with recbole.compatible():
        assert (os.environ[key], sys.argv) == ("1", ["program"])
    assert (key in os.environ, sys.argv) == (False, ["program", "--learning_rate=9"])
    monkeypatch.setenv(key, "0")
    with pytest.raises(KeyError), recbole.compatible():
        raise KeyError
    assert os.environ[key] == "0"


def test_a_run_tells_what_it_did(toy):
    settings = {
        "data_path": str(toy),
        "epochs": 4,
        "eval_step": 2,
        "train_batch_size": 64,
        "graphcl_settings": {"dim": 8},
        **quiet(),
    }
    found = recbole.run("lightgcn", "toy", settings)
    steps = -(-len(found.model.data) // 64)
    assert (found.steps, [line["epoch"] for line in found.curve]) == (4 * steps, [1, 2, 3, 4])
    assert ["valid" in line for line in found.curve] == [False, True, False, True]
    chosen = max((2, 4), key=lambda epoch: (found.curve[epoch - 1]["valid"]["ndcg@20"], epoch))
    assert found.best_epoch == chosen
    assert found.valid == pytest.approx(found.curve[chosen - 1]["valid"])
    assert found.curve[0]["loss"] == pytest.approx(math.log(2), rel=0.01)  # BPR of a small start, a mean over steps
    assert all(found.seconds[key] > 0 for key in ("load", "train", "rank"))
    told = recbole.told(found.config)
    assert (told["epochs"], told["graphcl_settings"], told["learner"]) == (4, {"dim": 8}, "adam")
    assert "data_path" not in told
    again = recbole.run("lightgcn", "toy", settings)
    assert again.test == found.test


@pytest.mark.parametrize("recipe", ["bspm", "ease", "gfcf", "itemknn"])
def test_closed_forms_give_what_graphcl_gives(recipe, toy):
    """No training, so the numbers are the same: RecBole's split, trainer and evaluator, and ours on RecBole's split."""
    settings = {"factors": 5} if recipe == "gfcf" else {}
    options = {"data_path": str(toy), "graphcl_settings": settings, **quiet()}
    found = recbole.run(recipe, "toy", options)
    assert (found.best_epoch, found.config["MODEL_TYPE"]) == (None, ModelType.TRADITIONAL)
    made = split_again(found.config)
    ours = runs.train(recipe, made, out="ours", protocol="valid", **settings).result["metrics"]["test"]
    tolerance = 1e-3 if recipe == "itemknn" else 1e-6  # sums of few equal similarities are often the same but for their order
    assert found.test == pytest.approx({key: ours[key] for key in found.test}, abs=tolerance)


def test_ease_is_recboles_ease_on_movielens():
    options = {**POSITIVE, "show_progress": False, "state": "ERROR", "gpu_id": ""}
    ours = recbole.run("ease", "ml-100k", {**options, "graphcl_settings": {"l2": 300.0}})
    theirs = recbole.run("recbole:EASE", "ml-100k", {**options, "reg_weight": 300.0})
    assert ours.test == pytest.approx(theirs.test, abs=1e-4)
    assert ours.test["recall@20"] > 0.3


def test_popularity_on_movielens():
    """RecBole's own Pop counts the batches that an item stands in, negatives included; ours counts interactions, and breaks ties by
    rows where RecBole's evaluator takes any."""
    found = recbole.run("popular", "ml-100k", {**POSITIVE, "show_progress": False, "state": "ERROR", "gpu_id": ""})
    ours = runs.train("popular", split_again(found.config), out="ours").result["metrics"]["test"]
    assert found.test == pytest.approx({key: ours[key] for key in found.test}, abs=5e-3)
    assert ours["recall@20"] > 0.15


@pytest.mark.slow
def test_training_under_recbole_is_as_good_as_under_graphcl():
    """XSimGCL on RecBole's split of MovieLens-100K, for the same number of epochs: another sampler, another draw of noise."""
    settings = {
        "num_layers": 2,
        "weight": 0.02,
        "temperature": 0.1,
        "learning_rate": 5e-3,
        "batch_size": 1024,
        "epochs": 15,
        "patience": 0,
    }
    options = {**recbole.settings_for("xsimgcl", settings), **POSITIVE, "show_progress": False, "state": "ERROR", "gpu_id": ""}
    found = recbole.run("xsimgcl", "ml-100k", options)
    made = split_again(found.config)
    ours = runs.train("xsimgcl", made, out="ours", protocol="valid", **settings).result["metrics"]["test"]
    assert ours["ndcg@20"] > 0.22
    for key, noise in (("recall@20", 0.012), ("ndcg@20", 0.008)):
        assert abs(found.test[key] - ours[key]) < noise, (key, found.test[key], ours[key])


# --- settings ---------------------------------------------------------------------------------------------------------------


def test_settings_stand_beside_recboles_or_in_their_own_place(toy):
    _, _, model = wrapped("xsimgcl", toy, num_layers=4, eps="0.5", graphcl_settings={"eps": 0.25}, learning_rate=0.02, epochs=9)
    changed = {
        key: value for key, value in dataclasses.asdict(model.settings).items() if value != getattr(type(model.settings)(), key)
    }
    assert changed == {"num_layers": 4, "eps": 0.25, "learning_rate": 0.02, "epochs": 9}


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("xsimgcl", {"graphcl_settings": {"epz": 1}}, "unknown setting 'epz' of xsimgcl; did you mean 'eps'"),
        ("ease", {"graphcl_settings": {"learning_rate": 1}}, "unknown setting 'learning_rate' of ease"),
        ("sgl", {"graphcl_settings": {"batch_size": 9}}, "'batch_size' is for RecBole's trainer to decide; set 'train_batch_size' beside"),
        ("sgl", {"batch_size": 9}, "'batch_size' is for RecBole's trainer to decide; set 'train_batch_size'"),
        ("sgl", {"rate_decay": 0.5}, "'rate_decay' is for RecBole's trainer to decide; it cannot be set"),
        ("sgl", {"graphcl_settings": {"balance": "users"}}, "'balance' is for RecBole's trainer to decide; it cannot be set"),
        ("sgl", {"graphcl_settings": {"drop": "xy"}}, "setting 'drop' must be one of ed, nd, rw, got 'xy'"),
        ("sgl", {"train_neg_sample_args": None}, "sgl needs negatives that are drawn before"),
        ("sgl", {"train_neg_sample_args": {"dynamic": True, "distribution": "uniform"}}, "and no 'dynamic'"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(recipe, settings, message, toy):
    with pytest.raises(ValueError, match=message):
        wrapped(recipe, toy, **settings)


@pytest.mark.parametrize(
    "change", [{"topk": [10]}, {"metrics": ["Recall"]}, {"valid_metric": "NDCG@50"}, {"valid_metric": "NDCG"}]
)
def test_a_metric_that_is_not_evaluated_cannot_choose(toy, change):
    """RecBole noticed after the first epoch."""
    with pytest.raises(ValueError, match=r"valid_metric 'NDCG.* must be one of metrics"):
        recbole.run("lightgcn", "toy", {"data_path": str(toy), "epochs": 1, **quiet(), **change})


def test_the_metric_that_chooses_is_evaluated_at_its_cut_off(toy):
    settings = recbole.settings_for("lightgcn", {"select": "recall@7", "epochs": 1, "dim": 4})
    found = recbole.run("lightgcn", "toy", {"data_path": str(toy), **settings, **quiet()})
    assert {"recall@7", "recall@10", "recall@20", "recall@40"} <= found.valid.keys()


def test_no_patience_is_spent_while_part_of_the_loss_is_not_there(toy):
    """As in graphcl; RecBole's own count ended NCL before its prototypes began."""
    settings = recbole.settings_for(
        "ncl", {"epochs": 12, "patience": 1, "warm_up": 6, "num_clusters": 5, "dim": 4, "learning_rate": 0.2}
    )
    found = recbole.run("ncl", "toy", {"data_path": str(toy), **settings, **quiet()})
    scores = [line["valid"]["ndcg@20"] for line in found.curve]
    best, ended = -1.0, 12
    for epoch, score in enumerate(scores, 1):
        if score < best and epoch > 6:
            ended = epoch
            break
        best = max(best, score)
    assert len(scores) == ended
    assert scores[:6] != sorted(scores[:6])  # it would have ended here


@pytest.mark.parametrize("change", [{"eval_step": 0}, {"epochs": 0}])
def test_without_validation_there_is_no_best_epoch(toy, change):
    found = recbole.run(
        "lightgcn", "toy", {"data_path": str(toy), "epochs": 2, "graphcl_settings": {"dim": 4}, **quiet(), **change}
    )
    assert found.best_epoch is None
    assert 0 <= found.test["ndcg@20"] <= 1


def test_recipes_that_recbole_cannot_run_are_refused():
    with pytest.raises(ValueError, match="'lightgcl_paper' has its own batches, and RecBole's trainer brings its own"):
        recbole.recbole_model("lightgcl_paper")
    with pytest.raises(ValueError, match="unknown recipe 'xsimgl'; did you mean 'xsimgcl'"):
        recbole.recbole_model("xsimgl")


def test_recipes_of_another_kind_are_refused(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("")
    (tmp_path / "elsewhere" / "trees.py").write_text("KIND = 'hetero'\nclass Config: pass\ndef build(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"'elsewhere\.trees' is for hetero data"):
        recbole.recbole_model("elsewhere.trees")


# --- peers ------------------------------------------------------------------------------------------------------------------


def test_a_peer_is_told_as_our_own_benchmarks_are(toy, tmp_path, monkeypatch):
    log = graphcl.read_interactions(toy / "toy" / "toy.inter")
    made = split(log, rule="random")
    monkeypatch.setattr(runs, "load_data", lambda *args, **options: (made, None))
    config = {
        "recipe": "recbole:BPR", "peer": "recbole", "data": "toy", "protocol": "valid", "seeds": [0, 1],
        "settings": {"epochs": 3, "embedding_size": 8}, "published": None, "note": "a toy",
    }  # fmt: skip
    result = peer.run("toy", config, root=tmp_path, python=Path(sys.executable))
    assert result["summary"]["ndcg@20"]["std"] > 0
    assert result["versions"]["packages"]["recbole"] == "1.2.1"
    assert {"embedding_size": 8, "epochs": 3, "learner": "adam"}.items() <= result["settings"].items()
    first = result["seeds"][0]
    assert (first["seed"], first["epochs"], first["selected_on"]) == (0, 3, "valid")
    assert {"recall@20", "hr@10", "map@40"} <= first["metrics"]["test"].keys()
    assert [line["epoch"] for line in first["curve"]] == [1, 2, 3]
    assert first["curve"][first["best_epoch"] - 1]["ndcg@20"] == pytest.approx(first["metrics"]["valid"]["ndcg@20"])
    # Finished seeds are kept, unless something else is asked; `false` answers nothing.
    assert peer.run("toy", config, root=tmp_path, python=Path("/bin/false"))["seeds"] == result["seeds"]
    with pytest.raises(RuntimeError, match="recbole:BPR ended with 1"):
        peer.run("toy", {**config, "settings": {"epochs": 2}}, root=tmp_path, python=Path("/bin/false"))


def test_what_recbole_says_when_it_fails_is_told(toy, tmp_path, monkeypatch):
    made = split(graphcl.read_interactions(toy / "toy" / "toy.inter"), rule="random")
    monkeypatch.setattr(runs, "load_data", lambda *args, **options: (made, None))
    config = {"recipe": "recbole:BPRR", "peer": "recbole", "data": "toy", "protocol": "valid", "seeds": [0], "settings": {}}
    with pytest.raises(RuntimeError, match=r"(?s)recbole:BPRR ended with 1: .*RecBole has no model 'BPRR'"):
        peer.run("toy", config, root=tmp_path, python=Path(sys.executable))


def test_recbole_leaves_out_what_we_leave_out(tmp_path):
    """Times that float32 would make one of, and ties. Of three interactions RecBole holds out the last alone."""
    rng = np.random.default_rng(0)
    rows = [(u, i, 1_700_000_000 + t // 2) for u in range(12) for t, i in enumerate(rng.choice(30, 9, replace=False))]
    rows += [(12, i, 1_700_000_000) for i in (3, 4, 5, 6)] + [(13, i, i) for i in (1, 2, 3)]
    text = "".join(f"{u}\t{i}\t{t}\n" for u, i, t in rows)
    (tmp_path / "in.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + text)
    made = split(graphcl.read_interactions(tmp_path / "in.inter"), rule="leave_one_out")
    peer.write_history(tmp_path, "log", made)
    settings = {**peer._evaluation("recbole", True), "data_path": str(tmp_path), "train_neg_sample_args": None}
    _, parts = flow("SASRec", "log", **settings)
    short = int(made.train.user_ids.rows([13])[0])
    for loader, ours, kept in zip(parts[1:], (made.valid, made.test), (False, True), strict=True):
        feat, names = loader.dataset.inter_feat, loader.dataset.field2id_token
        got = set(zip(names["user_id"][feat["user_id"]], names["item_id"][feat["item_id"]], strict=True))
        pairs = zip(ours.users.tolist(), ours.items.tolist(), strict=True)
        assert got == {(f"u{u}", f"i{i}") for u, i in pairs if kept or u != short}
        assert len(got) == 13 + kept
