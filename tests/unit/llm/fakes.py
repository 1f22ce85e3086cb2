"""A language model without an engine: byte-level tokens, scripted answers, log-probabilities by formula."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
from flotilla.llm.v1 import llm_pb2 as pb
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from services.common.errors import Kind, ServiceError
from services.common.load import Load
from services.common.manifest import LlmFacts
from services.llm.chat_template import ChatTemplate
from services.llm.engine_statistics import EngineWatch
from services.llm.generation import Generator
from services.llm.grammars import Grammars
from services.llm.instruments import CallRecord
from services.llm.messages import Messages
from services.llm.model import ENDED, LIMITED, Scores, Statistics, Step
from services.llm.plans import Planner
from services.llm.servicer import LlmServicer, Served
from services.llm.tokenizer import TextTokenizer

SPECIALS = ("<|end|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 200
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(folder):
    """A byte-level BPE with a few merges; the special tokens come first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("ð", "Ł"), ("ðŁ", "ĺ")]
    words = [*SPECIALS, *alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIALS])
    path = folder / "tokenizer.json"
    made.save(str(path))
    return TextTokenizer(path, made.get_vocab_size()), made


class FakeModel:
    """Plays `script`: the answer's text, cut into tokens; each option set and prompt is kept."""

    name = "m"
    gives_alternatives = False

    def __init__(self, tokenizer, text="hello world", finish=ENDED):
        self.tokenizer, self.text, self.finish = tokenizer, text, finish
        self.asked, self.scored, self.open, self.grammars = [], [], 0, []
        self.fault = None  # raised after two tokens
        self.hangs = False
        self.statistic = Statistics()
        self.grammar_verdict = ""

    async def generate(self, ids, options, timeout):
        self.asked.append((list(ids), options, timeout))
        self.open += 1
        try:
            answer = self.tokenizer.encode(self.text)[: options["max_new_tokens"]]
            limited = len(answer) == options["max_new_tokens"] or self.finish == LIMITED
            for index, number in enumerate(answer):
                if index == 2 and self.fault:
                    raise self.fault
                if index == 2 and self.hangs:
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                logprobs = [-0.5] if options.get("logprobs") else []
                yield Step([number], logprobs, 0, 3)
            yield Step([], [], LIMITED if limited else ENDED, 3)
        finally:
            self.open -= 1

    async def score(self, ids):
        self.scored.append(len(ids))
        count = len(ids)
        top = np.tile(np.arange(20, dtype=np.int32), (count, 1))
        return Scores(-np.arange(count, dtype=np.float32), top, -np.ones((count, 20), np.float32))

    async def grammar_fault(self, grammar):
        self.grammars.append(grammar)
        return self.grammar_verdict

    async def statistics(self):
        if isinstance(self.statistic, ServiceError):
            raise self.statistic
        return self.statistic


class FakeAdmission:
    def __init__(self):
        self.admitted, self.running, self.full = [], 0, False

    @asynccontextmanager
    async def admit_call(self, cost, context, user=""):
        if self.full:
            raise ServiceError(Kind.OVERLOADED, "full", retry_after=1.0)
        self.admitted.append((cost, user))
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class FakeInstruments:
    """Keeps what is counted."""

    def __init__(self):
        self.counted, self.records = [], []

    def call(self, operation, model):
        from contextlib import contextmanager

        @contextmanager
        def recording():
            self.records.append(CallRecord({"operation": operation}))
            yield self.records[-1]

        return recording()

    def __getattr__(self, name):
        return lambda *values: self.counted.append((name, *values))


class FakeContext:
    def __init__(self, remaining=None):
        self._remaining = remaining

    def time_remaining(self):
        return self._remaining

    def invocation_metadata(self):
        return ()


class Service(LlmServicer):
    """A servicer over fakes."""

    def __init__(self, tokenizer, text="hello world", finish=ENDED, context=CONTEXT):
        facts = LlmFacts(context_length=context, vocabulary_size=tokenizer.vocabulary_size, eos_token_ids=(0,))
        self.model = FakeModel(tokenizer, text, finish)
        self.admission, self.instruments = FakeAdmission(), FakeInstruments()
        self.watch = EngineWatch(self.model, Load(1), 4)
        grammars = Grammars(self.model, "m", self.instruments, 2)
        planner = Planner(facts, tokenizer, ChatTemplate(TEMPLATE, tokenizer, "", "<|im_end|>"), 10_000)
        generator = Generator("m", self.model, tokenizer, self.watch, grammars, self.admission, self.instruments)
        description = pb.Model(id="m", context_length=CONTEXT, vocabulary_size=tokenizer.vocabulary_size)
        super().__init__({"m": Served(description, planner, generator, Messages("m", tokenizer))})

    async def generate(self, context=FakeContext(), **fields):  # noqa: B008
        return [m async for m in self.Generate(pb.GenerateRequest(**fields), context)]

    async def chat(self, text="hi", context=FakeContext(), **fields):  # noqa: B008
        fields.setdefault("messages", [pb.Message(role=pb.ROLE_USER, content=text)])
        return [m async for m in self.Chat(pb.ChatRequest(**fields), context)]


def text_of(messages, index=0):
    return "".join(m.text for m in messages if m.index == index)
