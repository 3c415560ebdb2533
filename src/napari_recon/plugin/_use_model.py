"""Open the panel that uses a model, with that model chosen."""

from typing import Any

# Verbs that have no panel of their own, but a page of Upscale.
PAGES = {"generate": "Texture", "complete": "Complete"}


def use_in_panel(viewer: Any, verb: str, reference: Any) -> None:
    """Open the panel or page of a verb, and choose a model there, given itself or its file."""
    name = "Upscale" if verb in PAGES else verb.capitalize()  # the panels are named after their verbs
    _, panel = viewer.window.add_plugin_dock_widget("napari-recon", name, tabify=True)
    panel.choose_model(verb, reference)
