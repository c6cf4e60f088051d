import torch
from torch import nn


class WeightedInfoNCE(nn.Module):
    reads_all = True

    def __init__(self, temperature, weights="none", *, dim=None, hidden=16, mode="joint", rng=None, **k):
        super().__init__()
        self.t = temperature
        self.w = weights
        self.mode = mode
        if weights == "learned":
            self.first = nn.Linear(dim, hidden)
            self.second = nn.Linear(hidden, 1)

    def forward(self, pair, assignments=None):
        from torch.utils.checkpoint import checkpoint

        q, k = pair.query, pair.key.all()

        def block(q, k, a):
            s = q @ k.T / self.t
            if self.w == "cluster":
                g = sum((assignments[a][:, j, None] != assignments[None, :, j]).float() for j in range(assignments.shape[1]))
            else:
                g = torch.sigmoid(self.second(torch.tanh((self.first(q))[:, None] + (k @ self.first.weight.T)[None])))[..., 0]
            return (s.exp() * g).sum(1).log() - (q * k[a]).sum(1) / self.t

        return torch.cat(
            [checkpoint(block, qq, k, a, use_reentrant=False) for qq, a in zip(q.split(256), pair.positives.split(256))]
        ).mean()
