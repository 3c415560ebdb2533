"""The Upscale panel: upscaling, new texture, and filling of marked parts."""

from typing import Any

from qtpy.QtWidgets import QCheckBox, QFormLayout, QTabWidget, QWidget

from napari_recon.plugin._compare import COMPARE_KEY
from napari_recon.plugin._complete_page import CompletePage
from napari_recon.plugin._forms import compact_form, show_row
from napari_recon.plugin._jobs import Job
from napari_recon.plugin._layers import add_result, finer
from napari_recon.plugin._level_slider import LevelSlider
from napari_recon.plugin._preview import Previewer, Wish
from napari_recon.plugin._requests import Upscaled, UpscaleRequest
from napari_recon.plugin._restore_panel import RestorePanel
from napari_recon.plugin._sample_requests import Made
from napari_recon.plugin._session import session
from napari_recon.plugin._texture_page import TexturePage

UPSCALE_HELP = f"Upscale the layer into a new one; then {COMPARE_KEY} over the image shows before and after."
FAITHFUL_ONLY = "This model knows the faithful side only; one trained with the perceptual stage has both."
FIDELITY_HELP = "From sharp, which invents texture, to faithful, whose intensities may be measured."


class UpscaleWidget(RestorePanel):
    """Upscale a layer with a shipped, trained or opened model, and show how far to trust the result."""

    verb = "upscale"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.preview = Previewer(self, self._wish)
        self.fidelity = LevelSlider(1.0)
        self.trust = QCheckBox("trust layer")
        self.trust.setChecked(True)
        self.trust.setToolTip("Add a layer that is bright where the input shows what is there, dark where it does not.")
        self._made_by: Any = None  # the page whose job runs
        self.fill(UPSCALE_HELP, self.fidelity, "Fidelity", [self.trust])
        self.tabs.currentChanged.connect(self._show_page)

    def pages(self, rows: QFormLayout) -> tuple[QFormLayout, QFormLayout]:
        """Make the pages, and the forms of upscaling and of the device."""
        self._layer_rows = rows
        self.first, self.texture, self.completion = QWidget(), TexturePage(self), CompletePage(self)
        self.tabs = QTabWidget()
        self.tabs.tabBar().setToolTip("Upscale a layer, make new texture, or fill marked parts of a layer.")
        self.tabs.addTab(self.first, "Upscale")
        for page in (self.texture, self.completion):
            self.tabs.addTab(page, page.title)
        own, last = compact_form(self.first), compact_form()
        own.setContentsMargins(4, 4, 4, 4)
        self.column.addWidget(self.tabs)
        self.column.addLayout(last)
        return own, last

    def choose_model(self, verb: str, reference: Any) -> None:
        """Choose a model on the page that it serves."""
        page: Any = next((p for p in (self.texture, self.completion) if p.verb == verb), None)
        self.tabs.setCurrentWidget(page or self.first)
        (page or self).model.select(reference)

    def open_train(self, family: str) -> None:
        """Open the Train panel with this layer and a family."""
        _, train = self.viewer.window.add_plugin_dock_widget("napari-recon", "Train", tabify=True)
        train.form.choose(family, self.layer.layer())

    def request(self) -> Any:
        """Read the page in front; raises `ReconError` when something is missing or does not fit."""
        page: Any = self.tabs.currentWidget()
        return self._upscaling() if page is self.first else page.request()

    def _upscaling(self) -> UpscaleRequest:
        layer, model, options = self.chosen()
        source = self.extent.take(self.viewer, layer, self.data.axes())
        options = {**self.level(), **options}
        return UpscaleRequest(source, model, options, self.trust.isChecked(), self.wants_attention())

    def show_result(self, done: Upscaled, source: Any) -> tuple[Any, str]:
        """Add the upscaled layer, and the map of trust where it was asked for."""
        record = done.record
        placed = finer(source, record["scale"])
        if done.trust is not None:
            shown = {"colormap": "viridis", "contrast_limits": (0.0, 1.0), "visible": False}
            add_result(self.viewer, placed, done.trust, "trust", record, **shown)
        self.show_attention(done, placed)
        layer = add_result(self.viewer, placed, done.image.array, f"x{record['scale']}", record)
        return layer, f"Upscaled in {done.seconds:.1f} s · {_verdict(record)}"

    def choice_changed(self) -> None:
        """Offer the fidelity of models that have two sides."""
        both = self.model.option("perceptual") is True
        self.fidelity.setEnabled(both)
        self.fidelity.setToolTip(FIDELITY_HELP if both else FAITHFUL_ONLY)

    def level(self) -> dict[str, float]:
        """Return the fidelity; faithful for a model that knows nothing else."""
        return {"fidelity": round(self.fidelity.value(), 2) if self.fidelity.isEnabled() else 1.0}

    def _run(self) -> None:
        page = self.tabs.currentWidget()
        if page is self.first:
            super()._run()
            return
        request = self.attempt(self.request)
        if request is None:
            return
        self.preview.clear()
        job = Job(request.title, request.run)
        job.returned.connect(self._show_made)
        self._made_by = page
        self.follow(job)
        session().submit(job, request.options["device"])

    def _show_made(self, made: Made) -> None:
        self.controls.say(self._made_by.show_made(made))

    def _show_page(self, *_: Any) -> None:
        """Let the button say what the page in front does, and show what it needs."""
        page: Any = self.tabs.currentWidget()
        first = page is self.first
        self.preview.clear()
        self.live_layer.off()
        self.live_layer.button.setVisible(first)
        for row in (self.layer, self.data):
            show_row(self._layer_rows, row, page is not self.texture)
        self.advanced.offer(first)
        self.folder.offer(first)
        self.controls.offer("Upscale" if first else page.label, UPSCALE_HELP if first else page.help)

    def _wish(self) -> Wish:
        spec = self.model.spec()
        return Wish(
            layer=self.layer.layer(),
            axes=self.data.axes(),
            model=self.model.reference(),
            verb=self.verb,
            options={**self.level(), "device": self.device.device()},
            scale=spec.scale if spec is not None else 1,
            refusal=self.no_preview("" if spec is not None else "There is no model yet."),
        )


def _verdict(record: dict[str, Any]) -> str:
    """What a user should know of a result, in a line."""
    trust = record["trust"]
    measured = "intensities may be quantified" if trust["quantifiable"] else "not for measuring intensities"
    parts = [
        f"trust {trust['value']:.2f}",
        f"agrees with {trust['agreement']:.0%} of the input within its noise",
        measured,
        *record["notes"],
    ]
    return " · ".join(parts)
