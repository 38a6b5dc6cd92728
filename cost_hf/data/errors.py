"""Errors of the data room."""


class DataError(ValueError):
    """Input data fail a check; the message names table, column, row, value and remedy."""
