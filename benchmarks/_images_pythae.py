"""The side of ``images.py`` that talks to pythae's process."""

import json
import subprocess
from pathlib import Path


class Pythae:
    """A process that runs pythae, asked one thing at a time.

    Parameters
    ----------
    interpreter : str
        Python of the environment that has pythae.
    """

    def __init__(self, interpreter):
        script = Path(__file__).with_name("_images_peer.py")
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
        """Return the answer to a request, raising RuntimeError where pythae failed."""
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the process of pythae ended: see whether its environment is whole")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
