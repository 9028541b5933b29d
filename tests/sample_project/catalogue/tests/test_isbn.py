import time

from django.core.exceptions import ValidationError
from django.test import SimpleTestCase

from catalogue import isbn
from catalogue.models import validate_isbn


class CheckDigitTests(SimpleTestCase):
    def test_known_numbers(self):
        for number in ["9780306406157", "9780141439471", "9783161484100"]:
            with self.subTest(number=number):
                self.assertEqual(isbn.check_digit(number[:12]), number[12])

    def test_zero(self):
        self.assertEqual(isbn.check_digit("000000000000"), "0")

    def test_every_digit_can_occur(self):
        self.assertEqual({isbn.make(number)[12] for number in range(50)}, set("0123456789"))

    def test_a_changed_digit_is_noticed(self):
        good = "9780306406157"
        for position in range(13):
            with self.subTest(position=position):
                changed = good[:position] + str((int(good[position]) + 1) % 10) + good[position + 1 :]
                self.assertFalse(isbn.is_valid(changed))


class ValidityTests(SimpleTestCase):
    def test_good(self):
        self.assertTrue(isbn.is_valid("9783161484100"))

    def test_too_short(self):
        self.assertFalse(isbn.is_valid("978316148410"))

    def test_letters(self):
        self.assertFalse(isbn.is_valid("97831614841OO"))

    def test_digits_of_another_script(self):
        self.assertFalse(isbn.is_valid("٩٧٨٣١٦١٤٨٤١٠٠"))

    def test_empty(self):
        self.assertFalse(isbn.is_valid(""))

    def test_from_isbn10(self):
        self.assertEqual(isbn.from_isbn10("0306406152"), "9780306406157")

    def test_made_numbers_are_valid(self):
        self.assertTrue(all(isbn.is_valid(isbn.make(number)) for number in range(1000)))

    def test_validator(self):
        with self.assertRaisesMessage(ValidationError, "123 is not a valid ISBN-13."):
            validate_isbn("123")


class RegistryTests(SimpleTestCase):
    """The national registry answers slowly; this stands for it."""

    def look_up(self, number):
        time.sleep(0.25)
        return isbn.is_valid(number)

    def test_known_number(self):
        self.assertTrue(self.look_up("9780306406157"))

    def test_unknown_number(self):
        self.assertFalse(self.look_up("9780306406158"))

    def test_batch(self):
        numbers = [isbn.make(number) for number in range(3)]
        self.assertEqual([self.look_up(number) for number in numbers], [True] * 3)
