"""Write down a file by gRPC, segment by segment, with the progress.

`pip install '.[client]'`, then `python examples/transcribe_grpc.py FILE [host:port]`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from flotilla.asr.v1 import asr_pb2 as pb
from flotilla.asr.v1 import asr_pb2_grpc


def requests(path: Path) -> Iterator[pb.TranscribeFileRequest]:
    """Yield the configuration, then the file in pieces."""
    yield pb.TranscribeFileRequest(config=pb.TranscriptionConfig())
    with path.open("rb") as file:
        while piece := file.read(256 * 1024):
            yield pb.TranscribeFileRequest(audio=piece)


channel = grpc.insecure_channel(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8001")
service = asr_pb2_grpc.AsrServiceStub(channel)
for response in service.TranscribeFile(requests(Path(sys.argv[1])), timeout=3600):
    done, total = response.progress.done_seconds, response.progress.total_seconds
    if response.WhichOneof("content") == "segment":
        print(f"{response.segment.start:7.2f} s{response.segment.text}   ({done:.0f} of {total:.0f} s)")
    elif response.WhichOneof("content") == "summary":
        print(f"{response.summary.model}, {response.summary.language}, {response.summary.duration:.1f} s")
