"""A test module that cannot be compiled."""

def broken(:
