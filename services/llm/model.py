"""The models in Triton. The only file of the service that knows tensor names, shapes and dtypes.

<name>          the engine, decoupled: continuous batching, paged KV cache, prefix cache
<name>_score    log-probabilities of given tokens and of their alternatives
<name>_grammar  whether the engine can follow a grammar; it runs apart because a bad grammar harms an engine that works
"""

from services.common.contract import Contract, Tensor
from services.common.manifest import Model

INPUT_IDS, OPTIONS = "input_ids", "options"
OUTPUT_IDS, LOGPROBS, STATE, STATISTICS = "output_ids", "logprobs", "state", "statistics"
TOP_IDS, TOP_LOGPROBS = "top_ids", "top_logprobs"
GRAMMAR, FAULT = "grammar", "fault"

MOST_ALTERNATIVES = 20


def contracts(model: Model) -> dict[str, Contract]:
    """Return the contracts by Triton model name. No model has a batch dimension.

    The engine takes a prompt, input_ids [tokens], and options [bytes], UTF-8 JSON with these keys, all of which may be
    left out: max_new_tokens, min_new_tokens, temperature (0 is greedy), top_p, top_k, min_p, frequency_penalty,
    presence_penalty, repetition_penalty, seed, ignore_eos, logprobs (bool), grammar (EBNF). It streams output_ids
    [new tokens], without the token that ended the answer; logprobs [new tokens], natural, of the raw distribution,
    zeros where not asked for; state [finish, cached]: finish 0 while it goes on, 1 when the model ended, 2 when a limit
    did, cached the prompt tokens that came from the prefix cache. A request with no input_ids gets one response with
    the statistics [running, waiting, KV cache in use 0..1, prompt tokens, cached prompt tokens, generated tokens,
    cancelled requests, steps], of which the last five count from the start; the others get statistics [0].

    The scorer takes input_ids [tokens] and returns logprobs [tokens], of each token after those before it (0 for the
    first), and the most likely tokens in its place: top_ids and top_logprobs [tokens, 20], best first.

    The grammar model takes grammar [bytes], EBNF in UTF-8, and returns fault [bytes], UTF-8: what is wrong with it,
    empty when nothing is.
    """
    ids, text = Tensor("INT32", (-1,)), Tensor("UINT8", (-1,))
    per_token = Tensor("FP32", (-1,))
    alternatives = (-1, MOST_ALTERNATIVES)
    return {
        model.triton_name: Contract(
            {INPUT_IDS: ids, OPTIONS: text},
            {OUTPUT_IDS: ids, LOGPROBS: per_token, STATE: Tensor("INT32", (2,)), STATISTICS: per_token},
        ),
        f"{model.triton_name}_score": Contract(
            {INPUT_IDS: ids},
            {
                LOGPROBS: per_token,
                TOP_IDS: Tensor("INT32", alternatives),
                TOP_LOGPROBS: Tensor("FP32", alternatives),
            },
        ),
        f"{model.triton_name}_grammar": Contract({GRAMMAR: text}, {FAULT: text}),
    }
