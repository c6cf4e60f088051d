"""Steps of a RecBole model, from an environment of its own: RecBole needs older packages, so it runs in ``.venv-recbole`` as a
process that makes one step when asked for one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from graphcl.integrations.peer import check_environment

PYTHON = ROOT / ".venv-recbole" / "bin" / "python"


class Peer:
    """``about`` tells versions, threads and the steps of an epoch."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        self.about = self._answer()
        self.name = f"RecBole {self.about['recbole']}"

    def step(self) -> dict[str, float]:
        """Seconds of drawing a batch ("draw") and of training on it ("step"); the peer sleeps else."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next line of JSON; whatever else a library prints is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("the process with RecBole ended early; what it said stands above")


@contextmanager
def recbole(folder: str, name: str, model: str, settings: Mapping[str, Any], *, python: Path = PYTHON) -> Iterator[Peer]:
    """A model on the atomic files in ``folder/name``. RecBole writes a log folder where it stands, so it stands in ``folder``."""
    check_environment(python)
    # -P: the folder of a script stays off the path.
    command = [python, "-P", ROOT / "benchmarks" / "recbole_peer.py", folder, name, model, json.dumps(settings)]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peer(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
