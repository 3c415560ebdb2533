"""Makes ``python -m napari_recon`` the same as the command ``napari-recon``."""

from napari_recon.cli import main

if __name__ == "__main__":
    main()
