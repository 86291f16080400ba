"""Stands in for a language model: it streams the words of the prompt, as OpenAI-like APIs do.

In your own app this is a request to the model, whose lines you pass on.
"""

import asyncio
import json
from collections.abc import AsyncIterator

PAUSE_S = 0.01


class ModelError(Exception):
    """The model failed."""


def count_tokens(text: str) -> int:
    """Return how many tokens a text has. In your own app, ask the tokenizer of the model."""
    return len(text.split())


async def complete(prompt: str, max_tokens: int) -> AsyncIterator[str]:
    """Stream the data of events: a token each, then the usage, then the end.

    Raises:
        ModelError: It failed, maybe in the middle.
    """
    tokens = prompt.split()[:max_tokens]
    for token in tokens:
        await asyncio.sleep(PAUSE_S)
        yield json.dumps({"choices": [{"text": f"{token} "}]})
    usage = {"total_tokens": count_tokens(prompt) + len(tokens)}
    yield json.dumps({"choices": [], "usage": usage})
    yield "[DONE]"
