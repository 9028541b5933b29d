from decimal import Decimal

from accounts.models import Customer
from catalogue.models import Book
from catalogue.pricing import line_total, with_vat
from django.db import models


class Order(models.Model):
    class State(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        SENT = "sent"
        CANCELLED = "cancelled"

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    placed_at = models.DateTimeField(auto_now_add=True)

    @property
    def net(self):
        return sum((line.total for line in self.lines.all()), Decimal(0))

    @property
    def total(self):
        return with_vat(self.net)


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    book = models.ForeignKey(Book, models.PROTECT)
    copies = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=7, decimal_places=2)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["order", "book"], name="one_line_per_book"),
            models.CheckConstraint(condition=models.Q(copies__gt=0), name="at_least_one_copy"),
        ]

    @property
    def total(self):
        return line_total(self.price, self.copies)
