"""Experiment trackers (`report_to` of a recipe section): those that transformers knows and that are installed here."""

from collections.abc import Sequence


def require_trackers(names: Sequence[str], field: str) -> None:
    """Raise ValueError for a tracker that transformers does not know, or whose package is not installed.

    Args:
        names: values of `report_to`, such as `["trackio", "wandb"]`.
        field: dotted name of the recipe field, for the message.
    """
    if not names:
        return
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    installed = get_available_reporting_integrations()
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(
                f"{field} takes {', '.join(sorted(INTEGRATION_TO_CALLBACK))}, got {name!r}; leave it empty for none"
            )
        if name not in installed:
            package = name.replace("_", "-")
            raise ValueError(
                f"{field} has {name!r}, and package {package} is not installed; pip install {package}, or leave the "
                "tracker out"
            )
