"""Settings and metrics under the other's names."""

import numpy as np
import pytest

from graphcl.integrations import recbole_names as names


def test_names_of_metrics_are_translated_and_unknown_ones_left_out():
    found = names.metrics_of({"hit@10": np.float64(0.5), "recall@20": 0.25, "averagepopularity@10": 3.0})
    assert found == {"hr@10": 0.5, "recall@20": 0.25}


def test_settings_of_graphcl_become_recboles():
    found = names.settings_for(
        "xsimgcl",
        {"learning_rate": 0.01, "patience": 6, "select": "HR@10".lower(), "eps": 0.3, "evaluate_every": 5, "batch_size": 64},
    )
    expected = {"learning_rate": 0.01, "stopping_step": 5, "valid_metric": "Hit@10", "eval_step": 5, "train_batch_size": 64}
    assert expected.items() <= found.items()
    assert found["graphcl_settings"]["eps"] == 0.3
    assert not found["graphcl_settings"].keys() & names.TRAINER_KEYS.keys()
    never = names.settings_for("xsimgcl", {"patience": 0, "epochs": 7})
    assert never["stopping_step"] == 7  # more evaluations than there are
    assert names.settings_for("ease")["graphcl_settings"] == {"l2": 500.0}
    with pytest.raises(ValueError, match="balance must be 'interactions'"):
        names.settings_for("lightgcn", {"balance": "users"})
    with pytest.raises(ValueError, match=r"rate_decay must be 1, got 0\.9"):
        names.settings_for("lightgcn", {"rate_decay": 0.9})
