"""Which view answers which path."""

from django.urls import path

from project import views

urlpatterns = [
    path("healthz", views.healthz),
    path("reports/<int:number>", views.report),
    path("answers", views.answer),
]
