import numpy as np

from services.asr.live.track import Track


def test_positions_stay_while_the_beginning_is_forgotten():
    track, samples = Track(), np.arange(1000, dtype=np.float32)
    for start in range(0, 1000, 70):
        track.append(samples[start : start + 70])
    track.forget(333)
    assert (track.first, track.last, len(track)) == (333, 1000, 667)
    np.testing.assert_array_equal(track.read(400, 500), samples[400:500])
    np.testing.assert_array_equal(track.read(0, 340), samples[333:340])
    np.testing.assert_array_equal(track.read(990, 2000), samples[990:])
    assert len(track.read(1000, 1100)) == 0
    track.forget(5000)
    assert len(track) == 0 and track.last == 1000
