"""Files behind a URI, by fsspec: `s3://bucket/plate/*.tif`, `https://host/plate/P_B02_s1.tif`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from vae_sci.errors import InputError, StorageError, VaeSciError


def is_uri(path: str) -> bool:
    """Whether `path` names another machine's file."""
    return "://" in path


def missing_extra(path: str, error: ImportError) -> InputError:
    """The error to raise where the package that reaches `path` is not installed."""
    return InputError(
        required=f"the package that reads {path.split('://')[0]}://",
        found=f"{path}: {error}",
        action="pip install 'vae_sci[remote]'",
    )


@contextmanager
def reaching(path: str) -> Iterator[None]:
    """A failure to reach `path` in the block is told as an error of ours, naming it."""
    try:
        yield
    except VaeSciError:
        raise
    except ImportError as error:
        raise missing_extra(path, error) from None
    except FileNotFoundError as error:
        raise InputError(
            required=f"to read {path}", found=f"{path}: no such file", action="check the URI"
        ) from error
    except ValueError as error:
        raise InputError(
            required="a URI such as s3://bucket/plate or https://host/plate.zarr",
            found=f"{path}: {error}",
            action="correct the URI",
        ) from error
    except Exception as error:  # every protocol has errors of its own
        raise StorageError(
            required=f"to read {path}",
            found=f"{type(error).__name__}: {error}",
            action="see to the network and the permissions, and run again",
        ) from error


@contextmanager
def open_remote(path: str) -> Iterator[BinaryIO]:
    """The bytes of one file; parts are fetched when they are read."""
    import fsspec

    with reaching(path):
        opened = fsspec.open(path, "rb").open()
    try:
        yield opened
    finally:
        opened.close()


def list_remote(pattern: str) -> list[str]:
    """URIs that fit a pattern, or that lie in a folder; sorted."""
    import fsspec

    with reaching(pattern):
        system, path = fsspec.core.url_to_fs(pattern)
        magic = any(sign in path for sign in "*?[")
        found = system.glob(path) if magic else system.ls(path, detail=False)
        return sorted(str(system.unstrip_protocol(name)) for name in found)
