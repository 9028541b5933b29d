from accounts import views as accounts
from catalogue import views as catalogue
from django.contrib.auth import views as auth
from django.urls import path
from orders import views as orders

urlpatterns = [
    path("", catalogue.book_list, name="book-list"),
    path("books/<slug:slug>/", catalogue.book_detail, name="book-detail"),
    path("api/search/", catalogue.search, name="search"),
    path("accounts/signup/", accounts.signup, name="signup"),
    path("accounts/login/", auth.LoginView.as_view(template_name="login.html"), name="login"),
    path("accounts/me/", accounts.profile, name="profile"),
    path("basket/", orders.basket, name="basket"),
    path("basket/add/<slug:slug>/", orders.add_to_basket, name="basket-add"),
    path("checkout/", orders.checkout, name="checkout"),
]
