"""Files behind a URI: `s3://bucket/plate/*.tif`, `https://host/plate/P_B02_s1.tif`.

S3 takes credentials, region and endpoint from the environment (AWS_ACCESS_KEY_ID, AWS_REGION,
AWS_ENDPOINT_URL, …), and asks without a signature where there are no credentials.
"""

from __future__ import annotations

import fnmatch
import functools
import html
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote, unquote, urljoin

from vae_sci.errors import InputError, StorageError, VaeSciError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, HTTPStore, RetryConfig, S3Store

SCHEMES = ("s3", "https", "http")
# Where one of these is set, the environment says who asks.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
}
# A server that does not answer is told within a minute; one that answers may take its time.
RETRY: RetryConfig = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(seconds=0.5),
        "max_backoff": timedelta(seconds=8),
        "base": 2,
    },
}
CLIENT: ClientConfig = {
    "allow_http": True,
    "connect_timeout": "5s",
    "read_timeout": "30s",
    "timeout": "1h",
}
AHEAD = 1 << 16  # bytes fetched at least: a header and the directories near it, at one go
MAGIC = set("*?[")
Entries = Callable[[str], tuple[list[str], list[str]]]  # folder → names of folders and of files


def is_uri(path: str) -> bool:
    """Whether `path` names another machine's file."""
    return "://" in path


def store_of(uri: str) -> tuple[S3Store | HTTPStore, str]:
    """The bucket or host of `uri`, and the path there. Raises `InputError` for other schemes."""
    scheme, _, rest = uri.partition("://")
    place, _, path = rest.partition("/")
    if scheme not in SCHEMES or not place:
        raise InputError(
            required="a URI such as s3://bucket/plate or https://host/plate.zarr",
            found=uri,
            action="correct the URI, or copy the files and name their folder",
        )
    return _store(scheme, place), (path if scheme == "s3" else unquote(path)).rstrip("/")


@functools.cache  # it keeps connections open
def _store(scheme: str, place: str) -> S3Store | HTTPStore:
    from obstore.store import HTTPStore, S3Store

    if scheme != "s3":
        return HTTPStore.from_url(f"{scheme}://{place}", client_options=CLIENT, retry_config=RETRY)
    if CREDENTIALS.isdisjoint(os.environ):
        return S3Store(place, skip_signature=True, client_options=CLIENT, retry_config=RETRY)
    return S3Store(place, client_options=CLIENT, retry_config=RETRY)


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """A failure to reach `path` in the block is told as an error of ours, naming it."""
    from obstore.exceptions import BaseError

    try:
        yield
    except VaeSciError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            required=f"to read {path}",
            found=f"{path}: no such file ({cause(error)})",
            action="check the URI",
        ) from error
    except ValueError as error:
        raise InputError(
            required="a URI such as s3://bucket/plate or https://host/plate.zarr",
            found=f"{path}: {cause(error)}",
            action="correct the URI",
        ) from error
    except BaseError as error:
        raise unreached(path, error) from error


def unreached(path: str, error: Exception) -> StorageError:
    """The error to raise where the server of `path` does not answer, or not with the file."""
    return StorageError(
        required=f"to read {path}",
        found=f"{type(error).__name__}: {cause(error)}",
        action="see to the network, and for s3:// to AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
        "AWS_REGION and AWS_ENDPOINT_URL; run again",
    )


def cause(error: Exception) -> str:
    """What the server said, in a line: without markup and how the client came to it."""
    said = str(error).partition("\n\nDebug source")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", said).split())[:400]


class _Ranges(io.RawIOBase):
    """A file of which only those bytes are fetched that are read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._store, self._key = store_of(path)
        with reaching(path):
            self._size = self._store.head(self._key)["size"]
        self._at = self._start = 0
        self._block = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        first, last = self._at, min(self._at + len(view), self._size)
        if first >= last:
            return 0
        if first < self._start or last > self._start + len(self._block):
            end = min(max(last, first + AHEAD), self._size)
            with reaching(self._path):
                got = self._store.get_range(self._key, start=first, end=end)
            self._start, self._block = first, memoryview(got)
        view[: last - first] = self._block[first - self._start : last - self._start]
        self._at = last
        return last - first


@contextmanager
def open_remote(path: str) -> Iterator[BinaryIO]:
    """The bytes of one file; parts are fetched when they are read."""
    with _Ranges(path) as opened:
        yield cast("BinaryIO", opened)


def read_remote(path: str) -> bytes:
    """All bytes of a small file."""
    store, key = store_of(path)
    with reaching(path):
        return bytes(store.get(key).bytes())


def list_remote(pattern: str) -> list[str]:
    """URIs that fit a pattern (`*`, `?`, `[…]`, `**` for folders), or lie in a folder; sorted.

    A Zarr store is a folder that is not looked into. Of a web server, folders are those that it
    lists as a page with links.
    """
    store, path = store_of(pattern)
    root = "/".join(pattern.split("/", 3)[:3])
    parts = [part for part in path.split("/") if part]
    if not MAGIC & set(path) or parts[-1] == "**":
        parts.append("*")
    entries = functools.cache(lambda folder: _entries(store, root, folder))
    with reaching(pattern):
        return sorted({f"{root}/{found}" for found in _fitting(entries, "", parts)})


def _fitting(entries: Entries, folder: str, parts: list[str]) -> Iterator[str]:
    """Paths of files and folders below `folder` that fit `parts`, a pattern per level."""
    head, *rest = parts
    inside = f"{folder}/" if folder else ""
    if rest and not MAGIC & set(head):
        yield from _fitting(entries, inside + head, rest)
        return
    folders, files = entries(folder)
    if head == "**":
        yield from _fitting(entries, folder, rest)
        for name in folders:
            if not name.endswith(".zarr"):
                yield from _fitting(entries, inside + name, parts)
        return
    for name in fnmatch.filter(folders if rest else folders + files, head):
        if rest:
            yield from _fitting(entries, inside + name, rest)
        elif not name.startswith("."):
            yield inside + name


def _entries(store: S3Store | HTTPStore, root: str, folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder."""
    from obstore.store import S3Store

    if isinstance(store, S3Store):
        listed = store.list_with_delimiter(folder or None)
        paths = listed["common_prefixes"], [entry["path"] for entry in listed["objects"]]
        folders, files = ([path.rstrip("/").rsplit("/", 1)[-1] for path in part] for part in paths)
        return folders, files
    here = "/".join([root, *([quote(folder)] if folder else []), ""])
    page = bytes(store.get(folder).bytes()).decode("utf-8", "replace")
    links = re.findall(r"""href\s*=\s*["']?([^"'\s>]+)""", page, re.IGNORECASE)
    found = {urljoin(here, html.unescape(link)) for link in links}
    names = [unquote(link.removeprefix(here)) for link in found if link.startswith(here)]
    return (
        [name[:-1] for name in names if name.endswith("/") and name.count("/") == 1],
        [name for name in names if name and "/" not in name],
    )
