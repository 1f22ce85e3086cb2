"""Which grammars the engine can follow: asked of the grammar model once, then remembered by digest."""

import asyncio
import hashlib
from collections import OrderedDict

from services.common.errors import invalid
from services.llm.instruments import Instruments
from services.llm.model import LanguageModel
from services.llm.output_format import Constraint


class Grammars:
    """The checks for one model."""

    def __init__(self, model: LanguageModel, model_id: str, instruments: Instruments, remembered: int) -> None:
        self._model, self._id, self._instruments, self._remembered = model, model_id, instruments, remembered
        self._faults: OrderedDict[bytes, str] = OrderedDict()
        self._one = asyncio.Lock()

    async def check(self, constraint: Constraint) -> None:
        """Raise INVALID_ARGUMENT that names the constraint's field unless the engine can follow its grammar."""
        digest = hashlib.sha256(constraint.grammar.encode()).digest()
        if digest not in self._faults:
            async with self._one:
                if digest not in self._faults:
                    self._faults[digest] = await self._model.grammar_fault(constraint.grammar)
        self._faults.move_to_end(digest)
        fault = self._faults[digest]
        while len(self._faults) > self._remembered:
            self._faults.popitem(last=False)
        if fault:
            self._instruments.grammar_fault(self._id, constraint.field)
            raise invalid(constraint.field, f"{constraint.field}: the engine cannot follow it: {fault}")
