"""Pretrain on a heterogeneous graph without labels, then fine-tune the encoder in a plain PyTorch loop on a PyG ``HeteroData``.

    python examples/finetune.py [DATA] [EPOCHS]

DATA is a registered name (acm, dblp, imdb) or a folder in the format of the HeCo and MEOW releases.
"""

import sys

import torch
from torch.nn import functional

import graphcl

RATE = 20  # labelled nodes per class


def finetune(
    source: str, *, pretraining: int = 100, epochs: int = 60, pretrained: bool = True, out: str | None = None
) -> dict[str, float]:
    """Accuracy on validation and test nodes, at the epoch that is best on validation."""
    nodes = graphcl.load_nodes(source)
    data = nodes.graph.to_pyg()  # what a PyG program has
    target = data[nodes.graph.target]
    target.y = nodes.labels
    rate = RATE if RATE in nodes.splits else min(nodes.splits)
    train, valid, test = nodes.splits[rate]

    run = graphcl.train("meow", nodes, epochs=pretraining if pretrained else 0, out=out)
    model, inputs = run.model(nodes)
    head = torch.nn.Linear(model.views.projection.in_features, nodes.num_classes)
    optimizer = torch.optim.Adam(
        [{"params": model.views.parameters(), "lr": 1e-3}, {"params": head.parameters(), "lr": 1e-2}], weight_decay=1e-4
    )
    best = {"valid": 0.0, "test": 0.0}
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        z = model.views.whole(inputs)[1]
        functional.cross_entropy(head(z)[train], target.y[train]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            right = head(model.views.whole(inputs)[1]).argmax(1) == target.y
        found = {"valid": float(right[valid].float().mean()), "test": float(right[test].float().mean())}
        best = max(best, found, key=lambda each: each["valid"])
    return best


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "acm"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    for started in (True, False):
        print("pretrained " if started else "from scratch", finetune(name, epochs=steps, pretrained=started))
