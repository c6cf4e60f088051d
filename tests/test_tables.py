"""Tables, cards and plots say what the results say, and nobody sets a verdict by hand."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import cards, plots, report, table
from benchmarks.rows import Row, groups, rows
from graphcl import bench

ROOT = Path(__file__).resolve().parents[1]
AGAIN = "run: python -m benchmarks.table"
SOURCE = "a paper"


@pytest.fixture(scope="module")
def found():
    return rows()


def seed(number, recall, ndcg, *, best=3, epochs=5, minutes=2.0, selected_on="valid", curve=(), **more):
    metrics = {"test": {"recall@20": recall, "ndcg@20": ndcg}, "valid": {"ndcg@20": 0.25}}
    return {
        "seed": number, "epochs": epochs, "best_epoch": best, "selected_on": selected_on, "metrics": metrics,
        "seconds": {"train": 60 * minutes}, "curve": list(curve), **more,
    }  # fmt: skip


def made_row(*seeds, asked=3, name="toy", recipe="lightgcn", data="ml-1m", protocol="valid", **config):
    """A row as the files would give it; the summary is written out here by hand."""
    summary = {}
    for key in ("recall@20", "ndcg@20"):
        values = [each["metrics"]["test"][key] for each in seeds]
        mean = sum(values) / max(len(values), 1)
        spread = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5
        summary[key] = {"mean": mean, "std": spread}
    result = {"seeds": list(seeds), "summary": summary, "versions": {"threads": 1}} if seeds else None
    asked_for = {"recipe": recipe, "data": data, "protocol": protocol, "seeds": list(range(asked)), "settings": {}, **config}
    return Row(name, asked_for, result)


# --- what stands in the repository ------------------------------------------------------------------------------------------


def test_the_pages_say_what_the_results_say(found):
    for path, made in ((ROOT / "README.md", table.readme), (ROOT / "benchmarks" / "README.md", table.page)):
        text = path.read_text()
        assert made(text, found) == text, f"{path.relative_to(ROOT)}: {AGAIN}"


def test_the_plots_show_what_the_results_say(found):
    folder, wanted = ROOT / "benchmarks" / "plots", table.wanted_plots(found)
    assert {path.name for path in folder.glob("*.svg")} == set(wanted), AGAIN
    for name, (_, members) in wanted.items():
        assert plots.digest_in(folder / name) == plots.digest(plots.shown(members)), f"{name}: {AGAIN}"


def test_what_is_short_says_why(found):
    assert cards.unexplained(cards.cards(found)) == [], "these are short and their configurations lack 'why'"


def test_keys_of_configurations_are_documented(found):
    """So no verdict, and no misspelt key, stands in one unseen."""
    text = (ROOT / "benchmarks" / "README.md").read_text()
    rows_of_keys = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text.split("## Quality")[0], re.MULTILINE)
    documented = {key for line in rows_of_keys for key in re.findall(r"`(\w+)`", line)}
    assert {"recipe", "data", "protocol", "seeds", "settings", "published", "reach", "why", "note"} <= documented
    assert not documented & {"verdict", "pass", "short"}
    for row in found:
        assert set(row.config) <= documented, f"{row.name}: a key that benchmarks/README.md does not tell of"


# --- cards ------------------------------------------------------------------------------------------------------------------

PUBLISHED = {"recall@20": 0.25, "ndcg@20": 0.5, "source": SOURCE}


def test_a_card_is_arithmetic():
    card = cards.Card(made_row(seed(0, 0.24, 0.50), seed(1, 0.26, 0.48), published=PUBLISHED, asked=2, reach=0.98))
    assert card.ratios == pytest.approx({"recall@20": (0.24 + 0.26) / 2 / 0.25, "ndcg@20": (0.50 + 0.48) / 2 / 0.5})
    assert card.reach == pytest.approx({"recall@20": 0.98 * 0.25, "ndcg@20": 0.98 * 0.5})
    assert card.verdict == "pass"
    assert card.row.figure("ndcg@20") == f"0.4900 ± {0.02 / 2**0.5:.4f}"


@pytest.mark.parametrize(
    ("recall", "ndcg", "reach", "verdict"),
    [
        (0.2463, 0.4926, {}, "pass"),  # .985 where nothing is stated
        (0.2462, 0.4926, {}, "short"),  # one metric is enough to be short
        (0.2463, 0.4924, {}, "short"),
        (0.30, 0.60, {"reach": 1.2}, "pass"),
        (0.25, 0.50, {"reach": {"recall@20": 0.2501, "ndcg@20": 0.1}}, "short"),
        (0.25, 0.10, {"reach": {"recall@20": 0.25}}, "pass"),  # only what is asked for
    ],
)
def test_a_verdict_follows_from_the_means(recall, ndcg, reach, verdict):
    assert cards.Card(made_row(seed(0, recall, ndcg), published=PUBLISHED, **reach)).verdict == verdict


def test_a_verdict_cannot_be_set():
    row = made_row(seed(0, 0.1, 0.2), published=PUBLISHED, verdict="pass")
    card = cards.Card(row)
    assert card.verdict == "short"
    with pytest.raises(TypeError):
        cards.Card(row, verdict="pass")
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.verdict = "pass"


def test_a_short_card_without_a_reason_is_found():
    short = {"published": PUBLISHED, "data": "ml-1m"}
    made = cards.cards(
        [
            made_row(seed(0, 0.1, 0.2), name="silent", **short),
            made_row(seed(0, 0.1, 0.2), name="blank", why="  ", **short),
            made_row(seed(0, 0.1, 0.2), name="said", why="ended early", **short),
            made_row(seed(0, 0.3, 0.6), name="reached", **short),
            made_row(name="to come", **short),
            made_row(seed(0, 0.1, 0.2), name="no card"),
        ]
    )
    assert [card.row.name for card in made] == ["silent", "blank", "said", "reached", "to come"]
    assert cards.unexplained(made) == ["silent", "blank"]
    page = cards.page(made)
    assert page.startswith("1 of 4 measured reach what they should.")
    assert "- said: ended early" in page
    assert "- reached" not in page


def test_the_table_of_cards():
    aim = made_row(seed(0, 0.3, 0.6), asked=1, name="aim", reach={"ndcg@20": 0.55, "source": "above another"})
    made = cards.cards([made_row(seed(0, 0.24, 0.49), published=PUBLISHED), made_row(name="later", published=PUBLISHED), aim])
    lines = cards.page(made).split("\n\n")[1].splitlines()[2:]
    told = "| ml-1m | valid | `lightgcn` | Recall@20 / NDCG@20 | 0.2500 / 0.5000 | 0.2462 / 0.4925 |"
    assert lines[0] == f"{told} 0.2400 / 0.4900 | 96.0% / 98.0% | 1 of 3 | **short** | {SOURCE} |"
    assert lines[1] == f"{told} not measured yet |  | 0 of 3 |  | {SOURCE} |"
    assert lines[2] == "| ml-1m | valid | `lightgcn` | NDCG@20 | none | 0.5500 | 0.6000 |  | 1 | pass | above another |"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"published": PUBLISHED, "reach": 98.5}, r"reach 98\.5 is to be a share"),
        ({"reach": 0.985}, "is a share, and no number is published"),
        ({"published": PUBLISHED, "reach": {"recal@20": 0.2}}, r"is to hold fractions for recall@20 or ndcg@20"),
        ({"published": PUBLISHED, "reach": {"recall@20": 7.16}}, "is to hold fractions"),
        ({"published": PUBLISHED, "reach": {"source": "nowhere"}}, "is to hold fractions"),
    ],
)
def test_a_reach_that_cannot_be(config, told):
    with pytest.raises(ValueError, match=f"^toy: .*{told}"):
        _ = cards.Card(made_row(seed(0, 0.2, 0.4), **config)).reach


# --- tables -----------------------------------------------------------------------------------------------------------------


def test_a_row_tells_all_of_a_result():
    row = made_row(
        seed(0, 0.2, 0.4, best=3, minutes=1.0, threads={"torch": 2, "numba": 2}),
        seed(1, 0.3, 0.5, best=4, minutes=4.0, epochs=9, threads={"torch": 2, "numba": 1}),
        published=PUBLISHED,
    )  # fmt: skip
    spread = f"{(0.1**2 / 2) ** 0.5:.4f}"
    assert table.cells(row, source=True) == [
        "ml-1m", "valid", "validation", "[`lightgcn`](results/toy.json)", f"0.2500 ± {spread}", f"0.4500 ± {spread}", f"0.2500 / 0.5000 ({SOURCE})",
        "2 of 3", "3-4 of 9", "2.5", "2, 2 / 1",
    ]  # fmt: skip
    assert table.cells(row)[6] == "0.2500 / 0.5000"
    assert table.cells(row, folder="benchmarks/")[3] == "[`lightgcn`](benchmarks/results/toy.json)"


def test_rows_of_old_results_of_closed_forms_and_of_none():
    old = made_row(seed(0, 0.2, 0.4, best=None, epochs=0, selected_on=None, minutes=0.0), asked=1, recipe="ease")
    assert table.cells(old, source=True) == [
        "ml-1m", "valid", "no epochs", "[`ease`](results/toy.json)", "0.2000", "0.4000", "", "1", "-", "0.0", "1",
    ]  # fmt: skip
    del old.result["versions"]["threads"]
    assert old.threads == "?"
    assert table.cells(made_row(), source=True)[4:8] == ["not measured yet", "", "", "0 of 3"]


def test_a_result_on_test_says_so_in_its_row_and_its_heading_and_a_note_is_told():
    row = made_row(seed(0, 0.2, 0.4, selected_on="test"), protocol="as-published", note="a batch four times as large")
    assert table.cells(row)[2] == "TEST, as papers do"
    assert "select on TEST, as papers do" in table.headline([row])
    assert "select on TEST, as papers do" in table.quality([row])
    assert "- toy: a batch four times as large." in table.quality([row])


def test_the_floor_is_in_every_table_of_the_readme():
    floor = [
        made_row(seed(0, value, value, best=None, selected_on=None), name=recipe, recipe=recipe, asked=1)
        for recipe, value in (("ease", 0.5), ("gfcf", 0.4), ("popular", 0.1))
    ]
    made = table.headline([floor[0], made_row(seed(0, 0.45, 0.45)), *floor[1:], made_row(name="later", recipe="sgl")])
    head, body = made.split("\n\n")
    assert head == (
        "**ml-1m, `valid`**: select on validation; train and validation masked at test. Floor: `ease` in the table; "
        "`gfcf` 0.4000 / 0.4000, `popular` 0.1000 / 0.1000."
    )
    assert [line.split(" | ")[3] for line in body.splitlines()[2:]] == [
        "[`ease`](benchmarks/results/ease.json)", "[`lightgcn`](benchmarks/results/toy.json)",
    ]  # fmt: skip
    assert table.headline([made_row()]) == ""


def test_wherever_something_was_trained_the_floor_was_measured_too(found):
    for group, members in groups(found).items():
        measured = {row.kind for row in members if row.seeds}
        assert "trained" not in measured or "floor" in measured, group


def test_a_comparison_is_told_with_its_interval(tmp_path):
    assert table.compared(tmp_path) == ""
    runs = [
        {"run": name, "recipe": name, "protocol": "valid", "seeds": seeds} for name, seeds in (("ease", [0]), ("xsimgcl", [0, 1]))
    ]
    one = {
        "metric": "ndcg@20", "run": "xsimgcl", "reference": "ease", "difference": -0.00576, "interval": [-0.015, 0.0034], "p_holm": 0.21345,
    }  # fmt: skip
    held = {"test": "wilcoxon", "runs": runs, "comparisons": [one]}
    (tmp_path / "compare-ml-100k.json").write_text(json.dumps(held))
    assert table.compared(tmp_path).splitlines()[-1] == (
        "- ml-100k, `valid`: NDCG@20 of `xsimgcl` (2 seeds) less that of `ease`: -0.0058, 95 % interval -0.0150 to +0.0034, "
        "wilcoxon p = 0.21 (Holm)."
    )


@pytest.mark.parametrize(
    ("protocol", "selected_on", "told"),
    [("valid", None, "no label chooses"), ("as-published", "test", "MAXIMUM OVER EPOCHS AGAINST THE LABELS")],
)
def test_clusters_have_columns_of_their_own(protocol, selected_on, told):
    metrics = {"acc": 0.8, "nmi": 0.5, "ari": 0.6, "f1": 0.7}
    each = {**seed(0, 0, 0, best=None, epochs=0, selected_on=selected_on), "metrics": {"test": metrics}}
    row = made_row(recipe="svd_kmeans", data="attributed/toy", protocol=protocol, asked=1)
    row = dataclasses.replace(
        row,
        result={"seeds": [each], "versions": {}, "summary": {key: {"mean": value, "std": 0.0} for key, value in metrics.items()}},
    )
    assert table.heads("attributed/toy")[4:8] == ["ACC", "NMI", "ARI", "F1"]
    assert table.cells(row)[4:8] == ["0.8000", "0.5000", "0.6000", "0.7000"]
    assert (row.kind, row.main) == ("floor", 0.8)
    assert told in table.headline([row])
    points = [["svd_kmeans", "floor", [[2.0, 0.8]]]] if protocol == "as-published" else []  # without labels there is no curve
    assert plots.shown([row]) == {"bars": [["svd_kmeans", "floor", 0.8, None, None]], "curves": points}


def test_rows_come_from_the_files(tmp_path):
    """Also where a result is missing or a split stands beside the data set's own; other files in results/ are no rows."""
    for folder in ("configs", "results"):
        (tmp_path / "benchmarks" / folder).mkdir(parents=True)
    best, other = made_row(seed(0, 0.3, 0.6), name="best"), made_row(seed(0, 0.2, 0.4), name="a-second")
    apart = made_row(name="apart", split="leave_one_out", recipe="recbole:LightGCN", peer="recbole")
    for row in (best, other, apart, made_row(name="to-come")):
        (tmp_path / "benchmarks" / "configs" / f"{row.name}.json").write_text(json.dumps(row.config))
        if row.result:
            (tmp_path / "benchmarks" / "results" / f"{row.name}.json").write_text(json.dumps(row.result))
    (tmp_path / "benchmarks" / "results" / "compare.json").write_text("[]")
    read = rows(tmp_path)
    assert read == [best, other, made_row(name="to-come"), apart]
    assert list(groups(read)) == [("ml-1m", "valid", ""), ("ml-1m", "valid", "leave_one_out")]
    assert [row.kind for row in (best, apart, made_row(recipe="popular"))] == ["trained", "peer", "floor"]
    assert "### ml-1m, `valid`, split `leave_one_out`" in table.quality(read)


def test_marks_that_are_missing():
    with pytest.raises(ValueError, match=r"marks <!-- cards: .* are missing"):
        report.filled("no marks", {"cards": "x"})


# --- plots ------------------------------------------------------------------------------------------------------------------


def test_a_plot_shows_bars_and_seconds_or_shares_of_them():
    measured = [{"epoch": 1, "seconds": 30.0, "ndcg@20": 0.1}, {"epoch": 2, "seconds": 90.0, "ndcg@20": 0.2}]
    old = [{"epoch": 2, "ndcg@20": 0.1}, {"epoch": 4, "ndcg@20": 0.2}, {"epoch": 4}]
    trained = made_row(
        seed(0, 0.2, 0.4, curve=measured), seed(1, 0.2, 0.3, curve=old, epochs=4, minutes=8.0), published=PUBLISHED
    )
    floor = made_row(seed(0, 0.1, 0.2, best=None, selected_on=None), recipe="popular", asked=1)
    data = plots.shown([trained, floor, made_row()])
    assert data["bars"] == [
        ["lightgcn (2 of 3 seeds)", "trained", 0.35, pytest.approx(0.1 / 2**0.5, abs=1e-6), 0.5],
        ["popular", "floor", 0.2, None, None],
    ]
    assert data["curves"] == [
        ["lightgcn", "trained", [[0.5, 0.1], [1.5, 0.2]]],
        ["lightgcn", "trained", [[4.0, 0.1], [8.0, 0.2]]],
        ["popular", "floor", [[2.0, 0.25]]],  # on validation, where the curves are
    ]
    published = made_row(seed(0, 0.1, 0.2, best=None, selected_on=None), recipe="popular", protocol="as-published")
    assert plots.shown([published])["curves"] == [["popular", "floor", [[2.0, 0.2]]]]  # on test, where the curves are


def test_a_drawing_is_the_same_again_and_its_digest_is_of_its_numbers(tmp_path):
    pytest.importorskip("matplotlib")
    curve = [{"epoch": 1, "seconds": 30.0, "ndcg@20": 0.1}]
    members = [
        made_row(seed(0, 0.2, 0.4, curve=curve), seed(1, 0.2, 0.3, curve=curve), published=PUBLISHED),
        made_row(seed(0, 0.1, 0.2, best=None), recipe="popular"),
    ]
    path, again = tmp_path / "one.svg", tmp_path / "two.svg"
    for each in (path, again):
        plots.draw(members[0].group, members, each)
    assert path.read_bytes() == again.read_bytes()
    assert "<dc:date>" not in path.read_text()
    assert plots.digest_in(path) == plots.digest(plots.shown(members))
    for mended in ([members[0]], [made_row(seed(0, 0.2, 0.4, curve=curve), published=PUBLISHED), members[1]]):
        assert plots.digest_in(path) != plots.digest(plots.shown(mended))
    assert plots.digest_in(tmp_path / "none.svg") is None


def test_one_command_writes_everything_and_clears_what_is_no_more(tmp_path):
    pytest.importorskip("matplotlib")
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("runs", "__pycache__"))
    kept = "lightgcn-ml-100k.json"
    for folder in ("configs", "results"):
        for path in (tmp_path / "benchmarks" / folder).glob("*.json"):
            if path.name != kept:
                path.unlink()
    table.main(tmp_path)
    assert [path.name for path in (tmp_path / "benchmarks" / "plots").iterdir()] == ["ml-100k-valid.svg"]
    assert "gowalla, `as-published`" not in (tmp_path / "README.md").read_text()
    page = (tmp_path / "benchmarks" / "README.md").read_text()
    assert "plots/ml-100k-valid.svg" in page
    assert "0 of 0 measured" in page
    assert page.count("Not measured yet in this form.") == 10


# --- sequences --------------------------------------------------------------------------------------------------------------


def sequence_row(name, settings, kept, masked):
    metrics = {"test": {f"{n}@{k}": kept for n in ("hr", "ndcg") for k in (10, 20)}, "valid": {"ndcg@10": 0.1}}
    metrics["test_masked"] = {key: masked for key in metrics["test"]}
    one = {**seed(0, 0, 0, best=None, epochs=0, selected_on=None), "metrics": metrics}
    config = {"recipe": "own_history", "data": "sequential/toy", "protocol": "valid", "seeds": [0], "settings": settings}
    return Row(name, config, {"seeds": [one], "summary": bench.summary([one]), "versions": {"threads": 1}})


def test_rows_of_sequences_show_both_rankings_and_the_floors_settings():
    made = [sequence_row("a", {}, 0.25, 0.125), sequence_row("b", {"others": "none"}, 0.0625, 0.0)]
    assert made[0].shows.metrics["hr@20/masked"] == "HR@20 masked"
    told = table.quality(made)
    assert "| [`own_history`](results/a.json) | 0.2500 | 0.2500 | 0.2500 | 0.2500 | 0.1250 | 0.1250 | 0.1250 | 0.1250 |" in told
    assert "| [`own_history others=none`](results/b.json) | 0.0625 |" in told
    below = "`own_history others=none` 0.0625 / 0.0625 / 0.0625 / 0.0625."
    assert below in table.headline(made)


def test_a_published_number_says_which_it_is_where_columns_lack_one():
    row = sequence_row("a", {}, 0.25, 0.125)
    row.config["published"] = {"hr@20": 0.1, "ndcg@20/masked": 0.2, "source": SOURCE}
    assert "HR@20 0.1000 / NDCG@20 masked 0.2000" in table.cells(row)
    assert cards.Card(row).verdict == "short"
    assert "| HR@20 / NDCG@20 masked | 0.1000 / 0.2000 |" in cards.page(cards.cards([row]))
