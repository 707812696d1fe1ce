"""The repository keeps its own promises: directions, generated files, equal dependencies."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vae_sci"
# A room imports only rooms above it. The first two lines are open to all.
ORDER = [
    "errors algorithms memory progress",
    "files",
    "config",
    "contracts",
    "simulate",
    "images",
    "tiles",
    "likelihoods",
    "model",
    "training",
    "embedding",
    "phenotypes",
    "diagnostics",
    "report",
    "query",
    "results",
    "cli",
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms.split()}


def room_imports(path: Path) -> set[str]:
    """Rooms of this package that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vae_sci"):
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            rooms |= {parts[1] for parts in names if parts[0] == "vae_sci" and len(parts) > 1}
    return rooms


def test_data_goes_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in RANK:
            continue
        for other in room_imports(path):
            if other != room and other in RANK and RANK[other] >= RANK[room]:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_every_room_has_its_place_in_the_order():
    rooms = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if not p.name.startswith("__")}
    assert rooms == set(RANK)


def test_the_package_knows_nothing_of_snakemake():
    assert not [p for p in PACKAGE.rglob("*.py") if re.search(r"import snakemake", p.read_text())]


def test_generated_files_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stale = [str(path) for path, text in module.everything().items() if path.read_text() != text]
    assert not stale, "run: python docs/generate.py"


def test_constraints_pin_every_dependency():
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["dev"]
    wanted = {re.match(r"[\w.-]+", line).group().lower() for line in required}
    assert wanted <= pinned


def test_environment_yml_names_every_dependency():
    names = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(names) == len(project["dependencies"]) + 2  # with python and pip


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['vae-sci', '--help']\n"
        "from vae_sci.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'zarr', 'duckdb', 'matplotlib', 'pydantic'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


def test_a_mistake_on_the_command_line_prints_no_traceback(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "vae_sci", "embed", "--plate", "P", "--results", "nowhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in ("required:", "found:", "to do:"))
