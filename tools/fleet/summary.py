"""What is printed once a fleet is ready: its ports, and requests to copy."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from services.common.ports import GATEWAY
from tools.fleet.plan import reachable
from tools.fleet.state import ProcessState

_EMBEDDING = """\
curl http://{http}/v1/embeddings -H 'Content-Type: application/json' \\
  -d '{{"model": "all-minilm-l6-v2", "input": ["A fleet of small ships"]}}'

python - <<'PYTHON'   # pip install openai
from openai import OpenAI
client = OpenAI(base_url="http://{http}/v1", api_key="none")
print(client.embeddings.create(model="all-minilm-l6-v2", input="A fleet of small ships").data[0].embedding[:3])
PYTHON

{python} - <<'PYTHON'   # gRPC: pip install '.[client]'
import grpc, numpy
from flotilla.embedding.v1 import embedding_pb2 as pb, embedding_pb2_grpc
service = embedding_pb2_grpc.EmbeddingServiceStub(grpc.insecure_channel("{grpc}"))
answer = service.Embed(pb.EmbedRequest(inputs=[pb.Input(text="A fleet of small ships")]))
print(numpy.frombuffer(answer.embeddings[0].data, "<f4")[:3])
PYTHON
"""

_LLM = """\
curl http://{http}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{{"model": "smollm2-135m-instruct", "temperature": 0,
       "messages": [{{"role": "user", "content": "Name three ships."}}]}}'

python - <<'PYTHON'   # pip install openai
from openai import OpenAI
client = OpenAI(base_url="http://{http}/v1", api_key="none")
messages = [{{"role": "user", "content": "Name three ships."}}]
for chunk in client.chat.completions.create(model="smollm2-135m-instruct", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
PYTHON

{python} - <<'PYTHON'   # gRPC: pip install '.[client]'
import grpc
from flotilla.llm.v1 import llm_pb2 as pb, llm_pb2_grpc
service = llm_pb2_grpc.LlmServiceStub(grpc.insecure_channel("{grpc}"))
request = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_USER, content="Name three ships.")])
for piece in service.Chat(request):
    print(piece.text, end="", flush=True)
PYTHON
"""

_ASR = """\
# A sentence read aloud; WAV, MP3, OGG, M4A, WebM and others do as well:
curl http://{http}/v1/audio/transcriptions -F model=whisper-base -F file=@tools/export/speech.flac
"""

_VISION = """\
curl http://{http}/v1/classify -F file=@photo.jpg   # also /v1/detect, /v1/faces, /v1/ocr
curl http://{http}/v1/detect -F file=@photo.jpg -F annotate=true -H 'Accept: image/jpeg' -o found.jpg

# No picture at hand? This draws a page to read, as page.png:
{python} -c 'from PIL import Image, ImageDraw, ImageFont as f; p = Image.new("RGB", (640, 120), "white"); \
ImageDraw.Draw(p).text((20, 30), "A fleet of small ships", "black", f.load_default(48)); p.save("page.png")'
curl http://{http}/v1/ocr -F file=@page.png
"""

_GATEWAY = """\
curl http://{http}/v1/models
"""

REQUESTS = {"llm": _LLM, "embedding": _EMBEDDING, "asr": _ASR, "vision": _VISION, GATEWAY.name: _GATEWAY}
"""Requests to copy, by service."""


def print_summary(console: Console, processes: Sequence[ProcessState], python: str) -> None:
    """Print the table of ports and the requests for every process; python is the interpreter that has the stubs."""
    console.print(ports_table(processes))
    gateway = next(process for process in processes if process.name == GATEWAY.name)
    host = reachable(gateway.host)
    for process in processes:
        text = REQUESTS.get(process.name, "")
        filled = text.format(http=f"{host}:{gateway.http_port}", grpc=f"{host}:{gateway.grpc_port}", python=python)
        console.print(filled, markup=False)


def ports_table(processes: Sequence[ProcessState]) -> Table:
    """Return who listens where."""
    table = plain_table("service", "HTTP", "gRPC", "metrics")
    for process in processes:
        host = reachable(process.host)
        metrics = f"{host}:{process.metrics_port or process.http_port}/metrics"
        table.add_row(process.name, f"http://{host}:{process.http_port}", f"{host}:{process.grpc_port}", metrics)
    return table


def plain_table(*headers: str) -> Table:
    """Return an empty table without lines, whose cells stay whole."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, no_wrap=True)
    return table
