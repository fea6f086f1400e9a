"""The Python SDK's client as in python_sdk.py, but launching its server: python python_stdio.py SERVER ERA COMMAND ARGUMENT..."""

import os
import runpy
import sys

import mcp.client.client as sdk
import report
from mcp.client.stdio import StdioServerParameters

SERVER, ERA, *COMMAND = sys.argv[1:]


class Client(sdk.Client):
    def __init__(self, _url: str, **settings) -> None:
        command = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=dict(os.environ))
        super().__init__(command, **settings)


class Report(report.Report):
    def __init__(self, who: str) -> None:
        super().__init__(who.replace(", ", ", stdio, ", 1))


sdk.Client, report.Report = Client, Report
sys.argv[1:] = ["stdio", SERVER, ERA]
runpy.run_path(os.path.join(os.path.dirname(__file__), "python_sdk.py"), run_name="__main__")
