"""RecBole, or the test module that asks for it is skipped; in the lane that is there for it, a RecBole that is not there is an error."""

import os

import pytest

try:
    from graphcl.integrations import recbole
except ImportError as error:
    if os.environ.get("GRAPHCL_LANE") == "recbole":
        raise
    pytest.skip(f"{error}; make test-recbole runs these", allow_module_level=True)

__all__ = ["recbole"]
