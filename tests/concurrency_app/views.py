"""Views with a fault and their sound twins."""

from __future__ import annotations

import threading
import time

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework import serializers, viewsets
from rest_framework.authentication import BaseAuthentication, BasicAuthentication
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from tests.concurrency_app import faults
from tests.concurrency_app.models import Booking

visits = 0
#: A test has several requests within a view at the same time.
together = threading.Barrier(1)


def deposit(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"balance": faults.deposit_read_and_written()})


def deposit_sound(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"balance": faults.deposit_locked()})


async def deposit_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"balance": await sync_to_async(faults.deposit_read_and_written)()})


def book_or_fail(request: HttpRequest) -> HttpResponse:
    with faults.one_at_a_time():
        if not faults.book_if_free():
            raise LookupError("the seat is booked")
    return HttpResponse("booked")


def add_to_cart(request: HttpRequest) -> HttpResponse:
    request.session["cart"] = [*request.session.get("cart", []), request.GET["item"]]
    together.wait(10)
    return HttpResponse("added")


def look_at_cart(request: HttpRequest) -> HttpResponse:
    together.wait(10)
    return HttpResponse(", ".join(request.session.get("cart", [])))


def visit(request: HttpRequest) -> HttpResponse:
    global visits
    together.wait(10)
    visits += 1
    return HttpResponse("seen")


def change_settings(request: HttpRequest) -> HttpResponse:
    settings.SHOP["currency"] = request.GET["currency"]
    return HttpResponse("changed")


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(0.05)
    return HttpResponse("at last")


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


async def plain_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


# -- Django REST framework -------------------------------------------------------------------------


class BookingSerializer(serializers.ModelSerializer[Booking]):
    class Meta:
        model = Booking
        fields = ("id", "seat", "booked_at")

    def validate_seat(self, seat: int) -> int:
        if Booking.objects.filter(seat=seat).exists():
            raise serializers.ValidationError("is booked")
        return seat


class BookingViewSet(viewsets.ModelViewSet[Booking]):
    """Validates that a seat is free, and then books it."""

    queryset = Booking.objects.order_by("id")
    serializer_class = BookingSerializer
    authentication_classes = (BasicAuthentication,)
    permission_classes = (IsAuthenticated,)


class SoundBookingViewSet(BookingViewSet):
    def create(self, request: Request, *args: object, **kwargs: object) -> Response:
        with faults.one_at_a_time():
            return super().create(request, *args, **kwargs)


class RememberingSerializer(serializers.Serializer[dict[str, object]]):
    """Keeps in its class what it validated."""

    name = serializers.CharField()
    names: list[str] = []

    def validate_name(self, name: str) -> str:
        known = list(self.names)
        type(self).names = [*known, name]
        return name


class ForgetfulAuthentication(BaseAuthentication):
    """Keeps the user in its class between two lines."""

    name = ""

    def authenticate(self, request: Request) -> tuple[str, None]:
        type(self).name = request.headers["X-Name"]
        return (type(self).name, None)


class SoundAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[str, None]:
        return (request.headers["X-Name"], None)


@api_view()
@authentication_classes([ForgetfulAuthentication])
@permission_classes([])
def who_am_i(request: Request) -> Response:
    return Response({"name": str(request.user)})


@api_view()
@authentication_classes([SoundAuthentication])
@permission_classes([])
def who_am_i_sound(request: Request) -> Response:
    return Response({"name": str(request.user)})
