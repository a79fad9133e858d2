"""Small batches and ranges, so that few images are many of them: for tests of what is shared out."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lrcore import images
from lrcore.backend import Backend

BOX = 32


@pytest.fixture(scope="module", autouse=True)
def many_ranges() -> Iterator[None]:
    """Of whoever imports this; the workers need not know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "RANGE", 1)
        yield


def small(backend: Backend) -> Backend:
    """Sixteen images of BOX a batch."""
    return replace(backend, batch_bytes=16 * 4 * BOX**2)
