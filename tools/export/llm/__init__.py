"""Export of Llama-family language models for OpenVINO GenAI, without torch."""
