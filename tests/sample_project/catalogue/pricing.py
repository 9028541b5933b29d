"""Prices: value added tax, discounts, rounding to cents."""

from decimal import ROUND_HALF_UP, Decimal

from django.conf import settings

CENT = Decimal("0.01")


def round_cents(amount):
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def with_vat(net):
    return round_cents(net * (100 + settings.VAT_PERCENT) / 100)


def discount_percent(copies):
    """Five percent from five copies, ten from ten."""
    if copies < 1:
        raise ValueError("at least one copy")
    return 10 if copies >= 10 else 5 if copies >= 5 else 0


def line_total(price, copies):
    return round_cents(price * copies * (100 - discount_percent(copies)) / 100)
