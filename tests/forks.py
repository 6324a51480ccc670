"""Commands as forks of one process that has the imports, most of their time."""

import json
import subprocess
import sys

SERVER = """
import json, os, sys
{imports}
for line in sys.stdin:
    argv, folder, environment, output, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(environment)
        for stream, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        {call}
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """A process that answers requests, each in a fork.

    `imports` are lines of Python that are run once, `call` a statement on `argv`.
    """

    def __init__(self, imports, call):
        code = SERVER.format(imports=imports, call=call)
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, argv, folder, output, errors, environment=None):
        """The exit code; what is printed goes to the files `output` and `errors`."""
        request = [argv, str(folder), environment or {}, str(output), str(errors)]
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self):
        self._server.stdin.close()
        self._server.wait()
