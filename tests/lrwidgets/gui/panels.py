"""A panel without a toolkit, for tests of models."""

from typing import Any

from lrwidgets.gui.panel_base import PanelBase, Tone
from lrwidgets.gui.threads import Publisher


class FakePanel(PanelBase):
    """Keeps the newest message."""

    def __init__(self) -> None:
        self.text = ""
        self.tone: Tone = "good"
        self.start_threads(Publisher(self.show_error))

    def write_message(self, text: str, tone: Tone) -> None:
        self.text, self.tone = text, tone


class FakeView:
    """Records the setters that a model calls, by name: `view.calls["show_history"]` is the list of arguments."""

    def __init__(self, **answers: Any) -> None:
        self.calls: dict[str, list[tuple[Any, ...]]] = {}
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls.setdefault(name, []).append(arguments)
            return self._answers.get(name)

        return call

    def last(self, name: str) -> Any:
        """The arguments of the last call of a setter."""
        return self.calls[name][-1]
