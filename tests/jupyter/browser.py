"""A widget's page without JupyterLab: its ESM beside a model that remembers what it was told, in Debian's Chromium."""

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")
ARGUMENTS = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]

# The part of an anywidget model that ours use: changes are told to listeners, and what is saved to the kernel is kept.
MODEL = """
async ([source, style, state]) => {
  const unpacked = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const values = {}, listeners = {};
  const decoded = (value) => (value && value.base64 !== undefined ? unpacked(value.base64) : value);
  for (const [name, value] of Object.entries(state)) values[name] = decoded(value);
  const pending = new Set();
  const model = {
    saved: [],
    get: (name) => values[name],
    set(name, value) {
      values[name] = decoded(value);
      pending.add(name);
      (listeners[`change:${name}`] || []).forEach((listener) => listener());
    },
    on: (event, listener) => (listeners[event] = listeners[event] || []).push(listener),
    off: (event, listener) => (listeners[event] = (listeners[event] || []).filter((kept) => kept !== listener)),
    save_changes() {
      this.saved.push({ at: performance.now(), names: [...pending] });
      pending.clear();
    },
  };
  window.model = model;
  document.head.appendChild(Object.assign(document.createElement("style"), { textContent: style }));
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  window.end = module.default.render({ model, el: document.getElementById("widget") });
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}
"""


@contextlib.contextmanager
def page(folder: Path, width: int = 1000, height: int = 560) -> Iterator[Any]:
    """A page of a Chromium of its own; skips where there is none. What goes wrong in it is raised at the end."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        options = {"executable_path": chromium, "args": ARGUMENTS, "viewport": {"width": width, "height": height}}
        context = playwright.chromium.launch_persistent_context(folder, **options)
        wrong: list[str] = []
        shown = context.pages[0]
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        yield shown
        context.close()
        assert wrong == []


def render(shown: Any, widget: Any, dark: bool = False) -> None:
    """Show an anywidget by its own ESM and CSS; `window.model` is its model."""
    ink, paper = ("#eee", "#111") if dark else ("#222", "#fff")
    theme = f":root {{ --jp-ui-font-color1: {ink}; --jp-layout-color1: {paper}; --jp-border-color1: #888; }}"
    shown.set_content(f'<style>{theme} body {{ background: {paper}; margin: 8px }}</style><div id="widget"></div>')
    state = {}
    for name in widget.keys:
        value = getattr(widget, name)
        if name not in ("layout", "tabbable", "tooltip") and not name.startswith("_"):
            state[name] = {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
    shown.evaluate(MODEL, [str(widget._esm), str(widget._css), state])
