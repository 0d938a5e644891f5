"""Runs of every experiment as they are when nothing goes wrong."""

import pytest
from tests.faults.performed import Undisturbed, prepare


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    prepare(place)
    return Undisturbed(place)
