"""Files appear whole or not at all, from one writer; what stands in the way is told."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vae_sci.errors import StorageError
from vae_sci.files import exclusive, publish, storage_error


def rest_of(process: int, path: Path, host: str | None = None) -> Path:
    """A half-written folder that a process left beside `path`."""
    folder = path.with_name(f".{path.name}.{host or socket.gethostname()}.{process}.part")
    folder.mkdir()
    (folder / "shard").write_text("half")
    return folder


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_dead_process_left_is_cleared_and_what_may_be_alive_is_not(tmp_path: Path):
    path = tmp_path / "P.zarr"
    dead, alive = rest_of(dead_process(), path), rest_of(os.getppid(), path)
    elsewhere = rest_of(dead_process(), path, host="another-machine")
    other = rest_of(dead_process(), tmp_path / "Q.zarr")
    with publish(path) as temporary:
        temporary.mkdir()
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()
    assert other.exists()


def test_publish_leaves_the_old_file_and_no_rest_after_an_error(tmp_path: Path):
    path = tmp_path / "f"
    path.write_text("old")

    def fail() -> None:
        with publish(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_publish_replaces_a_folder(tmp_path: Path):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "stale").write_text("x")
    with publish(folder) as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("y")
    assert [p.name for p in folder.iterdir()] == ["new"]


def test_a_folder_that_was_never_written_does_not_cost_the_earlier_one(tmp_path: Path):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "shard").write_text("good")
    with pytest.raises(FileNotFoundError), publish(folder):
        pass
    assert (folder / "shard").read_text() == "good"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("2457600 requested and 49848 written"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("I/O error: Os { code: 28, kind: StorageFull }"),
        RuntimeError("unable to extend file (errno = 28, error message = 'No space left')"),
    ],
)
def test_a_full_disk_is_told_however_a_library_says_it(tmp_path: Path, error: Exception):
    def write() -> None:
        with publish(tmp_path / "table.parquet") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(StorageError, match="room to write"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path):
    path = tmp_path / "table.parquet"
    error = PermissionError(errno.EACCES, "Permission denied", str(path))
    told = storage_error(error, path)
    assert told is not None
    assert "permission to write" in told.required


def test_other_errors_stay_what_they_are(tmp_path: Path):
    path = tmp_path / "results" / "table.parquet"
    assert storage_error(ValueError("128 requested"), path) is None
    of_an_image = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "image.tif"))
    assert storage_error(of_an_image, path) is None


HOLD = """
import sys, time
from vae_sci.files import exclusive
with exclusive(sys.argv[1], "train"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path):
    path = tmp_path / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StorageError, match=f"process {holder.pid} on"),
            exclusive(path, "train"),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
    with exclusive(path, "train"):
        assert f"process {os.getpid()} on" in path.read_text()
