from accounts.models import Customer
from catalogue.models import Book
from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from . import services
from .basket import Basket


def basket(request):
    current = Basket(request.session)
    return JsonResponse({"copies": current.copies, "count": len(current)})


@require_POST
def add_to_basket(request, slug):
    book = get_object_or_404(Book, slug=slug)
    current = Basket(request.session)
    current.add(book.slug, int(request.POST.get("copies", 1)))
    return JsonResponse({"count": len(current)})


@require_POST
@login_required
def checkout(request):
    customer, _ = Customer.objects.get_or_create(user=request.user)
    current = Basket(request.session)
    try:
        order = services.place(customer, current.copies)
    except (services.OutOfStock, ValueError) as error:
        return JsonResponse({"error": str(error)}, status=409)
    current.clear()
    return JsonResponse({"order": order.pk, "total": str(order.total)}, status=201)
