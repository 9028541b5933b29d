"""The payment gateway, simulated: an honest one takes its time."""

import time
from decimal import Decimal


class Declined(Exception):
    """The bank said no."""


class Gateway:
    def __init__(self, latency=0.2, limit=Decimal(500)):
        self.latency = latency
        self.limit = limit
        self.charged = []

    def charge(self, reference, amount):
        time.sleep(self.latency)
        if amount > self.limit:
            raise Declined(f"{amount} is above the limit of {self.limit}")
        self.charged.append((reference, amount))
