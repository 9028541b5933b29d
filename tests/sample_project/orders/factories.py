"""Test data: customers with orders."""

from accounts.models import Customer
from django.contrib.auth.models import User

from . import services


def make_customer(name="ada"):
    return Customer.objects.create(user=User.objects.create(username=name, email=f"{name}@example.org"))


def make_order(customer, **copies_by_slug):
    return services.place(customer, {slug.replace("_", "-"): copies for slug, copies in copies_by_slug.items()})
