"""A peer that lives in a process of its own and is asked one thing at a time.

The process stays alive between requests, so that its measurements and ours can take turns. It reads
one JSON request a line on its standard input and answers each with one line.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


class Peer:
    """This side of the conversation.

    Parameters
    ----------
    name : str
        Of the script, ``_images_NAME_server.py``.
    interpreter : str
        Python of the environment that has the peer.
    """

    def __init__(self, name, interpreter):
        self.name = name
        script = Path(__file__).with_name(f"_images_{name}_server.py")
        self.process = subprocess.Popen(
            [interpreter, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        self.versions, self.samplers = self.ask("describe").values()

    def ask(self, what, **arguments):
        """Return the answer to a request, raising RuntimeError where the peer failed."""
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"the process of {self.name} ended: see whether its environment is whole"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def serve(make_server):
    """Answer requests until the input ends; whatever else writes to standard output is kept off."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        server = make_server(folder)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(server, request.pop("do"))(**request)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"[:300]}
            answers.write(json.dumps(answer) + "\n")
