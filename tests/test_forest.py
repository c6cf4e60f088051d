"""Forest plots: what is drawn where."""

import sys
from types import SimpleNamespace

import pytest

from graphcl import forest


def comparison(run, metric, difference, interval):
    return {
        "run": run, "reference": "runs/a", "metric": metric, "difference": difference, "interval": interval, "users": 9,
    }  # fmt: skip


RESULT = {
    "runs": [{"run": "runs/a"}, {"run": "runs/b/seed0"}, {"run": "runs/c"}],
    "comparisons": [
        comparison("runs/b/seed0", "ndcg@20", 0.02, (0.01, 0.05)),
        comparison("runs/c", "ndcg@20", -0.1, (-0.3, 0.0)),
        comparison("runs/b/seed0", "recall@20", 0.5, (0.5, 0.5)),
        comparison("runs/c", "recall@20", 0.0, (-0.1, 0.2)),
    ],
}


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_each_format_is_written(tmp_path, suffix, begins):
    forest.plot(RESULT, tmp_path / f"plot{suffix}")
    assert (tmp_path / f"plot{suffix}").read_bytes().startswith(begins)
    assert len(list(tmp_path.iterdir())) == 1


def test_differences_and_intervals_are_where_they_belong(tmp_path, monkeypatch):
    """The first comparison on top; runs by what tells them apart."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.touch()))
    forest.plot(RESULT, tmp_path / "plot.svg")
    first, second = drawn[0].axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["c against a", "b/seed0 against a"]
    points, _, (bars,) = first.containers[0]
    assert points.get_xydata().tolist() == [[-0.1, 0], [0.02, 1]]
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [
        pytest.approx([-0.3, 0.0], abs=1e-12),
        pytest.approx([0.01, 0.05]),
    ]
    assert first.get_xlabel() == "difference in ndcg@20, 95 % interval over 9 users"
    assert second.get_xlabel().startswith("difference in recall@20")
    assert second.containers[0][0].get_xdata().tolist() == [0.0, 0.5]


def test_another_suffix_or_no_matplotlib_is_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"a plot is written as \.png, \.svg, \.pdf, not as 'plot\.jpg'"):
        forest.check(tmp_path / "plot.jpg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", SimpleNamespace())
    with pytest.raises(ImportError, match=r"a plot needs matplotlib: pip install 'graphcl\[report\]'"):
        forest.plot(RESULT, tmp_path / "plot.svg")
    assert not list(tmp_path.iterdir())
