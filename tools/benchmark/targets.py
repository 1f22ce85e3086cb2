"""Who is measured in the benchmark of language models, as tables call them."""

ENGINE, LOOKUP, TRITON, STACK, LLAMACPP, VLLM = (
    "engine alone, in process",
    "engine alone, prompt lookup",
    "Triton directly (gRPC)",
    "whole stack (HTTP, chat)",
    "llama.cpp (HTTP)",
    "vLLM on the CPU (HTTP)",
)
