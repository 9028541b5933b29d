"""Celery and kombu: the worker's app, the queues of the runs, and the dispatcher's end of them."""
