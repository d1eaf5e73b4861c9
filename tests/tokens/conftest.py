"""Lets tests, and the processes that they start, import the fakes beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte of the store of `embed_fakes.run` that nothing interrupted."""
    import embed_fakes

    path = tmp_path_factory.mktemp("reference") / "fake.tokens.zarr"
    embed_fakes.run(str(path))
    return embed_fakes.files(path)
