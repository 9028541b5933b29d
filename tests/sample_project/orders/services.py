"""Placing, paying, sending and cancelling orders."""

from catalogue.models import Book
from django.core.mail import send_mail
from django.db import transaction

from .models import Line, Order
from .payments import Gateway


class OutOfStock(Exception):
    """Fewer copies are left than were ordered."""


class WrongState(Exception):
    """The order is past that step."""


@transaction.atomic
def place(customer, copies_by_slug):
    if not copies_by_slug:
        raise ValueError("the basket is empty")
    order = Order.objects.create(customer=customer)
    for slug, copies in sorted(copies_by_slug.items()):
        book = Book.objects.select_for_update().get(slug=slug)
        if book.stock < copies:
            raise OutOfStock(f"{book.title}: {copies} ordered, {book.stock} left")
        book.stock -= copies
        book.save(update_fields=["stock"])
        Line.objects.create(order=order, book=book, copies=copies, price=book.price)
    transaction.on_commit(lambda: confirm(order))
    return order


def confirm(order):
    send_mail("Your order", f"Thank you. The total is {order.total}.", None, [order.customer.user.email])


def pay(order, gateway=None):
    _expect(order, Order.State.OPEN)
    (gateway or Gateway()).charge(f"order-{order.pk}", order.total)
    order.customer.earn(order.total)
    _move(order, Order.State.PAID)


def send(order):
    _expect(order, Order.State.PAID)
    _move(order, Order.State.SENT)


@transaction.atomic
def cancel(order):
    _expect(order, Order.State.OPEN)
    for line in order.lines.select_related("book"):
        line.book.stock += line.copies
        line.book.save(update_fields=["stock"])
    _move(order, Order.State.CANCELLED)


def _expect(order, state):
    if order.state != state:
        raise WrongState(f"the order is {order.state}, not {state}")


def _move(order, state):
    order.state = state
    order.save(update_fields=["state"])
