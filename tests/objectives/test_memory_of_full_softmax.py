"""The full softmax holds tiles of logits, not all of them: measured on a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys, torch
from graphcl.objectives.next_item import full_softmax

def loss(targets, items):
    hidden = torch.randn(targets, 64, requires_grad=True)
    table = torch.randn(items + 1, 64).requires_grad_()
    open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here: compiling kernels has its own
    before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    full_softmax(hidden, table[:items], torch.randint(items, (targets,))).backward()
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 - before

loss(64, 300)  # kernels are compiled
print(loss(4096, int(sys.argv[1])))
"""


def peak(items: int) -> float:
    """Bytes above what stood before, the table's gradient included."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(items)], cwd=root, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to tell memory")
def test_logits_are_never_held():
    items = 30_000
    assert peak(items) < 0.25 * 4096 * items * 4  # the logits alone would be 492 MB, their softmax and gradient as much again


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to tell memory")
def test_memory_grows_with_the_table_alone():
    assert peak(100_000) < 1.5e9 / 10 + 5e7  # a million items are to take less than 1.5 GB
