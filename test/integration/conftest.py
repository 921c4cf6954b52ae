"""Select the integration tests of the toolkit that `--toolkit` names."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "toolkits(*names): toolkits whose images the test needs; by default all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of other toolkits, so that the summary counts them. Without `--toolkit`, raise `UsageError`.

    When other tests are collected too, a missing `--toolkit` deselects all integration tests instead.
    """
    integration_items = [item for item in items if FOLDER in item.path.parents]
    toolkit = config.getoption("--toolkit")
    if toolkit is None:
        if len(integration_items) == len(items) and not config.getoption("collectonly"):
            raise pytest.UsageError(
                "give the image to test: --toolkit coach, ray or vw, with --docker-base-name and --tag"
            )
        deselected = [] if len(integration_items) == len(items) else integration_items
    else:
        deselected = [item for item in integration_items if not _applies(item, toolkit)]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


def _applies(item: pytest.Item, toolkit: str) -> bool:
    marker = item.get_closest_marker("toolkits")
    return marker is None or toolkit in marker.args
