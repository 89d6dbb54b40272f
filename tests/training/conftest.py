"""Trainings of a few steps: each traces its graphs and hardly runs them."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _graphs(plain_graphs: None) -> None:
    """Those of all tests here are plain."""
