"""The one thread that owns the engine: takes requests in, steps, sends what came, lets cancelled ones go."""

import logging
import threading
import time
from collections import deque

from .counts import Counts
from .pipeline import blocks_for
from .prefixes import Prefixes

_log = logging.getLogger("engine")
EXPECTED_NEW_TOKENS = 256
"""For how many new tokens a request reserves KV cache; longer answers may make the engine compute some again."""
DRAIN_STEPS = 100


class Request:
    """One prompt on its way. `stream` has send(ids, logprobs, finish, cached), fail(message), let_go() and is_cancelled()."""

    def __init__(self, ids, max_new_tokens, options, stream):
        self.ids, self.max_new_tokens, self.options, self.stream = ids, max_new_tokens, options, stream
        self.blocks = blocks_for(len(ids) + min(max_new_tokens, EXPECTED_NEW_TOKENS))
        self.handle = None
        self.cached = 0
        self.answer = []
        self.unsent = ([], [])
        self.sent_at = 0.0
        self.checked_at = 0.0


class Scheduler:
    """Runs requests on a pipeline in a thread of its own until it is closed."""

    def __init__(self, build, settings):
        """`build()` returns a pipeline; it is called again when one is beyond repair."""
        self._build, self._settings = build, settings
        self._pipeline = build()
        self._prefixes = Prefixes(settings.kv_blocks)
        self._waiting, self._running = deque(), []
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
        while self._wait_for_work():
            try:
                self._drop_cancelled()
                self._admit()
                if self._running:
                    self._pipeline.step()
                    self.counts.steps += 1
                    self._deliver()
            except Exception:
                _log.exception("a step failed")
                self._recover()

    def _wait_for_work(self):
        with self._arrivals:
            while not self._closed and not self._waiting and not self._running:
                self._arrivals.wait()
            return not self._closed

    def _admit(self):
        """Hand waiting requests to the engine, in order, while there is room for them; one always fits."""
        room = self._settings.kv_blocks - sum(request.blocks for request in self._running)
        while self._waiting and len(self._running) < self._settings.max_running:
            request = self._waiting[0]
            if self._running and request.blocks > room:
                return
            self._waiting.popleft()
            room -= request.blocks
            self._start(request)

    def _start(self, request):
        try:
            request.handle = self._pipeline.add(request.ids, request.max_new_tokens, request.options)
        except Exception as error:
            _log.exception("the engine refused a request")
            request.stream.fail(f"the engine refused the request: {type(error).__name__}")
            return
        request.cached = self._prefixes.cached_tokens(request.ids)
        self.counts.prompt_tokens += len(request.ids)
        self.counts.cached_prompt_tokens += request.cached
        self._running.append(request)

    def _drop_cancelled(self):
        """Let go of cancelled requests; asking costs a round trip to Triton, so each is asked now and then."""
        now = time.monotonic()
        for request in [*self._running, *self._waiting]:
            if now - request.checked_at < self._settings.cancel_check_seconds:
                continue
            request.checked_at = now
            if request.stream.is_cancelled():
                self._cancel(request)

    def _cancel(self, request):
        self.counts.cancelled += 1
        if request.handle is None:
            self._waiting.remove(request)
        else:
            request.handle.cancel()
            self._running.remove(request)
        request.stream.let_go()

    def _deliver(self):
        now = time.monotonic()
        for request in list(self._running):
            news = request.handle.read()
            if news is None:
                self._running.remove(request)
                request.stream.fail("the engine gave the request up")
            else:
                self._pass_on(request, *news, now)

    def _pass_on(self, request, ids, logprobs, finish, now):
        if ids and not request.answer:
            self._prefixes.remember(request.ids)
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
        request.stream.send(pending_ids, pending_logprobs, finish, request.cached)

    def _hold_seconds(self):
        """Return how long tokens of one stream are collected: each response costs time that the engine has not."""
        return self._settings.hold_seconds if len(self._running) >= self._settings.hold_from_streams else 0.0

    def _recover(self):
        """End all streams of a failed step with an error and bring the engine back to rest, or build it anew."""
        lost, self._running = self._running, []
        for request in lost:
            request.handle.cancel()
        for request in lost:
            request.stream.fail("the engine failed in this step")
        try:
            for _ in range(DRAIN_STEPS):
                if not self._pipeline.is_busy():
                    return
                self._pipeline.step()
        except Exception:
            _log.exception("the engine does not come to rest")
        self._pipeline = None
        self._prefixes.forget()
        self._pipeline = self._build()
