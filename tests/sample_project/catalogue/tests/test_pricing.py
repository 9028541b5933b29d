from decimal import Decimal

from django.test import SimpleTestCase, override_settings

from catalogue import pricing


class RoundingTests(SimpleTestCase):
    def test_half_goes_up(self):
        self.assertEqual(pricing.round_cents(Decimal("1.005")), Decimal("1.01"))

    def test_below_half_goes_down(self):
        self.assertEqual(pricing.round_cents(Decimal("1.0049")), Decimal("1.00"))

    def test_whole_amounts_get_cents(self):
        self.assertEqual(str(pricing.round_cents(Decimal(3))), "3.00")


class VatTests(SimpleTestCase):
    def test_books_are_taxed_at_seven_percent(self):
        self.assertEqual(pricing.with_vat(Decimal("10.00")), Decimal("10.70"))

    @override_settings(VAT_PERCENT=0)
    def test_no_tax(self):
        self.assertEqual(pricing.with_vat(Decimal("10.00")), Decimal("10.00"))

    @override_settings(VAT_PERCENT=19)
    def test_full_rate(self):
        self.assertEqual(pricing.with_vat(Decimal("9.99")), Decimal("11.89"))

    def test_nothing_stays_nothing(self):
        self.assertEqual(pricing.with_vat(Decimal(0)), Decimal(0))


class DiscountTests(SimpleTestCase):
    def test_steps(self):
        for copies, percent in [(1, 0), (4, 0), (5, 5), (9, 5), (10, 10), (500, 10)]:
            with self.subTest(copies=copies):
                self.assertEqual(pricing.discount_percent(copies), percent)

    def test_no_copies(self):
        with self.assertRaises(ValueError):
            pricing.discount_percent(0)

    def test_line_without_discount(self):
        self.assertEqual(pricing.line_total(Decimal("9.99"), 2), Decimal("19.98"))

    def test_line_with_discount(self):
        self.assertEqual(pricing.line_total(Decimal("10.00"), 5), Decimal("47.50"))

    def test_line_with_the_full_discount(self):
        self.assertEqual(pricing.line_total(Decimal("10.00"), 10), Decimal("90.00"))
