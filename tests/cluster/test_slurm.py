"""The whole workflow through the SLURM profile, with a training that is cancelled on the way."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vae_sci.contracts import HISTORY

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
EPOCHS = 12
RULES = {
    *("simulate", "index", "flat_field", "tiles", "train", "embed", "generate"),
    *("phenotypes", "score", "morph", "diagnose", "compare", "figures", "select", "draw_quality"),
    *("overlay", "explorer"),
}


@dataclass(frozen=True)
class Run:
    """What a cancelled run and its rerun left."""

    project: Path
    jobs: list[dict[str, str]]  # as scontrol shows them, with the rule
    cancelled: str  # id of the cancelled training
    first: str  # what Snakemake said
    epochs: list[int]  # that the log of the cancelled training names


def ask(*command: str) -> str:
    """What a SLURM client answers; it would wait for ever for a node that is down."""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def submitted() -> list[dict[str, str]]:
    """All jobs; the executor writes the rule into a job's comment."""
    jobs = []
    for line in ask("scontrol", "show", "job", "--oneliner").splitlines():
        job = dict(re.findall(r"(\w+)=(\S*)", line))
        rule, _, _ = job["Comment"].removeprefix("rule_").partition("_wildcards_")
        jobs.append(job | {"rule": rule})
    return jobs


def epochs(project: Path) -> list[int]:
    log = project / "results" / "logs" / "train" / "vae.log"
    if not log.exists():
        return []
    return [int(number) for number in re.findall(r"^epoch (\d+):", log.read_text(), flags=re.M)]


def snakemake(project: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ("-m", "snakemake", "--configfile", "tiny.yaml", *arguments)
    # A training long enough to be cancelled on the way.
    config = ("--config", f"training={{epochs: {EPOCHS}, batch_size: 16}}")
    return subprocess.Popen(
        [sys.executable, *command, *config],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str], timeout: float) -> str:
    """Output of a run that has to end in time."""
    try:
        return process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        process.kill()  # its jobs end with the cluster
        pytest.fail(f"not done after {timeout} s:\n{process.communicate()[0]}")


@pytest.fixture(scope="module")
def run(slurm: None, new_project: Callable[[], Path]) -> Run:
    """Run until the second epoch, cancel the training, run again to the end."""
    project = new_project()
    # The profile as users have it, with the lines in force that they would put in force.
    # The account stays out: without accounting, SLURM knows none.
    profile = (ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text()
    profile, lines = re.subn(r"# (slurm_partition|gpu_model): ", r"\1: ", profile)
    assert lines == 3
    (project / "slurm").mkdir()
    (project / "slurm" / "config.yaml").write_text(profile)
    arguments = (
        *("--workflow-profile", str(project / "slurm")),
        *("--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "1"),
        *("--max-threads", "1"),
    )
    process = snakemake(project, *arguments, "--retries", "0")
    deadline = time.monotonic() + 300
    while len(epochs(project)) < 2:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"no second epoch:\n{ended(process, 1)}")
        time.sleep(0.1)
    (training,) = [job["JobId"] for job in submitted() if job["rule"] == "train"]
    ask("scancel", training)
    first = ended(process, 120)
    assert process.returncode == 1, first
    before = epochs(project)

    process = snakemake(project, *arguments)
    output = ended(process, 300)
    assert process.returncode == 0, output
    jobs = submitted()
    for job in jobs:  # `pytest -rP` shows them
        keys = ("JobId", "Comment", "JobState", "RunTime", "Partition", "TresPerJob")
        print(*(f"{key}={job[key]}" for key in keys if key in job))
    print(f"epochs in the log of the cancelled job {before}, of the next {epochs(project)}")
    return Run(project, jobs, training, first, before)


def test_training_asks_for_a_gpu_and_the_others_do_not(run: Run):
    assert {job["rule"] for job in run.jobs} == RULES
    for job in run.jobs:
        if job["rule"] == "train":
            assert job["TresPerJob"] == "gres:gpu:a100:1"
            assert job["Partition"] == "gpu"
        else:
            asked = [job[key] for key in job if key.lower().startswith(("tres", "gres"))]
            assert asked
            assert "gpu" not in "".join(asked)
            assert job["Partition"] == "cpu"


def test_a_cancelled_training_resumes(run: Run):
    states = {job["JobId"]: job["JobState"] for job in run.jobs if job["rule"] == "train"}
    assert states.pop(run.cancelled) == "CANCELLED"
    assert list(states.values()) == ["COMPLETED"]
    # Snakemake begins a new log with each job; the history has every epoch.
    resumed = epochs(run.project)
    assert run.epochs[0] == 1
    assert run.epochs[-1] < resumed[0]
    assert resumed == list(range(resumed[0], EPOCHS + 1))
    history = HISTORY.read(run.project / "results" / "models" / "vae" / "history.parquet")
    assert history["epoch"].tolist() == list(range(1, EPOCHS + 1))


def test_logs_are_found_by_rule_and_plate(run: Run):
    logs = run.project / "results" / "logs"
    for rule in ("index", "tiles", "embed/vae"):
        for plate in ("tiny1", "tiny2"):
            assert (logs / rule / f"{plate}.log").is_file()
    # SLURM's own word stays of what failed, and Snakemake says where.
    of_slurm = logs / "slurm" / "rule_train" / "vae" / f"{run.cancelled}.log"
    assert "CANCELLED" in of_slurm.read_text()
    assert str(of_slurm) in run.first
    assert list((logs / "slurm").rglob("*.log")) == [of_slurm]


def test_one_machine_finds_nothing_to_do_after_a_cluster(run: Run):
    """Where a job ran, and on which device, is no change of what it makes."""
    process = snakemake(run.project, "--cores", "2", "-n")
    assert "Nothing to be done" in ended(process, 60)


def test_a_job_with_two_devices_trains_on_both(run: Run):
    """A job is one task, however many devices it has; here they are two processes on the CPU."""
    done = subprocess.run(
        [
            *("srun", "--ntasks=1", "--cpus-per-task=2"),
            *(sys.executable, "-m", "vae_sci", "train", "--device", "cpu", "--devices", "2"),
            *("--settings", '{"name": "pair", "widths": [8, 8], "latent_dim": 4}'),
            *("--training", '{"epochs": 1, "batch_size": 16}'),
        ],
        cwd=run.project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Starting with 2 processes" in done.stderr
