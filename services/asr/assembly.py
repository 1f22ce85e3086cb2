"""The service's parts put together: recognisers proved and warmed up, batchers, recognitions."""

import sys

from services.asr.instruments import Instruments
from services.asr.meter import Meter
from services.asr.model import Reading, Recogniser, Window
from services.asr.options import ServedModel
from services.asr.recognition import Recognition
from services.asr.repository import SELFTEST, VOCABULARY
from services.asr.selftest import SelfTest
from services.asr.settings import AsrSettings
from services.asr.vocabulary import Vocabulary
from services.common.batcher import Batcher, BatchInstruments, BatchLimits
from services.common.manifest import Model
from services.common.model_store import ModelStore
from services.common.profiles import profile_of
from services.common.server import StartupError
from services.common.service import Parts


class Assembly:
    """Builds what serves from the parts that every service has."""

    def __init__(self, settings: AsrSettings, parts: Parts, store: ModelStore) -> None:
        self._settings, self._parts, self._store = settings, parts, store
        self._meter = Meter(parts.load)
        self._batches = BatchInstruments(parts.telemetry)
        self.instruments = Instruments(parts.telemetry)

    async def recognition(self, model: Model) -> Recognition:
        """Return a model at work, proved on known speech. Raises StartupError when it does not read it."""
        assert model.asr is not None  # noqa: S101  # the manifest checks it
        recogniser = Recogniser(
            self._parts.triton, self._parts.configs[model.triton_name], self._settings.batch_timeout_seconds
        )
        batcher = self._batcher(recogniser)
        await _prove(batcher, recogniser.name, self._selftest(model))
        vocabulary = Vocabulary(self._store.artifact(model.id, VOCABULARY), model.asr.multilingual)
        served = ServedModel(
            model.id,
            vocabulary.languages,
            model.asr.multilingual,
            recogniser.name,
            model.license,
            profile_of(self._parts.configs[recogniser.name]),
        )
        return Recognition(served, batcher, vocabulary, self._settings.beam_size, self.instruments)

    def _batcher(self, recogniser: Recogniser) -> Batcher[Window, Reading]:
        async def read(windows: list[Window]) -> list[Reading]:
            with self._meter.working():
                return await recogniser.read(windows)

        items = min(self._settings.max_batch_items, recogniser.max_batch)
        limits = BatchLimits(items, sys.maxsize, recogniser.instances)
        return Batcher(read, limits, self._meter, self._batches, recogniser.name)

    def _selftest(self, model: Model) -> SelfTest:
        try:
            return SelfTest.read(self._store.artifact(model.id, SELFTEST))
        except ValueError as error:
            raise StartupError(f"{SELFTEST} of '{model.id}': {error}") from None


async def _prove(batcher: Batcher[Window, Reading], name: str, test: SelfTest) -> None:
    """Read the known window through the batcher, which tells the load a first measure."""
    window = Window(test.mel, test.frames, test.prompt, word_times=True)
    asked = (
        [window] if test.language < 0 else [window, Window(test.mel, test.frames, test.prompt, detect_language=True)]
    )
    readings = await batcher.submit(asked, [test.mel.shape[1]] * len(asked))
    read, detected = readings[0], readings[-1]
    if fault := test.fault(read.texts[0], read.scores[0], read.token_times, detected.languages):
        raise StartupError(f"self-test: '{name}' does not read what the original does: {fault}")
