"""Settings are parsed once at the door: what is wrong is named, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from vae_sci.config import (
    Settings,
    TrainingSettings,
    parse,
    read_plates,
    read_settings,
    room_settings,
)
from vae_sci.errors import SettingsError


@pytest.mark.parametrize(
    ("values", "found", "action"),
    [
        ({"traning": {}}, "'traning'", "'training'"),
        ({"training": {"epoch": 3}}, "'training.epoch'", "'epochs'"),
        ({"model": {"decoder": {"skipp": "none"}}}, "'model.decoder.skipp'", "'skip'"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(values, found, action):
    with pytest.raises(SettingsError) as error:
        parse(Settings, values, "my.yaml")
    assert found in error.value.found
    assert "my.yaml" in error.value.found
    assert action in error.value.action


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"epochs": 0}},
        {"training": {"epochs": "many"}},
        {"model": {"decoder": {"skip": "unet"}}},
        {"tiles": {"split": {"train": 0.5, "validation": 0.1, "test": 0.1}}},
        {"model": {"widths": []}},
    ],
)
def test_wrong_value_is_refused(values):
    with pytest.raises(SettingsError):
        parse(Settings, values, "my.yaml")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 3


def test_room_settings_from_json_from_a_file_and_by_default(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("training: {epochs: 7}\n")
    assert room_settings(str(path), "training", TrainingSettings).epochs == 7
    assert room_settings('{"epochs": 8}', "training", TrainingSettings).epochs == 8
    assert room_settings(None, "training", TrainingSettings) == TrainingSettings()
    with pytest.raises(SettingsError):
        room_settings("{epochs: 8", "training", TrainingSettings)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        read_settings(path)


def test_plates_are_read_with_renames_and_defaults(tmp_path: Path):
    path = tmp_path / "plates.tsv"
    path.write_text("plate\tkind\ttable\tcolumns\nP1\ttiles\tcells.csv\tcompound:treatment\n")
    (row,) = read_plates(path)
    assert (row.plate, row.kind, row.batch) == ("P1", "tiles", "screen")
    assert row.columns == {"compound": "treatment"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plate\timages\tplatemap\nP1\ta\tb\nP1\ta\tb\n", "P1"),
        ("plate\timages\nP1\ta\n", "row 1"),
        ("plate\timages\tplatemaps\nP1\ta\tb\n", "platemaps"),
        ("plate\tkind\ttable\tcolumns\nP1\ttiles\tt.csv\tx->y\n", "x->y"),
        ("plate\timages\tplatemap\n", "no row"),
    ],
)
def test_a_bad_table_of_plates_names_row_and_value(tmp_path: Path, text: str, found: str):
    path = tmp_path / "plates.tsv"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        read_plates(path)
    assert found in error.value.found


def test_a_variant_differs_where_it_says_and_nowhere_else():
    settings = Settings.model_validate(
        {
            "model": {"latent_dim": 8, "decoder": {"skip_channels": [2]}},
            "training": {"epochs": 3},
            "models": {"plain": {"model": {"decoder": {"skip": "none"}}, "training": {"beta": 2}}},
        }
    )
    models = settings.all_models()
    assert list(models) == ["vae", "plain"]
    model, training = models["plain"]
    assert (model.name, model.latent_dim, training.epochs, training.beta) == ("plain", 8, 3, 2)
    assert model.decoder.skip == "none"
    assert model.decoder.skip_channels == (2,)
    assert models["vae"] == (settings.model, settings.training)


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ({"a": {"model": {"latent_dims": 3}}}, "latent_dim'"),
        ({"a": {"training": {"epochs": 0}}}, "models.a.training"),
        ({"vae": {}}, "vae"),
        ({"a b": {}}, "models.a b.model"),
    ],
)
def test_a_wrong_variant_is_named(variants, says):
    with pytest.raises(SettingsError) as error:
        Settings.model_validate({"models": variants}).all_models()
    assert says in str(error.value)
