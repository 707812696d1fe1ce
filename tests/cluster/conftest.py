"""A SLURM of one node, for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


@pytest.fixture(scope="session")
def slurm(install: Callable[..., None]) -> Iterator[None]:
    """SLURM runs while the tests do; they are skipped where it cannot."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM")
    if not all(map(shutil.which, PROGRAMS)):
        install("slurm-wlm", "munge")
    script = Path(__file__).parent / "one_node.sh"
    pipe = subprocess.PIPE
    with subprocess.Popen([script], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as node:
        assert node.stdout is not None
        if node.stdout.readline().strip() != "ready":
            why = node.communicate(timeout=60)[1].strip()
            if "has a SLURM already" in why:
                pytest.skip(why)
            pytest.fail(f"SLURM does not start: {why}")
        yield
        node.communicate(timeout=60)  # closes its input, so that it stops what it started
