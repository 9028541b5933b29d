"""Views for the client and live-server tests."""

import threading

from django.http import JsonResponse

from .models import Genre

# A live server on an in-memory SQLite database shares one connection between its threads.
_database = threading.Lock()


def genres(request):
    with _database:
        return JsonResponse({"genres": sorted(Genre.objects.values_list("name", flat=True))})


def add_genre(request, name):
    with _database:
        Genre.objects.create(name=name)
    return JsonResponse({"added": name})


async def whoami(request):
    return JsonResponse({"agent": request.headers.get("user-agent", "")})
