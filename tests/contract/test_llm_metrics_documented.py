"""docs/metrics.md lists exactly the metrics that a running LLM service serves."""

import grpc
import pytest
from flotilla.llm.v1 import llm_pb2 as pb
from flotilla.llm.v1 import llm_pb2_grpc

from tests.contract.test_metrics_documented import documented, read
from tests.integration.llm.calls import collect, completion
from tests.integration.service_process import ServiceProcess
from tests.waiting import until


@pytest.fixture
async def served_by_llm(tmp_path):
    environment = {"FLOTILLA_LLM_ADMISSION_CONCURRENCY": "1", "FLOTILLA_LLM_ADMISSION_QUEUE": "0"}
    async with ServiceProcess(tmp_path, environment, name="llm") as service, service.channel() as channel:
        stub = llm_pb2_grpc.LlmServiceStub(channel)
        call = stub.Generate(completion("Once upon a time", max_tokens=2000, ignore_eos=True))
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError):  # refused: counts a rejection
            await collect(stub.Generate(completion("a")))
        call.cancel()  # counts a cancelled answer and wasted tokens

        async def counted() -> bool:
            return await service.metric("flotilla_llm_cancelled_total") > 0

        await until(counted, "the cancelled answer")
        with pytest.raises(grpc.aio.AioRpcError):  # counts a fault of a grammar
            await collect(stub.Generate(completion("a", pb.OutputFormat(grammar="root ::= foo"))))
        await collect(stub.Generate(completion("a", max_tokens=4, ignore_eos=True)))
        text = (await service.get("/metrics")).text
    return read(text)


async def test_the_table_of_the_llm_service_is_what_is_served(served_by_llm):
    common = documented("Every model service, and the embedding service")
    of_all = {name: row for name, row in common.items() if not name.startswith("flotilla_batch")}
    assert of_all | documented("The LLM service, besides") == served_by_llm
