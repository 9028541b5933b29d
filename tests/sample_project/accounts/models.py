from django.conf import settings
from django.db import models


class Customer(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE)
    city = models.CharField(max_length=60, blank=True)
    points = models.PositiveIntegerField(default=0)

    def __str__(self):
        return self.user.get_full_name() or self.user.get_username()

    @property
    def level(self):
        return "gold" if self.points >= 1000 else "silver" if self.points >= 250 else "reader"

    def earn(self, amount):
        """One point for each whole unit of money spent."""
        self.points += int(amount)
        self.save(update_fields=["points"])
