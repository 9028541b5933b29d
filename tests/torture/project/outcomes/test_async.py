"""Coroutine tests under Django's wrapper and under IsolatedAsyncioTestCase."""

import asyncio
import unittest

from django.test import SimpleTestCase, TestCase

from catalog.models import Genre


class AsyncSimpleTests(SimpleTestCase):
    async def test_passes(self):
        await asyncio.sleep(0)

    async def test_fails(self):
        await asyncio.sleep(0)
        self.fail("in a coroutine")

    async def test_async_client(self):
        answer = await self.async_client.get("/whoami/")
        self.assertEqual(answer.status_code, 200)

    def test_no_loop_runs(self):
        with self.assertRaises(RuntimeError):
            asyncio.get_running_loop()


class AsyncDatabaseTests(TestCase):
    async def test_1_orm(self):
        await Genre.objects.acreate(name="async")
        self.assertEqual(await Genre.objects.acount(), 4)

    async def test_2_rolled_back(self):
        self.assertEqual(await Genre.objects.acount(), 3)

    async def test_sub_test(self):
        for number in range(2):
            with self.subTest(number=number):
                self.assertEqual(number, 0)

    async def test_skips(self):
        self.skipTest("in a coroutine")


class IsolatedTests(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.event = asyncio.Event()

    async def asyncTearDown(self):
        self.assertTrue(self.event.is_set())

    async def test_passes(self):
        asyncio.get_running_loop().call_soon(self.event.set)
        await self.event.wait()

    async def test_fails_in_tear_down(self):
        await asyncio.sleep(0)

    async def test_errs(self):
        self.event.set()
        raise ValueError("in a coroutine")

    async def test_task_group(self):
        self.event.set()

        async def bad():
            raise ValueError("in a task")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bad())
            tasks.create_task(asyncio.sleep(5))


class BrokenAsyncSetUp(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        raise ValueError("in asyncSetUp")

    async def test_never_runs(self):
        self.fail("it ran")
