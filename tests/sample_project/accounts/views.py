from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.shortcuts import redirect, render

from .forms import SignupForm
from .models import Customer


def signup(request):
    form = SignupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("login")
    return render(request, "login.html", {"form": form}, status=400 if form.is_bound else 200)


@login_required
def profile(request):
    customer, _ = Customer.objects.get_or_create(user=request.user)
    return JsonResponse({"name": str(customer), "points": customer.points, "level": customer.level})
