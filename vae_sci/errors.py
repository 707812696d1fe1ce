"""Every error a user can meet: what was required, what was found, what to do."""

from __future__ import annotations


class VaeSciError(Exception):
    """An error told in three parts, so that the reader can act on it without a traceback.

    Parameters
    ----------
    required : what the program needed.
    found : what it met instead, naming the file, row, column or cell.
    action : what the user can do about it.
    """

    def __init__(self, *, required: str, found: str, action: str) -> None:
        self.required, self.found, self.action = required, found, action
        super().__init__(f"required: {required}\n   found: {found}\n   to do: {action}")


class SettingsError(VaeSciError):
    """A setting is unknown, of the wrong type or out of range."""


class InputError(VaeSciError):
    """A file given by the user (image, platemap, tile table, recipe) cannot be used as it is."""


class ContractError(VaeSciError):
    """A table or store that passes between rooms lacks what the next room relies on."""


class TrainingError(VaeSciError):
    """Training cannot go on: the loss is not finite, or the data do not fit the model."""


class DiagnosticsError(VaeSciError):
    """A trained model does not reach what the settings ask of it."""


class StorageError(VaeSciError):
    """The machine cannot read or write now: a full or failing disk, no permission, or another run
    that writes there."""


class QueryError(VaeSciError):
    """A query is not a single read-only SELECT over the result tables, or does not parse."""
