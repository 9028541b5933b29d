import pytest_html
import pytest


def test_extras(extras):
    extras.append(pytest_html.extras.text("some text", name="Note"))
    extras.append(pytest_html.extras.url("https://shop.example/"))
    extras.append(pytest_html.extras.json({"a": 1}))


def test_fails_with_an_image(extras):
    extras.append(pytest_html.extras.png("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="))
    raise AssertionError
