"""A headless Chromium, driven over its DevTools protocol. Only what these tests need."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_SECONDS = 60.0


def executable() -> str | None:
    """The Chromium of this machine."""
    return next((path for name in EXECUTABLES if (path := shutil.which(name))), None)


class ScriptError(Exception):
    """A script that was evaluated in a page threw."""


@dataclass(eq=False)
class Page:
    """One tab. Everything that it complained about is in ``complaints``: errors, and what its CSP blocked."""

    socket: ClientConnection
    connection: contextlib.ExitStack
    target_id: str
    browser: "Chromium"
    complaints: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=WAIT_SECONDS))
            if message.get("id") == number:
                if "error" in message:
                    raise ScriptError(f"{method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise ScriptError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def go(self, url: str) -> None:
        """Open an address and wait until it is loaded, with its scripts."""
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert failed is None, f"{url}: {failed}"
        self.wait_for(f"document.readyState === 'complete' && location.href === new URL({json.dumps(url)}).href")

    def wait_for(self, condition: str, *, seconds: float = WAIT_SECONDS) -> None:
        """Ask in the page until an expression holds."""
        deadline = time.monotonic() + seconds
        while True:
            # While a navigation is under way there is no page to be asked.
            with contextlib.suppress(ScriptError):
                if self.run(f"Boolean({condition})"):
                    return
            assert time.monotonic() < deadline, f"waited {seconds} s in vain for {condition}; {self.complaints}"
            time.sleep(0.02)

    def address(self) -> str:
        """Where the tab is; empty while it is on its way. Asks no script of the page."""
        with contextlib.suppress(ScriptError):
            url: str = self.call("Page.getNavigationHistory")["entries"][-1]["url"]
            return url
        return ""

    def offline(self, is_offline: bool) -> None:
        """Cut the tab's network, or give it back."""
        self.call(
            "Network.emulateNetworkConditions",
            offline=is_offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    def fill(self, **fields: str) -> None:
        """Type into the fields with these ids."""
        for name, value in fields.items():
            self.run(f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}")

    def click(self, selector: str) -> None:
        """Click where the first such element is: as a person's pointer, so also without scripts in the page."""
        self.call("DOM.enable")
        deadline = time.monotonic() + WAIT_SECONDS
        while (box := self._box_of(selector)) is None:  # the page is still loading
            assert time.monotonic() < deadline, f"no {selector} to be clicked"
            time.sleep(0.02)
        x1, y1, _, _, x2, y2, _, _ = box
        at = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def _box_of(self, selector: str) -> list[float] | None:
        """The corners of the first such element, if the page has one."""
        with contextlib.suppress(ScriptError):
            root = self.call("DOM.getDocument")["root"]["nodeId"]
            node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
            self.call("DOM.scrollIntoViewIfNeeded", nodeId=node)
            corners: list[float] = self.call("DOM.getBoxModel", nodeId=node)["model"]["content"]
            return corners
        return None

    def type_into(self, selector: str, text: str) -> None:
        """Click a field and type, as a person does."""
        self.click(selector)
        self.call("Input.insertText", text=text)

    def close(self) -> None:
        """Close the tab, as a person does: the page's pagehide runs."""
        self.call("Page.close")
        self.let_go()
        self.browser.wait_until(lambda: self.target_id not in self.browser.targets())

    def let_go(self) -> None:
        """End the connection to the tab, whatever became of it."""
        self.connection.close()
        self.browser.pages.remove(self)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.complaints.append(str(parameters["args"]))
        elif message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"])


@dataclass
class Chromium:
    """A running browser with a profile of its own."""

    process: subprocess.Popen[bytes]
    profile: Path
    port: int = 0
    pages: list[Page] = field(default_factory=list)

    def tab(self, url: str | None = None) -> Page:
        """A new tab, at an address if one is given."""
        made = self._ask("PUT", "/json/new?about:blank")
        connection = contextlib.ExitStack()
        # No pings: their thread draws from the global `random`; Hypothesis blames the test that runs just then.
        socket = connection.enter_context(connect(made["webSocketDebuggerUrl"], max_size=None, ping_interval=None))
        page = Page(socket, connection, made["id"], self)
        self.pages.append(page)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        if url is not None:
            page.go(url)
        return page

    def targets(self) -> set[str]:
        return {target["id"] for target in self._ask("GET", "/json/list")}

    @staticmethod
    def wait_until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _ask(self, method: str, path: str) -> Any:
        answer = httpx.request(method, f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=30)
        return answer.raise_for_status().json()


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser with its profile in this directory, which stays for whoever opens it again."""
    program = executable()
    assert program is not None
    port_file = profile / "DevToolsActivePort"
    port_file.unlink(missing_ok=True)
    flags = [
        "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
        "--no-proxy-server", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1280,900",
        "--remote-debugging-port=0", f"--user-data-dir={profile}",
    ]  # fmt: skip
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    process = subprocess.Popen(
        [program, *flags, "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    browser = Chromium(process, profile)
    try:
        browser.wait_until(lambda: port_file.exists() and port_file.read_text().count("\n") == 1)
        browser.port = int(port_file.read_text().splitlines()[0])
        yield browser
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)
