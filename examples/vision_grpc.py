"""Classify and read a picture by gRPC.

`pip install '.[client]'`, then `python examples/vision_grpc.py FILE [host:port]`.
"""

import sys
from pathlib import Path

import grpc
from flotilla.vision.v1 import vision_pb2 as pb
from flotilla.vision.v1 import vision_pb2_grpc

channel = grpc.insecure_channel(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8001")
service = vision_pb2_grpc.VisionServiceStub(channel)
image = pb.Image(data=Path(sys.argv[1]).read_bytes())
classes = service.Classify(pb.ClassifyRequest(images=[image], top_k=3), timeout=30).results[0]
print(f"{classes.image.width} x {classes.image.height} pixels")
for found in classes.classifications:
    print(f"{found.score:.2f} {found.label}")
for line in service.ReadText(pb.ReadTextRequest(images=[image]), timeout=30).results[0].lines:
    print(line.text)
