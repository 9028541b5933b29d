from catalog import views
from django.urls import path

urlpatterns = [
    path("genres/", views.genres, name="genres"),
    path("genres/add/<slug:name>/", views.add_genre, name="add-genre"),
    path("whoami/", views.whoami, name="whoami"),
]
