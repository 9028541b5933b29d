import allure


@allure.title("A title")
def test_steps():
    with allure.step("first"):
        allure.attach("text", name="note", attachment_type=allure.attachment_type.TEXT)


def test_fails():
    with allure.step("that fails"):
        raise AssertionError
