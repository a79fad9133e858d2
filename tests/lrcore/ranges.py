"""Small batches and ranges, so that few images are many of them: for tests of what is shared out."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lrcore.compute.backend import Backend
from lrcore.particles import image_stream

BOX = 32


@pytest.fixture(scope="module", autouse=True)
def many_ranges() -> Iterator[None]:
    """Of whoever imports this; the workers need not know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_stream, "RANGE_IMAGES_PER_PIXEL", 1)
        yield


def with_small_batches(backend: Backend) -> Backend:
    """Sixteen images of BOX a batch."""
    return replace(backend, batch_bytes=16 * 4 * BOX**2)
