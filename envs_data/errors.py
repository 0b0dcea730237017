"""Errors of the data room. Every message says what to do next."""


class DataError(Exception):
    """Base of all errors about data files, splits and downloads."""


class GameFileError(DataError):
    """A game file is missing, cut off, malformed or not playable."""


class UnknownSplitError(DataError, KeyError):
    """The split's name is not one of the known ones."""

    __str__ = Exception.__str__


class UnknownTaskError(DataError, KeyError):
    """The task id or task type does not exist in the split."""

    __str__ = Exception.__str__


class DataUnavailableError(DataError):
    """Official data is absent: the message names the variable to set or the command to run."""


class ProductFileError(DataError):
    """A file of products, attributes or instructions is cut off, malformed or not of its schema."""
