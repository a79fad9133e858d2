"""Widgets that are heard while a cell blocks the kernel: what the browser tells them goes to a subshell of our own.

ipykernel handles a message to a widget on the shell that last wrote to that widget. That is the main one for every
widget that a cell has made, so that the first click on it would wait for the cell that is running; and a subshell of
JupyterLab's is gone when its page is, and only there with a setting (docs/decisions/030-a-subshell-of-our-own.md).
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
"""How long the kernel may take to answer; it does so within milliseconds, or has no subshells."""


def route_to_subshell(widget: w.Widget) -> None:
    """Have a widget, and all that is or comes to be in it, heard at any time. Nothing changes without subshells."""
    found = _subshell()
    _route(widget, found, set())


def _route(widget: w.Widget, found: "Future[str | None]", known: set[str]) -> None:
    """Messages to a widget and its children go to the subshell as soon as it is there."""
    if widget.comm is None or widget.model_id in known:
        return
    known.add(widget.model_id)

    def shell(_: Any, default: str | None) -> str | None:
        """The id of the shell for a message. ipykernel asks: see BaseComm._reply_subshell_for there."""
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
    """The id of a subshell of this kernel, made once; None where there can be none."""
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
    """Ask our own kernel, as a front end does: by a message on its control channel (Jupyter's JEP 91)."""
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
