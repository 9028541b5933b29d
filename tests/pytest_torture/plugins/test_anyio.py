import anyio
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def ready():
    await anyio.sleep(0)
    return True


async def test_awaits(ready):
    assert ready


async def test_fails(ready):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    raise AssertionError("with a message")
