import pytest


class Thing:
    def __repr__(self):
        return "<thing>"


def test_properties(record_property):
    record_property("plain", "text")
    record_property("number", 7)


def test_odd_properties(record_property):
    record_property("thing", Thing())
    record_property("set", {1})


def test_suite_property(record_testsuite_property):
    record_testsuite_property("build", "42")


@pytest.mark.red
def test_attributes_of_a_report(): ...


@pytest.mark.red
def test_attributes_of_a_failed_report():
    raise AssertionError


def test_binary_output(capfdbinary):
    import os

    os.write(1, b"\xff\xfe\x00")
    assert capfdbinary.readouterr().out == b"\xff\xfe\x00"


def test_control_characters():
    print("\x1b[31mred\x1b[0m \x00 \x07 \udc80 \ufffe")
    raise AssertionError("\x1b[31mred \x00")


def test_much_output():
    print("x" * 200_000)
    raise AssertionError


def test_descriptors():
    import os

    os.write(1, b"by descriptor\n")
    os.system("echo by a child")
    raise AssertionError


def test_capture(capsys):
    print("captured")
    assert capsys.readouterr().out == "captured\n"


def test_left_out_by_a_hook():
    assert False, "pytest_runtest_protocol of conftest.py does not run it"


def test_behind_it():
    """Else the next module would find this one not torn down, if it runs in the same process."""
