"""A process that starts an embedded server, says how it went as one line of JSON, and stays until its input ends.

Tests run it as other users, with other umasks and fewer capabilities, in numbers, and kill it.
"""

import argparse
import codecs
import json
import os
import sys
from pathlib import Path

from leads_pipeline.errors import EmbeddedServerError
from leads_pipeline.storage.embedded import EmbeddedServer
from leads_pipeline.storage.embedded_home import SYSTEM_DIRECTORY

parser = argparse.ArgumentParser()
parser.add_argument("state", type=Path)
parser.add_argument("--system-directory", type=Path, default=SYSTEM_DIRECTORY)
parser.add_argument("--user", type=int, help="Become this user once everything is imported.")
parser.add_argument("--remove", action="store_true", help="Stop the server and delete it at the end.")
arguments = parser.parse_args()

if arguments.user is not None:
    # Here, not in the parent: the interpreter may lie where only root can read. Nothing may be left to import.
    for encoding in ("ascii", "idna", "utf-8"):
        codecs.lookup(encoding)
    os.setgroups([])
    os.setgid(arguments.user)
    os.setuid(arguments.user)
    os.chdir("/")
server = EmbeddedServer(arguments.state, durable=False, system_directory=arguments.system_directory)
try:
    answer = {"url": server.start(), "pid": server.status().pid}
except EmbeddedServerError as error:
    answer = {"error": str(error)}
sys.stdout.write(json.dumps(answer) + "\n")
sys.stdout.flush()
sys.stdin.read()
if arguments.remove:
    server.remove()
