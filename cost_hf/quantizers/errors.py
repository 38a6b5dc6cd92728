"""The error of codes that carry no information, importable without torch."""


class CodebookCollapse(RuntimeError):
    """Training gave most items the same codes; the message says what to change."""
