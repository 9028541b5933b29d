"""Signing up and logging in, with the real (slow) password hasher."""

from unittest import skipUnless

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import User
from django.test import SimpleTestCase, TestCase

from accounts.models import Customer

PASSWORD = "correct horse battery staple"


class PasswordTests(SimpleTestCase):
    def test_right_password(self):
        self.assertTrue(check_password(PASSWORD, make_password(PASSWORD)))

    def test_wrong_password(self):
        self.assertFalse(check_password("wrong", make_password(PASSWORD)))

    def test_hashes_are_salted(self):
        self.assertNotEqual(make_password(PASSWORD), make_password(PASSWORD))

    def test_no_password(self):
        self.assertFalse(check_password("", make_password(None)))


class SignupTests(TestCase):
    def sign_up(self, **changes):
        fields = {"username": "grace", "email": "grace@example.org", "password1": PASSWORD, "password2": PASSWORD}
        return self.client.post("/accounts/signup/", fields | changes)

    def test_form_is_shown(self):
        self.assertContains(self.client.get("/accounts/signup/"), "password1")

    def test_makes_user_and_customer(self):
        self.assertRedirects(self.sign_up(), "/accounts/login/")
        self.assertEqual(Customer.objects.get().user.email, "grace@example.org")

    def test_password_works(self):
        self.sign_up()
        self.assertEqual(authenticate(username="grace", password=PASSWORD), User.objects.get())

    def test_passwords_differ(self):
        self.assertEqual(self.sign_up(password2="something else").status_code, 400)
        self.assertFalse(User.objects.exists())

    def test_bad_passwords(self):
        for password in ["short", "1234567890"]:
            with self.subTest(password=password):
                self.assertEqual(self.sign_up(password1=password, password2=password).status_code, 400)

    def test_name_is_taken(self):
        User.objects.create(username="grace")
        self.assertContains(self.sign_up(), "already exists", status_code=400)

    @skipUnless("django.contrib.admin" in settings.INSTALLED_APPS, "the shop has no admin site")
    def test_staff_can_see_the_admin_site(self):
        self.assertEqual(self.client.get("/admin/").status_code, 302)


class LoginTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create_user("grace", password=PASSWORD)

    def test_right_password(self):
        answer = self.client.post("/accounts/login/", {"username": "grace", "password": PASSWORD})
        self.assertRedirects(answer, "/", fetch_redirect_response=False)

    def test_wrong_password(self):
        answer = self.client.post("/accounts/login/", {"username": "grace", "password": "wrong"})
        self.assertContains(answer, "Please enter a correct username")

    def test_unknown_user_takes_as_long(self):
        answer = self.client.post("/accounts/login/", {"username": "nobody", "password": PASSWORD})
        self.assertContains(answer, "Please enter a correct username")

    def test_password_change(self):
        self.user.set_password("another long password")
        self.user.save()
        self.assertFalse(self.client.login(username="grace", password=PASSWORD))
        self.assertTrue(self.client.login(username="grace", password="another long password"))

    def test_inactive_user(self):
        User.objects.update(is_active=False)
        self.assertFalse(self.client.login(username="grace", password=PASSWORD))


class ProfileTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create(username="grace", first_name="Grace", last_name="Hopper")

    def test_needs_a_login(self):
        self.assertRedirects(self.client.get("/accounts/me/"), "/accounts/login/?next=/accounts/me/")

    def test_shows_the_customer(self):
        self.client.force_login(self.user)
        self.assertEqual(
            self.client.get("/accounts/me/").json(), {"name": "Grace Hopper", "points": 0, "level": "reader"}
        )

    def test_is_made_once(self):
        self.client.force_login(self.user)
        self.client.get("/accounts/me/")
        self.client.get("/accounts/me/")
        self.assertEqual(Customer.objects.count(), 1)
