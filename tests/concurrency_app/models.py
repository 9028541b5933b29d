"""What the faults work on."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Upper


class Account(models.Model):
    """Number 1 and 2 are there before each check."""

    balance = models.IntegerField(default=0)
    version = models.IntegerField(default=0)


class Booking(models.Model):
    """No constraint says that a seat is booked once."""

    seat = models.IntegerField()
    booked_at = models.DateTimeField(auto_now_add=True)


class Thing(models.Model):
    """Values of many kinds, and a reference, which are put back as they were."""

    account = models.ForeignKey(Account, models.CASCADE, null=True)
    data = models.JSONField(default=dict)
    price = models.DecimalField(max_digits=8, decimal_places=3, default=0)
    made_at = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    took = models.DurationField(null=True)
    raw = models.BinaryField(default=b"")
    token = models.UUIDField(null=True)
    share = models.FloatField(default=0)
    on = models.BooleanField(default=False)
    label = models.CharField(max_length=50, default="")
    loud = models.GeneratedField(
        expression=Upper("label"),
        output_field=models.CharField(max_length=50),
        db_persist=True,
    )
    others = models.ManyToManyField("self")
