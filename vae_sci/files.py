"""Write beside, then rename: a file or folder appears whole or not at all, from one writer."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import glob
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vae_sci.errors import StorageError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Libraries that write from C or Rust tell the system's number only in their text.
_NUMBER = re.compile(r"(?:os error |errno = |code: )(\d+)")

logger = logging.getLogger(__name__)


@contextmanager
def publish(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place at the end.

    Works for files and for folders. After an error nothing stays behind and an earlier `path` is
    untouched. Raises `StorageError` where the disk is full or may not be written.
    """
    path = Path(path)
    host = socket.gethostname()
    temporary = path.with_name(f".{path.name}.{host}.{os.getpid()}.part")
    old = temporary.with_suffix(".old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path, host)
        yield temporary
        if path.is_dir() and not path.is_symlink():
            # A folder cannot take the place of another one; renamed, both stay whole.
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    except Exception as error:
        told = storage_error(error, path)  # before the clearing, which makes room
        if told is None:
            raise
        raise told from error
    finally:
        for rest in (temporary, old):
            _remove(rest)


def _clear(path: Path, host: str) -> None:
    """Remove what killed processes of this machine left beside `path`.

    A process may outlive the run that started it, here or on another machine: what it writes
    stays.
    """
    for rest in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(host)}.*"):
        process = rest.name.split(".")[-2]
        if rest.suffix in (".part", ".old") and process.isdigit() and not _alive(int(process)):
            _remove(rest)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def storage_error(error: Exception, path: Path) -> StorageError | None:
    """What to tell the user if `error` means that `path` cannot be written, else None."""
    number = error.errno if isinstance(error, OSError) else None
    in_text = _NUMBER.search(str(error))
    if number is None and in_text:
        number = int(in_text[1])
    # tifffile tells no number, only how much it could write.
    if number in _NO_ROOM or re.search(r"\d+ requested and \d+ written", str(error)):
        place = next(p for p in (path, *path.resolve().parents) if p.exists())
        free = shutil.disk_usage(place).free / 2**20
        return StorageError(
            required=f"room to write {path}",
            found=f"{os.strerror(number or errno.ENOSPC)}; {free:,.0f} MiB free on that disk",
            action="make room (or raise the quota or the limit of file sizes) and run again: what "
            "was finished stays, and nothing half-written was left behind",
        )
    named = getattr(error, "filename", None)
    ours = named is not None and Path(os.fsdecode(named)).resolve().is_relative_to(
        path.resolve().parent
    )
    if number in _FORBIDDEN and ours:
        return StorageError(
            required=f"permission to write {path}",
            found=f"{os.strerror(number or errno.EACCES)}: {named}",
            action="set `results` to a folder of your own, or ask for the right to write there",
        )
    return None


@contextmanager
def exclusive(path: str | Path, work: str) -> Iterator[None]:
    """Hold the lock file `path` for the time of the block, so that no other process does `work`.

    The lock is the operating system's (`flock`) and ends with its process, however that ends; the
    file stays and tells who held it last. Raises `StorageError` naming the holder.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise storage_error(error, path) or error from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StorageError(
                required=f"one process at a time to {work}",
                found=f"another at work: {file.read().strip() or 'unknown'}",
                action="wait until it has ended, or end it; or use another folder of results",
            ) from None
        except OSError as error:
            # Better to run unguarded than not at all.
            logger.warning("%s cannot be locked (%s): let one process at a time %s",
                           path, error.strerror, work)  # fmt: skip
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        # The name is for people; on a full disk the lock holds without it.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
            file.flush()
        yield


def write_json(values: Any, path: str | Path) -> None:
    """Write `values` as readable JSON, whole or not at all."""
    with publish(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
