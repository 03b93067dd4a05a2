"""Answer through an endpoint that speaks OpenAI's protocol, from the passages of an index.

python examples/chat_endpoint.py INDEX QUESTION [URL] [MODEL]   (a key: $OPENAI_API_KEY)
"""

import json
import os
import sys
import urllib.request
from collections.abc import Sequence

from retrieval import Searcher


class ChatEndpoint:
    """A generator of `retrieval`: it has ``generate``, and says how much a prompt may hold."""

    room = 8_000  # tokens

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url.rstrip("/"), model

    def generate(self, prompts: Sequence[str]) -> list[str]:
        return [self._chat(prompt) for prompt in prompts]

    def _chat(self, prompt: str) -> str:
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url}/chat/completions", json.dumps(asked).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["choices"][0]["message"]["content"]


def main(
    index: str, question: str, url: str = "http://localhost:8080/v1", model: str = "default"
) -> None:
    answer = Searcher(index).ask(question, generator=ChatEndpoint(url, model))
    print(answer.text or "The passages do not say.")
    for cited in answer.citations:
        print(f"  {cited.id} [{cited.start}:{cited.end}] {cited.quote}")


if __name__ == "__main__":
    main(*sys.argv[1:])
