"""A recipe is checked at the door, and a wrong one says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from vae_sci.errors import InputError
from vae_sci.simulate.recipe import Treatment, read_recipe

RECIPES = Path(__file__).parents[2] / "resources" / "simulate"


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load((RECIPES / "tiny.yaml").read_text())


def write(tmp_path: Path, raw: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_the_recipes_that_come_with_the_package_are_valid_and_frozen() -> None:
    for name in ("screen.yaml", "tiny.yaml"):
        recipe = read_recipe(RECIPES / name)
        with pytest.raises(ValidationError, match="frozen"):
            recipe.seed = 1


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        ("camera", "gian", 1.0, "camera.gian"),
        ("camera", "bits", 40, "camera.bits"),
        ("fields", "size", "large", "fields.size"),
        ("fields", "out_of_focus", 1.5, "fields.out_of_focus"),
        ("layout", "control_wells", 40, "44 wells are needed"),
    ],
)
def test_a_wrong_key_or_value_is_named(
    raw: dict[str, Any], tmp_path: Path, where: str, key: str, value: object, said: str
) -> None:
    raw[where][key] = value
    with pytest.raises(InputError, match=r"recipe\.yaml") as error:
        read_recipe(write(tmp_path, raw))
    assert said in error.value.found


def test_a_missing_key_is_named(raw: dict[str, Any], tmp_path: Path) -> None:
    del raw["optics"]["numerical_aperture"]
    with pytest.raises(InputError, match=r"optics\.numerical_aperture"):
        read_recipe(write(tmp_path, raw))


def test_names_given_twice_are_refused(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["plates"][1]["name"] = "tiny1"
    with pytest.raises(InputError, match="more than once: tiny1"):
        read_recipe(write(tmp_path, raw))


def test_an_active_compound_must_say_how_far_it_goes(raw: dict[str, Any], tmp_path: Path) -> None:
    del raw["treatments"][0]["saturated"]
    with pytest.raises(InputError, match="saturated"):
        read_recipe(write(tmp_path, raw))
    raw["treatments"][0]["saturated"] = 1.2
    with pytest.raises(InputError, match="cannot exceed 1"):
        read_recipe(write(tmp_path, raw))


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", ""])
def test_a_file_that_is_no_recipe_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        read_recipe(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml"):
        read_recipe(tmp_path / "none.yaml")


def test_the_response_is_hills() -> None:
    drug = Treatment(
        name="x", factor="fragmentation", doses=(1,), saturated=1, half_dose=2, hill=1.5
    )
    assert drug.response(2) == pytest.approx(0.5)
    assert drug.response(1e9) == pytest.approx(1)
    assert drug.response(1e-9) == pytest.approx(0, abs=1e-9)
    ratio = drug.response(8) / (1 - drug.response(8))
    assert ratio == pytest.approx(4**1.5)
