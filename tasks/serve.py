"""Serves SavedModels as TensorFlow Serving does, without Docker, on any Linux or Mac.

    python -m tasks.serve --model_name reviews --model_base_path saved_models/reviews
    curl -d '{"instances": ["Works as promised"]}' localhost:8501/v1/models/reviews:predict

The flags are those of `tensorflow_model_server`. http://localhost:8501/ is a playground.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from tasks.engine.errors import UsageError, one_line
from tasks.engine.quiet import quiet_imports
from tasks.serving.options import Options, parse


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serves until it is told to end, and exits with the command's code."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        _serve(options)
    except UsageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # before the server takes care of signals
        sys.exit(130)


def _serve(options: Options) -> NoReturn:
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(message)s", level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with quiet_imports():
        import uvloop

        from tasks.serving.server import serve
    # What is there now stays: the collections that follow each swap need not look at it.
    gc.freeze()

    async def serve_and_end() -> NoReturn:
        number = await serve(options)
        # Threads may be in the middle of something that takes longer than a request may: the loop's
        # own end would wait for them, and TensorFlow's are not ours to end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130 if number == signal.SIGINT else 0)

    uvloop.run(serve_and_end())
    raise AssertionError("it ends the process")


if __name__ == "__main__":
    main()
