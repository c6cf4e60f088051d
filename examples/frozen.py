"""Frozen embeddings of a heterogeneous graph in scikit-learn.

python examples/frozen.py [DATA] [RECIPE]
"""

import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import graphcl
from graphcl.data.nodes import UNKNOWN


def scores(source: str, recipe: str = "meow", *, out: str | None = None, **settings) -> np.ndarray:
    """Macro-F1 of a logistic regression over five folds of the labelled nodes."""
    nodes = graphcl.load_nodes(source)
    run = graphcl.train(recipe, nodes, out=out, **settings)
    _, embedding = run.embeddings()
    labels = nodes.labels.numpy()
    known = labels != UNKNOWN
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return cross_val_score(classifier, embedding[known], labels[known], cv=5, scoring="f1_macro")


if __name__ == "__main__":
    found = scores(*(sys.argv[1:] or ["acm"]), epochs=100) if len(sys.argv) < 3 else scores(sys.argv[1], sys.argv[2])
    print(f"macro-F1 {found.mean():.4f} ± {found.std():.4f}")
