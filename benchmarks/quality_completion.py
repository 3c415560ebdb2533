"""Completion against biharmonic inpainting: 10 % random pixels of the clean `w2s10` fields are hidden and filled.

Each field is filled by a network that trained on the other 90 % of that field alone; PSNR in the hidden pixels only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _common import psnr, report, timed, widefield
from skimage.restoration import inpaint_biharmonic

from napari_recon import complete

SHARE = 0.1


def main(fields: list[int], minutes: float) -> None:
    truth = widefield()[1]
    rows = []
    for field in fields:
        clean = truth[field]
        mask = np.random.default_rng(field).random(clean.shape) < SHARE
        holed = np.where(mask, 0, clean).astype(clean.dtype)
        biharmonic, slow = timed(lambda holed=holed, mask=mask: inpaint_biharmonic(holed, mask))
        # In the pixel type of the image, as the command gives it.
        biharmonic = np.clip(np.rint(255 * biharmonic), 0, 255)
        done, seconds = timed(lambda holed=holed, mask=mask: complete(holed, mask, minutes=minutes))
        assert (done[~mask] == clean[~mask]).all()
        scores = [psnr(clean[mask], x[mask]) for x in (biharmonic, done)]
        rows.append(
            {
                "field": field,
                "biharmonic dB": scores[0],
                "completion dB": scores[1],
                "gain dB": scores[1] - scores[0],
                "training minutes": minutes,
                "biharmonic s": slow,
                "completion s": seconds,
            }
        )
        print(rows[-1], flush=True)
    mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "field"}
    report(Path(__file__).stem, [*rows, {"field": "mean", **mean}])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--minutes", type=float, default=0.5)
    arguments = parser.parse_args()
    main(arguments.fields, arguments.minutes)
