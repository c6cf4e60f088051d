"""Comparisons over users and seeds, against formulas written down here."""

import itertools
import json
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

import graphcl
from graphcl import compare as comparing
from graphcl.compare import compare, group, holm, over_seeds, p_value
from tests.toy import NUM_USERS, toy_csv


def evaluated(path, values, *, seed=0, users=None, fingerprint="f", protocol="valid", recipe="lightgcn", lr=0.1, **more):
    """A finished run as compare sees it."""
    path.mkdir(parents=True)
    users = [f"{n:03d}" for n in range(len(values))] if users is None else users
    pd.DataFrame({"user": users, "ndcg@20": values, **more}).to_parquet(path / "per_user.parquet")
    config = {"format": 1, "recipe": recipe, "seed": seed, "fingerprint": fingerprint, "protocol": protocol}
    (path / "config.json").write_text(json.dumps({**config, "settings": {"learning_rate": lr}}))
    (path / "result.json").write_text("{}")
    return path


def seeds(path, values, **more):
    """A folder of runs, ``values`` by seed."""
    for seed, each in values.items():
        evaluated(path / f"seed{seed}", each, seed=seed, **more)
    return path


def only(result):
    (found,) = result["comparisons"]
    return found


# --- over users -------------------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_a_bootstrap_over_users(tmp_path):
    rng = np.random.default_rng(0)
    first = rng.random(200)
    second = np.clip(first + rng.normal(0.03, 0.1, 200), 0, 1)
    paths = [evaluated(tmp_path / "a", first), evaluated(tmp_path / "b", second, recipe="sgl")]
    result = compare(paths)
    found = only(result)
    assert [run["recipe"] for run in result["runs"]] == ["lightgcn", "sgl"]
    assert (found["run"], found["reference"], found["metric"]) == (str(paths[1]), str(paths[0]), "ndcg@20")
    assert (found["users"], found["left_out"]) == (200, 0)
    assert found["mean"] == pytest.approx(second.mean())
    assert found["reference_mean"] == pytest.approx(first.mean())
    assert found["difference"] == pytest.approx((second - first).mean())
    assert found["relative"] == pytest.approx(second.mean() / first.mean() - 1)
    counts = (second > first).sum(), (second == first).sum(), (second < first).sum()
    assert (found["wins"], found["ties"], found["losses"]) == counts
    # Users are drawn with replacement; a user's two values stay together.
    drawn = rng.integers(0, 200, size=(20_000, 200))
    low, high = np.percentile((second - first)[drawn].mean(1), [2.5, 97.5])
    assert found["interval"] == pytest.approx((low, high), abs=1e-3)
    assert compare(paths) == result


def test_equal_differences_of_fractions_are_equal(tmp_path):
    """3/5 - 2/5 and 4/5 - 3/5 differ in their last bits, by which signed ranks once told wins from losses."""
    first = np.array([2 / 5] * 60 + [4 / 5] * 60)
    found = only(compare([evaluated(tmp_path / "a", first), evaluated(tmp_path / "b", np.full(120, 3 / 5))]))
    assert (found["wins"], found["losses"], found["p"]) == (60, 60, 1.0)


def test_users_are_matched_by_id(tmp_path):
    values = np.random.default_rng(1).random(30)
    order = np.random.default_rng(2).permutation(30)
    shuffled = evaluated(tmp_path / "b", values[order], users=[f"{n:03d}" for n in order])
    found = only(compare([evaluated(tmp_path / "a", values), shuffled]))
    assert (found["difference"], found["interval"], found["p"], found["ties"]) == (0, (0, 0), 1, 30)


def test_users_that_not_all_runs_ranked_are_left_out_and_counted(tmp_path):
    """Also those without a value. Means, too, are over the users of all runs."""
    a = evaluated(tmp_path / "a", [0.1, 0.2, 0.3, math.nan], users=list("abcd"))
    b = evaluated(tmp_path / "b", [0.4, 0.3, 0.9, 0.9], users=list("bcde"))
    c = evaluated(tmp_path / "c", [0.5, 0.5, 0.5], users=list("abc"))
    result = compare([a, b, c])
    first, second = result["comparisons"]
    assert (first["users"], first["left_out"]) == (second["users"], second["left_out"]) == (2, 3)
    assert [run["metrics"]["ndcg@20"]["mean"] for run in result["runs"]] == pytest.approx([0.25, 0.35, 0.5])
    assert first["difference"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no user has a value of 'ndcg@20' in all of the runs"):
        compare([a, evaluated(tmp_path / "e", [0.5], users=["z"])])


def test_a_difference_that_is_the_same_for_all_is_its_own_interval(tmp_path):
    """It once had an interval around 0."""
    found = only(compare([evaluated(tmp_path / "a", np.full(9, 0.25)), evaluated(tmp_path / "b", np.full(9, 0.5))]))
    assert (found["difference"], found["interval"], found["relative"]) == (0.25, (0.25, 0.25), 1)
    nothing = only(compare([evaluated(tmp_path / "c", np.zeros(9)), evaluated(tmp_path / "d", np.full(9, 0.5))]))
    assert nothing["relative"] is None


@pytest.mark.parametrize("test", ["wilcoxon", "permutation"])
def test_resampling_many_users_takes_little_memory(tmp_path, monkeypatch, test):
    """All samples at once were 2.4 GB for Gowalla's users, twice."""
    monkeypatch.setattr(comparing, "_RESAMPLED", 2**14)
    rng = np.random.default_rng(0)
    both = [evaluated(tmp_path / name, rng.random(5_000)) for name in "ab"]
    tracemalloc.start()
    found = only(compare(both, samples=500, test=test))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert peak < 500 * 5_000 * 8 / 4


def signs(difference, statistic):
    """Two-sided p of a statistic over every choice of signs: twice the smaller tail."""
    observed = statistic(difference)
    every = np.array([statistic(difference * s) for s in itertools.product([1, -1], repeat=len(difference))])
    return min(1, 2 * min((every >= observed - 1e-12).mean(), (every <= observed + 1e-12).mean()))


def test_few_users_are_tested_exactly():
    """Ties have no rank and no sign, so they are no users here."""
    difference = np.array([0.3, -0.1, 0.25, 0.7, 0.45, -0.05, 0.6, 0.9])
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1.0
    tied = np.concatenate([difference, np.zeros(5)])
    expected = signs(ranks * np.sign(difference), lambda signed: signed[signed > 0].sum())
    assert p_value(tied, "wilcoxon", 9999, 0) == pytest.approx(expected)
    assert p_value(tied, "permutation", 9999, 0) == pytest.approx(signs(difference, np.mean))
    assert p_value(np.zeros(5), "wilcoxon", 9, 0) == p_value(np.zeros(5), "permutation", 9, 0) == 1


def test_many_users_are_tested_by_the_normal_distribution_of_signed_ranks():
    rng = np.random.default_rng(3)
    difference = rng.integers(-6, 8, 300) / 10.0  # many of equal size, and ties
    untied = difference[difference != 0]
    size, count = np.abs(untied), len(untied)
    ranks = np.array([(size < s).sum() + ((size == s).sum() + 1) / 2 for s in size])
    equal = np.array([(size == s).sum() for s in np.unique(size)])
    variance = count * (count + 1) * (2 * count + 1) / 24 - (equal**3 - equal).sum() / 48
    z = (ranks[untied > 0].sum() - count * (count + 1) / 4) / math.sqrt(variance)
    assert p_value(difference, "wilcoxon", 9999, 0) == pytest.approx(2 * norm.sf(abs(z)))
    # And the mean's, whose sum under chance signs is normal with the sum of squares as variance.
    z = untied.sum() / math.sqrt((untied**2).sum())
    assert p_value(difference, "permutation", 9999, 0) == pytest.approx(2 * norm.sf(abs(z)), rel=0.15)


# --- correction -------------------------------------------------------------------------------------------------------------


def test_holm():
    """Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and the last is no smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_the_correction_runs_over_all_metrics_and_pairs(tmp_path):
    rng = np.random.default_rng(4)
    base = rng.random(40)
    paths = [
        evaluated(tmp_path / name, base + rng.normal(shift, 0.1, 40), **{"recall@20": base + rng.normal(shift / 2, 0.1, 40)})
        for name, shift in (("a", 0), ("b", 0.05), ("c", 0.1))
    ]
    result = compare(paths, ["ndcg@20", "recall@20", "ndcg@20"])
    assert [(c["metric"], c["run"][-1], c["reference"][-1]) for c in result["comparisons"]] == [
        ("ndcg@20", "b", "a"), ("ndcg@20", "c", "a"), ("recall@20", "b", "a"), ("recall@20", "c", "a"),
    ]  # fmt: skip
    pairs = compare(paths, ["recall@20", "ndcg@20"], all_pairs=True)["comparisons"]
    assert [c["run"][-1] + c["reference"][-1] for c in pairs] == ["ba", "ca", "cb"] * 2
    for comparisons in (result["comparisons"], pairs):
        p = [c["p"] for c in comparisons]
        for c in comparisons:
            smaller = [q for q in p if q <= c["p"]]
            assert c["p_holm"] == pytest.approx(min(1, max(q * sum(r >= q for r in p) for q in smaller)))
    values = pd.concat([pd.read_parquet(path / "per_user.parquet")["recall@20"] for path in paths], axis=1).to_numpy()
    assert pairs[2]["difference"] == pytest.approx((values[:, 2] - values[:, 1]).mean())


# --- over seeds -------------------------------------------------------------------------------------------------------------


def test_a_user_of_many_seeds_has_their_mean_and_seeds_are_paired_by_number(tmp_path):
    rng = np.random.default_rng(5)
    a = {seed: rng.random(50) for seed in (0, 2, 10)}
    b = {seed: a[seed] + rng.normal(0.05, 0.2, 50) for seed in (10, 0, 2)}
    result = compare([seeds(tmp_path / "a", a), seeds(tmp_path / "b", b)])
    assert [run["seeds"] for run in result["runs"]] == [[0, 2, 10]] * 2
    found = only(result)
    first, second = (np.mean(list(part.values()), axis=0) for part in (a, b))
    assert found["difference"] == pytest.approx((second - first).mean())
    assert found["wins"] == (second > first).sum()
    assert found["p"] == p_value(second - first, "wilcoxon", 9999, 0)
    means = [part[seed].mean() for part in (a, b) for seed in (0, 2, 10)]
    spread = math.sqrt(sum((m - sum(means[3:]) / 3) ** 2 for m in means[3:]) / 2)
    assert result["runs"][1]["metrics"]["ndcg@20"] == pytest.approx({"mean": sum(means[3:]) / 3, "std": spread})
    by_seed = [means[3 + n] - means[n] for n in range(3)]
    middle = sum(by_seed) / 3
    error = math.sqrt(sum((d - middle) ** 2 for d in by_seed) / 2 / 3)
    p = 2 * t.sf(abs(middle / error), 2)
    assert found["over_seeds"] == pytest.approx({"test": "paired", "p": p, "p_holm": p, "note": ""})


def test_other_seeds_are_compared_by_welch():
    a, b = {0: 0.2, 1: 0.24, 2: 0.25}, {3: 0.3, 4: 0.31}
    found = over_seeds(b, a)
    x, y = np.array(list(b.values())), np.array(list(a.values()))
    vx, vy = x.var(ddof=1) / 2, y.var(ddof=1) / 3
    freedom = (vx + vy) ** 2 / (vx**2 / 1 + vy**2 / 2)
    assert found["test"] == "welch"
    assert found["p"] == pytest.approx(2 * t.sf((x.mean() - y.mean()) / math.sqrt(vx + vy), freedom))


def test_where_seeds_tell_nothing_it_is_said():
    few = over_seeds({0: 0.1}, {0: 0.2, 1: 0.3})
    assert (few["p"], few["note"]) == (None, "needs 2 seeds of each, there are 1 and 2")
    for a, b in (({0: 0.1, 1: 0.2}, {0: 0.2, 1: 0.3}), ({0: 0.1, 1: 0.1}, {2: 0.2, 3: 0.2})):
        same = over_seeds(a, b)
        assert (same["p"], same["note"]) == (None, "the seeds do not differ")


def test_seeds_have_a_correction_of_their_own(tmp_path):
    rng = np.random.default_rng(6)
    made = [seeds(tmp_path / name, {s: rng.random(9) + shift for s in (0, 1, 2)}) for name, shift in (("a", 0), ("b", 0.1))]
    made.append(seeds(tmp_path / "c", {7: rng.random(9), 8: rng.random(9)}))
    found = [c["over_seeds"] for c in compare([*made, evaluated(tmp_path / "one", rng.random(9))])["comparisons"]]
    assert [each["test"] for each in found] == ["paired", "welch", None]
    assert [each["p_holm"] for each in found[:2]] == pytest.approx(holm([each["p"] for each in found[:2]]))
    assert found[2]["p_holm"] is None


def test_rounding_of_a_mean_over_seeds_is_a_tie(tmp_path):
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1."""
    a = seeds(tmp_path / "a", {0: [0.1], 1: [0.2], 2: [0.3]})
    b = seeds(tmp_path / "b", {0: [0.3], 1: [0.2], 2: [0.1]})
    assert only(compare([a, b]))["ties"] == 1


def test_a_seed_that_has_not_finished_is_left_out_with_a_warning(tmp_path):
    folder = seeds(tmp_path / "a", {0: [0.1, 0.2], 1: [0.3, 0.2], 2: [0.5, 0.1]})
    (folder / "seed1" / "result.json").unlink()
    (folder / "seed3").mkdir()  # not begun
    (folder / "notes").mkdir()
    with pytest.warns(UserWarning, match="seed1 has not finished and is left out"):
        assert group(folder).seeds == [0, 2]
    for seed in (0, 2):
        (folder / f"seed{seed}" / "result.json").unlink()
    with pytest.raises(ValueError, match=r"holds no finished run \(seed0, seed1, seed2\)"):
        group(folder)


# --- what cannot be compared ------------------------------------------------------------------------------------------------


def test_runs_that_cannot_be_compared(tmp_path):
    run, other = evaluated(tmp_path / "a", [0.1, 0.2]), evaluated(tmp_path / "o", [0.1, 0.3])
    with pytest.raises(ValueError, match="needs two runs or more"):
        compare([run])
    with pytest.raises(ValueError, match=r"/a is given twice"):
        compare([run, other, tmp_path / "o" / ".." / "a"])
    with pytest.raises(ValueError, match="were not evaluated on the same data and split"):
        compare([run, evaluated(tmp_path / "b", [0.1, 0.2], fingerprint="g")])
    with pytest.raises(ValueError, match=r"holds no 'ndcg@10' for each user; did you mean 'ndcg@20'"):
        compare([run, other], ["ndcg@10"])
    with pytest.raises(ValueError, match="write name@K"):
        compare([run, other], ["ndcg"])
    with pytest.raises(ValueError, match="unknown test 'permutatoin'; did you mean 'permutation'"):
        compare([run, other], test="permutatoin")
    (other / "per_user.parquet").unlink()
    with pytest.raises(ValueError, match="holds no metrics for each user"):
        compare([run, other])
    (other / "result.json").unlink()
    with pytest.raises(ValueError, match="has not finished; go on with it"):
        compare([run, other])


def test_folders_that_cannot_be_compared(tmp_path):
    folder = seeds(tmp_path / "a", {0: [0.1, 0.2], 1: [0.3, 0.2]})
    with pytest.raises(ValueError, match="seed1 is given twice"):
        compare([folder, folder / "seed1"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"none is neither a run nor a folder of runs seed0, seed1, \.\.\."):
        compare([folder, tmp_path / "none"])
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        compare([folder, tmp_path / "nowhere"])
    evaluated(folder / "seed2", [0.1, 0.2], seed=2, lr=0.2)
    with pytest.raises(ValueError, match=r"seed2 and .*seed0 differ in settings, so they are no seeds of one method"):
        group(folder)
    copied = seeds(tmp_path / "copied", {0: [0.1, 0.2]})
    evaluated(copied / "seed1", [0.1, 0.2], seed=0)
    with pytest.raises(ValueError, match="holds runs of the same seed: 0, 0"):
        group(copied)


def test_protocols_mask_different_items(tmp_path):
    both = [evaluated(tmp_path / "a", [0.1, 0.2]), evaluated(tmp_path / "b", [0.3, 0.2], protocol="lightgcnpp")]
    told = r"runs of different protocols: .*a \(valid\), .*b \(lightgcnpp\)"
    with pytest.raises(ValueError, match=told + r"; they train on or mask different items"):
        compare(both)
    with pytest.warns(UserWarning, match=told + "; differences are of protocols too"):
        found = only(compare(both, mixed_protocols=True))
    assert found["difference"] == pytest.approx(0.1)


# --- real runs --------------------------------------------------------------------------------------------------------------


def test_real_runs_are_compared(tmp_path):
    log = toy_csv(tmp_path / "toy.csv")
    runs = [graphcl.train(recipe, log, out=tmp_path / recipe) for recipe in ("popular", "ease")]
    for test in ("wilcoxon", "permutation"):
        result = compare([run.path for run in runs], ["recall@10"], samples=999, test=test)
        means = [run.result["metrics"]["test"]["recall@10"] for run in runs]
        assert [run["metrics"]["recall@10"]["mean"] for run in result["runs"]] == pytest.approx(means)
        found = only(result)
        assert found["difference"] == pytest.approx(means[1] - means[0])
        assert found["wins"] + found["ties"] + found["losses"] == found["users"] == NUM_USERS
        assert json.loads(json.dumps(result))["test"] == test


def test_the_seed_draws_the_samples():
    difference = np.random.default_rng(0).normal(0.2, 1, 60)
    assert comparing.interval(difference, 199, 0) != comparing.interval(difference, 199, 1)
    assert len({p_value(difference, "permutation", 199, seed) for seed in (0, 2, 3)}) > 1
