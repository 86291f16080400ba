"""The views, which both servers run."""

import json

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from project.charging import settle

REPORTS = {1: "sales in January"}


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def report(request: HttpRequest, number: int) -> HttpResponse:
    if number not in REPORTS:
        raise Http404  # Refunded, as all errors are.
    return JsonResponse({"report": REPORTS[number]})


def answer(request: HttpRequest) -> HttpResponse:
    words = ask_model(json.loads(request.body)["question"])
    credits_left = settle(request, len(words))  # A credit a word; the rest goes back.
    return JsonResponse({"answer": words, "credits": credits_left})


def ask_model(question: str) -> list[str]:
    """Stand for a model that is paid by the word."""
    if not question:
        raise RuntimeError("the model has failed")
    return question.upper().split()
