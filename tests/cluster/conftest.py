"""A SLURM of one node, for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """SLURM runs while the tests do; they are skipped where it cannot."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM")
    if not all(map(shutil.which, PROGRAMS)):
        _install("slurm-wlm", "munge")
    script = Path(__file__).parent / "one_node.sh"
    pipe = subprocess.PIPE
    with subprocess.Popen([script], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as node:
        assert node.stdout is not None
        if node.stdout.readline().strip() != "ready":
            pytest.skip(f"SLURM does not start: {node.communicate(timeout=60)[1].strip()}")
        yield
        node.communicate(timeout=60)  # closes its input, so that it stops what it started


def _install(*packages: str) -> None:
    """Install Debian packages, or skip with what apt-get had to say."""
    if shutil.which("apt-get") is None:
        pytest.skip(f"{', '.join(packages)}: not installed, and no apt-get to install them")
    for action in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *action],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"apt-get {' '.join(action)} failed: {done.stderr.strip()[-300:]}")
