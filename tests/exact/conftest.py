"""All on one device: any number gives the same bits, and `tests/engine` looks that they do."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def alone(one_device):
    pass
