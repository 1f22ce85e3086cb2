from flotilla.llm.v1 import llm_pb2 as pb

from services.gateway.response_output import Output

CALL = pb.ToolCallDelta(index=0, id="c1", name="look", arguments="{}")


def test_an_item_ends_where_the_next_begins() -> None:
    output = Output()
    list(output.take(pb.ChatResponse(text="a")))
    kinds = [kind for kind, _ in output.take(pb.ChatResponse(text="b", tool_calls=[CALL]))]
    assert kinds == [
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
    ]
    assert [item["status"] for item in output.body()] == ["completed", "in_progress"]


def test_only_the_last_item_of_a_cut_answer_is_incomplete() -> None:
    output = Output()
    for piece in (
        pb.ChatResponse(text="a"),
        pb.ChatResponse(tool_calls=[CALL]),
        pb.ChatResponse(finish_reason=pb.FINISH_REASON_LENGTH),
    ):
        list(output.take(piece))
    assert [item["status"] for item in output.body()] == ["completed", "incomplete"]


def test_an_answer_without_anything_is_an_empty_message() -> None:
    output = Output()
    events = list(output.take(pb.ChatResponse(finish_reason=pb.FINISH_REASON_STOP)))
    assert len(events) == 5
    (item,) = output.body()
    assert (item["status"], item["content"][0]["text"]) == ("completed", "")


def test_what_fails_leaves_what_grew_incomplete() -> None:
    output = Output()
    list(output.take(pb.ChatResponse(text="a")))
    output.cut()
    (item,) = output.body()
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "a")
