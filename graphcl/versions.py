"""The versions and the machine that numbers were found with."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numba
import torch


def check_device(name: str) -> None:
    """Raises ValueError for a device that torch cannot use here."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        raise ValueError(f"device {str(name)!r} cannot be used here: {str(error).splitlines()[0]}") from None


def versions(device: str = "cpu") -> dict[str, Any]:
    """What a result depends on besides its settings."""
    packages = ("graphcl", "torch", "numpy", "scipy", "pandas", "numba", "pyarrow", "safetensors")
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {
        "python": platform.python_version(),
        "packages": found,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
        "numba_threads": numba.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
    }
