"""Files that the browser makes itself from what an event answers.

A file of Gradio's would stay on the server's disk, under an address that everyone could open.
"""

from __future__ import annotations

import base64
import json

import gradio as gr

SAVE = """
(file) => {
  if (!file) return;
  const { name, type, text, base64 } = JSON.parse(file);
  const bytes = base64 ? Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)) : text;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
"""
"""For an event after the one whose output the file was: ``event.then(None, file, None, js=SAVE)``."""


def component() -> gr.Textbox:
    """What carries the file to the page; never seen."""
    return gr.Textbox(visible="hidden", container=False)


def file(name: str, type: str, text: str) -> str:
    """The value for ``component``."""
    return json.dumps({"name": name, "type": f"{type};charset=utf-8", "text": text})


def binary(name: str, type: str, data: bytes) -> str:
    """The value for ``component`` of a file that is not text."""
    return json.dumps({"name": name, "type": type, "base64": base64.b64encode(data).decode("ascii")})


def name(title: str, ending: str) -> str:
    """A file name from a title, without what file systems refuse."""
    kept = "".join(c if c.isalnum() or c in " -_" else " " for c in title)
    return f"{' '.join(kept.split())[:60].strip() or 'iris'}.{ending}"
