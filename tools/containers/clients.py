"""The real clients, against a fleet in containers, from outside."""

from collections.abc import Callable, Sequence

import httpx
from openai import OpenAI

from tools.cli.console import Problem, console
from tools.containers.load import REQUESTS, SPEECH

SECONDS = 120.0


def try_clients(url: str, modalities: Sequence[str]) -> None:
    """Ask every modality something with a known answer. Raises Problem where it is wrong."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        for modality in modalities:
            said = CLIENTS[modality](client, url)
            console.print(f"  {modality}: {said}", markup=False)


def _embedding(client: OpenAI, _url: str) -> str:
    texts = ["A fleet of small ships", "Many little boats", "The price of cheese"]
    first, near, far = (item.embedding for item in client.embeddings.create(model="all-minilm-l6-v2", input=texts).data)
    close, apart = _product(first, near), _product(first, far)
    _must(len(first) == 384 and close > apart + 0.2, f"embeddings: {len(first)} numbers, {close:.2f} and {apart:.2f}")
    return f"{len(first)} numbers, similar texts {close:.2f}, others {apart:.2f}"


def _llm(client: OpenAI, _url: str) -> str:
    question = "What is the capital of France?"
    chunks = client.chat.completions.create(
        model="smollm2-135m-instruct",
        temperature=0,
        max_tokens=24,
        stream=True,
        messages=[{"role": "user", "content": question}],
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    _must("Paris" in text, f"the language model says {text!r}")
    return repr(text)


def _asr(client: OpenAI, _url: str) -> str:
    with SPEECH.open("rb") as file:
        text = client.audio.transcriptions.create(model="whisper-base", file=file).text
    _must("country can do for you" in text, f"the transcript is {text!r}")
    return repr(text.strip())


def _vision(_client: OpenAI, url: str) -> str:
    answer = httpx.request(**{**REQUESTS["vision"](), "url": f"{url}/v1/classify"}, timeout=SECONDS, trust_env=False)
    _must(answer.status_code == 200, f"/v1/classify answers {answer.status_code}: {answer.text[:200]}")
    return answer.text[:100]


def _product(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _must(true: bool, said: str) -> None:
    if not true:
        raise Problem(said, "docker compose logs shows what the services say")


CLIENTS: dict[str, Callable[[OpenAI, str], str]] = {
    "llm": _llm,
    "embedding": _embedding,
    "asr": _asr,
    "vision": _vision,
}
