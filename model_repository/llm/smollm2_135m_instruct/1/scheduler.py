"""The one thread that owns the engine: takes requests in, steps, sends what came, lets cancelled ones go."""

import logging
import os
import threading
import time
from collections import deque

from .counts import Counts
from .prefixes import Prefixes, blocks_for

_log = logging.getLogger("engine")
EXPECTED_NEW_TOKENS = 256
"""For how many new tokens a request reserves KV cache; the engine makes room for longer ones by computing again."""
WAITING_ASKED = 8
"""How many of the waiting requests are asked with each step whether they were cancelled."""
DRAIN_STEPS = 100


class Request:
    """One prompt on its way.

    `stream` has send(ids, logprobs, finish, cached), fail(message), let_go() and is_cancelled().
    """

    def __init__(self, ids, max_new_tokens, options, stream):
        self.ids, self.max_new_tokens, self.options, self.stream = ids, max_new_tokens, options, stream
        self.blocks = blocks_for(len(ids) + min(max_new_tokens, EXPECTED_NEW_TOKENS))
        self.handle = None
        self.resumed = False
        self.cached = 0
        self.answer = []
        self.unsent = ([], [])
        self.sent_at = float("-inf")

    def can_resume(self):
        """Whether another engine could go on with it: a grammar has a state that is lost, and may be the fault."""
        return self.options.grammar is None and not self.resumed


class Scheduler:
    """Runs requests on a pipeline in a thread of its own until it is closed."""

    def __init__(self, build, settings, on_death=lambda: os._exit(1)):
        """`build()` returns a pipeline; it is called again when one is beyond repair.

        `on_death()` is called when the thread cannot go on; Triton's supervisor restarts a process that is gone.
        """
        self._build, self._settings, self._on_death = build, settings, on_death
        self._pipeline = build()
        self._prefixes = Prefixes(settings.kv_blocks)
        self._waiting, self._running = deque(), []
        self._turn = 0
        self._arrivals, self._closed = threading.Condition(), False
        self.counts = Counts()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, request):
        """Take a request in."""
        with self._arrivals:
            self._waiting.append(request)
            self._arrivals.notify()

    def statistics(self):
        """Return the statistics of the contract."""
        running, waiting = list(self._running), len(self._waiting)
        used = sum(blocks_for(len(request.ids) + len(request.answer)) for request in running)
        return self.counts.statistics(len(running), waiting, min(1.0, used / self._settings.kv_blocks))

    def close(self):
        """End the thread after the present step."""
        with self._arrivals:
            self._closed = True
            self._arrivals.notify()
        self._thread.join()

    def _run(self):
        try:
            while self._wait_for_work():
                try:
                    self._work()
                except Exception:
                    _log.exception("a step failed")
                    self._recover()
        except Exception:
            _log.exception("the engine cannot be built anew")
            self._on_death()

    def _wait_for_work(self):
        with self._arrivals:
            while not (self._closed or self._waiting or self._running or self._pipeline.is_busy()):
                self._arrivals.wait()
            return not self._closed

    def _work(self):
        for request in self._asked():
            if self._of(request, request.stream.is_cancelled):
                self._cancel(request)
        self._admit()
        if self._running or self._pipeline.is_busy():
            self._pipeline.step()
            self.counts.steps += 1
            self._deliver()

    def _asked(self):
        """Return who is asked whether it was cancelled: all that run and, in turn, some that wait.

        Asking is a round trip to Triton, 20 to 60 microseconds.
        """
        waiting = list(self._waiting)
        self._turn = (self._turn + WAITING_ASKED) % max(len(waiting), 1)
        return self._running + waiting[self._turn : self._turn + WAITING_ASKED]

    def _admit(self):
        """Hand waiting requests to the engine, in order, while there is room for them; one alone always fits."""
        room = self._settings.kv_blocks - sum(request.blocks for request in self._running)
        while self._waiting and len(self._running) < self._settings.max_running:
            request = self._waiting[0]
            if self._running and request.blocks > room:
                return
            if self._of(request, request.stream.is_cancelled):
                self._cancel(request)
                continue
            self._waiting.popleft()
            room -= request.blocks
            self._start(request)

    def _start(self, request):
        done = len(request.answer)
        try:
            request.handle = self._pipeline.add(
                [*request.ids, *request.answer], request.max_new_tokens - done, request.options
            )
        except Exception as error:
            _log.exception("the engine refused a request")
            self._of(request, request.stream.fail, f"the engine refused the request: {type(error).__name__}")
            return
        if not request.resumed:
            request.cached = self._prefixes.cached_tokens(request.ids)
            self.counts.prompt_tokens += len(request.ids)
            self.counts.cached_prompt_tokens += request.cached
        self._running.append(request)

    def _cancel(self, request):
        self.counts.cancelled += 1
        if request.handle is None:
            self._waiting.remove(request)
        else:
            request.handle.cancel()
            self._running.remove(request)
        self._of(request, request.stream.let_go)

    def _deliver(self):
        now = time.monotonic()
        for request in list(self._running):
            news = request.handle.read()
            if news is None:
                self._running.remove(request)
                self._of(request, request.stream.fail, "the engine gave the request up")
            else:
                self._pass_on(request, *news, now)

    def _pass_on(self, request, ids, logprobs, finish, now):
        if ids and not request.answer:
            self._prefixes.remember(request.ids)  # computed now, so that those who come next find it
        request.answer += ids
        self.counts.generated_tokens += len(ids)
        pending_ids, pending_logprobs = request.unsent
        pending_ids += ids
        pending_logprobs += logprobs
        if finish:
            self._running.remove(request)
            self._prefixes.remember([*request.ids, *request.answer])
        elif not pending_ids or now - request.sent_at < self._hold_seconds():
            return
        request.unsent, request.sent_at = ([], []), now
        self._of(request, request.stream.send, pending_ids, pending_logprobs, finish, request.cached)

    def _hold_seconds(self):
        """Return how long tokens of one stream are collected: each response takes time from all of them."""
        return self._settings.hold_seconds if len(self._running) >= self._settings.hold_from_streams else 0.0

    def _of(self, request, call, *arguments):
        """Call something of one request's stream; a fault of it ends that request and no other."""
        try:
            return call(*arguments)
        except Exception:
            _log.exception("a stream failed")
            if request in self._running:
                self._running.remove(request)
                request.handle.cancel()
            return False

    def _recover(self):
        """Bring the engine back to rest after a failed step, or build it anew.

        Who was in that step goes on once, its tokens so far being part of the prompt, or ends with an error.
        """
        affected, self._running = self._running, []
        self._rest([request.handle for request in affected])
        for request in reversed(affected):
            request.handle = None
            if request.can_resume():
                request.resumed = True
                self._waiting.appendleft(request)
            else:
                self._of(request, request.stream.fail, "the engine failed in this step")

    def _rest(self, handles):
        try:
            for handle in handles:
                handle.cancel()
            for _ in range(DRAIN_STEPS):
                if not self._pipeline.is_busy():
                    return
                self._pipeline.step()
        except Exception:
            _log.exception("the engine does not come to rest")
        self._pipeline = None
        self._prefixes.forget()
        self._pipeline = self._build()
