"""Write what follows from the code: config/config.yaml, the tables in config/README.md and
results/README.md, the schemas and environment.yml. Run after a change of settings, contracts or
dependencies: `python docs/generate.py`; a test tells when it was forgotten.
"""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from vae_sci.config import PlateRow, Settings
from vae_sci.contracts import CONTRACTS

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- begin generated -->", "<!-- end generated -->"
# PyPI name → conda-forge name, where they differ.
CONDA = {
    "duckdb": "python-duckdb",
    "igraph": "python-igraph",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}


def config_yaml() -> str:
    """Every key with its default and a comment."""
    lines = ["# Every setting with its default. config/README.md says more; keys may be left out."]
    lines += _yaml_lines(Settings(), "")
    return "\n".join(lines) + "\n"


def _yaml_lines(model: BaseModel, indent: str) -> list[str]:
    lines = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        comment = textwrap.wrap(
            f"{field.description}", width=96 - len(indent), break_on_hyphens=False
        )
        if isinstance(value, BaseModel):
            lines += ["", *[f"{indent}# {line}" for line in comment], f"{indent}{name}:"]
            lines += _yaml_lines(value, indent + "  ")
        else:
            plain = model.model_dump(mode="json")[name]
            text = yaml.safe_dump(plain, default_flow_style=True).strip().removesuffix("\n...")
            lines += [*[f"{indent}# {line}" for line in comment], f"{indent}{name}: {text}"]
    return lines


def settings_tables() -> str:
    """One table per room, one row per key; then the columns of plates.tsv."""
    parts: list[str] = []

    def walk(model: type[BaseModel], path: str) -> None:
        rows, below = [], []
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                below.append((inner, f"{path}.{name}".lstrip(".")))
                continue
            default = json.dumps(field.get_default(call_default_factory=True), ensure_ascii=False)
            rows.append(f"| `{name}` | `{default}` | {_cell(field.description)} |")
        title = f"### `{path}`" if path else "### top level"
        note = (model.__doc__ or "").strip().splitlines()[0]
        if rows:
            parts.append("\n".join([title, "", note, "", "| key | default | meaning |",
                                    "| --- | --- | --- |", *rows]))  # fmt: skip
        for inner, inner_path in below:
            walk(inner, inner_path)

    walk(Settings, "")
    columns = []
    for name, field in PlateRow.model_fields.items():
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else f"`{default}`" if default else "empty"
        columns.append(f"| `{name}` | {shown} | {_cell(field.description)} |")
    parts.append("\n".join(["## Columns of plates.tsv", "", "| column | default | meaning |",
                            "| --- | --- | --- |", *columns]))  # fmt: skip
    return "\n\n".join(parts)


def contract_tables() -> str:
    """One table per contract, one row per column."""
    parts = []
    for contract in CONTRACTS:
        rows = []
        for column in contract.columns:
            name = f"`{column.name}…`" if column.family else f"`{column.name}`"
            empty = ", may be empty" if column.nullable else ""
            rows.append(f"| {name} | {column.type}{empty} | {_cell(column.meaning)} |")
        key = ", ".join(f"`{name}`" for name in contract.key)
        parts.append("\n".join([f"### `{contract.path}`", "",
                                f"{contract.meaning[0].upper()}{contract.meaning[1:]}. "
                                f"One row per {key}.", "",
                                "| column | type | meaning |", "| --- | --- | --- |",
                                *rows]))  # fmt: skip
    return "\n\n".join(parts)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def between_markers(path: Path, text: str) -> str:
    """The file's content with `text` between its markers."""
    before, rest = path.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def schema(model: type[BaseModel]) -> str:
    """JSON schema for editors that complete and check YAML."""
    described = model.model_json_schema()
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def environment_yml() -> str:
    """The dependencies of pyproject.toml under their conda-forge names."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = []
    for requirement in project["dependencies"]:
        name, bounds = re.match(r"([\w.-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        lines.append(f"  - {CONDA.get(name, name)}{bounds}")
    return "\n".join(
        [
            "# For conda users: the dependencies of pyproject.toml (docs/generate.py writes this).",
            "# conda env create -f environment.yml && conda activate vae_sci",
            "# pip install --no-deps -e .",
            "name: vae_sci",
            "channels:",
            "  - conda-forge",
            "  - bioconda",
            "dependencies:",
            f"  - python{project['requires-python']}",
            "  - pip",
            *lines,
            "",
        ]
    )


def everything() -> dict[Path, str]:
    """Path → content of each generated file."""
    config, results = ROOT / "config/README.md", ROOT / "results/README.md"
    return {
        ROOT / "config/config.yaml": config_yaml(),
        config: between_markers(config, settings_tables()),
        results: between_markers(results, contract_tables()),
        ROOT / "workflow/schemas/config.schema.json": schema(Settings),
        ROOT / "workflow/schemas/plates.schema.json": schema(PlateRow),
        ROOT / "environment.yml": environment_yml(),
    }


if __name__ == "__main__":
    for path, text in everything().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
