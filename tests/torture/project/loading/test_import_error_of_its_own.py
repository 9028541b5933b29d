"""A test module whose import raises something odd."""


class Odd(Exception):
    def __str__(self):
        return "odd \x00 \ud800 \x1b[31m"


raise Odd
