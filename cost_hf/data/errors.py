"""Errors of the data room."""


class DataError(ValueError):
    """Input data break a rule; the message names table, column, row, value and remedy."""
