"""Compilation is what these tests spend their time on, so machine code need not be fast."""

import pytest

from tests.compilation import quick_compilation


@pytest.fixture(autouse=True, scope="module")
def quickly_compiled():
    with quick_compilation():
        yield
