"""One path for each view."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from tests.concurrency_app import views

router = SimpleRouter()
router.register("bookings", views.BookingViewSet, "booking")
router.register("sound-bookings", views.SoundBookingViewSet, "sound-booking")

urlpatterns = [
    *(
        path(f"{name.replace('_', '-')}/", getattr(views, name))
        for name in (
            *(
                "deposit",
                "deposit_sound",
                "deposit_async",
                "book_or_fail",
                "add_to_cart",
                "look_at_cart",
                "visit",
            ),
            *("change_settings", "slow", "fail", "plain", "plain_async"),
            *("who_am_i", "who_am_i_sound"),
        )
    ),
    path("api/", include(router.urls)),
]
