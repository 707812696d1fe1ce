"""Features of the same tiles by others' software, as tables for `benchmarks/cells.py --features`.

    python benchmarks/opponents/make.py [--results DIR] [--model NAME] [--epochs N] [--only NAME]

Runs in the project's own environment, on the results of `make example-bbbc021`. It writes the tiles
to `DIR/opponents/tiles.npz`, sets up the environment of `requirements.txt` in `.venv` beside this
file, and there runs classical.py and autoencoders.py, one after the other, on one thread. Tables
that are there are kept, so that a run that was cut off goes on; delete them to make them again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from vae_sci.errors import StorageError, VaeSciError
from vae_sci.files import publish
from vae_sci.results import Results, open_results

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
SCRIPTS = {
    "classical": ["classical.py"],
    "pythae_vae": ["autoencoders.py", "--model", "vae"],
    "pythae_beta_vae": ["autoencoders.py", "--model", "beta_vae"],
    "pythae_vq_vae": ["autoencoders.py", "--model", "vq_vae"],
}


def set_up() -> Path:
    """Python of the opponents' environment, which is made unless it is there and up to date."""
    python, ready = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "ready"
    wanted = (HERE / "requirements.txt").read_text()
    if not ready.is_file() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([python, *install, "-r", HERE / "requirements.txt"], check=True)
        ready.write_text(wanted)
    return python


def write_tiles(run: Results, path: Path) -> None:
    """All tiles of the run (N, C, H, W), raw grey levels, with cell_id, split and channels."""
    cells = run.cells
    with publish(path) as part, part.open("wb") as file:
        np.savez(
            file,
            tiles=run.tiles(cells),
            cell_id=cells["cell_id"].to_numpy(dtype=str),
            split=cells["split"].to_numpy(dtype=str),
            channels=np.array(run.channels),
        )


def make(name: str, python: Path, folder: Path, epochs: int) -> None:
    """One table, `folder/name.parquet`; what the software says goes to `name.log` beside it."""
    script, *options = SCRIPTS[name]
    if script == "autoencoders.py":
        options += ["--epochs", str(epochs)]
    log = folder / f"{name}.log"
    with publish(folder / f"{name}.parquet") as part, log.open("w") as file:
        command = [python, HERE / script, *options, "--tiles", folder / "tiles.npz", "--out", part]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=file, env=one_thread)
        if done.returncode:
            raise StorageError(
                required=f"{script} to write {name}.parquet",
                found=f"exit status {done.returncode}",
                action=f"read {log}",
            )
    print(name, done.stdout.decode().splitlines()[-1], flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Make the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results/bbbc021"))
    parser.add_argument("--model", default="vae", help="whose cells; their tiles are taken")
    parser.add_argument("--epochs", type=int, default=20, help="of the autoencoders")
    parser.add_argument("--only", choices=SCRIPTS, help="this table alone")
    given = parser.parse_args(arguments)
    folder = given.results / "opponents"
    try:
        run = open_results(given.results, given.model)
        python = set_up()
        folder.mkdir(exist_ok=True)
        if not (folder / "tiles.npz").is_file():
            write_tiles(run, folder / "tiles.npz")
        for name in [given.only] if given.only else SCRIPTS:
            if not (folder / f"{name}.parquet").is_file():
                make(name, python, folder, given.epochs)
    except VaeSciError as error:
        print(error, file=sys.stderr)
        return 1
    tables = sorted(folder.glob("*.parquet"))
    print("benchmarks/cells.py", *(f"--features {path.stem}={path}" for path in tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
