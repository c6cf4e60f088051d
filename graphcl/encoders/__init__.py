"""Encoders: inputs -> Layers."""

from graphcl.encoders.lightgcn import LightGCN as LightGCN
