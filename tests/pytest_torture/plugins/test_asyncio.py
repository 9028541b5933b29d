import asyncio

import pytest
import pytest_asyncio

loops = []


@pytest_asyncio.fixture
async def answer():
    await asyncio.sleep(0)
    yield 42


@pytest.mark.asyncio
async def test_awaits(answer):
    await asyncio.sleep(0)
    assert answer == 42


@pytest.mark.asyncio
async def test_fails(answer):
    await asyncio.sleep(0)
    assert answer == 43


class TestLoop:
    @pytest.mark.asyncio(loop_scope="class")
    async def test_first(self):
        loops.append(asyncio.get_running_loop())

    @pytest.mark.asyncio(loop_scope="class")
    async def test_same(self):
        assert loops == [asyncio.get_running_loop()]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def connection():
    yield asyncio.get_running_loop()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("number", range(4))
async def test_of_the_session(connection, number):
    assert connection is asyncio.get_running_loop()
