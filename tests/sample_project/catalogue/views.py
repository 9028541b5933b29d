from django.http import JsonResponse
from django.shortcuts import get_object_or_404, render

from .models import Book


def book_list(request):
    return render(request, "catalogue/book_list.html", {"books": Book.objects.select_related("author")})


def book_detail(request, slug):
    return render(request, "catalogue/book_detail.html", {"book": get_object_or_404(Book, slug=slug)})


def search(request):
    text = request.GET.get("q", "").strip()
    if len(text) < 2:
        return JsonResponse({"error": "Please give at least two letters."}, status=400)
    return JsonResponse({"books": list(Book.objects.search(text).values_list("title", flat=True))})
