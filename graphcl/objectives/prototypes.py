import torch
from torch import nn


class ProtoNCE(nn.Module):
    def __init__(self, temperature, density="distance"):
        super().__init__()
        self.t = temperature
        self.d = density

    def forward(self, q, pts, cl):
        out = 0
        for c in cl:
            K = len(c.centroids)
            cen = torch.nn.functional.normalize(c.centroids, dim=1)
            n = torch.bincount(c.nearest, minlength=K)
            if self.d == "released":
                raw = torch.zeros_like(cen).index_add(0, c.nearest, pts) / n.clamp_min(1)[:, None]
                D = (pts * raw[c.nearest]).sum(1).clamp_min(0)
            else:
                D = (pts - cen[c.nearest]).square().sum(1)
            phi = torch.zeros(K).index_add(0, c.nearest, D.sqrt()) / n.clamp_min(1) / (n + 5.0).log()
            phi[n <= 1] = phi.max()
            lo, hi = phi.quantile(0.1), phi.quantile(0.9)
            phi = phi.clamp(lo, hi)
            phi = phi / phi.mean() * self.t
            l = q @ cen.T / phi
            out = out + (l.logsumexp(1) + torch.log(torch.tensor(len(q) / K)) - l.gather(1, c.nearest[:, None])[:, 0]).mean()
        return out / len(cl)
