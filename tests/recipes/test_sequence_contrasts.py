"""CL4SRec, DuoRec and SRA-CL: their terms against what they are made of."""

import numpy as np
import pytest
import torch

from graphcl.interactions import Vocabulary
from graphcl.recipes import cl4srec, duorec, sracl
from graphcl.recipes.sequence_model import RowContrast, batches
from graphcl.recipes.sracl import Substitution, read
from graphcl.sequence import Sequences
from graphcl.testing import undisturbed
from graphcl.train import PlainStep
from tests.histories import generator, histories, prefix_batch, user_batch
from tests.objectives.test_ntxent import slow_ntxent

SMALL = {"dim": 8, "inner": 12, "max_length": 6, "dropout": 0.0, "attention_dropout": 0.0}
RANDOM = {"semantics": "random", "attention_weights_dropout": 0.0, "num_neighbours": 2}
RECIPES = {cl4srec: {}, duorec: {}, sracl: RANDOM}


def built(recipe, **settings):
    return recipe.build(recipe.Config(**{**SMALL, **RECIPES[recipe], **settings}), histories(), rng=generator())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__.rpartition(".")[2])
def test_terms_are_weighted_contrasts_of_the_views(recipe):
    model, batch, data = built(recipe).double(), prefix_batch(), histories()
    with undisturbed():
        terms = model.losses(data, batch, generator(4))
    rng = generator(4)
    expected = {"next": model.next(batch, rng)}
    for name, contrast in model.contrasts.items():
        assert isinstance(contrast, RowContrast)
        expected[name] = contrast.weight * slow_ntxent(*contrast.views(model.encode(rng), data, batch, rng), 1.0, False)
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-11, msg=name)


def test_the_temperature_is_the_setting():
    model, batch, data = built(cl4srec, temperature=0.3).double(), prefix_batch(), histories()
    terms, rng = model.losses(data, batch, generator(4)), generator(4)
    model.next(batch, rng)
    contrast = model.contrasts["contrast"]
    expected = contrast.weight * slow_ntxent(*contrast.views(model.encode(rng), data, batch, rng), 0.3, False)
    torch.testing.assert_close(terms["contrast"], expected, rtol=1e-9, atol=1e-11)


def test_weights_are_the_settings():
    assert built(cl4srec, weight=0.3).contrasts["contrast"].weight == 0.3
    assert built(duorec, weight=0.3).contrasts["contrast"].weight == 0.3
    contrasts = built(sracl, user_weight=0.3, item_weight=0.4).contrasts
    assert (contrasts["retrieved"].weight, contrasts["substituted"].weight) == (0.3, 0.4)


@pytest.mark.parametrize("make", [user_batch, prefix_batch])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__.rpartition(".")[2])
def test_steps_write_neither_data_nor_batch_and_move_everything(recipe, make):
    model, data, batch = built(recipe, dropout=0.2), histories(), make()
    before = [t.clone() for t in (data.items, data.pointers, *vars(batch).values())]
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    step = PlainStep(model, 0.01)
    for seed in range(20):
        step(model, data, batch, generator(seed))
    assert all(map(torch.equal, before, (data.items, data.pointers, *vars(batch).values())))
    assert not [name for name, p in model.named_parameters() if torch.equal(p, start[name])]


def test_shares_out_of_range():
    for name in ("crop", "mask", "reorder"):
        with pytest.raises(ValueError, match=f"{name} is a share"):
            built(cl4srec, **{name: 1.2})
    with pytest.raises(ValueError, match="substitution is a probability"):
        built(sracl, substitution=-0.1)


def test_batches_are_of_users_or_of_prefixes():
    pytest.importorskip("graphcl.data.sequence_batches")
    data = histories()
    for rows, expected in (("user", user_batch()), ("prefix", prefix_batch())):
        config = cl4srec.Config(rows=rows, batch_size=100)
        (batch,) = batches(config, data)(generator())
        assert sorted(batch.targets.tolist()) == sorted(expected.targets.tolist())
        assert len(batch.items) == len(expected.items)


# What items mean


def saved(tmp_path, table, name="items.npy"):
    path = tmp_path / name
    np.save(path, table)
    return str(path)


def named(item_ids):
    """Three users' histories of four items with these ids."""
    items = torch.tensor([0, 1, 2, 1, 3, 0, 2])
    return Sequences(items, torch.tensor([0, 3, 5, 7]), Vocabulary(np.array([7, 5, 6])), Vocabulary(np.array(item_ids)))


def test_rows_of_the_file_follow_external_ids(tmp_path):
    path = saved(tmp_path, np.arange(8.0).reshape(4, 2))
    found = read(path, named([30, 4, 20, 100]).item_ids, "item")
    assert found.dtype == torch.float32
    assert found.tolist() == [[4, 5], [0, 1], [2, 3], [6, 7]]  # 4, 20, 30, 100 are rows 0, 1, 2, 3
    texts = Vocabulary(np.array(["b", "c", "a", "10"], dtype=object))
    assert read(path, texts, "item")[:, 0].tolist() == [4, 6, 2, 0]


def test_texts_of_whole_numbers_ascend_as_numbers(tmp_path):
    """A Parquet log keeps "2" and "10" as texts; what item attributes are made into stands by number."""
    ids = Vocabulary(np.array(["10", "9", "2"], dtype=object))
    assert read(saved(tmp_path, np.array([[2.0], [9], [10]])), ids, "item")[:, 0].tolist() == [10, 9, 2]
    ids = Vocabulary(np.array(["10", "9", "02"], dtype=object))
    assert read(saved(tmp_path, np.array([[2.0], [10], [9]])), ids, "item")[:, 0].tolist() == [10, 9, 2]


def test_rows_of_zeros_are_told(tmp_path):
    with pytest.warns(UserWarning, match="2 rows of .* are zero"):
        read(saved(tmp_path, np.array([[0.0, 0], [1, 0], [0, 0]])), named([1, 2, 3]).item_ids, "item")


def test_given_matrices_reach_the_views(tmp_path):
    data = named([30, 4, 20, 100])
    items = np.array([[0, 1], [1, 0.1], [1, 0.2], [0.1, 1]])  # of 4, 20, 30, 100
    users = np.array([[1, 0], [0, 1], [1, 0.1]])  # of 5, 6, 7
    settings = {
        **SMALL, "num_neighbours": 1, "item_embeddings": saved(tmp_path, items), "sequence_embeddings": saved(tmp_path, users, "u.npy"),
    }  # fmt: skip
    model = sracl.build(sracl.Config(**settings), data, rng=generator())
    assert model.contrasts["substituted"].views.operators[0].similar.flatten().tolist() == [2, 3, 0, 1]  # 30 and 20, 4 and 100
    assert model.contrasts["retrieved"].views.nearest_users.flatten().tolist() == [1, 0, 0]  # user 7 is row 0, 5 row 1, 6 row 2


def test_substitution_takes_the_nearest_only():
    vectors = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    change = Substitution(vectors, sracl.Config(num_neighbours=1, substitution=1.0))
    items, lengths = change(torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([4]), rng=generator())
    assert items.tolist() == [[1, 0, 3, 2, 4]]
    assert lengths.tolist() == [4]


def test_controls():
    """Neighbours are anybody's, or those with whom items are shared."""
    rows = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 1, 2, 3, 9], [5, 6, 7, 8, 4]] * 10
    data = histories(rows, 10)
    for semantics, shared in (("random", False), ("overlap", True)):
        found = []
        for seed in range(4):
            config = sracl.Config(**SMALL, semantics=semantics, num_neighbours=5)
            view = sracl.build(config, data, rng=generator(seed)).contrasts["retrieved"].views
            chosen = view.retrieve(prefix_batch(rows, 10))[1][3::4]  # the rows of all items but the last
            found += [(user % 2, other % 2) for user, near in enumerate(chosen.tolist()) for other in near]
        same = sum(a == b for a, b in found) / len(found)
        assert same == 1 if shared else 0.4 < same < 0.6


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (np.zeros(4), r"must hold a matrix of numbers, items x width, got float64 of shape \(4,\)"),
        (np.zeros((5, 2)), r"must have a row for each of the 4 items, got shape \(5, 2\)"),
        (np.array([[0, 1], [0, np.nan], [1, 1], [2, 2]]), "row 1 of .* holds a number that is not finite"),
        (np.array([["a"] * 2] * 4), "must hold a matrix of numbers"),
        (np.array([[None] * 2] * 4), "cannot be read as a"),
    ],
)
def test_bad_matrices(tmp_path, table, match):
    with pytest.raises(ValueError, match=match):
        read(saved(tmp_path, table), named([1, 2, 3, 4]).item_ids, "item")


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"item_embeddings: .*absent\.npy cannot be read"):
        read(str(tmp_path / "absent.npy"), named([1, 2, 3, 4]).item_ids, "item")
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(ValueError, match="cannot be read as a"):
        read(str(tmp_path / "text.npy"), named([1, 2, 3, 4]).item_ids, "item")
    np.savez(tmp_path / "several.npz", a=np.zeros((4, 2)))
    with pytest.raises(ValueError, match="must hold a matrix of numbers, items x width, got an archive"):
        read(str(tmp_path / "several.npz"), named([1, 2, 3, 4]).item_ids, "item")


def test_meaning_has_to_be_given_or_refused():
    with pytest.raises(ValueError, match=r"set item_embeddings=FILE\.npy.*semantics=random"):
        built(sracl, semantics="file")
    with pytest.raises(ValueError, match="leave item_embeddings and"):
        built(sracl, item_embeddings="x.npy")


def test_settings_reach_the_views():
    view = built(sracl, attention="dot", attention_weights_dropout=0.3, max_length=4).contrasts["retrieved"].views
    assert (view.attention, view.dropout, view.max_length, view.num_neighbours) == ("dot", 0.3, 4, 2)
    assert built(duorec, max_length=4).contrasts["contrast"].views.max_length == 4
