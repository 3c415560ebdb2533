"""Options of a run over tiles that the panels share."""

from dataclasses import dataclass

from napari_recon.config import Config, option


@dataclass(frozen=True)
class TileOptions(Config):
    """How a run is cut and computed; the fields are arguments of the verbs."""

    tile_size: int | None = option(
        None, "Tile", "Side of a tile in pixels; empty: as large as memory allows.", minimum=16
    )
    precision: str = option(
        "auto",
        "Precision",
        "auto: bfloat16 where the machine has arithmetic for it, which is faster.",
        choices=("auto", "float32", "bfloat16"),
    )
