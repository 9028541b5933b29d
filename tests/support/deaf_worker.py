"""A worker's app whose consumer falls silent once.

It cancels its consumption when the first message comes, and says nothing.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps, signals

from dct_celery.bootstrap.worker import make_worker_app

app = make_worker_app()
consumers: list[Any] = []


class Keep(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        consumers.append(parent)


def fall_silent(**_: object) -> None:
    if len(consumers) == 1:
        consumers[0].hub.call_soon(consumers[0].task_consumer.cancel)


app.steps["consumer"].add(Keep)
signals.task_received.connect(fall_silent, weak=False)
