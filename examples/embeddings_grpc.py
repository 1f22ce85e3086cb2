"""Embed two texts by gRPC: `pip install '.[client]' numpy`, then `python examples/embeddings_grpc.py [host:port]`."""

import sys

import grpc
import numpy
from flotilla.embedding.v1 import embedding_pb2 as pb
from flotilla.embedding.v1 import embedding_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
service = embedding_pb2_grpc.EmbeddingServiceStub(channel)
texts = ["A fleet of small ships", "Many little boats together"]
answer = service.Embed(pb.EmbedRequest(inputs=[pb.Input(text=text) for text in texts]), timeout=30)
first, second = (numpy.frombuffer(embedding.data, "<f4") for embedding in answer.embeddings)
print(f"{answer.model}: {len(first)} dimensions, cosine {first @ second:.3f}")
