"""What live streams are made with."""

from dataclasses import dataclass

from services.asr.live.instruments import LiveInstruments
from services.asr.live.thinning import Thinning
from services.asr.sound.audio import AudioLimits
from services.asr.vad import Vad


@dataclass(frozen=True, slots=True)
class LiveTools:
    """What all live streams of the service share."""

    vad: Vad
    thinning: Thinning
    limits: AudioLimits
    instruments: LiveInstruments
