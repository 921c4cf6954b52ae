"""Which of the integration tests run: those of the toolkit that `--toolkit` names."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "toolkits(*names): the toolkits whose images a test is for; without it, all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, and thereby count, what is for other toolkits. Without `--toolkit` nothing is known of the image."""
    mine = [item for item in items if FOLDER in item.path.parents]
    toolkit = config.getoption("--toolkit")
    if toolkit is None:
        if len(mine) == len(items) and not config.getoption("collectonly"):
            raise pytest.UsageError(
                "say which image to test: --toolkit coach, ray or vw, with --docker-base-name and --tag"
            )
        others = [] if len(mine) == len(items) else mine
    else:
        others = [item for item in mine if not _applies(item, toolkit)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _applies(item: pytest.Item, toolkit: str) -> bool:
    marker = item.get_closest_marker("toolkits")
    return marker is None or toolkit in marker.args
