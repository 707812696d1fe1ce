"""Plates behind a URI: an S3 server on this machine (moto, which checks signatures), HTTP.

The server lives in an environment of its own (`tests/s3.txt`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from obstore.store import S3Store

from vae_sci.config import ImagesSettings, PlateRow, TilesSettings
from vae_sci.contracts import FIELDS, MEASURED_CELLS
from vae_sci.errors import InputError, VaeSciError
from vae_sci.images.index import index_plate
from vae_sci.images.read import open_image, read_field, read_planes
from vae_sci.images.remote import list_remote
from vae_sci.images.watch import digest
from vae_sci.simulate.recipe import read_recipe
from vae_sci.simulate.screen import simulate_plate
from vae_sci.tiles.make import make_tiles

ROOT = Path(__file__).parents[2]
CHANNELS = ImagesSettings(channels={"1": "nucleus", "2": "mitochondria", "3": "fibres"})
rng = np.random.default_rng(5)

# Serves S3 with one bucket and one user, and writes a line for every answer.
SERVER = """
import json, sys, threading
import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
app = DomainDispatcherApplication(create_backend_app)
log = open(sys.argv[1], "a")
def logged(environ, start):
    status = []
    def begin(*arguments):
        status.append(arguments[0])
        return start(*arguments)
    body = b"".join(app(environ, begin))
    signed = "HTTP_AUTHORIZATION" in environ
    line = [environ["REQUEST_METHOD"], environ["PATH_INFO"], status[-1], len(body), signed]
    print(json.dumps(line), file=log, flush=True)
    return [body]
server = make_server("127.0.0.1", 0, logged, threaded=True)
threading.Thread(target=server.serve_forever).start()
access = {"endpoint_url": f"http://127.0.0.1:{server.port}", "region_name": "us-east-1",
          "aws_access_key_id": "any", "aws_secret_access_key": "any"}
iam = boto3.client("iam", **access)
iam.create_user(UserName="u")
allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=policy)
key = iam.create_access_key(UserName="u")["AccessKey"]
s3 = boto3.client("s3", **access)
s3.create_bucket(Bucket="plates")
anyone = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:HeadObject"],
          "Resource": "arn:aws:s3:::plates/open/*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
s3.put_bucket_policy(Bucket="plates", Policy=policy)
print(json.dumps([server.port, key["AccessKeyId"], key["SecretAccessKey"]]), flush=True)
"""


@dataclass(frozen=True)
class Bucket:
    """s3://plates on a server of this machine.

    variables : the environment by which programs reach it. store : to write into it.
    """

    endpoint: str
    variables: dict[str, str]
    store: S3Store
    log: Path

    def ask_for_signatures(self, asked: bool) -> None:
        """Whether requests have to be signed by the one user."""
        told, kind = b"0" if asked else b"inf", {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", told, kind)
        urllib.request.urlopen(request, timeout=30).close()

    def put(self, folder: Path, under: str) -> None:
        """All files of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.store.put(f"{under}/{path.relative_to(folder)}", path.read_bytes())

    def sent(self) -> pd.DataFrame:
        """What the server has answered: method, path, status, bytes, signed."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return pd.DataFrame(lines, columns=["method", "path", "status", "bytes", "signed"])


@pytest.fixture(scope="module")
def bucket(
    environment: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bucket]:
    python = environment(ROOT / "tests" / "s3.txt")
    log = tmp_path_factory.mktemp("s3") / "requests.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        server = subprocess.Popen(
            [python, "-c", SERVER, log],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            port, key, secret = json.loads(server.stdout.readline())
            endpoint = f"http://127.0.0.1:{port}"
            variables = {
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": key,
                "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_REGION": "us-east-1",
            }
            for name, value in variables.items():
                patch.setenv(name, value)
            store = S3Store("plates", client_options={"allow_http": True})
            bucket = Bucket(endpoint, variables, store, log)
            bucket.ask_for_signatures(True)
            yield bucket
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def index(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    (tmp_path / "map.csv").write_text("well,control\nB02,1\nB03,0\n")

    def run(images: str, **settings: Any) -> pd.DataFrame:
        row = PlateRow(plate="P", images=images, platemap=str(tmp_path / "map.csv"))
        index_plate(row, ImagesSettings(**settings), tmp_path / "fields.parquet")
        assert len(digest(row)) == 32
        return FIELDS.read(tmp_path / "fields.parquet")

    return run


@pytest.fixture
def tiffs(tmp_path: Path) -> dict[str, np.ndarray]:
    """Images of two wells, (2, 40, 50), by their file in `tmp_path`/raw."""
    images = {}
    (tmp_path / "raw").mkdir()
    for well in ("B02", "B03"):
        name = f"P #1_{well}_s1.tif"
        images[name] = rng.integers(0, 4000, (2, 40, 50)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "raw" / name, images[name], photometric="minisblack")
    (tmp_path / "raw" / "._P #1_B02_s1.tif").write_bytes(b"left by a file manager")
    (tmp_path / "raw" / "notes.txt").write_bytes(b"")
    return images


@pytest.mark.slow
def test_tiff_files_by_folder_and_by_pattern(
    tmp_path: Path,
    bucket: Bucket,
    index: Callable[..., pd.DataFrame],
    tiffs: dict[str, np.ndarray],
) -> None:
    bucket.put(tmp_path / "raw", "screen/day1/raw")
    expected = [f"s3://plates/screen/day1/raw/{name}" for name in tiffs]
    for where in ("day1/raw", "day1/raw/", "day1/raw/P*_B0[23]_s?.tif", "**/*.tif", "*/*/*"):
        table = index(f"s3://plates/screen/{where}")
        assert list(table["path"].unique()) == expected
        for path, name in zip(expected, tiffs, strict=True):
            np.testing.assert_array_equal(read_field(table[table["path"] == path]), tiffs[name])
    assert index("s3://plates/screen/**/*B02*.tif")["path"].nunique() == 1


@pytest.mark.slow
def test_a_loaddata_table_and_the_images_it_lists(
    tmp_path: Path,
    bucket: Bucket,
    index: Callable[..., pd.DataFrame],
    tiffs: dict[str, np.ndarray],
) -> None:
    first, second = tiffs
    bucket.put(tmp_path / "raw", "listed/images")
    rows = [
        "Metadata_Well,FileName_dna,PathName_dna,Frame_dna",
        f"B02,{first},images,1",
        f"B03,{second},s3://plates/listed/images,0",
    ]
    bucket.store.put("listed/load_data.csv", "\n".join(rows).encode())
    table = index("s3://plates/listed/load_data.csv")
    assert list(table["path"]) == [f"s3://plates/listed/images/{name}" for name in tiffs]
    np.testing.assert_array_equal(read_field(table[:1])[0], tiffs[first][1])
    np.testing.assert_array_equal(read_field(table[1:])[0], tiffs[second][0])


@pytest.mark.slow
@pytest.mark.parametrize(("version", "zarr_format"), [("0.4", 2), ("0.5", 3)])
def test_an_omezarr_plate(
    tmp_path: Path,
    bucket: Bucket,
    index: Callable[..., pd.DataFrame],
    version: str,
    zarr_format: Any,
) -> None:
    plate = zarr.create_group(tmp_path / "plate.zarr", zarr_format=zarr_format)

    def annotate(group: zarr.Group, **told: Any) -> None:
        group.attrs.update(told if version == "0.4" else {"ome": {"version": version, **told}})

    rows, columns = [{"name": "B"}], [{"name": "2"}, {"name": "3"}]
    wells = [{"path": f"B/{k + 2}", "rowIndex": 0, "columnIndex": k} for k in (0, 1)]
    annotate(plate, plate={"rows": rows, "columns": columns, "wells": wells})
    images = {}
    for column in (2, 3):
        well = plate.create_group(f"B/{column}")
        annotate(well, well={"images": [{"path": "0"}]})
        field = well.create_group("0")
        image = images[f"B0{column}"] = rng.integers(0, 4000, (2, 3, 40, 50)).astype(np.uint16)
        field.create_array("0", data=image, chunks=(1, 1, 16, 16))
        axes = [{"name": name} for name in "czyx"]
        annotate(field, multiscales=[{"axes": axes, "datasets": [{"path": "0"}]}])
    bucket.put(tmp_path / "plate.zarr", f"{version}/plate.zarr")
    table = index(f"s3://plates/{version}/plate.zarr", z="max")
    assert len(table) == 4
    for well, rows_of_well in table.groupby("well"):
        np.testing.assert_array_equal(read_field(rows_of_well), images[str(well)].max(axis=1))
    # Images of Zarr in a folder are found by a pattern, and the chunks in them are not listed.
    before = len(bucket.sent())
    found = list_remote(f"s3://plates/{version}/**/*.zarr")
    assert found == [f"s3://plates/{version}/plate.zarr"]
    assert len(bucket.sent()) == before + 1


@pytest.mark.slow
def test_a_part_of_an_image_is_a_part_of_its_bytes(tmp_path: Path, bucket: Bucket) -> None:
    image = rng.integers(0, 60000, (2, 1024, 1024)).astype(np.uint16)
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/tiled.tif", image, tile=(128, 128), **options)
    tifffile.imwrite(tmp_path / "raw/strips.tif", image, rowsperstrip=16, **options)
    group = zarr.create_group(tmp_path / "raw/x.zarr")
    group.create_array("0", data=image, chunks=(1, 128, 128), compressors=None)
    axes = [{"name": name} for name in "cyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    bucket.put(tmp_path / "raw", "parts")
    window = (slice(300, 340), slice(200, 300))
    for name, most in (("tiled.tif", 400_000), ("strips.tif", 400_000), ("x.zarr", 150_000)):
        before = len(bucket.sent())
        with open_image(f"s3://plates/parts/{name}") as opened:
            part = opened.plane(0, 1, 0, window)
        np.testing.assert_array_equal(part, image[1][window])
        sent = bucket.sent()[before:]
        assert 8_000 < sent["bytes"].sum() < most, name
        np.testing.assert_array_equal(read_planes(f"s3://plates/parts/{name}").counts, image)


@pytest.mark.slow
def test_a_plate_gives_the_tiles_that_it_gives_on_disk(tmp_path: Path, bucket: Bucket) -> None:
    recipe = read_recipe(ROOT / "resources" / "simulate" / "tiny.yaml")
    simulate_plate(recipe, "tiny1", tmp_path / "tiny1")
    bucket.put(tmp_path / "tiny1" / "images", "tiny1/images")
    made = []
    for images in (str(tmp_path / "tiny1" / "images"), "s3://plates/tiny1/images/*.tif"):
        results = tmp_path / f"results{len(made)}"
        platemap = str(tmp_path / "tiny1" / "platemap.csv")
        row = PlateRow(plate="tiny1", images=images, platemap=platemap)
        fields = results / "images" / "tiny1.parquet"
        index_plate(row, CHANNELS, fields)
        # By two threads at once.
        make_tiles(row, fields, TilesSettings(), CHANNELS, 0, results, threads=2)
        cells = MEASURED_CELLS.read(results / "measured" / "cells" / "tiny1.parquet")
        tiles = zarr.open_group(results / "tiles" / "tiny1.zarr", mode="r")["tiles"]
        assert isinstance(tiles, zarr.Array)
        made.append((FIELDS.read(fields), cells, np.asarray(tiles[...])))
    (fields, cells, tiles), (remote_fields, remote_cells, remote_tiles) = made
    where = ["path", "bytes", "mtime"]
    pd.testing.assert_frame_equal(fields.drop(columns=where), remote_fields.drop(columns=where))
    assert remote_fields["path"].str.startswith("s3://plates/tiny1/images/").all()
    pd.testing.assert_frame_equal(cells, remote_cells)
    assert len(tiles) > 10
    np.testing.assert_array_equal(tiles, remote_tiles)


def run_index(folder: Path, images: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`vae-sci index` of a plate in another process, by these variables of S3 alone."""
    (folder / "map.csv").write_text("well,control\nB02,1\n")
    (folder / "plates.tsv").write_text(f"plate\timages\tplatemap\nP\t{images}\tmap.csv\n")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "vae_sci", "index", "--plate", "P", "--plates", "plates.tsv"],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed as it should has told, in one line."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in ("required:", "found:", "to do:"))
    return " ".join(done.stderr.split())


@pytest.mark.slow
def test_what_is_not_there_is_named(bucket: Bucket, index: Callable[..., pd.DataFrame]) -> None:
    for gone in ("s3://plates/raw/P_B02_s1.tif", "s3://plates/raw/gone.zarr"):
        with pytest.raises(InputError) as raised:
            index(gone)
        assert gone in raised.value.found
        assert "no such" in raised.value.found
    with pytest.raises(InputError, match="none at s3://plates/nowhere"):
        index("s3://plates/nowhere")
    with pytest.raises(InputError, match=r"gone/load_data\.csv.*404"):
        index("s3://plates/gone/load_data.csv")


@pytest.mark.slow
def test_who_may_not_read_is_told(tmp_path: Path, bucket: Bucket, tiffs: Any) -> None:
    bucket.put(tmp_path / "raw", "private")
    wrong = bucket.variables | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    said = told(run_index(tmp_path, "s3://plates/private", **wrong))
    assert "s3://plates/private" in said
    assert "SignatureDoesNotMatch" in said
    assert "AWS_SECRET_ACCESS_KEY" in said
    name = next(iter(tiffs))
    said = told(run_index(tmp_path, f"s3://plates/private/{name}", **wrong))
    assert f"s3://plates/private/{name}" in said
    assert "403" in said
    said = told(run_index(tmp_path, "s3://elsewhere/private", **bucket.variables))
    assert "NoSuchBucket" in said


@pytest.mark.slow
def test_who_gives_no_credentials_reads_what_is_open(
    tmp_path: Path, bucket: Bucket, tiffs: Any
) -> None:
    bucket.put(tmp_path / "raw", "open")
    before = len(bucket.sent())
    bucket.ask_for_signatures(False)
    try:
        endpoint = {"AWS_ENDPOINT_URL": bucket.endpoint}
        done = run_index(tmp_path, "s3://plates/open/*B02*.tif", **endpoint)
        assert done.returncode == 0, done.stderr
        sent = bucket.sent()[before:]
        assert len(sent) > 2
        assert not sent["signed"].any()
        # The same server as any web server with ranges of bytes.
        name = next(iter(tiffs))
        uri = f"{bucket.endpoint}/plates/open/{name.replace(' ', '%20').replace('#', '%23')}"
        np.testing.assert_array_equal(read_planes(uri).counts, tiffs[name])
    finally:
        bucket.ask_for_signatures(True)


def test_a_failure_is_told_when_no_other_request_is_under_way() -> None:
    """Answers that come when Python is ending abort it (SIGABRT in place of exit status 1)."""
    asked, answered = [], []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) > 1:
                time.sleep(1)
            answered.append(self.path)
            self.send_error(403 if len(answered) == 1 else 404)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(VaeSciError, match=r"plate\.zarr"):
            read_planes(f"http://127.0.0.1:{server.server_port}/plate.zarr")
        assert len(asked) > 1
        assert sorted(answered) == sorted(asked)
        server.shutdown()


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_within_a_minute(tmp_path: Path) -> None:
    start = time.monotonic()
    for images in ("s3://plates/raw", "http://127.0.0.1:9/plate.zarr"):
        done = run_index(tmp_path, images, AWS_ENDPOINT_URL="http://127.0.0.1:9")
        assert images in told(done)
        assert "127.0.0.1:9" in done.stderr
    assert time.monotonic() - start < 120


def test_a_folder_of_a_web_server(
    tmp_path: Path, served: str, tiffs: dict[str, np.ndarray]
) -> None:
    (tmp_path / "raw" / "P.zarr").mkdir()
    (tmp_path / "raw" / "P.zarr" / "inside.tif").touch()
    files = [f"{served}/raw/{name}" for name in tiffs]
    assert list_remote(f"{served}/raw/*.tif") == files
    assert list_remote(f"{served}/**/*.tif") == files
    others = [f"{served}/raw/P.zarr", f"{served}/raw/notes.txt"]
    assert list_remote(f"{served}/raw") == sorted([*files, *others])
    with pytest.raises(InputError, match="nowhere: no such file"):
        list_remote(f"{served}/nowhere")


def test_a_protocol_that_is_not_known_is_named() -> None:
    for path in ("nosuch://bucket/x.tif", "s3:///x.tif", "nosuch://bucket/x.zarr"):
        with pytest.raises(InputError, match=path):
            read_planes(path)
