"""Some hundreds of damaged TIFFs in processes of their own: benchmarks/fuzz_readers.py has more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fuzz_readers
import numpy as np
import pytest


@pytest.mark.slow
def test_damaged_files_end_as_the_array_or_as_an_error(tmp_path: Path) -> None:
    results = fuzz_readers.run(tmp_path, seed=7, count=300)
    assert [result["case"] for result in results] == list(range(300))
    assert [result for result in results if result["outcome"] not in fuzz_readers.GOOD] == []
    assert min(Counter(result["outcome"] for result in results).values()) > 30


def test_a_case_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    files = fuzz_readers.seeds(tmp_path)
    run = dict(fuzz_readers.cases(files, 3, 0, 6))
    assert dict(fuzz_readers.cases(files, 3, 4, 1)) == {4: run[4]}
    assert len({*run.values()} - {*files}) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("import os; os.abort()", "crash"),
        ("import time; time.sleep(60)", "hang"),
        ("raise ValueError('odd')", "wrong"),
        ("raise InputError(required='', found='no name', action='')", "wrong"),
        ("return np.zeros(3)", "wrong"),
    ],
)
def test_what_goes_wrong_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, outcome: str
) -> None:
    """The same worker with a reader that misbehaves."""
    script = Path(fuzz_readers.__file__).read_text()
    reader = f"def read_page(path: Path) -> np.ndarray:\n    {code}\n\n\nSECONDS = 20"
    broken = script.replace("SECONDS = 20", reader).replace(
        "signal.alarm(SECONDS)", "signal.alarm(2)"
    )
    broken = broken.replace("from vae_sci.images.tiff import read_page\n", "")
    (tmp_path / "fuzz_broken.py").write_text(broken)
    monkeypatch.setattr(fuzz_readers, "__file__", str(tmp_path / "fuzz_broken.py"))
    assert [found["outcome"] for found in fuzz_readers.run(tmp_path, 0, 2)] == [outcome] * 2


def test_a_mutation_leaves_most_of_a_file(tmp_path: Path) -> None:
    data = fuzz_readers.seeds(tmp_path)[0]
    rng = np.random.default_rng(0)
    kept = [len(fuzz_readers.mutated(data, rng)) > len(data) // 2 for _ in range(100)]
    assert np.mean(kept) > 0.8
