from django.http import HttpResponse
from django.urls import path
from library.models import Book

urlpatterns = [path("count/", lambda request: HttpResponse(str(Book.objects.count())))]
