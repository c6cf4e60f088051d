"""Operators and the kernels behind them."""

from graphcl.ops.counter import draw_key as draw_key
from graphcl.ops.counter import uniform as uniform
from graphcl.ops.dense import add_rows as add_rows
from graphcl.ops.dense import gather_rows as gather_rows
from graphcl.ops.dense import row_norm as row_norm
from graphcl.ops.dense import unit_rows as unit_rows
from graphcl.ops.exponential import exp_columns as exp_columns
from graphcl.ops.operator import LowRank as LowRank
from graphcl.ops.operator import Mean as Mean
from graphcl.ops.operator import Operator as Operator
from graphcl.ops.operator import Product as Product
from graphcl.ops.sparse import Sparse as Sparse
from graphcl.ops.sparse import SparseRows as SparseRows
from graphcl.ops.svd import SVD as SVD
from graphcl.ops.svd import sketched_svd as sketched_svd
from graphcl.ops.svd import truncated_svd as truncated_svd
