"""Chat by gRPC, word by word: `pip install '.[client]'`, then `python examples/chat_grpc.py [host:port]`."""

import sys

import grpc
from flotilla.llm.v1 import llm_pb2 as pb
from flotilla.llm.v1 import llm_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
service = llm_pb2_grpc.LlmServiceStub(channel)
request = pb.ChatRequest(
    messages=[
        pb.Message(role=pb.ROLE_SYSTEM, content="Answer in one sentence."),
        pb.Message(role=pb.ROLE_USER, content="What is a flotilla?"),
    ],
    sampling=pb.Sampling(temperature=0, max_tokens=60),
)
for piece in service.Chat(request, timeout=120):
    print(piece.text, end="", flush=True)
    if piece.HasField("usage"):
        print(f"\n{piece.model}: {piece.usage.prompt_tokens} + {piece.usage.completion_tokens} tokens")
