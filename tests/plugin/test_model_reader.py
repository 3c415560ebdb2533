"""A model file opened as if it were an image."""


def test_a_model_opens_in_its_panel(viewer, trained_model, open_panel):
    assert viewer.open(str(trained_model), plugin=None) == []
    panel = open_panel("Denoise")
    assert panel.model.reference() == trained_model


def test_another_file_of_weights_is_refused(viewer, tmp_path, problems):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"x" * 100)
    assert viewer.open(str(path), plugin=None) == []
    assert "is no model" in problems[-1].message
