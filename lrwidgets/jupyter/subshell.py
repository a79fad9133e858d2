"""Let widgets respond while a cell blocks the kernel, by routing their messages to a subshell of our own.

ipykernel handles a message to a widget on the shell that last wrote to that widget. For a widget made by a cell that is
the main shell, so that the first click would wait for the running cell. A subshell of JupyterLab ends with its page and
needs a setting (docs/decisions/030-a-subshell-of-our-own.md).
"""

import functools
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import ipywidgets as w

log = logging.getLogger(__name__)

REPLY_S = 10.0
"""Time to wait for the kernel's answer, s; it comes within milliseconds, or there are no subshells."""


def route_to_subshell(widget: w.Widget) -> None:
    """Route the messages of a widget and its present and future children to the subshell, if there is one."""
    found = _subshell()
    _route(widget, found, set())


def _route(widget: w.Widget, found: "Future[str | None]", known: set[str]) -> None:
    """Route the messages of a widget and its children to the subshell as soon as it exists."""
    if widget.comm is None or widget.model_id in known:
        return
    known.add(widget.model_id)

    def shell(_: Any, default: str | None) -> str | None:
        """Return the id of the shell for a message. Called by ipykernel: see BaseComm._reply_subshell_for."""
        return (found.result() if found.done() else None) or default

    def route_all(children: Iterable[w.Widget]) -> None:
        for child in children:
            _route(child, found, known)

    widget.comm._reply_subshell_for = shell
    if widget.has_trait("children"):
        route_all(widget.children)
        widget.observe(lambda change: route_all(change.new), "children")


@functools.cache
def _subshell() -> "Future[str | None]":
    """Return the id of a subshell of this kernel, made once; None if it has no subshells."""
    made: Future[str | None] = Future()

    def make() -> None:
        try:
            made.set_result(_ask_for_subshell())
        except Exception:
            log.debug("no subshell", exc_info=True)
            made.set_result(None)

    threading.Thread(target=make, name="lrwidgets-subshell", daemon=True).start()
    return made


def _ask_for_subshell() -> str | None:
    """Request a subshell with a message on our own kernel's control channel, as front ends do (Jupyter JEP 91)."""
    from ipykernel.connect import get_connection_file
    from ipykernel.kernelapp import IPKernelApp
    from jupyter_client.blocking.client import BlockingKernelClient

    if not IPKernelApp.initialized() or not getattr(IPKernelApp.instance().kernel, "_supports_kernel_subshells", False):
        return None
    client = BlockingKernelClient(connection_file=get_connection_file())
    client.load_connection_file()
    client.start_channels(shell=False, iopub=False, stdin=False, hb=False, control=True)
    try:
        client.control_channel.send(client.session.msg("create_subshell_request"))
        reply = client.control_channel.get_msg(timeout=REPLY_S)
    finally:
        client.stop_channels()
    return str(reply["content"]["subshell_id"])
