from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User

from .models import Customer


class SignupForm(UserCreationForm):
    class Meta(UserCreationForm.Meta):
        model = User
        fields = ["username", "email"]

    def save(self, commit=True):
        user = super().save(commit)
        Customer.objects.create(user=user)
        return user
