"""Encoders: inputs -> Layers."""

from graphcl.encoders.lightgcn import LightGCN as LightGCN
from graphcl.encoders.residual import ResidualGCN as ResidualGCN
from graphcl.encoders.sasrec import SASRec as SASRec
