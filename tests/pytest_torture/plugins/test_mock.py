import os

import pytest


def test_patches(mocker):
    mocker.patch("os.getcwd", return_value="/nowhere")
    assert os.getcwd() == "/nowhere"


def test_is_undone():
    assert os.getcwd() != "/nowhere"


def test_compares_calls(mocker):
    stub = mocker.stub(name="stub")
    stub(1, two=2)
    stub.assert_called_once_with(1, two=3)


@pytest.fixture(scope="module", autouse=True)
def patched(module_mocker):
    module_mocker.patch("os.sep", "|")


def test_for_the_module():
    assert os.sep == "|"
