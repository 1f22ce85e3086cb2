"""nvidia.riva.asr.RivaSpeechRecognition in front of flotilla.asr.v1."""
