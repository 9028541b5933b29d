"""ISBN-13: check digits, and the way from ISBN-10."""


def check_digit(first_twelve):
    total = sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(first_twelve))
    return str(-total % 10)


def is_valid(isbn):
    return len(isbn) == 13 and isbn.isascii() and isbn.isdigit() and check_digit(isbn[:12]) == isbn[12]


def from_isbn10(isbn10):
    stem = "978" + isbn10[:9]
    return stem + check_digit(stem)


def make(number):
    """A valid ISBN for any number below a billion."""
    stem = f"978{number:09d}"
    return stem + check_digit(stem)
