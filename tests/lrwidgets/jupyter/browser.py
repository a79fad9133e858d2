"""A widget's page without JupyterLab: its ESM beside a model that remembers what it was told."""

import base64
from typing import Any

# The part of an anywidget model that ours use: changes are told to listeners, and what is saved to the kernel is kept.
MODEL = """
async ([source, style, state]) => {
  const unpacked = async (text) => new DataView(await (await fetch(`data:;base64,${text}`)).arrayBuffer());
  const values = {}, listeners = {};
  for (const [name, value] of Object.entries(state)) {
    values[name] = value && value.base64 !== undefined ? await unpacked(value.base64) : value;
  }
  const pending = new Set();
  window.model = {
    saved: [],
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      pending.add(name);
      (listeners[`change:${name}`] || []).forEach((listener) => listener());
    },
    on: (event, listener) => (listeners[event] = listeners[event] || []).push(listener),
    off: (event, listener) => (listeners[event] = (listeners[event] || []).filter((kept) => kept !== listener)),
    save_changes() {
      this.saved.push({ at: performance.now(), names: [...pending] });
      pending.clear();
    },
    listeners: () => Object.values(listeners).flat().length,
  };
  document.head.appendChild(Object.assign(document.createElement("style"), { textContent: style }));
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  window.end = module.default.render({ model, el: document.getElementById("widget") });
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}
"""
OURS = ("_", "layout", "tabbable", "tooltip", "comm", "keys")
"""How the names of traits begin that belong to ipywidgets."""


def render(page: Any, widget: Any, dark: bool = False) -> None:
    """Show an anywidget by its own ESM and CSS; `window.model` is its model."""
    ink, paper = ("#eee", "#111") if dark else ("#222", "#fff")
    theme = f":root {{ --jp-ui-font-color1: {ink}; --jp-layout-color1: {paper}; --jp-border-color1: #888; }}"
    page.set_content(f'<style>{theme} body {{ background: {paper}; margin: 8px }}</style><div id="widget"></div>')
    values = {name: getattr(widget, name) for name in widget.keys if not name.startswith(OURS)}
    packed = {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in values.items()
    }
    page.evaluate(MODEL, [str(widget._esm), str(getattr(widget, "_css", "")), packed])
