"""A web server for the tests of this room."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # a client past the usual 5 tries again only after a second


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL under which `tmp_path` is served."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
