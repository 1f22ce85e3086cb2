"""`python llamacpp_server.py FILE PORT SLOTS CONTEXT THREADS`: llama.cpp's server. For the peer's environment."""

import signal
import sys

import xllamacpp


def main(file: str, port: int, slots: int, context: int, threads: int) -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # else a thread of the server may get it, and drop it
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.n_parallel, parameters.n_ctx = slots, context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
