"""Fixtures for all rooms: real images where there are any, and one real small run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

# One thread a process: the tensors of tests are small, and idle threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


@pytest.hookimpl(optionalhook=True)  # pytest runs without xdist too
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: one more than cores, since tests wait for SLURM, servers and locks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (cores or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that they do not keep a single process busy at the end."""
    long = {"workflow", "cluster", "browser", "test_real_run", "test_exports"}
    items.sort(key=lambda item: long.isdisjoint((item.path.parent.name, item.path.stem)))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As above, for the whole run: searching neighbours (numba) raises torch's threads again."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Folder of a set of real images by name; skips the test where there is none."""
    base = Path(os.environ.get("VAE_SCI_TEST_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (base / name).is_dir():
            pytest.skip(f"no real images {name} in {base} (set VAE_SCI_TEST_DATA)")
        return base / name

    return find


def run_in(folder: Path, *command: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment in `folder`; its output as text."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def install() -> Callable[..., None]:
    """Installs Debian packages where root may; skips the test with what stood in the way."""

    def with_apt(*packages: str) -> None:
        wanted = ", ".join(packages)
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip(f"{wanted}: not installed, and only root with apt-get can install here")
        # One at a time: apt-get fails where another one runs.
        with FileLock(Path(tempfile.gettempdir()) / "vae_sci-apt-get.lock"):
            for action in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
                try:
                    done = subprocess.run(
                        ["apt-get", *action],
                        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        text=True,
                        timeout=300,
                        check=False,
                    )
                except subprocess.TimeoutExpired:
                    pytest.skip(f"{wanted}: apt-get {action[0]} took too long")
                if done.returncode:
                    pytest.skip(
                        f"{wanted}: apt-get {action[0]} failed: {done.stderr.strip()[-300:]}"
                    )

    return with_apt


@pytest.fixture(scope="session")
def environment() -> Callable[[Path], Path]:
    """Python of an environment with what a file of requirements lists, for programs that ask for
    other versions of shared packages; made once in the user's cache. Skips where it cannot be."""

    def run(*command: str | Path, timeout: float) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            pytest.skip(f"{' '.join(map(str, command[:4]))}: {done.stderr.strip()[-300:]}")

    def make(requirements: Path) -> Path:
        kind = hashlib.sha256((requirements.read_text() + sys.version).encode()).hexdigest()[:12]
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        folder = cache / "vae_sci" / f"{requirements.stem}-{kind}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        python, ready = folder / "bin" / "python", folder / "ready"
        with FileLock(folder.with_suffix(".lock")):
            if not ready.is_file():
                run(sys.executable, "-m", "venv", "--clear", folder, timeout=120)
                install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
                run(*install, "-r", requirements, timeout=600)
                ready.touch()
        return python

    return make


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a project folder for the tiny simulated screen, in which nothing ran yet."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("project")
        for name in ("workflow", "resources", "environment.yml"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "config").mkdir()
        shutil.copy(ROOT / "config" / "config.yaml", folder / "config")
        columns = ("plate", "images", "platemap", "recipe")
        rows = ["\t".join(columns)]
        for plate in ("tiny1", "tiny2"):
            base = f"results/simulated/{plate}"
            recipe = "resources/simulate/tiny.yaml"
            rows.append("\t".join([plate, f"{base}/images", f"{base}/platemap.csv", recipe]))
        (folder / "config" / "plates.tsv").write_text("\n".join(rows) + "\n")
        (folder / "tiny.yaml").write_text(
            'images: {channels: {"1": nucleus, "2": mitochondria, "3": fibres}, '
            "flat_field: retrospective}\n"
            "model: {latent_dim: 8, widths: [8, 16, 16, 16]}\n"
            "training: {epochs: 3, batch_size: 16}\n"
            "diagnostics: {cells: 60}\n"
        )
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_project(new_project: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which the whole workflow ran on the tiny simulated screen.

    It runs once; each of the tests' processes has a copy, times of change included.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of the processes of this run
    made = base / "tiny_project"
    with FileLock(base / "tiny_project.lock"):
        if not made.exists():
            folder = new_project()
            done = run_in(folder, "snakemake", "--cores", "2", "--configfile", "tiny.yaml")
            assert done.returncode == 0, done.stderr + done.stdout
            folder.rename(made)
    own = tmp_path_factory.mktemp("tiny") / "project"
    return Path(shutil.copytree(made, own, symlinks=True))


@pytest.fixture(scope="session")
def tiny_results(tiny_project: Path) -> Path:
    """The results folder of `tiny_project`; its model is called vae."""
    return tiny_project / "results"
