"""Interaction logs: reading, filtering, splitting, describing, writing, and the registered data sets.

Some functions are called like the file they stand in (`split`, `describe`, `fetch`): `graphcl.data.split` is the
function, and `from graphcl.data.split import ...` reaches into the file.
"""

from graphcl.data.config import DataFile, DatasetConfig
from graphcl.data.describe import describe
from graphcl.data.fetch import fetch
from graphcl.data.filter import filter_rating, k_core, shrink
from graphcl.data.protocol import PROTOCOLS, Plan, Protocol, plan, refit_plan
from graphcl.data.read import FORMATS, read_interactions
from graphcl.data.registry import find, list_datasets, load
from graphcl.data.split import RULES, Split, order_by_degree, split, split_files
from graphcl.data.write import write_interactions

__all__ = [
    "FORMATS",
    "PROTOCOLS",
    "RULES",
    "DataFile",
    "DatasetConfig",
    "Plan",
    "Protocol",
    "Split",
    "describe",
    "fetch",
    "filter_rating",
    "find",
    "k_core",
    "list_datasets",
    "load",
    "order_by_degree",
    "plan",
    "read_interactions",
    "refit_plan",
    "shrink",
    "split",
    "split_files",
    "write_interactions",
]
